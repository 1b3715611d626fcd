package tables

import (
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// WindowRow is a row of toll_window.
type WindowRow struct {
	toll.WindowResult
	Events     int64 // as the column has them; the sum of Types unless someone changed it
	TooLateNow int64 // up to now, while TooLate is of when the revision was made
	Published  bool
}

const windowColumns = `toll_plaza_id, kind, start_minute, end_minute, whole, epoch, revision,
	events, late, result_too_late, too_late, by_type, reason, published`

// scanWindow reads the row of windowColumns that rows is at.
func scanWindow(rows *dbsql.Rows, r *TypesReader) (WindowRow, error) {
	var w WindowRow
	var byType dbsql.RawBytes
	if err := rows.Scan(&w.Plaza, &w.Kind, &w.Start, &w.End, &w.Whole, &w.Epoch, &w.Revision,
		&w.Events, &w.Late, &w.TooLate, &w.TooLateNow,
		&byType, &w.Reason, &w.Published); err != nil {
		return w, err
	}
	var err error
	if w.Types, err = r.Decode(nil, byType); err != nil {
		return w, fmt.Errorf("plaza %d's window %s at minute %d: read by_type: %w", w.Plaza, w.Kind,
			w.Start, err)
	}
	return w, nil
}

// ReadWindows returns the rows of toll_window that a condition selects.
func ReadWindows(ctx context.Context, q db.Reader, condition string, args ...any) ([]WindowRow,
	error) {
	rows, err := q.QueryContext(ctx, `SELECT `+windowColumns+` FROM toll_window `+condition, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []WindowRow
	var r TypesReader
	for rows.Next() {
		w, err := scanWindow(rows, &r)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, rows.Err()
}

// AppendTypes writes counts as by_type holds them: {"car":9,"truck":2}, ascending.
func AppendTypes(b []byte, types []toll.TypeCount) []byte {
	b = append(b, '{')
	for i, t := range types {
		if i > 0 {
			b = append(b, ',')
		}
		if isPlainType(t.Type) {
			b = append(b, '"')
			b = append(b, t.Type...)
			b = append(b, '"')
		} else {
			b = appendJSONString(b, t.Type)
		}
		b = append(b, ':')
		b = strconv.AppendInt(b, t.Count, 10)
	}
	return append(b, '}')
}

func appendJSONString(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

func isPlainType(t string) bool {
	for i := 0; i < len(t); i++ {
		if c := t[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return true
}

// TypesReader reads by_type. It keeps the names of types, which come again and again.
type TypesReader struct {
	names map[string]string
}

// maxNames bounds the names that a TypesReader keeps.
const maxNames = 4096

func (r *TypesReader) name(b []byte) string {
	if s, ok := r.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if r.names == nil {
		r.names = map[string]string{}
	}
	if len(r.names) < maxNames {
		r.names[s] = s
	}
	return s
}

// Decode undoes AppendTypes, appending to into. What someone else wrote in another form it reads as
// well.
func (r *TypesReader) Decode(into []toll.TypeCount, b []byte) ([]toll.TypeCount, error) {
	if types, ok := r.decodePlain(into, b); ok {
		return types, nil
	}
	var counts map[string]int64
	if err := json.Unmarshal(b, &counts); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		into = append(into, toll.TypeCount{Type: name, Count: counts[name]})
	}
	return into, nil
}

// decodePlain reads what AppendTypes makes of plain types, as nearly all are: ascending, each once.
func (r *TypesReader) decodePlain(into []toll.TypeCount, b []byte) (types []toll.TypeCount,
	ok bool) {
	if string(b) == "{}" {
		return into, true
	}
	var last []byte
	for open := byte('{'); ; open = ',' {
		if len(b) < 2 || b[0] != open || b[1] != '"' {
			return nil, false
		}
		b = b[2:]
		end := bytes.IndexAny(b, `"\`)
		if end < 0 || end+1 >= len(b) || b[end] != '"' || b[end+1] != ':' {
			return nil, false
		}
		name := b[:end]
		if open == ',' && bytes.Compare(name, last) <= 0 {
			return nil, false
		}
		last, b = name, b[end+2:]
		digits := 0
		for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(string(b[:digits]), 10, 64)
		if err != nil || digits == len(b) {
			return nil, false
		}
		into = append(into, toll.TypeCount{Type: r.name(name), Count: n})
		if b = b[digits:]; string(b) == "}" {
			return into, true
		}
	}
}

// WallColumns returns a window as window_start and window_end hold it: so that they stand to the
// timestamps of its events as start and end stand to their minutes.
func WallColumns(zone *toll.Zone, w toll.Window) (start, end string) {
	return WallColumn(zone, w.Start), WallColumn(zone, w.End)
}

func WallColumn(zone *toll.Zone, m toll.Minute) string { return WallTimeOf(zone, m).String() }

// WallTimeOf returns what WallColumn writes.
func WallTimeOf(zone *toll.Zone, m toll.Minute) toll.WallTime {
	return min(max(zone.Since(m), toll.MinWallTime), toll.MaxWallTime)
}

// UpsertRows is how many rows of toll_window one statement writes.
const UpsertRows = 250

// CompareWindows is the order of toll_window's primary key.
func CompareWindows(a, b toll.WindowID) int {
	return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Start, b.Start))
}

// StoredKinds returns the kinds of windows that toll_window holds, by plaza, ascending. MariaDB and
// MySQL look at the primary key once for each kind of a plaza ("Using index for group-by"), however
// many windows it has.
func StoredKinds(ctx context.Context, q db.Reader) (map[int16][]string, error) {
	kinds := map[int16][]string{}
	var plaza int64
	var kind string
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT toll_plaza_id, kind FROM toll_window`)
	err = db.Each(rows, err, []any{&plaza, &kind}, func() error {
		kinds[int16(plaza)] = append(kinds[int16(plaza)], kind)
		return nil
	})
	for _, names := range kinds {
		slices.Sort(names)
	}
	return kinds, err
}

// AmongWindows returns a condition that holds for the rows of some windows, and perhaps others of
// the same plazas.
func AmongWindows(ids []toll.WindowID) (where string, args []any) {
	var plazas []int16
	var kinds []string
	var starts []toll.Minute
	for _, id := range ids {
		plazas, kinds, starts = append(plazas, id.Plaza), append(kinds, id.Kind), append(starts, id.Start)
	}
	plazas, kinds, starts = Distinct(plazas), Distinct(kinds), Distinct(starts)
	where = "toll_plaza_id IN (" + db.Placeholders(len(plazas)) + ") AND kind IN (" +
		db.Placeholders(len(kinds)) +
		") AND start_minute IN (" + db.Placeholders(len(starts)) + ")"
	return where, slices.Concat(db.Anys(plazas), db.Anys(kinds), db.Anys(starts))
}

func Distinct[T cmp.Ordered](values []T) []T {
	slices.Sort(values)
	return slices.Compact(values)
}

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

// ReadTransitions reads the rows of toll_transition that a condition, or an order, selects.
func ReadTransitions(ctx context.Context, q db.Reader, condition string,
	args ...any) ([]traffic.Transition, error) {
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, detected_minute, since_minute, from_state,
		to_state, why, measure, epoch
		FROM toll_transition `+condition, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []traffic.Transition
	for rows.Next() {
		var t traffic.Transition
		var from, to string
		var measure dbsql.RawBytes
		if err := rows.Scan(&t.Plaza, &t.Detected, &t.Since, &from, &to, &t.Why, &measure,
			&t.Epoch); err != nil {
			return nil, err
		}
		if err := t.From.UnmarshalText([]byte(from)); err != nil {
			return nil, err
		}
		if err := t.To.UnmarshalText([]byte(to)); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(measure, &t.Measure); err != nil {
			return nil, fmt.Errorf("plaza %d: read the measure of a transition: %w", t.Plaza, err)
		}
		all = append(all, t)
	}
	return all, rows.Err()
}
