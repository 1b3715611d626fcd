package serve

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Queries reads from the source what is not on the board, on behalf of all clients. Equal queries
// of several clients at once, or within a second, run once, and only a few run at a time. So a page
// that many have open, or a client that walks through all plazas, costs the database little.
type Queries struct {
	ctx     context.Context // ends all of them
	timeout time.Duration
	keep    time.Duration // how long an answer is reused
	now     func() time.Time
	slots   chan struct{}

	group singleflight.Group

	mu      sync.Mutex
	running sync.WaitGroup // added to with mu held
	kept    map[string]keptAnswer
}

type keptAnswer struct {
	representation *Representation
	until          time.Time
}

// How many queries run at once, and how many answers are kept. An answer takes some tens of
// kilobytes.
const (
	querySlots = 4
	maxKept    = 200
)

// NewQueries returns queries that end with the context; each may take the timeout, and its answer
// is reused for the time to keep it.
func NewQueries(ctx context.Context, timeout, keep time.Duration, now func() time.Time) *Queries {
	return &Queries{ctx: ctx, timeout: timeout, keep: keep, now: now,
		slots: make(chan struct{}, querySlots), kept: map[string]keptAnswer{}}
}

var errStopping = errors.New("the server is stopping")

// Do returns the answer to a question, read now or a moment ago.
func (q *Queries) Do(ctx context.Context, question string,
	ask func(context.Context) (*Representation, error)) (*Representation, error) {
	if p := q.look(question); p != nil {
		return p, nil
	}
	// The query belongs to no request: the first client may go while others still wait.
	answer := q.group.DoChan(question, func() (any, error) {
		var p *Representation
		err := q.Run(q.ctx, func(ctx context.Context) (err error) {
			p, err = ask(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		q.hold(question, p)
		return p, nil
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return nil, a.Err
		}
		return a.Val.(*Representation), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run runs one query once there is a slot for it.
func (q *Queries) Run(ctx context.Context, ask func(context.Context) error) error {
	if !q.begin() {
		return errStopping
	}
	defer q.running.Done()
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return ask(ctx)
}

// begin counts a running query, unless the server is stopping.
func (q *Queries) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return false
	}
	q.running.Add(1)
	return true
}

// Wait waits, after the context has ended, until no query runs.
func (q *Queries) Wait() {
	q.mu.Lock()
	running := &q.running
	q.mu.Unlock() // queries that began before are counted by now
	running.Wait()
}

func (q *Queries) look(question string) *Representation {
	q.mu.Lock()
	defer q.mu.Unlock()
	if k, ok := q.kept[question]; ok && q.now().Before(k.until) {
		return k.representation
	}
	return nil
}

func (q *Queries) hold(question string, p *Representation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if len(q.kept) >= maxKept {
		for other, k := range q.kept {
			if !now.Before(k.until) {
				delete(q.kept, other)
			}
		}
	}
	if len(q.kept) >= maxKept {
		clear(q.kept)
	}
	q.kept[question] = keptAnswer{p, now.Add(q.keep)}
}
