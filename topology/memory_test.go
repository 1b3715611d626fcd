package topology

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/tollstream/tollstream/toll"
)

// memoryRows are rows of a memoryStore.
type memoryRows struct{ events []toll.Event }

func (r *memoryRows) Append(e *toll.Event) uint32 {
	r.events = append(r.events, *e)
	return uint32(e.Vehicle)
}
func (r *memoryRows) Len() int  { return len(r.events) }
func (r *memoryRows) Size() int { return 32 * len(r.events) }
func (r *memoryRows) Reset()    { r.events = nil }

// memoryStore is a Store with one partition, in which every call can be made to fail. It deviates
// from a database in that a commit whose answer is lost is over at once: it is never still open
// when the cursor is read.
type memoryStore struct {
	mu      sync.Mutex
	cursor  toll.Cursor
	batches []memoryBatch
	rows    []toll.Event
	rejects []toll.Reject
	refuse  map[int32]bool // vehicles that the database refuses

	steps int  // calls so far
	fail  int  // the step that fails, 0 for none
	late  bool // the failing commit is stored, and only its answer is lost
	moved bool // the failing step is another owner's commit
}

type memoryBatch struct {
	toll.StoredBatch
	published bool
}

var errLost = errors.New("connection lost")

// step counts a call and reports whether it is the one that fails.
func (s *memoryStore) step() bool {
	s.steps++
	return s.steps == s.fail
}

func (s *memoryStore) NewRows() toll.Rows { return new(memoryRows) }

func (s *memoryStore) Load(context.Context, int32, int64) (toll.Cursor, toll.Unpublished, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := toll.Unpublished{First: s.cursor.Next}
	for _, b := range s.batches {
		if !b.published {
			u.First = min(u.First, b.First)
			u.Batches++
			u.Events += b.Events
		}
	}
	return s.cursor, u, nil
}

// Outbox returns pages of two batches.
func (s *memoryStore) Outbox(_ context.Context, _ int32, above int64,
	unpublished bool) (toll.OutboxPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := toll.OutboxPage{Epoch: s.cursor.Epoch}
	for _, b := range s.batches {
		switch {
		case b.Next <= above || unpublished && b.published:
		case len(page.Batches) == 2:
			page.More = true
		default:
			page.Batches = append(page.Batches, b.StoredBatch)
		}
	}
	return page, nil
}

func (s *memoryStore) Cursor(context.Context, int32) (toll.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.step() {
		return toll.Cursor{}, errLost
	}
	return s.cursor, nil
}

func (s *memoryStore) Cursors(context.Context) ([]toll.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []toll.Cursor{s.cursor}, nil
}

func (s *memoryStore) MarkLogReplaced(_ context.Context, c *toll.Cursor, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor.Next != c.Next || s.cursor.Token != c.Token {
		return toll.ErrCursorMoved
	}
	s.cursor.LogReplaced = why
	return nil
}

func (s *memoryStore) Commit(_ context.Context, b *toll.Batch, published []toll.BatchRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fails := s.step()
	if fails && s.moved {
		s.cursor.Next, s.cursor.Token = s.cursor.Next+1, s.cursor.Token+1
		s.rows = append(s.rows, toll.Event{Vehicle: -1}) // the other owner's
	}
	if fails && !s.late && !s.moved {
		return errLost
	}
	if s.cursor.Next != b.First || s.cursor.Token != b.Expect || s.cursor.Epoch != b.Epoch {
		return toll.ErrCursorMoved
	}
	events := b.Rows.(*memoryRows).events
	var refused toll.RefusedError
	for i, e := range events {
		if s.refuse[e.Vehicle] {
			refused.Rows = append(refused.Rows,
				toll.RefusedRow{Row: i, Kind: toll.RejectRefused, SQLState: "22000", Reason: "refused"})
		}
	}
	if len(refused.Rows) > 0 {
		return &refused
	}
	s.cursor.Next, s.cursor.Token, s.cursor.Chain, s.cursor.Clock, s.cursor.Last = b.Next, b.Token,
		b.Chain, b.Clock, b.Last
	s.rows = append(s.rows, events...)
	s.rejects = append(s.rejects, b.Rejects...)
	s.batches = append(s.batches, memoryBatch{StoredBatch: toll.StoredBatch{
		Partition: b.Partition, First: b.First, Next: b.Next, Token: b.Token, Events: int64(len(events)),
		Deltas: b.Deltas,
	}})
	s.markPublished(published)
	if fails {
		return errLost
	}
	return nil
}

func (s *memoryStore) MarkPublished(_ context.Context, _ int32, epoch uint64,
	published []toll.BatchRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.step() {
		return errLost
	}
	if epoch == s.cursor.Epoch {
		s.markPublished(published)
	}
	return nil
}

func (s *memoryStore) markPublished(published []toll.BatchRef) {
	for i := range s.batches {
		b := &s.batches[i]
		if slices.Contains(published, toll.BatchRef{First: b.First, Token: b.Token}) {
			b.published = true
		}
	}
}

// memoryTable merges deltas as the aggregate does, and can fail to take a message.

func testConfig() *Config {
	cfg := DefaultConfig()
	cfg.BatchRows = 7
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	token := uint64(100)
	var mu sync.Mutex
	cfg.NewToken = func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		token++
		return token
	}
	return &cfg
}
