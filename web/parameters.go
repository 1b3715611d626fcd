package web

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// How long a page of a list is.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// limitOf reads how long a page is to be.
func limitOf(query url.Values, errs *serve.ParameterErrors) int {
	text := query.Get("limit")
	if text == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		errs.Add("limit", "want a number from 1 to %d", maxLimit)
	}
	return n
}

// plazaID reads the plaza that a path names, written as we write it.
func plazaID(r *http.Request) (int16, serve.ParameterErrors) {
	text := r.PathValue("id")
	n, err := strconv.ParseInt(text, 10, 16)
	if err != nil || strconv.FormatInt(n, 10) != text {
		var errs serve.ParameterErrors
		errs.Add("id", "want a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
		return 0, errs
	}
	return int16(n), nil
}
