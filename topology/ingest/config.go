package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
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
	check(c.BatchRows >= 1 && c.BatchRows <= 1_000_000, "--batch-rows: %d is not from 1 to 1,000,000",
		c.BatchRows)
	check(c.BatchBytes >= 64<<10 && c.BatchBytes <= 256<<20,
		"batch bytes are %d, want 64 KiB to 256 MiB", c.BatchBytes)
	check(c.Lateness >= 0 && c.Lateness <= toll.MinuteRetention && c.Lateness%time.Second == 0,
		"--lateness: %v is not in whole seconds from 0s to %v", c.Lateness, toll.MinuteRetention)
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
