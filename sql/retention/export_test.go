package retention

import (
	"context"
	dbsql "database/sql"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// ReplaceThree reads the first rows of partition 0, calls change, and then replaces three of them
// as they were read. It reports whether it did.
func (c *Compactor) ReplaceThree(
	ctx context.Context, o CompactOptions, rollup bool, change func(),
) (bool, error) {
	cursors, err := tables.ReadCursors(ctx, c.db, c.topicID)
	if err != nil {
		return false, err
	}
	run := &compaction{Compactor: c, done: &Compacted{}, packet: 16 << 20, limit: c.Limits.FoldBytes,
		o:      o,
		cursor: cursors[0]}
	rows, _, err := run.rows(ctx, 0)
	if err != nil {
		return false, err
	}
	change()
	sum, err := run.replace(ctx, rows[:3], rollup)
	return sum != nil, err
}

// PruneSome deletes some rows in one transaction.
type PruneSome func(context.Context, *toll.Zone, PruneOptions) (int64, error)

// Ways returns the ways to delete rows that the server knows.
func (c *Cleaner) Ways(ctx context.Context) (map[string]PruneSome, error) {
	own, err := c.pruner(ctx)
	if err != nil {
		return nil, err
	}
	embedded := c.db.Embedded(ctx)
	locked := pruner{dbsql.LevelRepeatableRead,
		func(ctx context.Context, tx *dbsql.Tx, before string, limit int) (prunedBatch, error) {
			return deleteLocked(ctx, tx, before, limit, embedded)
		}}
	some := func(way pruner) PruneSome {
		return func(ctx context.Context, zone *toll.Zone, o PruneOptions) (int64, error) {
			return c.pruneSome(ctx, way, zone, o)
		}
	}
	return map[string]PruneSome{"its own": some(own), "locked": some(locked)}, nil
}

// SetRetireRows sets how many rows one transaction deletes, until the test has ended.
func SetRetireRows(t interface{ Cleanup(func()) }, n int64) {
	before := retireRows
	t.Cleanup(func() { retireRows = before })
	retireRows = n
}
