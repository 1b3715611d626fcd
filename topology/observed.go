package topology

import (
	"context"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/monitor"
)

// observedStore is a Store whose calls are noted in the stats.
type observedStore struct {
	ingest.Store // observed
	store        Store
	stats        *monitor.Stats
}

func (o *observedStore) Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor,
	toll.Unpublished, error) {
	cursor, unpublished, err := o.store.Load(ctx, partition, earliest)
	return cursor, unpublished, o.stats.Noted(monitor.Load, err)
}

func (o *observedStore) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	cursors, err := o.store.Cursors(ctx)
	return cursors, o.stats.Noted(monitor.ReadWatermark, err)
}
