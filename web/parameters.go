package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tollstream/tollstream/toll"
)

// How long a page of a list is.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// maxParameters bounds what an error has to say about them.
const maxParameters = 20

// maxName is how much of an unknown parameter's name an error repeats.
const maxName = 40

// parameters returns the parameters of a request, each of which may be there once.
func parameters(r *http.Request) (url.Values, parameterErrors) {
	var errs parameterErrors
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		errs.bad("", "the query can't be read")
		return url.Values{}, errs
	}
	if len(query) > maxParameters {
		errs.bad("", "there are %d parameters, want at most %d", len(query), maxParameters)
		return url.Values{}, errs
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if n := len(query[name]); n > 1 {
			errs.bad(shortName(name), "is there %d times, want it once", n)
		}
		if !utf8.ValidString(query.Get(name)) {
			errs.bad(shortName(name), "is not UTF-8")
		}
	}
	return query, errs
}

// onlyParameters says which parameters there are that are none of those.
func onlyParameters(query url.Values, names ...string) parameterErrors {
	var errs parameterErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			errs.bad(shortName(name), "is not known here, where there are no parameters")
		default:
			errs.bad(shortName(name), "is not known here; known are %s", strings.Join(names, ", "))
		}
	}
	return errs
}

// noParameters says which parameters there are where there should be none.
func noParameters(r *http.Request) parameterErrors {
	query, errs := parameters(r)
	return append(errs, onlyParameters(query)...)
}

func shortName(name string) string {
	if utf8.RuneCountInString(name) <= maxName {
		return name
	}
	return string([]rune(name)[:maxName]) + "…"
}

// limitOf reads how long a page is to be.
func limitOf(query url.Values, errs *parameterErrors) int {
	text := query.Get("limit")
	if text == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		errs.bad("limit", "want a number from 1 to %d", maxLimit)
	}
	return n
}

// plazaID reads the plaza that a path names, written as we write it.
func plazaID(r *http.Request) (int16, parameterErrors) {
	text := r.PathValue("id")
	n, err := strconv.ParseInt(text, 10, 16)
	if err != nil || strconv.FormatInt(n, 10) != text {
		var errs parameterErrors
		errs.bad("id", "want a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
		return 0, errs
	}
	return int16(n), nil
}
