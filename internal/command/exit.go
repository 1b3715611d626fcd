package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// Exit is an error that ends a command with this exit status and no further text: the command has
// printed its own report.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ErrReported ends a command with exit status 1.
var ErrReported error = Exit(1)

// Report prints an error as the command line shows it and returns the exit code.
func Report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[Exit](err); ok {
		return int(exit)
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
