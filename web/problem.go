package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// problem is an error as the client gets it (RFC 9457). It says nothing of what the request held
// but for the names of parameters, so no secret comes back or gets into a log.
type problem struct {
	// about:blank: the status says which kind of problem it is
	Type     string           `json:"type"`
	Title    string           `json:"title"` // of the status
	Status   int              `json:"status"`
	Detail   string           `json:"detail"`
	Instance string           `json:"instance"` // the path
	Errors   []parameterError `json:"errors,omitempty"`
}

// parameterError says what is wrong with one parameter.
type parameterError struct {
	Parameter string `json:"parameter"`
	Detail    string `json:"detail"`
}

func (p parameterError) Error() string { return p.Parameter + ": " + p.Detail }

// parameterErrors gathers all that is wrong with a request.
type parameterErrors []parameterError

func (e *parameterErrors) bad(parameter, format string, args ...any) {
	*e = append(*e, parameterError{parameter, fmt.Sprintf(format, args...)})
}

// retrySeconds is what a client is told to wait before it asks again for what is away at the
// moment.
const retrySeconds = 2

// fail answers with a problem.
func fail(w http.ResponseWriter, r *http.Request, status int, format string, args ...any) {
	writeProblem(w, r, status, fmt.Sprintf(format, args...), nil)
}

// failParameters answers with all that is wrong with a request's parameters.
func failParameters(w http.ResponseWriter, r *http.Request, errs parameterErrors) {
	detail := errs[0].Error()
	if more := len(errs) - 1; more > 0 {
		detail += fmt.Sprintf(", and %d more", more)
	}
	writeProblem(w, r, http.StatusBadRequest, detail, errs)
}

func writeProblem(w http.ResponseWriter, r *http.Request, status int, detail string,
	errs parameterErrors) {
	body, err := json.Marshal(problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail,
		Instance: r.URL.EscapedPath(), Errors: errs,
	})
	if err != nil {
		panic(fmt.Sprintf("encode a problem: %v", err)) // of strings and a number
	}
	body = escapeUnseen(body)
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
