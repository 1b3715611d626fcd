package serve

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParameters bounds the errors about them.
const maxParameters = 20

// maxNameShown is how much of an unknown parameter's name an error repeats.
const maxNameShown = 40

// Parameters returns the parameters of a request, each of which may occur once.
func Parameters(r *http.Request) (url.Values, ParameterErrors) {
	var errs ParameterErrors
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		errs.Add("", "the query can't be read")
		return url.Values{}, errs
	}
	if len(query) > maxParameters {
		errs.Add("", "there are %d parameters, want at most %d", len(query), maxParameters)
		return url.Values{}, errs
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if n := len(query[name]); n > 1 {
			errs.Add(shortName(name), "occurs %d times, want it once", n)
		}
		if !utf8.ValidString(query.Get(name)) {
			errs.Add(shortName(name), "is not UTF-8")
		}
	}
	return query, errs
}

// OnlyParameters returns an error for each parameter that is none of those names.
func OnlyParameters(query url.Values, names ...string) ParameterErrors {
	var errs ParameterErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			errs.Add(shortName(name), "is unknown; there are no parameters here")
		default:
			errs.Add(shortName(name), "is unknown; known are %s", strings.Join(names, ", "))
		}
	}
	return errs
}

// NoParameters returns an error for each parameter of a request.
func NoParameters(r *http.Request) ParameterErrors {
	query, errs := Parameters(r)
	return append(errs, OnlyParameters(query)...)
}

func shortName(name string) string {
	if utf8.RuneCountInString(name) <= maxNameShown {
		return name
	}
	return string([]rune(name)[:maxNameShown]) + "…"
}
