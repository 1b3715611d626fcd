package tables

import (
	"context"
	dbsql "database/sql"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// WindowInserter inserts results into toll_window.
type WindowInserter struct {
	Zone *toll.Zone // the database's
	At   string     // stored_at; empty for the time of the statement

	statement, types []byte // of the last INSERT, kept for their memory
}

// Insert inserts results that are not published yet. What is to become of rows that exist is the
// tail's to say.
func (i *WindowInserter) Insert(ctx context.Context, tx *dbsql.Tx, results []toll.WindowResult,
	tail string) error {
	if len(results) == 0 {
		return nil
	}
	b := append(i.statement[:0], insertWindows...)
	for n := range results {
		if n > 0 {
			b = append(b, ',')
		}
		b = i.append(b, &results[n])
	}
	b = append(b, tail...)
	i.statement = b
	_, err := tx.ExecContext(ctx, string(b))
	return err
}

const insertWindows = `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute,
	window_start, window_end, whole, epoch, revision, events, late, too_late, result_too_late, by_type,
	flow_per_hour, reason, published, stored_at)
	VALUES `

// append appends a result as a tuple of insertWindows. Numbers, times and plain text are all
// that it holds, see [appendText], so nothing of an event is ever read as SQL. Arguments, which the
// driver would make the same text of, take several times as long.
func (i *WindowInserter) append(b []byte, w *toll.WindowResult) []byte {
	number := func(n int64) { b = append(strconv.AppendInt(b, n, 10), ',') }
	wall := func(m toll.Minute) {
		b = append(WallTimeOf(i.Zone, m).AppendFormat(append(b, '\''), time.DateTime), '\'', ',')
	}
	b = append(b, '(')
	number(int64(w.Plaza))
	b = append(appendText(b, []byte(w.Kind)), ',')
	number(int64(w.Start))
	number(int64(w.End))
	wall(w.Start)
	wall(w.End)
	if w.Whole {
		b = append(b, '1', ',')
	} else {
		b = append(b, '0', ',')
	}
	b = append(strconv.AppendUint(b, w.Epoch, 10), ',')
	number(w.Revision)
	number(w.Events())
	number(w.Late)
	number(0)
	number(w.TooLate)
	i.types = AppendTypes(i.types[:0], w.Types)
	b = append(appendText(b, i.types), ',')
	span := toll.Window{Start: w.Start, End: w.End}.Span()
	b = append(strconv.AppendFloat(b, toll.FlowPerHour(w.Events(), span), 'g', -1, 64), ',')
	b = append(appendText(b, []byte(w.Reason)), ",0,"...)
	if i.At == "" {
		b = append(b, "NOW(6)"...)
	} else {
		b = appendText(b, []byte(i.At))
	}
	return append(b, ')')
}

// appendText appends text as a literal: as it is where it is printable ASCII without what ends or
// escapes a literal in any mode, else in hexadecimal.
func appendText(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return hex.AppendEncode(append(b, "_utf8mb4 0x"...), text)
		}
	}
	b = append(b, '\'')
	b = append(b, text...)
	return append(b, '\'')
}
