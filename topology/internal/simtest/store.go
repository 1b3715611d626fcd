// Package simtest is what tests of several packages of topology share: a broker and a database in
// memory, and how many seeds they try.
package simtest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Rows are rows of a [Store].
type Rows struct{ Events []toll.Event }

// Append implements [toll.Rows].
func (r *Rows) Append(e *toll.Event) uint32 {
	r.Events = append(r.Events, *e)
	return uint32(e.Vehicle)
}

// Len implements [toll.Rows].
func (r *Rows) Len() int { return len(r.Events) }

// Size implements [toll.Rows].
func (r *Rows) Size() int { return 32 * len(r.Events) }

// Reset implements [toll.Rows].
func (r *Rows) Reset() { r.Events = nil }

// Store is a database with one partition, in which every call can be made to fail. It deviates
// from a database in that a commit whose answer is lost is over at once: it is never still open
// when the cursor is read.
type Store struct {
	Mu      sync.Mutex // a test that holds it has the database hang
	Current toll.Cursor
	Batches []Batch
	Rows    []toll.Event
	Rejects []toll.Reject
	Refuse  map[int32]bool // vehicles whose rows the database rejects

	Steps int  // calls so far
	Fail  int  // the step that fails, 0 for none
	Late  bool // the failing commit is stored, and only its answer is lost
	Moved bool // the failing step is another owner's commit
}

// Batch is a batch that is stored.
type Batch struct {
	toll.StoredBatch
	Published bool
}

// ErrLost is the error of a call that fails.
var ErrLost = errors.New("connection lost")

// step counts a call and reports whether it is the one that fails.
func (s *Store) step() bool {
	s.Steps++
	return s.Steps == s.Fail
}

// NewRows returns an empty buffer of rows.
func (s *Store) NewRows() toll.Rows { return new(Rows) }

// Load returns the cursor and what is not published.
func (s *Store) Load(context.Context, int32, int64) (toll.Cursor, toll.Unpublished, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	u := toll.Unpublished{First: s.Current.Next}
	for _, b := range s.Batches {
		if !b.Published {
			u.First = min(u.First, b.First)
			u.Batches++
			u.Events += b.Events
		}
	}
	return s.Current, u, nil
}

// Outbox returns pages of two batches.
func (s *Store) Outbox(_ context.Context, _ int32, above int64,
	unpublished bool) (toll.OutboxPage, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	page := toll.OutboxPage{Epoch: s.Current.Epoch}
	for _, b := range s.Batches {
		switch {
		case b.Next <= above || unpublished && b.Published:
		case len(page.Batches) == 2:
			page.More = true
		default:
			page.Batches = append(page.Batches, b.StoredBatch)
		}
	}
	return page, nil
}

// Cursor returns the cursor.
func (s *Store) Cursor(context.Context, int32) (toll.Cursor, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.step() {
		return toll.Cursor{}, ErrLost
	}
	return s.Current, nil
}

// Cursors returns the cursor, of one partition.
func (s *Store) Cursors(context.Context) ([]toll.Cursor, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return []toll.Cursor{s.Current}, nil
}

// MarkLogReplaced records why the log was replaced.
func (s *Store) MarkLogReplaced(_ context.Context, c *toll.Cursor, why string) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Current.Next != c.Next || s.Current.Token != c.Token {
		return toll.ErrCursorMoved
	}
	s.Current.LogReplaced = why
	return nil
}

// Commit stores a batch, by compare-and-set.
func (s *Store) Commit(_ context.Context, b *toll.Batch, published []toll.BatchRef) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	fails := s.step()
	if fails && s.Moved {
		s.Current.Next, s.Current.Token = s.Current.Next+1, s.Current.Token+1
		s.Rows = append(s.Rows, toll.Event{Vehicle: -1}) // the other owner's
	}
	if fails && !s.Late && !s.Moved {
		return ErrLost
	}
	if s.Current.Next != b.First || s.Current.Token != b.Expect || s.Current.Epoch != b.Epoch {
		return toll.ErrCursorMoved
	}
	events := b.Rows.(*Rows).Events
	var rejected toll.RejectedError
	for i, e := range events {
		if s.Refuse[e.Vehicle] {
			rejected.Rows = append(rejected.Rows, toll.RejectedRow{Row: i, Rejection: toll.Rejection{
				Kind: toll.RejectRefused, SQLState: "22000", Reason: "refused"}})
		}
	}
	if len(rejected.Rows) > 0 {
		return &rejected
	}
	s.Current.Next, s.Current.Token, s.Current.Chain, s.Current.Clock, s.Current.Last = b.Next,
		b.Token,
		b.Chain, b.Clock, b.Last
	s.Rows = append(s.Rows, events...)
	s.Rejects = append(s.Rejects, b.Rejects...)
	s.Batches = append(s.Batches, Batch{StoredBatch: toll.StoredBatch{
		Partition: b.Partition, First: b.First, Next: b.Next, Token: b.Token, Events: int64(len(events)),
		Deltas: b.Deltas,
	}})
	s.markPublished(published)
	if fails {
		return ErrLost
	}
	return nil
}

// MarkPublished marks batches as published.
func (s *Store) MarkPublished(_ context.Context, _ int32, epoch uint64,
	published []toll.BatchRef) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.step() {
		return ErrLost
	}
	if epoch == s.Current.Epoch {
		s.markPublished(published)
	}
	return nil
}

func (s *Store) markPublished(published []toll.BatchRef) {
	for i := range s.Batches {
		b := &s.Batches[i]
		if slices.Contains(published, toll.BatchRef{First: b.First, Token: b.Token}) {
			b.Published = true
		}
	}
}

// Quiet silences the libraries of Kafka, once.
var Quiet = sync.OnceFunc(kafka.QuietLibraries)

// Broker starts a broker in this process, with the topic toll of 4 partitions, until the test ends.
func Broker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Cluster) {
	t.Helper()
	Quiet()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1),
		kfake.SeedTopics(4, "toll")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, kafka.Cluster{Brokers: c.ListenAddrs(), ClientID: "test"}
}

// Seeds returns how many seeds a property test tries: TOLLSTREAM_SEEDS, or what is usual for it.
func Seeds(usual int) uint64 {
	if n, err := strconv.Atoi(os.Getenv("TOLLSTREAM_SEEDS")); err == nil && n > 0 {
		return uint64(n)
	}
	if testing.Short() {
		usual = (usual + 9) / 10
	}
	return uint64(usual)
}
