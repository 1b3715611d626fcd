package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// Formats of the log.
const (
	LogText = "text"
	LogJSON = "json"
)

// NewLogger returns the logger of a command. Text is one short line for a person, json is for
// machines. The level may change while it is in use.
func NewLogger(stderr io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	switch strings.ToLower(format) {
	case LogText:
		return slog.New(&lineHandler{w: stderr, level: level, mu: new(sync.Mutex)}), nil
	case LogJSON:
		return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})), nil
	}
	return nil, hint.Usagef("--log-format: %q is neither text nor json", format)
}

// Warnings returns the logger of a command that is over soon: it writes warnings and errors as
// text.
func Warnings(w io.Writer) *slog.Logger {
	return slog.New(&lineHandler{w: w, level: slog.LevelWarn, mu: new(sync.Mutex)})
}

// lineHandler writes "10:23:02 warn  broker unavailable broker=127.0.0.1:9092".
type lineHandler struct {
	w      io.Writer
	level  slog.Leveler
	prefix string // of attribute names, from groups
	attrs  string // written already
	mu     *sync.Mutex
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if !r.Time.IsZero() {
		b.WriteString(r.Time.Format(time.TimeOnly))
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%-5s %s%s", strings.ToLower(r.Level.String()), text.OneLine(r.Message), h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, h.prefix, a)
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, h.prefix, a)
	}
	clone := *h
	clone.attrs += b.String()
	return &clone
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	clone := *h
	if name != "" {
		clone.prefix += name + "."
	}
	return &clone
}

func appendAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			appendAttr(b, prefix, member)
		}
		return
	}
	s := text.OneLine(v.String())
	if s == "" || strings.ContainsAny(s, ` ="`) {
		s = strconv.Quote(s)
	}
	fmt.Fprintf(b, " %s%s=%s", prefix, a.Key, s)
}
