package tables

import (
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
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
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT toll_plaza_id, kind FROM toll_window`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	kinds := map[int16][]string{}
	for rows.Next() {
		var plaza int64
		var kind string
		if err := rows.Scan(&plaza, &kind); err != nil {
			return nil, err
		}
		kinds[int16(plaza)] = append(kinds[int16(plaza)], kind)
	}
	for _, names := range kinds {
		slices.Sort(names)
	}
	return kinds, rows.Err()
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
