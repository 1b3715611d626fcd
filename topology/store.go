package topology

import (
	"context"

	"tollstream/toll"
)

// Store is what the processor needs of a database. Its errors are [toll.ErrCursorMoved], [toll.RefusedError] and
// [toll.PermanentError] where their comments say so; any other is taken for an outage that passes.
type Store interface {
	// NewRows returns an empty buffer of rows for batches.
	NewRows() toll.Rows
	// Load returns, in one snapshot, a partition's cursor and its batches that are not known to be published, in order.
	// A partition without a cursor gets one at the offset earliest, or is an error where earliest is negative.
	Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor, []toll.StoredBatch, error)
	// Cursor returns a partition's cursor as it is now.
	Cursor(ctx context.Context, partition int32) (toll.Cursor, error)
	// Commit stores a batch and marks others as published, in one transaction that moves the cursor by compare-and-set.
	Commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error
	// MarkPublished marks batches as published, if the cursor has that epoch still.
	MarkPublished(ctx context.Context, partition int32, epoch uint64, batches []toll.BatchRef) error
}
