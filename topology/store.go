package topology

import (
	"context"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/ingest"
)

// Store is what the processor needs of a database. Its errors are [toll.ErrCursorMoved],
// [toll.ErrNoCursor], [toll.RefusedError] and [toll.PermanentError] where their comments say so;
// any other is taken for an outage that passes.
type Store interface {
	ingest.Store
	// Load returns, in one snapshot, a partition's cursor and what is not known to be published. A
	// partition without a cursor gets one at the offset earliest, or is [toll.ErrNoCursor] where
	// earliest is negative.
	Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor, toll.Unpublished, error)
	// Cursors returns the cursors of all partitions that have one, in one snapshot.
	Cursors(ctx context.Context) ([]toll.Cursor, error)
}

// Results is where closed windows are stored. Its errors are as those of a Store. One goroutine
// uses it at a time.
type Results interface {
	// Settle marks what was published before, and then stores what is submitted in one transaction.
	// It returns the notices that are to be published now, in order; they are valid until the next
	// call.
	//
	// Where some of these plazas' notices are left from before, or are too many for once, it returns
	// those or some, and stored is false: publish them, and call it again, so that no revision is
	// overwritten before it was published.
	Settle(ctx context.Context, closings []toll.Closing,
		published []traffic.NoticeRef) (notices []traffic.Notice, stored bool, err error)
}
