package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Config says how partitions are stored.
type Config struct {
	Topic string // of the events
	// Format of events without a content-type header.
	Format codecs.Format
	// Mapping says where their fields stand; nil for the course's form.
	Mapping *mapping.Mapping
	// Schemas are of the records that a schema registry's serializers framed; nil for none.
	Schemas Schemas
	toll.Windowing

	// BatchRows is the most rows that one transaction stores, of which the last record may hold more:
	// a batch ends between records. Larger batches cost less each row and
	// more memory: two of them are held per partition.
	BatchRows int
	// BatchBytes is the most payload that one transaction stores. A single record may be larger.
	BatchBytes int

	Log *slog.Logger
	// NewToken draws the random tokens of cursors.
	NewToken func() uint64
	// Backoff returns the pauses between attempts to reach a server.
	Backoff func() backoff.BackOff
}

// Validate reports every value that can't work, each with what it is.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Zone != nil, "no timezone given")
	check(c.NewToken != nil, "no source of tokens given")
	check(c.BatchRows >= 1 && c.BatchRows <= 1_000_000, "batch rows are %d, want 1 to 1,000,000",
		c.BatchRows)
	check(c.BatchBytes >= 64<<10 && c.BatchBytes <= 256<<20,
		"batch bytes are %d, want 64 KiB to 256 MiB", c.BatchBytes)
	check(c.Lateness >= 0 && c.Lateness <= toll.MinuteRetention && c.Lateness%time.Second == 0,
		"lateness is %v, want whole seconds from 0 to %v", c.Lateness, toll.MinuteRetention)
	return errors.Join(errs...)
}

// Schemas is a schema registry.
type Schemas interface {
	// Schema returns the schema of an id. An error is an outage, unless it is permanent.
	Schema(ctx context.Context, id uint32) (*codecs.Schema, error)
}

// Store is what a partition needs of the database; see the processor's for its errors.
type Store interface {
	// NewRows returns an empty buffer of rows for batches.
	NewRows() toll.Rows
	// Outbox returns, in one snapshot, the batches of a partition that end above an offset, in order
	// and as many as fit a page, and the cursor's epoch; with unpublished those alone that are not
	// known to be published.
	Outbox(ctx context.Context, partition int32, above int64, unpublished bool) (toll.OutboxPage,
		error)
	// Cursor returns a partition's cursor as it is now.
	Cursor(ctx context.Context, partition int32) (toll.Cursor, error)
	// Commit stores a batch and marks others as published, in one transaction that moves the cursor by
	// compare-and-set.
	Commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error
	// MarkLogReplaced records why the log of a partition is not the one that was consumed, if the
	// cursor is still as it was read; else it returns [toll.ErrCursorMoved].
	MarkLogReplaced(ctx context.Context, cursor *toll.Cursor, why string) error
	// MarkPublished marks batches as published, if the cursor has that epoch still.
	MarkPublished(ctx context.Context, partition int32, epoch uint64, batches []toll.BatchRef) error
}

// Observe returns a Store whose calls are noted in the stats.
func Observe(store Store, stats *monitor.Stats) Store { return &observedStore{store, stats} }

type observedStore struct {
	Store
	stats *monitor.Stats
}

func (o *observedStore) Outbox(ctx context.Context, partition int32, above int64,
	unpublished bool) (toll.OutboxPage, error) {
	page, err := o.Store.Outbox(ctx, partition, above, unpublished)
	return page, o.stats.Noted(monitor.Outbox, err)
}

func (o *observedStore) Cursor(ctx context.Context, partition int32) (toll.Cursor, error) {
	defer o.stats.Call(partition)()
	cursor, err := o.Store.Cursor(ctx, partition)
	return cursor, o.stats.Noted(monitor.Resolve, err)
}

func (o *observedStore) Commit(ctx context.Context, b *toll.Batch,
	published []toll.BatchRef) error {
	defer o.stats.Call(b.Partition)()
	return o.stats.Noted(monitor.StoreBatch, o.Store.Commit(ctx, b, published))
}

func (o *observedStore) MarkLogReplaced(ctx context.Context, cursor *toll.Cursor,
	why string) error {
	return o.stats.Noted(monitor.Mark, o.Store.MarkLogReplaced(ctx, cursor, why))
}

func (o *observedStore) MarkPublished(ctx context.Context, partition int32, epoch uint64,
	batches []toll.BatchRef) error {
	defer o.stats.Call(partition)()
	return o.stats.Noted(monitor.Mark, o.Store.MarkPublished(ctx, partition, epoch, batches))
}

// LogChecker compares a partition's log with what was consumed of it. It is a [fetch.Client].
type LogChecker interface {
	// Connects returns how many connections to brokers were made so far.
	Connects() int64
	CheckLog(ctx context.Context, partition int32, next int64, last toll.LastRecord) (fetch.Finding,
		error)
}

// UncheckedLog is the log line of a log that could not be compared.
const UncheckedLog = "it was not checked whether the log is still the one that was stored"

// LogReplaced is the refusal to consume a log that is not the one that the database has stored. It
// lasts until an operator decides: once the new log has grown beyond the cursor nothing else would
// show what is missing.
func LogReplaced(why string) error {
	return toll.Permanent(
		"decide how to go on: tollstream accept-log says what going on with this log leaves out, "+
			"and tollstream reset what a replay of it would lose",
		"the log was replaced, or lost its end: %s", why)
}

// RefuseLog records that a log was replaced, and returns the refusal. It waits for the database: a
// refusal that is not recorded is forgotten.
func RefuseLog(ctx context.Context, cfg *Config, store Store, database *monitor.Outage,
	cursor *toll.Cursor, why string) error {
	defer database.Leave(cursor.Partition)
	err := wait.Retry(ctx, cfg.Backoff(), func() error {
		err := store.MarkLogReplaced(ctx, cursor, why)
		switch {
		case errors.Is(err, toll.ErrCursorMoved):
			return backoff.Permanent(err)
		case err != nil && !toll.IsPermanent(err):
			database.Down(cursor.Partition, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return LogReplaced(why)
}

// AddAll adds records to the open batch, as bundles of them are added.
func (s *Partition) AddAll(records fetch.Records) { s.takeIn(bundle{records: records}) }

// Steps drives a partition step by step, without its goroutines, for simulations.
type Steps struct {
	p       *Partition
	taken   *builder
	pending []Stored // to be published
}

// Steps returns the steps of a partition that has not started, with what is left to publish.
func (s *Partition) Steps(left ...toll.StoredBatch) (*Steps, error) {
	s.ctx, s.grace = context.Background(), context.Background()
	s.open, s.spare = newBuilder(s.Store.NewRows(), s.cfg), newBuilder(s.Store.NewRows(), s.cfg)
	s.open.begin(&s.clock)
	steps := &Steps{p: s}
	for i := range left {
		b, err := s.decode(&left[i])
		if err != nil {
			return nil, err
		}
		steps.pending = append(steps.pending, b)
	}
	return steps, nil
}

// Full reports whether the open batch has room for no further record.
func (s *Steps) Full() bool { return s.p.isFull(s.p.open) }

// Empty reports whether the open batch has no record.
func (s *Steps) Empty() bool { return s.p.open.empty() }

// Add adds a record to the open batch.
func (s *Steps) Add(r *kgo.Record) {
	s.p.AddAll(fetch.RecordsOf(r))
}

// Take closes the open batch and reports whether it holds anything; records that are added from
// then on belong to the next one.
func (s *Steps) Take() bool {
	s.taken = s.p.take()
	return s.taken != nil
}

// Store stores the batch that was taken.
func (s *Steps) Store() error {
	stored, err := s.p.storeBatch(s.taken)
	if err == nil {
		s.pending = append(s.pending, stored)
		s.p.giveBack(s.taken)
	}
	return err
}

// Pending returns how many batches are stored and not published.
func (s *Steps) Pending() int { return len(s.pending) }

// Publish publishes the next n batches together.
func (s *Steps) Publish(n int) error {
	next := s.pending[:n]
	s.pending = s.pending[n:]
	return s.p.publishBatches(next)
}

// MarkAcked marks as published what was acknowledged.
func (s *Steps) MarkAcked() error { return s.p.markAcked() }
