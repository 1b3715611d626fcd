package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tollstream/tollstream/internal/text"
)

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
		Instance: r.URL.EscapedPath(), Errors: errs,
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
