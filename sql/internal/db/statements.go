package db

import (
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/toll"
)

type Queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *dbsql.Row
}

// Statements is a transaction, or a connection that is within one.
type Statements interface {
	Queryer
	Execer
}

type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (dbsql.Result, error)
}

// Reader reads within one transaction.
type Reader interface {
	Queryer
	QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error)
}

// Each reads the rows that a query returned, unless it failed: it scans each of them into dest and
// calls do. The next row takes the place of one in dest, so do copies what it keeps.
func Each(rows *dbsql.Rows, err error, dest []any, do func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Placeholders returns n of them: ?, ?, ?.
func Placeholders(n int) string { return "?" + strings.Repeat(", ?", n-1) }

// Anys returns values as arguments of a query.
func Anys[T any](values []T) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = v
	}
	return all
}

// QuoteName quotes a name for SQL.
func QuoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// ParseTime reads a DATETIME of ours, which is in UTC.
func ParseTime(text string) (time.Time, error) {
	return time.Parse("2006-01-02 15:04:05.999999", text)
}

// CutRunes returns s as valid UTF-8 of at most n characters.
func CutRunes(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// Bounds of a statement.
const (
	MinPacket = 64 << 10 // the least max_allowed_packet that tollstream works with
	// PacketReserve is for what is around a blob or a payload: the other columns with their escapes.
	PacketReserve = 16 << 10
)

// MaxPacket returns how many bytes the server takes in one: its max_allowed_packet, and of TiDB,
// which reads what is in comments that begin with T!, the largest row that it stores where that is
// less. A tidb_txn_entry_size_limit of 0 is the setting of its file, by default 6 MiB. One that is
// too small to work with is a [toll.PermanentError].
func (d *DB) MaxPacket(ctx context.Context, q Queryer) (int, error) {
	var p int
	err := q.QueryRowContext(ctx, `SELECT /*T! LEAST( */ @@max_allowed_packet
		/*T! , IF(@@tidb_txn_entry_size_limit = 0, 6291456, @@tidb_txn_entry_size_limit)) */`).Scan(&p)
	if err != nil {
		return 0, fmt.Errorf("read max_allowed_packet: %w", err)
	}
	if p < MinPacket {
		return 0, toll.Permanent("set "+d.PacketSetting()+" on the server to 16M, or to 1M at least",
			"MySQL at %s takes %d bytes in one packet, and tollstream needs %d", d.Address, p, MinPacket)
	}
	return p, nil
}

// PacketSetting names what bounds MaxPacket.
func (d *DB) PacketSetting() string {
	if d.KnownTiDB() {
		return "tidb_txn_entry_size_limit or max_allowed_packet"
	}
	return "max_allowed_packet"
}

// Rest waits for as long as something took, at most a second: what is urgent comes first.
func Rest(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(took, time.Second)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EscapedLen returns how many bytes of a statement a text or blob takes.
func EscapedLen(b []byte) int { return len(b) + escapes(b) }

// escapes returns how many bytes of a blob the driver puts a backslash before.
func escapes(blob []byte) int {
	n := 0
	for _, b := range blob {
		switch b {
		case 0, '\n', '\r', 0x1a, '\'', '"', '\\':
			n++
		}
	}
	return n
}

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
// and needs none: it runs one transaction at a time. TiDB has one that is not READ ONLY, which
// nothing of ours depends on; its snapshot holds all that was committed before, since sessions set
// tidb_guarantee_linearizability and read nothing stale.
func (d *DB) Snapshot(ctx context.Context, read func(q Reader) error) error {
	start := `START TRANSACTION WITH CONSISTENT SNAPSHOT`
	if !d.TiDB(ctx) {
		start += `, READ ONLY`
	}
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, start)
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
