// Package hint gives errors what a user can do about them.
package main

import (
	"errors"
	"fmt"

	"github.com/tollstream/tollstream/toll"
)

// usageError is a command line, or a setting, that no command accepts.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// isUsage reports whether an error is one of usage, with which a command exits 2.
func isUsage(err error) bool {
	var usage *usageError
	return errors.As(err, &usage)
}

// usagef returns an error of usage: a command line, or a setting, that no command accepts.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// hintError adds to an error what to do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }

func (e *hintError) Unwrap() error { return e.err }

// withHint adds a hint to an error, printed on a line of its own.
func withHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hintError{err, hint}
}

// thenHint adds to the hint of an error, if it has one, what to do after that.
func thenHint(err error, hint string) error {
	if before := hintOf(err); before != "" {
		hint = before + "; then: " + hint
	}
	return withHint(err, hint)
}

// hintOf returns the hint of an error, "" for none.
func hintOf(err error) string {
	var h *hintError
	if errors.As(err, &h) {
		return h.hint
	}
	var p *toll.PermanentError
	if errors.As(err, &p) {
		return p.Hint
	}
	return ""
}
