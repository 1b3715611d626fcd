package verify

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
)

// snapshotTries is how often two snapshots are taken until both are of one moment. Between them
// some other transaction commits now and then.
const snapshotTries = 20

// errOtherMoment means that two snapshots are not of the same moment.
var errOtherMoment = errors.New("the snapshots differ")

// snapshots is like snapshot, with a second snapshot of the same moment, on a connection of its
// own, to read livetolldata from meanwhile. Where there is none, rows is q.
//
// That they are of the same moment, as far as the rows are concerned, is read from them: whatever
// of ours adds or deletes rows writes a cursor, or what was pruned, in the same transaction.
func snapshots(ctx context.Context, pool *db.DB, read func(q, rows db.Reader) error) error {
	if !pool.Embedded(ctx) {
		for range snapshotTries {
			err := pool.Snapshot(ctx, func(q db.Reader) error {
				return pool.Snapshot(ctx, func(rows db.Reader) error {
					if err := sameMoment(ctx, q, rows); err != nil {
						return err
					}
					return read(q, rows)
				})
			})
			if !errors.Is(err, errOtherMoment) {
				return err
			}
		}
	}
	return pool.Snapshot(ctx, func(q db.Reader) error { return read(q, q) })
}

// sameMoment returns errOtherMoment where two snapshots differ in what is written with the rows of
// livetolldata.
func sameMoment(ctx context.Context, q, rows db.Reader) error {
	one, err := readMoment(ctx, q)
	if err != nil {
		return err
	}
	other, err := readMoment(ctx, rows)
	if err != nil {
		return err
	}
	if one.meta != other.meta || !slices.Equal(one.cursors, other.cursors) ||
		!maps.Equal(one.baseline, other.baseline) || !maps.Equal(one.pruned, other.pruned) {
		return errOtherMoment
	}
	return nil
}

// moment is what is written in the transactions that write livetolldata.
type moment struct {
	meta             tables.Meta
	cursors          []tables.CursorRow
	baseline, pruned map[int]tables.RowCount
}

func readMoment(ctx context.Context, q db.Reader) (m moment, err error) {
	if m.meta, err = tables.ReadMeta(ctx, q); err != nil {
		return m, err
	}
	if m.cursors, err = tables.ReadCursors(ctx, q, m.meta.TopicID); err != nil {
		return m, err
	}
	if m.baseline, err = tables.ReadBaseline(ctx, q); err != nil {
		return m, err
	}
	m.pruned, err = tables.ReadPruned(ctx, q, tables.PrunedRows)
	return m, err
}
