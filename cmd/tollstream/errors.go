package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line, or a setting, that can't be meant. It exits 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// usagef returns a usageError.
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

// exitError ends the command with an exit code and no further text: the command has said all.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// exitWith returns an error that ends the command with a code after it printed its own report.
func exitWith(code int) error { return &exitError{code} }

// report prints an error as the command line shows it and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	out := err.Error()
	if errors.Is(err, context.Canceled) {
		out = "interrupted"
	}
	fmt.Fprintf(stderr, "tollstream: %s\n", text.OneLine(out))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", text.OneLine(hint))
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
