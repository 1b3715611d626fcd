package serve

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/text"
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

// OnlyParameters returns an error for each parameter with another name.
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

// How long a page of a list is.
const (
	defaultLimit = 50
	MaxLimit     = 500
)

// Limit reads how long a page is to be.
func Limit(query url.Values, errs *ParameterErrors) int {
	text := query.Get("limit")
	if text == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxLimit {
		errs.Add("limit", "want a number from 1 to %d", MaxLimit)
	}
	return n
}

// maxCursor is longer than any cursor; openapi.json has it too.
const maxCursor = 200

// cursor names the last element of a page by its position, and what list it is of. To clients it is
// opaque.
type cursor[T any] struct {
	List     string
	Position T
}

// EncodeCursor returns the cursor of a position in a list.
func EncodeCursor[T any](list string, position T) string {
	text, _ := json.Marshal(cursor[T]{list, position}) // or the page can't be encoded either
	return base64.RawURLEncoding.EncodeToString(text)
}

// Cursor reads a parameter that is a cursor of a list, nil where it is missing.
func Cursor[T any](query url.Values, name, list string, errs *ParameterErrors) *T {
	if query.Get(name) == "" {
		return nil
	}
	var c cursor[T]
	text, err := base64.RawURLEncoding.Strict().DecodeString(query.Get(name))
	if err == nil && len(query.Get(name)) <= maxCursor {
		err = json.Unmarshal(text, &c)
	}
	switch {
	case err != nil || c.List == "":
		errs.Add(name, "is no cursor; take it as it stands in the page before")
	case c.List != list:
		errs.Add(name, "is a cursor of another list")
	}
	return &c.Position
}

// problem is an error as the client gets it (RFC 9457). Of the request it repeats only the path and
// the names of parameters, so no secret comes back or gets into a log.
type problem struct {
	// about:blank: the status is the kind of problem
	Type     string           `json:"type"`
	Title    string           `json:"title"` // of the status
	Status   int              `json:"status"`
	Detail   string           `json:"detail"`
	Instance string           `json:"instance"` // the path
	Errors   []ParameterError `json:"errors,omitempty"`
}

// ParameterError is what is wrong with one parameter.
type ParameterError struct {
	Parameter string `json:"parameter"`
	Detail    string `json:"detail"`
}

func (p ParameterError) Error() string { return p.Parameter + ": " + p.Detail }

// ParameterErrors collects all that is wrong with the parameters of a request.
type ParameterErrors []ParameterError

// Add adds what is wrong with a parameter.
func (e *ParameterErrors) Add(parameter, format string, args ...any) {
	*e = append(*e, ParameterError{parameter, fmt.Sprintf(format, args...)})
}

// retrySeconds is how long a client should wait before it retries what is unavailable.
const retrySeconds = 2

// Fail responds with a problem: a status, and a detail that the client sees.
func Fail(w http.ResponseWriter, r *http.Request, status int, format string, args ...any) {
	writeProblem(w, r, status, fmt.Sprintf(format, args...), nil)
}

// FailParameters responds with 400 and all of the errors, of which there must be one.
func FailParameters(w http.ResponseWriter, r *http.Request, errs ParameterErrors) {
	detail := errs[0].Error()
	if more := len(errs) - 1; more > 0 {
		detail += fmt.Sprintf(", and %d more", more)
	}
	writeProblem(w, r, http.StatusBadRequest, detail, errs)
}

func writeProblem(w http.ResponseWriter, r *http.Request, status int, detail string,
	errs ParameterErrors) {
	body, err := json.Marshal(problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail,
		Instance: Base(r) + r.URL.EscapedPath(), Errors: errs,
	})
	if err != nil {
		panic(fmt.Sprintf("encode a problem: %v", err)) // of strings and a number
	}
	body = text.EscapeJSON(body)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(retrySeconds))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}
