package ingest

import (
	"context"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

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
