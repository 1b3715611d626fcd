package web

import (
	"github.com/tollstream/tollstream/web/serve"

	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

// refresher reads the board and publishes it. One goroutine, run, does both; handlers load what is
// current.
type refresher struct {
	source     func(context.Context) (*board.Board, error)
	normalizer *normalizer
	every      time.Duration // while there are clients
	idle       time.Duration // without
	timeout    time.Duration // of one read
	slow       time.Duration // a read that takes longer makes the board stale
	beat       time.Duration // between heartbeats
	now        func() time.Time
	ticks      func() (ticks <-chan time.Time, stop func()) // several in each of the times above
	log        *slog.Logger

	current atomic.Pointer[moment]
	streams atomic.Int64  // open streams, which get each board
	asked   atomic.Int64  // when a client last requested the board, in Unix nanoseconds
	wake    chan struct{} // receives when a client comes

	begun, reads, failures atomic.Int64 // reads that began, ended, and of these failed
}

// moment is what all clients see until the next one. It is immutable.
type moment struct {
	*snapshot                // nil before the first board
	staleSince time.Time     // since when the source fails; zero while it does not
	outage     string        // the server that does not answer then, empty for not known
	beat       uint64        // how many heartbeats there were
	next       chan struct{} // closed when the next moment is current

	events   eventCache
	document func() *serve.Representation // the whole board, made once
}

// idleAfter is how long after its last request a client counts as gone.
const idleAfter = 5 * time.Second

// init makes the first moment, which has no board.
func (f *refresher) init() {
	f.wake = make(chan struct{}, 1)
	f.current.Store(newMoment(nil, time.Time{}, "", 0))
}

func newMoment(s *snapshot, staleSince time.Time, outage string, beat uint64) *moment {
	m := &moment{snapshot: s, staleSince: staleSince, outage: outage, beat: beat,
		next: make(chan struct{})}
	m.document = sync.OnceValue(func() *serve.Representation { return m.boardDocument(nil) })
	return m
}

// publish makes a moment current. Nothing else does.
func (f *refresher) publish(m *moment) {
	close(f.current.Swap(m).next)
}

// touch notes that a client wants the board.
func (f *refresher) touch() {
	f.asked.Store(f.now().UnixNano())
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// board returns the current moment, and waits for the first board as long as the context allows. It
// returns false where there is none.
func (f *refresher) board(ctx context.Context) (*moment, bool) {
	f.touch()
	for {
		m := f.current.Load()
		if m.snapshot != nil {
			return m, true
		}
		if !m.staleSince.IsZero() {
			return nil, false
		}
		select {
		case <-m.next:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// reading is a read of the board.
type reading struct {
	snapshot *snapshot
	err      error
}

// run reads and publishes until the context ends. It returns once the last read has.
func (f *refresher) run(ctx context.Context) {
	ticks, stop := f.ticks()
	defer stop()
	var under chan reading // the read under way, nil for none
	var began, failedSince time.Time
	logged := false // whether the error was logged since the last board
	beatAt := f.now()
	tick := func(now time.Time) {
		if under == nil && now.Sub(began) >= f.pause(now) {
			began, under = now, make(chan reading, 1)
			f.begun.Add(1)
			go f.read(ctx, f.current.Load().snapshot, under)
		}
		m := f.current.Load()
		staleSince, beat := m.staleSince, m.beat
		if under != nil && staleSince.IsZero() && now.Sub(began) > f.slow {
			f.log.Warn("reading the figures takes long; the view is stale", "since",
				began.Format(time.RFC3339))
			staleSince, failedSince = began, began
		}
		if now.Sub(beatAt) >= f.beat {
			beatAt = now
			beat++
		}
		if staleSince != m.staleSince || beat != m.beat {
			f.publish(newMoment(m.snapshot, staleSince, m.outage, beat))
		}
	}
	tick(beatAt)
	for {
		select {
		case <-ctx.Done():
			if under != nil {
				<-under
			}
			return
		case now := <-ticks:
			tick(now)
		case <-f.wake:
			tick(f.now())
		case r := <-under:
			under = nil
			f.reads.Add(1)
			m := f.current.Load()
			switch {
			case ctx.Err() != nil:
			case r.err != nil:
				f.failures.Add(1)
				if failedSince.IsZero() {
					failedSince = began
				}
				if !logged {
					logged = true
					f.log.Warn("reading the figures failed; the view is stale", "error", r.err)
				}
				if server := board.OutageOf(r.err); m.staleSince.IsZero() || server != m.outage {
					f.publish(newMoment(m.snapshot, failedSince, server, m.beat))
				}
			default:
				if !failedSince.IsZero() {
					f.log.Info("reading the figures recovered", "after",
						f.now().Sub(failedSince).Round(time.Second))
					failedSince, logged = time.Time{}, false
				}
				f.publish(newMoment(r.snapshot, time.Time{}, "", m.beat))
			}
		}
	}
}

// pause returns how long after the last read began the next one is due. It is a little less than it
// should be, so that a tick that comes early is not left out.
func (f *refresher) pause(now time.Time) time.Duration {
	if f.streams.Load() > 0 || now.Sub(time.Unix(0, f.asked.Load())) < idleAfter {
		return f.every * 9 / 10
	}
	return f.idle * 9 / 10
}

// read reads one board.
func (f *refresher) read(ctx context.Context, old *snapshot, done chan<- reading) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	b, err := f.source(ctx)
	switch {
	case err != nil:
		done <- reading{err: err}
		return
	case b == nil:
		done <- reading{err: fmt.Errorf("the source returned no board")}
		return
	}
	f.normalizer.board(b)
	s, err := nextSnapshot(old, b)
	done <- reading{s, err}
}
