package monitor

import (
	"math"
	"testing"
	"time"

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
	now = now.Add(-5 * time.Minute)
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
