package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

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
	if hint := hint.Of(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", text.OneLine(hint))
	}
	if hint.IsUsage(err) {
		return exitUsage
	}
	return exitFailed
}
