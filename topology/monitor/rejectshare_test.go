package monitor

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// TestRejectWatch moves a clock through a rise and a fall of the share of rejects: each is logged
// once.
func TestRejectWatch(t *testing.T) {
	var log strings.Builder
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	w := rejectWatch{now: func() time.Time {
		return now
	}, log: slog.New(slog.NewTextHandler(&log, nil))}
	rejects := func(n int) []toll.Reject {
		list := make([]toll.Reject, n)
		for i := range list {
			list[i] = toll.Reject{Kind: toll.RejectTime, Reason: "time: odd"}
		}
		return list
	}
	logged := func(want ...string) {
		t.Helper()
		text := log.String()
		log.Reset()
		if strings.Count(text, "\n") != len(want) {
			t.Fatalf("got %q, want %q", text, want)
		}
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Fatalf("got %q, which lacks %q", text, part)
			}
		}
	}
	w.stored(9, rejects(9)) // all, but few
	logged()
	w.stored(1, rejects(1))
	logged(
		`msg="many records are rejected; tollstream dead-letters lists them" rejected=10 of=10 minutes=5 kind=time reason="time: odd"`)
	w.stored(100, rejects(50))
	logged()
	w.stored(5891, nil) // 60 of 6,001 are less than one in a hundred
	logged(`msg="few records are rejected again" rejected=60 of=6001`)
	w.stored(1000, rejects(20))
	logged("rejected=80 of=7001")
	if got := w.share(); got != (toll.RejectShare{Records: 7001, Rejected: 80}) {
		t.Errorf("%+v", got)
	}
	now = now.Add(4*time.Minute + 59*time.Second)
	w.share()
	logged()
	now = now.Add(time.Second) // nothing comes any more
	if got := w.share(); got != (toll.RejectShare{}) {
		t.Errorf("%+v", got)
	}
	logged("few records are rejected again")
	now = now.Add(-time.Hour) // set back
	w.stored(20, rejects(20))
	logged("rejected=20 of=20")
	now = now.Add(100 * time.Hour)
	w.stored(3, nil)
	logged("of=3")
}

// TestRefusedRowsAreLogged checks that the first rows that MySQL refuses are logged, and no more
// within a minute.
func TestRefusedRowsAreLogged(t *testing.T) {
	var log strings.Builder
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	w := rejectWatch{now: func() time.Time {
		return now
	}, log: slog.New(slog.NewTextHandler(&log, nil))}
	refused := &toll.RefusedError{Rows: []toll.RefusedRow{{Kind: toll.RejectRefused, Number: 1526,
		SQLState: "HY000", Reason: "no partition"}, {}}}
	w.refused(3, &toll.RefusedError{Rows: []toll.RefusedRow{{Kind: toll.RejectRetried}}})
	w.refused(3, refused)
	w.refused(4, refused)
	now = now.Add(time.Minute)
	w.refused(3, refused)
	want := `partition=3 rows=2 error=1526 sqlstate=HY000 reason="no partition"`
	if got := log.String(); strings.Count(got, "\n") != 2 || strings.Count(got, want) != 2 {
		t.Errorf("got %q", got)
	}
}
