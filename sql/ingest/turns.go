package ingest

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// turns bounds how many LOAD DATA statements of a writer run at the same time.
//
// Near the server it is one on few cores. They stand in each other's way: on two cores four
// connections load a fifth fewer rows per second than one. What else belongs to a transaction, its
// commit above all, goes on in parallel with the rows of the next one. It is not so for INSERT.
//
// Far from the server a statement is on its way for longer than the server works on it. Then as
// many are under way as keep the server working.
type turns struct {
	base int // near the server

	mu        sync.Mutex
	taken     int
	waiting   []chan struct{} // closed when it is their turn, in this order
	roundTrip time.Duration   // the shortest of late, 0 before the first
	work      time.Duration   // the server's on one statement, on average; 0 before the first
}

// maxLoads is how many times as many statements are under way far from the server. They bound the
// memory that it needs.
const maxLoads = 16

func newTurns() *turns { return &turns{base: max(1, runtime.GOMAXPROCS(0)/2)} }

// turn is that of one batch. Its methods are called in this order: begin and asked, with the rows
// to be loaded, loaded, and end, which may be called at any time, and again.
type turn struct {
	of            *turns
	began, asking time.Time
	end           func()
}

// begin notes that the statement is sent.
func (t *turn) begin() { t.began = time.Now() }

// asked notes that the server asks for the rows, a round trip after the statement was sent.
func (t *turn) asked() { t.asking = time.Now() }

// loaded notes that the server has answered.
func (t *turn) loaded() { t.of.measured(t.asking.Sub(t.began), time.Since(t.asking)) }

// take waits for a turn.
func (t *turns) take(ctx context.Context) (*turn, error) {
	t.mu.Lock()
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	t.admit()
	t.mu.Unlock()
	select {
	case <-mine:
		return &turn{of: t, end: sync.OnceFunc(t.release)}, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else { // it came just now
		t.taken--
		t.admit()
	}
	return nil, context.Cause(ctx)
}

func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	t.admit()
}

// admit gives turns to those who wait, as many as there are. The caller holds the lock.
func (t *turns) admit() {
	for len(t.waiting) > 0 && t.taken < t.limit() {
		close(t.waiting[0])
		t.waiting = t.waiting[1:]
		t.taken++
	}
}

// limit returns how many turns there are. A statement is under way for two round trips and the
// server's work. The caller holds the lock.
func (t *turns) limit() int {
	if t.work <= 0 {
		return t.base
	}
	n := float64(t.base) * float64(t.work+2*t.roundTrip) / float64(t.work)
	return min(int(math.Round(n)), t.base*maxLoads)
}

// measured notes how long it took until the server asked for a statement's rows, and from then
// until it answered. The first is a round trip and some work, perhaps the wait for a lock, and so
// the shortest counts; it grows again slowly, since the way may become longer.
func (t *turns) measured(untilAsked, untilAnswered time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.roundTrip == 0 || untilAsked < t.roundTrip {
		t.roundTrip = untilAsked
	} else {
		t.roundTrip += (untilAsked - t.roundTrip) / 64
	}
	work := max(untilAnswered-t.roundTrip, time.Microsecond)
	if t.work == 0 {
		t.work = work
	} else {
		t.work += (work - t.work) / 8
	}
	t.admit()
}
