package db

import (
	"context"
	"database/sql/driver"
	"time"
)

// endSnapshot bounds the statement that ends a snapshot; where it is exceeded the connection is
// given up.
const endSnapshot = 2 * time.Second

// errSyntax is the number of MySQL's and MariaDB's error about a statement that they can't read.
const errSyntax = 1064

// Snapshot calls read with a view of the database at one moment: what is stored meanwhile stays
// outside.
//
// The snapshot is taken at its beginning, not at the first read, so whatever the caller read before
// (the group table) can't hold what the snapshot lacks. The embedded server has no such statement
// and needs none: it runs one transaction at a time.
func (d *DB) Snapshot(ctx context.Context, read func(q Reader) error) error {
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY`)
	if n := Number(err); n == errSyntax || n == ErrUnknown {
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
