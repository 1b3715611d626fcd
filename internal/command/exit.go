package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// ErrReported ends a command with exit status 1 and no further text: it has printed its own report.
var ErrReported = errors.New("the command has reported its failure")

// Report prints an error as the command line shows it and returns the exit code.
func Report(stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrReported):
		return 1
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
		return 2
	}
	return 1
}
