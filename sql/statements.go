package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/toll"
)

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *dbsql.Row
}

// statements is a transaction, or a connection that is within one.
type statements interface {
	queryer
	execer
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (dbsql.Result, error)
}

// reader reads within one transaction.
type reader interface {
	queryer
	QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error)
}

// placeholders returns n of them: ?, ?, ?.
func placeholders(n int) string { return "?" + strings.Repeat(", ?", n-1) }

// anys returns values as arguments of a query.
func anys[T any](values []T) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = v
	}
	return all
}

// quoteName quotes a name for SQL.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// parseTime reads a DATETIME of ours, which is in UTC.
func parseTime(text string) (time.Time, error) {
	return time.Parse("2006-01-02 15:04:05.999999", text)
}

// cutRunes returns s as valid UTF-8 of at most n characters.
func cutRunes(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// Bounds of a statement.
const (
	minPacket = 64 << 10 // the least max_allowed_packet that tollstream works with
	// packetReserve is for what is around a blob or a payload: the other columns with their escapes.
	packetReserve = 16 << 10
)

// maxPacket returns the server's max_allowed_packet in bytes. One that is too small to work with is
// a [toll.PermanentError].
func (d *database) maxPacket(ctx context.Context, q queryer) (int, error) {
	var p int
	if err := q.QueryRowContext(ctx, `SELECT @@max_allowed_packet`).Scan(&p); err != nil {
		return 0, fmt.Errorf("read max_allowed_packet: %w", err)
	}
	if p < minPacket {
		return 0, toll.Permanent("set max_allowed_packet on the server to 16M, or to 1M at least",
			"MySQL at %s takes %d bytes in one packet, and tollstream needs %d", d.address, p, minPacket)
	}
	return p, nil
}

// rest waits for as long as something took, at most a second: what is urgent comes first.
func rest(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(took, time.Second)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// escapedLen returns how many bytes of a statement a text or blob takes.
func escapedLen(b []byte) int { return len(b) + escapes(b) }

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
