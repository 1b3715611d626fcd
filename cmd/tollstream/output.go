package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// isTerminal reports whether a person reads (or writes) there.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// number writes a count with thousands separators: 1,234,567.
func number(n int64) string { return humanize.Comma(n) }

// counted writes a count with its noun: 1 event, 2 events.
func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

// seconds rounds a duration for reading: 4 ms, 0.52 s, 12.3 s, 4m10s.
func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.01:
		return strconv.FormatFloat(s*1000, 'f', 0, 64) + " ms"
	case s < 9.995:
		return strconv.FormatFloat(s, 'f', 2, 64) + " s"
	case s < 99.95:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

// perSecond writes a rate in figures worth reading: 213,000, 48.2, 0.5.
func perSecond(n int64, d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	rate := float64(n) / d.Seconds()
	switch {
	case rate >= 10_000:
		return number(int64(math.Round(rate/1000)) * 1000)
	case rate >= 100:
		return number(int64(math.Round(rate)))
	}
	return strconv.FormatFloat(math.Round(rate*10)/10, 'f', -1, 64)
}

// escape makes a text safe for a terminal: control characters, escape sequences, characters that
// turn the direction of writing or can't be seen, and bytes that are no UTF-8 come out as Go writes
// them in a string, \x1b.
func escape(s string) string { return escapeUnless(harmless, s) }

// escapeUnless escapes bytes that are no UTF-8 and all characters but ASCII's visible ones and
// those that may be kept.
func escapeUnless(keep func(rune) bool, s string) string {
	if isPlainText(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case keep(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

func isPlainText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func harmless(r rune) bool {
	// Marks are no characters of their own but belong to scripts; Cf (bidi overrides, zero width) and
	// Cc are not graphic.
	return unicode.IsGraphic(r) && (r == ' ' || !unicode.IsSpace(r))
}

// writeJSON writes a value as indented JSON and a newline.
func writeJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

// encodeJSON writes a value as JSON that is safe for a terminal as well: what [escape] would not
// let through stands as \u202e in it, which means the same to whoever reads the JSON.
func encodeJSON(w io.Writer, v any, indent string) error {
	text, err := indentJSON(v, "", indent)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// indentJSON returns what encodeJSON writes, with a prefix before each line but the first.
func indentJSON(v any, prefix, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, indent)
	err := e.Encode(v)
	return escapeJSON(b.Bytes()), err
}

// escapeJSON replaces characters beyond ASCII in JSON, which occur in its strings only. The encoder
// has left no other control characters but the newlines between its parts, and no invalid UTF-8.
func escapeJSON(text []byte) []byte {
	suspicious := func(r rune) bool { return r >= 0x7F && !harmless(r) }
	if !bytes.ContainsFunc(text, suspicious) {
		return text
	}
	escaped := make([]byte, 0, len(text)+16)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if suspicious(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
		} else {
			escaped = append(escaped, text[:size]...)
		}
		text = text[size:]
	}
	return escaped
}

// column is a column of a table.
type column struct {
	name   string
	number bool // aligned right
}

// newTable returns a table in the style of all commands. Append rows of texts that went through
// escape where they are not ours, then Render.
func newTable(w io.Writer, columns ...column) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(tableStyle)
	t.SuppressTrailingSpaces()
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range columns {
		header = append(header, c.name)
		config := table.ColumnConfig{Number: i + 1}
		if c.number {
			config.Align, config.AlignHeader, config.AlignFooter = text.AlignRight, text.AlignRight,
				text.AlignRight
		}
		configs = append(configs, config)
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

var tableStyle = func() table.Style {
	s := table.StyleLight
	s.Name = "tollstream"
	s.Options = table.Options{SeparateHeader: true, SeparateFooter: true}
	s.Format.Header, s.Format.Footer = text.FormatDefault, text.FormatDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	return s
}()

// Formats of the log.
const (
	logText = "text"
	logJSON = "json"
)

// newLogger returns the logger of a command. Text is one short line for a person, json is for
// machines.
func newLogger(stderr io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level: %q is not one of debug, info, warn, error", level)
	}
	switch format {
	case logText:
		return slog.New(&lineHandler{w: stderr, level: l, mu: new(sync.Mutex)}), nil
	case logJSON:
		return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: l})), nil
	}
	return nil, usagef("--log-format: %q is neither text nor json", format)
}

// lineHandler writes "10:23:02 warn  broker away broker=127.0.0.1:9092".
type lineHandler struct {
	w      io.Writer
	level  slog.Level
	prefix string // of attribute names, from groups
	attrs  string // written already
	mu     *sync.Mutex
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if !r.Time.IsZero() {
		b.WriteString(r.Time.Format(time.TimeOnly))
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%-5s %s%s", strings.ToLower(r.Level.String()), oneLine(r.Message), h.attrs)
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
	s := oneLine(v.String())
	if s == "" || strings.ContainsAny(s, ` ="`) {
		s = strconv.Quote(s)
	}
	fmt.Fprintf(b, " %s%s=%s", prefix, a.Key, s)
}
