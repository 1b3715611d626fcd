package sql

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// snapshotTries is how often two snapshots are taken until both are of one moment. Between them
// some other transaction commits now and then.
const snapshotTries = 20

// errOtherMoment says that two snapshots are not of the same moment.
var errOtherMoment = errors.New("the snapshots differ")

// snapshots is like snapshot, with a second snapshot of the same moment, on a connection of its
// own, to read livetolldata from meanwhile. Where there is none, rows is q.
//
// That they are of the same moment, as far as the rows are concerned, is read from them: whatever
// of ours adds or deletes rows writes a cursor, or what was pruned, in the same transaction.
func snapshots(ctx context.Context, pool *database, read func(q, rows reader) error) error {
	if !pool.embedded(ctx) {
		for range snapshotTries {
			err := pool.snapshot(ctx, func(q reader) error {
				return pool.snapshot(ctx, func(rows reader) error {
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
	return pool.snapshot(ctx, func(q reader) error { return read(q, q) })
}

// sameMoment returns errOtherMoment where two snapshots differ in what is written with the rows of
// livetolldata.
func sameMoment(ctx context.Context, q, rows reader) error {
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
	meta             Meta
	cursors          []cursorRow
	baseline, pruned map[int]rowCount
}

func readMoment(ctx context.Context, q reader) (m moment, err error) {
	if m.meta, err = readMeta(ctx, q); err != nil {
		return m, err
	}
	if m.cursors, err = readCursors(ctx, q, m.meta.TopicID); err != nil {
		return m, err
	}
	if m.baseline, err = readBaseline(ctx, q); err != nil {
		return m, err
	}
	m.pruned, err = readPruned(ctx, q, prunedRows)
	return m, err
}
