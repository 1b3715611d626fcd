package serve

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParameters bounds what an error has to say about them.
const maxParameters = 20

// maxNameShown is how much of an unknown parameter's name an error repeats.
const maxNameShown = 40

// Parameters returns the parameters of a request, each of which may be there once.
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
			errs.Add(shortName(name), "is there %d times, want it once", n)
		}
		if !utf8.ValidString(query.Get(name)) {
			errs.Add(shortName(name), "is not UTF-8")
		}
	}
	return query, errs
}

// OnlyParameters says which parameters there are that are none of those.
func OnlyParameters(query url.Values, names ...string) ParameterErrors {
	var errs ParameterErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			errs.Add(shortName(name), "is not known here, where there are no parameters")
		default:
			errs.Add(shortName(name), "is not known here; known are %s", strings.Join(names, ", "))
		}
	}
	return errs
}

// NoParameters says which parameters there are where there should be none.
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
