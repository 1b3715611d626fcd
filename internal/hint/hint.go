// Package hint gives errors what a user can do about them.
package hint

import (
	"errors"
	"fmt"

	"github.com/tollstream/tollstream/toll"
)

// usageError is a command line, or a setting, that no command accepts.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// IsUsage reports whether an error is one of usage, with which a command exits 2.
func IsUsage(err error) bool {
	var usage *usageError
	return errors.As(err, &usage)
}

// Usagef returns an error of usage: a command line, or a setting, that no command accepts.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// hintError adds to an error what to do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }

func (e *hintError) Unwrap() error { return e.err }

// With adds a hint to an error, printed on a line of its own.
func With(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hintError{err, hint}
}

// Then adds to the hint of an error, if it has one, what to do after that.
func Then(err error, hint string) error {
	if before := Of(err); before != "" {
		hint = before + "; then: " + hint
	}
	return With(err, hint)
}

// Of returns the hint of an error, "" for none.
func Of(err error) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.hint
	}
	if p, ok := errors.AsType[*toll.PermanentError](err); ok {
		return p.Hint
	}
	return ""
}
