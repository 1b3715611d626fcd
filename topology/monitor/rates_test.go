package monitor

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

func TestArrivals(t *testing.T) {
	now := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	s := NewStatsAt(func() time.Time { return now })
	want := func(what string, age time.Duration, share float64) {
		t.Helper()
		last, got := s.Arrived()
		if now.Sub(last) != age || math.Abs(got-share) > 0.05 || got == 0 {
			t.Errorf("%s: %v ago, share %.2f; want %v, %.2f", what, now.Sub(last), got, age, share)
		}
	}
	if last, share := s.Arrived(); !last.IsZero() || share != 0 {
		t.Errorf("nothing arrived: %v, %v", last, share)
	}
	for range 40 { // a burst every half a minute
		now = now.Add(30 * time.Second)
		for range 100 {
			s.arrivals.note(now)
		}
	}
	want("every third slot", 0, 1./3)
	now = now.Add(4 * time.Minute)
	if got := s.Silence(); got != 0 {
		t.Errorf("a pause of nine bursts' time is a silence of %v", got)
	}
	now = now.Add(time.Minute)
	if got := s.Silence(); got != 5*time.Minute {
		t.Errorf("five minutes are a silence of %v", got)
	}
	s.SetUsual(60) // an event a minute, however many came before
	if got := s.Silence(); got != 0 {
		t.Errorf("five minutes are a silence of %v where an event a minute is usual", got)
	}
	now = now.Add(5 * time.Minute)
	if got := s.Silence(); got != 10*time.Minute {
		t.Errorf("ten minutes are a silence of %v where an event a minute is usual", got)
	}
	s.SetUsual(0)
	now = now.Add(-10 * time.Minute)
	now = now.Add(time.Hour)
	want("silence changes no share", time.Hour, 1./3)
	s.arrivals.note(now.Add(time.Hour))
	want("a producer's clock is ahead", 0, 0)

	// A replay whose records have the time of their events: only the end of the partition shows it.
	s.Opened(0, 0, 0)
	s.Measured(0, 1000, 0, kafka.OpenTransaction{})
	now = now.Add(time.Minute)
	want("the first look is no arrival", time.Minute, 0)
	s.arrivals.note(now.Add(-1000 * time.Hour))
	s.Measured(0, 1000, 0, kafka.OpenTransaction{})
	want("nothing comes", time.Minute, 0)
	s.Measured(0, 1001, 0, kafka.OpenTransaction{})
	want("one comes", 0, 0)
}

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
			list[i] = toll.Reject{Rejection: toll.Rejection{Kind: toll.RejectTime, Reason: "time: odd"}}
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

// TestRejectedRowsAreLogged checks that the first rows that MySQL rejects are logged, and no more
// within a minute.
func TestRejectedRowsAreLogged(t *testing.T) {
	var log strings.Builder
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	w := rejectWatch{now: func() time.Time {
		return now
	}, log: slog.New(slog.NewTextHandler(&log, nil))}
	rejected := &toll.RejectedError{Rows: []toll.RejectedRow{{Rejection: toll.Rejection{
		Kind: toll.RejectRefused, Number: 1526, SQLState: "HY000", Reason: "no partition"}}, {}}}
	w.rejected(3, &toll.RejectedError{Rows: []toll.RejectedRow{{
		Rejection: toll.Rejection{Kind: toll.RejectRetried}}}})
	w.rejected(3, rejected)
	w.rejected(4, rejected)
	now = now.Add(time.Minute)
	w.rejected(3, rejected)
	want := `partition=3 rows=2 error=1526 sqlstate=HY000 reason="no partition"`
	if got := log.String(); strings.Count(got, "\n") != 2 || strings.Count(got, want) != 2 {
		t.Errorf("got %q", got)
	}
}
