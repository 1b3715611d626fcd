package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/tollstream/tollstream/toll"
)

// connector makes connections, once bound to the one database only that it was bound to.
//
// The server behind an address may change: a proxy fails over, a name leads elsewhere, a container
// starts with an empty volume. What such a server holds is another story, even where its tables
// look right, and nothing must be written into it.
type connector struct {
	driver.Connector
	address string
	bound   *atomic.Pointer[string] // the database's id, nil for any
}

// Bind lets the pool connect to the database of this id only from now on.
func (d *DB) Bind(databaseID string) { d.bound.Store(&databaseID) }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := pinSession(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	want := c.bound.Load()
	if want == nil {
		return conn, nil
	}
	got, err := databaseID(ctx, conn)
	if Number(err) == errNoTable || errors.Is(err, io.EOF) {
		got, err = "none", nil
	}
	if err == nil && got != *want {
		err = toll.Permanent(
			"let the address lead to the database of before; to work with this one instead, stop all "+
				"processes and start them again",
			"another database answers at %s: its id is %s, and was %s", c.address, got, *want)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// databaseID asks a connection which database it leads to.
func databaseID(ctx context.Context, conn driver.Conn) (string, error) {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return "", fmt.Errorf("the driver %T can't be asked for the database's id", conn)
	}
	rows, err := q.QueryContext(ctx, `SELECT database_id FROM toll_meta WHERE id = 1`, nil)
	if err != nil {
		return "", fmt.Errorf("read the database's id: %w", err)
	}
	defer rows.Close()
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil {
		return "", err
	}
	switch id := row[0].(type) {
	case []byte:
		return string(id), nil
	case string:
		return id, nil
	}
	return "", fmt.Errorf("read the database's id: %T", row[0])
}
