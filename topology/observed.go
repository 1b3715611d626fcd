package topology

import (
	"context"
	"errors"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// observedStore is a Store whose calls are noted in the stats.
type observedStore struct {
	Store
	stats *Stats
}

// noted notes how a call to MySQL ended, and which operation it was of. What MySQL answered is
// passed on as it is.
func (s *Stats) noted(operation int, err error) error {
	var refused *toll.RefusedError
	switch {
	case err == nil, errors.Is(err, toll.ErrCursorMoved), errors.Is(err, toll.ErrNoCursor):
		s.pass(CheckMySQL)
	case errors.As(err, &refused):
		s.pass(CheckMySQL)
		s.retries[retryRebuild].Add(1)
	case errors.Is(err, context.Canceled): // nobody waits any more
	default:
		if !toll.IsPermanent(err) {
			s.retries[operation].Add(1)
		}
		s.fail(CheckMySQL, "the last call failed")
	}
	return err
}

func (o *observedStore) Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor,
	toll.Unpublished, error) {
	cursor, unpublished, err := o.Store.Load(ctx, partition, earliest)
	return cursor, unpublished, o.stats.noted(retryLoad, err)
}

func (o *observedStore) Outbox(ctx context.Context, partition int32, above int64,
	unpublished bool) (toll.OutboxPage, error) {
	page, err := o.Store.Outbox(ctx, partition, above, unpublished)
	return page, o.stats.noted(retryOutbox, err)
}

func (o *observedStore) Cursor(ctx context.Context, partition int32) (toll.Cursor, error) {
	defer o.stats.call(partition)()
	cursor, err := o.Store.Cursor(ctx, partition)
	return cursor, o.stats.noted(retrySettle, err)
}

func (o *observedStore) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	cursors, err := o.Store.Cursors(ctx)
	return cursors, o.stats.noted(retryWatermark, err)
}

func (o *observedStore) Commit(ctx context.Context, b *toll.Batch,
	published []toll.BatchRef) error {
	defer o.stats.call(b.Partition)()
	return o.stats.noted(retryStore, o.Store.Commit(ctx, b, published))
}

func (o *observedStore) MarkLogReplaced(ctx context.Context, cursor *toll.Cursor,
	why string) error {
	return o.stats.noted(retryMark, o.Store.MarkLogReplaced(ctx, cursor, why))
}

func (o *observedStore) MarkPublished(ctx context.Context, partition int32, epoch uint64,
	batches []toll.BatchRef) error {
	defer o.stats.call(partition)()
	return o.stats.noted(retryMark, o.Store.MarkPublished(ctx, partition, epoch, batches))
}

// observedResults are Results whose calls are noted in the stats.
type observedResults struct {
	Results
	stats *Stats
}

func (o *observedResults) Settle(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	began := time.Now()
	called := o.stats.closing.call()
	notices, stored, err := o.Results.Settle(ctx, closings, published)
	called(err == nil)
	ended := time.Now()
	if o.stats.noted(retryResults, err) == nil {
		o.stats.resultsTime.Observe(ended.Sub(began).Seconds())
		for _, ref := range published {
			if ref.Revision > 0 {
				o.stats.windows.Add(1)
			} else {
				o.stats.transitions.Add(1)
			}
		}
	}
	if o.stats.tracer != nil {
		o.stats.tracer.Results(ResultsTrace{
			Began: began, Ended: ended, Plazas: len(closings), Published: len(published),
			Notices: len(notices), Err: err,
		})
	}
	return notices, stored, err
}
