package ingest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestTurnsByDistance checks how many statements may load at a time, by what was measured of them.
func TestTurnsByDistance(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name            string
		base            int
		roundTrip, work time.Duration
		want            int
	}{
		{"near", 1, ms / 10, 30 * ms, 1},
		{"near, more cores", 4, ms / 10, 30 * ms, 4},
		{"another room", 1, 5 * ms, 30 * ms, 1},
		{"another city", 1, 20 * ms, 30 * ms, 2},
		{"another country", 1, 50 * ms, 30 * ms, 4},
		{"another country, more cores", 2, 50 * ms, 30 * ms, 9},
		{"small batches", 1, 50 * ms, ms, maxLoads},
	} {
		turns := &turns{base: test.base}
		if n := turns.limit(); n != test.base {
			t.Errorf("%s: %d before anything was measured, want %d", test.name, n, test.base)
		}
		for range 10 {
			turns.measured(test.roundTrip, test.roundTrip+test.work)
		}
		// A wait for a lock, or for the machine, is no distance.
		turns.measured(test.roundTrip+500*ms, test.roundTrip+test.work)
		if n := turns.limit(); n < test.want || n > test.want+test.base {
			t.Errorf("%s: %d, want %d", test.name, n, test.want)
		}
		for range 1000 {
			turns.measured(ms/10, 30*ms)
		}
		if n := turns.limit(); n != test.base {
			t.Errorf("%s, and then near: %d, want %d", test.name, n, test.base)
		}
	}
}

// TestTurnsInOrder checks that turns are given in the order in which they were asked for, and that
// one that comes as its context ends is not lost.
func TestTurnsInOrder(t *testing.T) {
	turns := &turns{base: 1}
	take := func(ctx context.Context) chan *turn {
		got := make(chan *turn, 1)
		go func() {
			mine, err := turns.take(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			got <- mine
		}()
		return got
	}
	waiting := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			turns.mu.Lock()
			is := len(turns.waiting)
			turns.mu.Unlock()
			if is == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, want %d", is, n)
			}
		}
	}
	first := <-take(t.Context())
	second := take(t.Context())
	waiting(1)
	ctx, cancel := context.WithCancel(t.Context())
	third := take(ctx)
	waiting(2)
	fourth := take(t.Context())
	waiting(3)
	cancel()
	if <-third != nil {
		t.Error("a turn was given while another one had it")
	}
	first.end()
	first.end() // which is none more
	(<-second).end()
	(<-fourth).end()

	for range 1000 { // the turn and the end of the context come together
		first := <-take(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		second := take(ctx)
		waiting(1)
		go cancel()
		first.end()
		if mine := <-second; mine != nil {
			mine.end()
		}
	}
	if turns.taken != 0 {
		t.Errorf("%d turns were lost", turns.taken)
	}
}
