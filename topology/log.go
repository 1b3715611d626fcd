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
