package topology

import (
	"context"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/monitor"
)

// observedStore is a Store whose calls are noted in the stats.
type observedStore struct {
	Store
	stats *monitor.Stats
}

func (o *observedStore) Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor,
	toll.Unpublished, error) {
	cursor, unpublished, err := o.Store.Load(ctx, partition, earliest)
	return cursor, unpublished, o.stats.Noted(monitor.Load, err)
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

func (o *observedStore) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	cursors, err := o.Store.Cursors(ctx)
	return cursors, o.stats.Noted(monitor.ReadWatermark, err)
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

// observedResults are Results whose calls are noted in the stats.
type observedResults struct {
	Results
	stats *monitor.Stats
}

func (o *observedResults) Settle(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	began := time.Now()
	called := o.stats.StoringWindows()
	notices, stored, err := o.Results.Settle(ctx, closings, published)
	called(err == nil)
	o.stats.Results(published, monitor.ResultsTrace{
		Began: began, Ended: time.Now(), Plazas: len(closings), Published: len(published),
		Notices: len(notices), Err: err,
	})
	return notices, stored, err
}
