package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// GokaLogger routes goka's log to ours, at debug level: what matters of it reaches us as errors.
type GokaLogger struct{ Log *slog.Logger }

// Print implements goka's logger.
func (l GokaLogger) Print(args ...any) { l.debug(fmt.Sprint(args...)) }

// Println implements goka's logger.
func (l GokaLogger) Println(args ...any) { l.debug(fmt.Sprintln(args...)) }

// Printf implements goka's logger.
func (l GokaLogger) Printf(format string, args ...any) {
	if l.Log.Enabled(context.Background(), slog.LevelDebug) {
		l.debug(fmt.Sprintf(format, args...))
	}
}
func (l GokaLogger) debug(text string) { l.Log.Debug(strings.TrimSpace(text), "library", "goka") }

// Brief returns the first thing that an error says, on one line. goka and the library that it joins
// errors with put lists, stacks and their own headings around it.
func Brief(err error) string {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimLeft(strings.TrimSpace(line), "* ")
		for {
			head, tail, found := strings.Cut(line, "occurred:")
			if !found || !strings.HasSuffix(strings.TrimSpace(head), "error") &&
				!strings.HasSuffix(strings.TrimSpace(head), "errors") {
				break
			}
			line = strings.TrimLeft(strings.TrimSpace(tail), "* ")
		}
		// goka's way to pass on an error of a callback
		line = strings.ReplaceAll(line, "panic in callback: ", "")
		if line != "" {
			return line
		}
	}
	return "unknown error"
}
