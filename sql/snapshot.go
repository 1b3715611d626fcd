package sql

import (
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"maps"
	"slices"
	"time"
)

// reader reads within one transaction.
type reader interface {
	queryer
	QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error)
}

// endSnapshot bounds the statement that ends a snapshot; where it is exceeded the connection is
// given up.
const endSnapshot = 2 * time.Second

// errSyntax is the number of MySQL's and MariaDB's error about a statement that they can't read.
const errSyntax = 1064

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
func (s *Store) snapshots(ctx context.Context, read func(q, rows reader) error) error {
	if !s.embedded(ctx) {
		for range snapshotTries {
			err := s.snapshot(ctx, func(q reader) error {
				return s.snapshot(ctx, func(rows reader) error {
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
	return s.snapshot(ctx, func(q reader) error { return read(q, q) })
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

// snapshot calls read with a view of the database at one moment: what is stored meanwhile stays
// outside.
//
// The snapshot is taken at its beginning, not at the first read, so whatever the caller read before
// (the group table) can't hold what the snapshot lacks. The embedded server has no such statement
// and needs none: it runs one transaction at a time.
func (s *Store) snapshot(ctx context.Context, read func(q reader) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY`)
	if n := number(err); n == errSyntax || n == errUnknown {
		_, err = conn.ExecContext(ctx, `START TRANSACTION READ ONLY`)
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endSnapshot)
		defer cancel()
		if _, err := conn.ExecContext(ctx, `ROLLBACK`); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	return read(conn)
}
