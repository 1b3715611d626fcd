package topology

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// gokaLogger routes goka's log to ours, at debug level: what matters of it reaches us as errors.
type gokaLogger struct{ log *slog.Logger }

func (l gokaLogger) Print(args ...any)   { l.debug(fmt.Sprint(args...)) }
func (l gokaLogger) Println(args ...any) { l.debug(fmt.Sprintln(args...)) }
func (l gokaLogger) Printf(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.debug(fmt.Sprintf(format, args...))
	}
}
func (l gokaLogger) debug(text string) { l.log.Debug(strings.TrimSpace(text), "library", "goka") }

// makeDir makes a folder for local state, readable by its owner alone.
func makeDir(dir string) error { return os.MkdirAll(dir, 0o700) }

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
