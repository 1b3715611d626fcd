package topology

import (
	"context"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/ingest"
)

// Store is what the processor needs of a database. Its errors are [toll.ErrCursorMoved],
// [toll.ErrNoCursor], [toll.RefusedError] and [toll.PermanentError] where their comments say so;
// any other is taken for an outage that passes.
type Store interface {
	ingest.Store
	closing.Store
	// Load returns, in one snapshot, a partition's cursor and what is not known to be published. A
	// partition without a cursor gets one at the offset earliest, or is [toll.ErrNoCursor] where
	// earliest is negative.
	Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor, toll.Unpublished, error)
}
