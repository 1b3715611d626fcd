package command

import (
	"log/slog"
	"strings"
	"testing"
)

func TestLogger(t *testing.T) {
	var b strings.Builder
	log, err := NewLogger(&b, LogText, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unseen")
	log.With("partition", 3).WithGroup("g").Warn("two\nlines", "why", "a b", slog.Group("h", "x", 1),
		"e", "")
	if got := b.String()[len(
		"10:23:02 "):]; got != "warn  two; lines partition=3 g.why=\"a b\" g.h.x=1 g.e=\"\"\n" {
		t.Errorf("%q", got)
	}
	b.Reset()
	if log, err = NewLogger(&b, LogJSON, "error"); err != nil {
		t.Fatal(err)
	}
	log.Warn("unseen")
	log.Error("seen")
	if got := b.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"seen"`) ||
		strings.Contains(got, "unseen") {
		t.Errorf("%q", got)
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}} {
		if _, err := NewLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
