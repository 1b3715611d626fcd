package verify

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"math"
	"slices"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// plazaWindows is what is known of the windows of one plaza that is checked.
type plazaWindows struct {
	*windowCheck
	plaza int16
	zone  *toll.Zone
	// done and dirty are the state's, see [toll.State]. done is the first minute where there is no
	// state.
	done           toll.Minute
	dirty          []toll.Window
	stored, flight tables.PaneList
	folded         toll.Minute // windows that begin before it can't be counted any more
}

func (c *windowCheck) plaza(plaza int16) *plazaWindows {
	p := &plazaWindows{windowCheck: c, plaza: plaza, zone: c.zone, done: math.MinInt32,
		stored: c.stored.Of(plaza), flight: c.flight.Of(plaza),
		folded: c.stored.FoldedBefore(plaza)}
	if c.v.in.Zones != nil {
		p.zone = c.v.in.Zones.Of(plaza)
	}
	if s := c.v.in.States[plaza]; s != nil && s.Epoch >= c.v.ledger.epoch {
		p.done, p.dirty = s.Done, s.Dirty
	}
	return p
}

// kindCheck compares the windows of a kind that the outbox has events of with the rows, both
// ascending.
type kindCheck struct {
	*plazaWindows
	kind    *toll.WindowKind
	windows []toll.Window // not compared yet
}

func (p *plazaWindows) kind(k *toll.WindowKind) *kindCheck {
	return &kindCheck{p, k, p.stored.Windows(k, p.zone)}
}

// row compares the next row.
func (c *kindCheck) row(row *checkedRow) {
	c.missing(row.Start)
	if len(c.windows) > 0 && c.windows[0].Start == row.Start {
		c.check(c.kind, c.windows[0], row)
		c.windows = c.windows[1:]
		return
	}
	c.checkExtra(row)
}

// missing compares the windows that begin before a minute, which have no rows.
func (c *kindCheck) missing(before toll.Minute) {
	for len(c.windows) > 0 && c.windows[0].Start < before {
		c.check(c.kind, c.windows[0], nil)
		c.windows = c.windows[1:]
	}
}

// checkedRow is what is checked of a row of toll_window.
type checkedRow struct {
	toll.WindowID
	end                             toll.Minute
	whole                           bool
	revision, events, late, tooLate int64
	types                           []toll.TypeCount
	damaged                         error // why by_type can't be read
}

// checkRows compares the rows of all kinds of some plazas, ascending, which it reads by one query:
// they are mostly few, and thousands of queries take longer than their rows.
func (c *windowCheck) checkRows(ctx context.Context, q db.Reader, types *tables.TypesReader,
	plazas []int16) error {
	kinds := c.v.in.Windows
	args := db.Anys(plazas)
	for i := range kinds {
		args = append(args, kinds[i].Name)
	}
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, kind, start_minute, end_minute, whole,
		revision, events, late, too_late, by_type,
		TIMESTAMPDIFF(SECOND, '1970-01-01', window_start), TIMESTAMPDIFF(SECOND, '1970-01-01', window_end)
		FROM toll_window
		WHERE `+c.v.db.Many(`toll_plaza_id IN (`+db.Placeholders(len(plazas))+`) AND kind IN (`+
		db.Placeholders(len(kinds))+`) AND start_minute >= ? AND start_minute <= ?`)+`
		ORDER BY toll_plaza_id, kind, start_minute`, append(args, c.span.Start, c.span.End)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var checks []*kindCheck // of the first of plazas, where it has begun
	end := func() {
		if checks == nil {
			checks = c.kindsOf(plazas[0])
		}
		for _, k := range checks {
			k.missing(math.MaxInt32)
		}
		plazas, checks = plazas[1:], nil
	}
	var row checkedRow
	for rows.Next() {
		// which are scanned several times as fast as other types
		var plaza, from, to, whole, wallStart, wallEnd int64
		var kind, byType dbsql.RawBytes
		if err := rows.Scan(&plaza, &kind, &from, &to, &whole, &row.revision, &row.events, &row.late,
			&row.tooLate, &byType, &wallStart, &wallEnd); err != nil {
			return err
		}
		for int64(plazas[0]) != plaza {
			end()
		}
		if checks == nil {
			checks = c.kindsOf(plazas[0])
		}
		i := slices.IndexFunc(checks, func(k *kindCheck) bool { return k.kind.Name == string(kind) })
		if i < 0 {
			continue // SQL takes "day " for "day"; it is a kind of its own, which is reported as such
		}
		row.WindowID = toll.WindowID{Plaza: plazas[0], Kind: checks[i].kind.Name,
			Start: toll.Minute(from)}
		row.end, row.whole = toll.Minute(to), whole != 0
		row.types, row.damaged = types.Decode(row.types[:0], byType)
		c.checkRange(&row, wallStart, wallEnd)
		checks[i].row(&row)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for len(plazas) > 0 {
		end()
	}
	return nil
}

// checkRange compares a row's range of time, in seconds as a [toll.WallTime] has them, with its
// minutes, which are what is counted.
func (c *windowCheck) checkRange(row *checkedRow, wallStart, wallEnd int64) {
	start, end := tables.WallTimeOf(c.zone, row.Start), tables.WallTimeOf(c.zone, row.end)
	if wallStart != int64(start) || wallEnd != int64(end) {
		c.found.ofWindow(KindWindowRange, row.WindowID, 0, 0,
			fmt.Sprintf("window %s: toll_window has it from %s to %s, its minutes are from %s to %s",
				row.Kind, toll.WallTime(wallStart), toll.WallTime(wallEnd), start, end))
	}
}

func (c *windowCheck) kindsOf(plaza int16) []*kindCheck {
	p := c.plaza(plaza)
	checks := make([]*kindCheck, len(c.v.in.Windows))
	for i := range checks {
		checks[i] = p.kind(&c.v.in.Windows[i])
	}
	return checks
}

// check compares a window that the outbox has events of with its row, nil for none.
//
// What is certain to be in the row are the events that the plaza's state had merged when the window
// was delivered. What can be in it are those that are stored. Where the two are the same, so must
// the row be.
func (p *plazaWindows) check(k *toll.WindowKind, w toll.Window, row *checkedRow) {
	due := k.StepEnd(p.zone, w, p.done) // what of it was delivered; w.Start for nothing
	end := w.End
	if k.Day {
		if end = due; row != nil {
			end = row.end
		}
	}
	if !p.checked(end) || p.gone(k.Name, w.Start, w.End, row) {
		return
	}
	p.v.report.Windows++
	ofQuarters := k.OfQuarters()
	id := toll.WindowID{Plaza: p.plaza, Kind: k.Name, Start: w.Start}
	within := p.stored.In(w)

	var tooLate, events int64
	if row != nil {
		tooLate, events = row.tooLate, row.events
	}
	if want := within.TooLate(ofQuarters); tooLate != want {
		p.problem(KindWindowTooLate, id, want, tooLate,
			"%s in toll_window that came too late for it, the batches have %s", text.Count(tooLate,
				"event"), text.Number(want))
	}
	most, late := within.Count(ofQuarters)
	if events < toll.SumTypes(most) {
		p.v.report.WindowsWaiting++
		p.checkDue(w)
	}
	if row != nil {
		rowMost, rowLate := most, late
		if row.end != w.End {
			rowMost, rowLate = p.stored.In(toll.Window{Start: w.Start, End: row.end}).Count(ofQuarters)
		}
		p.checkRow(k, w, row, rowMost, rowLate)
	}
	delivered := toll.Window{Start: w.Start, End: due}
	if due <= w.Start || toll.InRanges(p.dirty, delivered) {
		return
	}
	stored := most
	if due != w.End {
		stored, _ = p.stored.In(delivered).Count(ofQuarters)
	}
	flight, _ := p.flight.In(delivered).Count(ofQuarters)
	least := toll.SumTypes(stored) - toll.SumTypes(flight)
	switch {
	case least > 0 && (row == nil || row.revision == 0):
		p.problem(KindWindowMissing, id, least, 0, "it has no result in toll_window, %s delivered",
			text.Count(least, "event was", "events were"))
	case events < least:
		p.problem(KindWindowBehind, id, least, events, "%s in toll_window, %s delivered: %s lost",
			text.Count(events, "event"), text.Number(least), text.Count(least-events, "event was",
				"events were"))
	}
}

// gone reports whether a window can't be checked: windows as old as it were deleted for their age,
// or its minutes were rolled up. row is nil for none.
func (p *plazaWindows) gone(kind string, start, end toll.Minute, row *checkedRow) bool {
	if before, some := p.retired[tables.RetiredWindows+kind]; some && end <= before {
		p.v.report.WindowsRetired++
		return true
	}
	if start >= p.folded {
		return false
	}
	switch {
	case row == nil:
	case p.byRows(kind, row):
		p.v.report.Windows++
	default:
		p.v.report.WindowsFolded++
	}
	return true
}

// checkRow checks a row's figures against each other and against the most that they can be: what is
// stored of its time, of which late are late.
func (p *plazaWindows) checkRow(k *toll.WindowKind, w toll.Window, row *checkedRow,
	most []toll.TypeCount, late int64) {
	if row.damaged != nil {
		p.problem(KindWindowCount, row.WindowID, 0, 0, "read by_type: %v", row.damaged)
		return
	}
	if row.revision == 0 && row.events == 0 {
		return
	}
	if row.end > w.End || row.end < w.End && !k.Day || row.whole != (row.end == w.End) {
		p.problem(KindWindowCount, row.WindowID, int64(w.End), int64(row.end),
			"toll_window has it end at %s (whole: %v), not at %s",
			p.clock(row.end), row.whole, p.clock(w.End))
		return
	}
	if sum := toll.SumTypes(row.types); sum != row.events {
		p.problem(KindWindowCount, row.WindowID, sum, row.events, "%s in toll_window, but %s by type",
			text.Count(row.events, "event"), text.Number(sum))
		return
	}
	if row.late < 0 || row.late > row.events {
		p.problem(KindWindowCount, row.WindowID, row.events, row.late,
			"%s in toll_window, of which %s late", text.Count(row.events, "event"), text.Number(row.late))
	}
	if all := toll.SumTypes(most); all == 0 {
		p.problem(KindWindowExtra, row.WindowID, 0, row.events, "%s in toll_window, none stored",
			text.Count(row.events, "event"))
		return
	} else if row.events > all {
		p.problem(KindWindowCount, row.WindowID, all, row.events,
			"%s in toll_window, %s stored: %s counted twice",
			text.Count(row.events, "event"), text.Number(all), text.Count(row.events-all, "event was",
				"events were"))
	} else if row.events == all && row.late != late {
		p.problem(KindWindowCount, row.WindowID, late, row.late,
			"%s in toll_window, of which %s late, by the batches %s", text.Count(row.events,
				"event"), text.Number(row.late), text.Number(late))
	}
	if countOf(most, toll.OtherType) > 0 || countOf(row.types, toll.OtherType) > 0 {
		return // which of very many types are counted apart depends on the order in which they come
	}
	for _, t := range row.types {
		if all := countOf(most, t.Type); t.Count > all {
			p.problem(KindWindowCount, row.WindowID, all, t.Count, "%s of type %q in toll_window, %s stored",
				text.Count(t.Count, "event"), t.Type, text.Number(all))
			return
		}
	}
}

func countOf(types []toll.TypeCount, name string) int64 {
	for _, t := range types {
		if t.Type == name {
			return t.Count
		}
	}
	return 0
}

// checkExtra reports a row of which the outbox has no events at all.
func (p *plazaWindows) checkExtra(row *checkedRow) {
	if !p.checked(row.end) || p.gone(row.Kind, row.Start, row.end, row) {
		return
	}
	p.v.report.Windows++
	if row.tooLate != 0 {
		p.problem(KindWindowTooLate, row.WindowID, 0, row.tooLate,
			"%s in toll_window that came too late for it, the batches have none", text.Count(row.tooLate,
				"event"))
	}
	if row.revision != 0 || row.events != 0 || row.tooLate == 0 {
		p.problem(KindWindowExtra, row.WindowID, 0, row.events, "%s in toll_window, none stored",
			text.Count(row.events, "event"))
	}
}

func (p *plazaWindows) problem(kind string, id toll.WindowID, want, got int64, format string,
	args ...any) {
	p.found.ofWindow(kind, id, want, got,
		fmt.Sprintf("window %s from %s: ", id.Kind, p.clock(id.Start))+fmt.Sprintf(format, args...))
}
