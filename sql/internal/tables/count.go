package tables

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
)

// EventTable is the course's table. It belongs to others too, so it is never altered.
const EventTable = "livetolldata"

// NullPlaza stands for rows without a plaza, which only others insert.
const NullPlaza = -32769

// RowText is the text of a row that checksums are made of: 2022-02-10 10:23:02,3728373,car,4856.
// The writer makes the same text of an event. It is utf8mb4 whatever the character set of
// vehicle_type, since the separator's collation is explicit. MariaDB reads rows with it in two
// thirds of the time that it takes where each column is converted.
const RowText = `CONCAT_WS(_utf8mb4',' COLLATE utf8mb4_bin,
	timestamp, vehicle_id, vehicle_type, toll_plaza_id)`

// SumOfRows is the sum of rows' checksums. SUM of integers may be a float, which is wrong beyond
// 2^53.
const SumOfRows = `SUM(CAST(CRC32(` + RowText + `) AS DECIMAL(20,0)))`

// RowCount is what livetolldata holds of one plaza.
type RowCount struct {
	Rows     int64
	Checksum uint64 // sum of the CRC-32 of each row's text, modulo 2^64
	Exact    bool   // whether checksum was computed
}

type CountOptions struct {
	Checksum bool
	Plaza    *int16        // this one only
	Limit    time.Duration // 0 for none
}

// ErrTooSlow means that counting took longer than its limit and was cut off.
var ErrTooSlow = errors.New("counting the rows took too long")

// Numbers of the errors by which a server reports that a statement took longer than allowed.
const (
	errStatementTimeoutMaria = 1969
	errStatementTimeout      = 3024
)

// clientGrace is how much later than the server the client gives up on a count, for servers that
// know no limit. By then the connection is lost with it.
const clientGrace = 500 * time.Millisecond

// CountRows counts the rows per plaza in one scan, for which no index is needed. Where that takes
// longer than the limit the server cuts it off, and the error is ErrTooSlow: then nothing else may
// be read from q, since a server without limits loses the connection.
func CountRows(ctx context.Context, q db.Reader, o CountOptions) (map[int]RowCount, error) {
	var b strings.Builder
	if o.Limit > 0 {
		// Each server takes the half that it knows and reads the other as a comment.
		fmt.Fprintf(&b, "/*M!100100 SET STATEMENT max_statement_time=%.3f FOR */ SELECT /*+ "+
			"MAX_EXECUTION_TIME(%d) */ ",
			o.Limit.Seconds(), o.Limit.Milliseconds())
	} else {
		b.WriteString("SELECT ")
	}
	fmt.Fprintf(&b, "COALESCE(toll_plaza_id, %d), COUNT(*), ", NullPlaza)
	if o.Checksum {
		b.WriteString(SumOfRows)
	} else {
		b.WriteString("NULL")
	}
	b.WriteString(" FROM " + EventTable)
	var args []any
	if o.Plaza != nil {
		b.WriteString(" WHERE toll_plaza_id = ?")
		args = append(args, *o.Plaza)
	}
	b.WriteString(" GROUP BY toll_plaza_id")

	counts := map[int]RowCount{}
	err := func() error {
		if o.Limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, o.Limit+clientGrace, ErrTooSlow)
			defer cancel()
		}
		rows, err := q.QueryContext(ctx, b.String(), args...)
		if err == nil {
			defer rows.Close()
			for rows.Next() {
				var plaza int
				var c RowCount
				var sum dbsql.NullString
				if err := rows.Scan(&plaza, &c.Rows, &sum); err != nil {
					return err
				}
				if sum.Valid {
					if c.Checksum, c.Exact, err = ParseSum(sum.String); err != nil {
						return err
					}
				}
				counts[plaza] = c
			}
			err = rows.Err()
		}
		if n := db.Number(err); n == errStatementTimeout || n == errStatementTimeoutMaria ||
			err != nil && context.Cause(ctx) == ErrTooSlow {
			return ErrTooSlow
		}
		return err
	}()
	return counts, err
}

// ParseSum reads a sum modulo 2^64. The embedded server sums in floats: what lies beyond their
// integers is not exact.
func ParseSum(text string) (sum uint64, exact bool, err error) {
	if n, ok := new(big.Int).SetString(text, 10); ok {
		return n.And(n, new(big.Int).SetUint64(1<<64-1)).Uint64(), true, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false, fmt.Errorf("read the sum %q: %w", text, err)
	}
	return uint64(f), f >= 0 && f < 1<<53, nil
}

// ReadBaseline returns the rows that livetolldata held before tollstream.
func ReadBaseline(ctx context.Context, q db.Reader) (map[int]RowCount, error) {
	baseline := map[int]RowCount{}
	var plaza int
	c := RowCount{Exact: true}
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, events, checksum FROM toll_baseline`)
	err = db.Each(rows, err, []any{&plaza, &c.Rows, &c.Checksum}, func() error {
		baseline[plaza] = c
		return nil
	})
	return baseline, err
}

// PlazaName names a plaza as livetolldata has it.
func PlazaName(plaza int) string {
	if plaza == NullPlaza {
		return "NULL"
	}
	return strconv.Itoa(plaza)
}
