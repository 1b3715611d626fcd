package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ~":                "plain ~",
		"Lastwagen groß":         "Lastwagen groß",
		"日本":                     "日本",
		"\x1b[31mred":            `\x1b[31mred`,
		"a\nb\tc\rd":             `a\nb\tc\rd`,
		"\u202eevil":             `\u202eevil`,
		"zero\u200bwidth":        `zero\u200bwidth`,
		"bad\xffutf8":            `bad\xffutf8`,
		"\u0085":                 `\u0085`,
		"\u2028":                 `\u2028`,
		"\x7f":                   `\x7f`,
		"non\u00a0breaking":      `non\u00a0breaking`,
		"\ufffd is a character":  "\ufffd is a character",
		"\U0001f697 drives past": "\U0001f697 drives past",
	} {
		if got := escape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		number(1234567):                          "1,234,567",
		counted(1, "event"):                      "1 event",
		counted(2000, "event"):                   "2,000 events",
		seconds(4 * time.Millisecond):            "4 ms",
		seconds(520 * time.Millisecond):          "0.52 s",
		seconds(12345 * time.Millisecond):        "12.3 s",
		seconds(250 * time.Second):               "4m10s",
		perSecond(212_640, time.Second):          "213,000",
		perSecond(1234, time.Second):             "1,234",
		perSecond(101, 10*time.Second):           "10.1",
		perSecond(5, 0):                          "0",
		perSecond(1_000_000, 2*time.Second) + "": "500,000",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table := newTable(&b, column{name: "Plaza"}, column{name: "Events", number: true})
	table.AppendRow([]any{"4856", number(1234)})
	table.AppendRow([]any{"4000", number(5)})
	table.Render()
	want := "Plaza  Events\n───────────────\n4856    1,234\n4000        5\n"
	if got := b.String(); strings.ReplaceAll(got, " \n", "\n") != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestLogger(t *testing.T) {
	var b strings.Builder
	log, err := newLogger(&b, logText, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unseen")
	log.With("partition", 3).WithGroup("g").Warn("two\nlines", "why", "a b", slog.Group("h", "x", 1),
		"e", "")
	if got := b.String()[len("10:23:02 "):]; got != "warn  two; lines partition=3 g.why=\"a b\" g.h.x=1 g.e=\"\"\n" {
		t.Errorf("%q", got)
	}
	b.Reset()
	if log, err = newLogger(&b, logJSON, "error"); err != nil {
		t.Fatal(err)
	}
	log.Warn("unseen")
	log.Error("seen")
	if got := b.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"seen"`) || strings.Contains(got, "unseen") {
		t.Errorf("%q", got)
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}} {
		if _, err := newLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	if err := writeJSON(&b, map[string]any{"a": "<&>"}); err != nil || b.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%q %v", b.String(), err)
	}
}
