package skipped

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// fixWindows corrects the windows that hold one of the two minutes between which events were moved.
func (m *skippedTimes) fixWindows(ctx context.Context, tx *dbsql.Tx) error {
	if m.meta.Windows == "" {
		return nil
	}
	kinds, err := toll.ParseWindows(m.meta.Windows)
	if err != nil {
		return err
	}
	plazas, err := m.Plazas(ctx, tx)
	if err != nil {
		return err
	}
	zones := map[int16]*toll.Zone{}
	for _, p := range plazas {
		if p.Timezone != "" {
			of := tables.Meta{Timezone: p.Timezone}
			loc, err := of.Location()
			if err != nil {
				return err
			}
			zones[p.ID] = toll.NewZone(loc)
		}
	}
	retired, err := tables.ReadRetired(ctx, tx)
	if err != nil {
		return err
	}
	f := &windowFix{skippedTimes: m, kinds: kinds, retired: retired,
		zones: toll.NewZoneSet(m.zone, zones), inserter: tables.WindowInserter{Zone: m.zone}}
	type change struct {
		plaza int16
		goes  toll.Minute
	}
	changes := map[change]map[toll.Minute]*skippedCount{} // by the minutes in which they were counted
	for k, n := range m.counts {
		at := change{k.plaza, n.goes}
		if changes[at] == nil {
			changes[at] = map[toll.Minute]*skippedCount{}
		}
		changes[at][k.was] = n
	}
	for at, moved := range changes {
		if err := f.fix(ctx, tx, at.plaza, at.goes, moved); err != nil {
			return fmt.Errorf("correct the windows of plaza %d: %w", at.plaza, err)
		}
	}
	return nil
}

type windowFix struct {
	*skippedTimes
	kinds    []toll.WindowKind
	retired  map[string]toll.Minute
	zones    *toll.ZoneSet
	inserter tables.WindowInserter
}

// affected is a window that holds some of a plaza's minutes.
type affected struct {
	kind *toll.WindowKind
	toll.Window
}

// fix corrects those windows of a plaza that hold the minute to which events were moved, or one of
// those that they come from.
func (f *windowFix) fix(
	ctx context.Context, tx *dbsql.Tx, plaza int16, goes toll.Minute,
	moved map[toll.Minute]*skippedCount,
) error {
	until := dbsql.Null[toll.Minute]{}
	err := tx.QueryRowContext(ctx, `SELECT MAX(end_minute) FROM toll_window
		WHERE toll_plaza_id = ? AND revision > 0`, plaza).Scan(&until)
	if err != nil {
		return err
	}
	if !until.Valid {
		until.V = math.MinInt32
	}
	zone := f.zones.Of(plaza)
	all := map[toll.WindowID]affected{}
	for i := range f.kinds {
		for _, minute := range append(slices.Collect(maps.Keys(moved)), goes) {
			for _, w := range f.kinds[i].Covering(zone, minute, nil) {
				id := toll.WindowID{Plaza: plaza, Kind: f.kinds[i].Name, Start: w.Start}
				all[id] = affected{&f.kinds[i], w}
			}
		}
	}
	for ids := range slices.Chunk(slices.SortedFunc(maps.Keys(all), tables.CompareWindows),
		tables.UpsertRows) {
		where, args := tables.AmongWindows(ids)
		rows, err := tables.ReadWindows(ctx, tx, "WHERE "+f.DB.Many(where), args...)
		if err != nil {
			return err
		}
		stored := map[toll.WindowID]*tables.WindowRow{}
		for i := range rows {
			stored[rows[i].WindowID] = &rows[i]
		}
		for _, id := range ids {
			w := all[id]
			var now tables.WindowRow
			now.WindowID = id
			was := stored[id]
			if was != nil {
				now = *was
			} else if before, some := f.retired[tables.RetiredWindows+id.Kind]; some && w.End <= before {
				continue
			}
			if now.Revision == 0 { // whether it closed shows from the others
				now.End, now.Reason = w.kind.StepEnd(zone, w.Window, until.V), toll.ClosedByWatermark
				now.Whole = now.End == w.End
			}
			correctWindow(&now, w, moved)
			if err := f.store(ctx, tx, was, now, w.End); err != nil {
				return err
			}
		}
	}
	return nil
}

// correctWindow adds what was moved into a window, and takes off what was moved out of it.
func correctWindow(row *tables.WindowRow, w affected, moved map[toll.Minute]*skippedCount) {
	row.Types = slices.Clone(row.Types)
	for was, n := range moved {
		sign := func(end toll.Minute) (sign int64) {
			if n.goes >= w.Start && n.goes < end {
				sign++
			}
			if was >= w.Start && was < end {
				sign--
			}
			return sign
		}
		tooLate := n.tooLate.Count()
		types, late := n.onTime.Types, n.onTime.Late
		if w.kind.OfQuarters() {
			types = toll.AddTypes(slices.Clone(types), n.quarter.Types)
			late += n.quarter.Count()
		} else {
			tooLate += n.quarter.Count()
		}
		row.TooLateNow += sign(w.End) * tooLate
		switch sign(row.End) {
		case 1:
			row.Types = toll.AddTypes(row.Types, types)
			row.Late += late
		case -1:
			row.Types = takeTypes(row.Types, types)
			row.Late -= late
		}
	}
	row.Late = min(max(row.Late, 0), toll.SumTypes(row.Types))
	row.TooLateNow = max(row.TooLateNow, 0)
}

// takeTypes takes counts off others. There are too few of an event that was not delivered yet.
func takeTypes(from, off []toll.TypeCount) []toll.TypeCount {
	for _, t := range off {
		for i := range from {
			if from[i].Type == t.Type {
				from[i].Count = max(from[i].Count-t.Count, 0)
			}
		}
	}
	return slices.DeleteFunc(from, func(t toll.TypeCount) bool { return t.Count == 0 })
}

// store stores a window where it is not as it was. One that has become empty has no row.
func (f *windowFix) store(
	ctx context.Context, tx *dbsql.Tx, was *tables.WindowRow, now tables.WindowRow, end toll.Minute,
) error {
	if was == nil {
		was = &tables.WindowRow{}
	}
	same := slices.Equal(was.Types, now.Types) && was.Late == now.Late
	if same && was.TooLateNow == now.TooLateNow {
		return nil
	}
	f.changed++
	const key = ` WHERE toll_plaza_id = ? AND kind = ? AND start_minute = ?`
	if !same || now.Revision == 0 {
		_, err := tx.ExecContext(ctx, `DELETE FROM toll_window`+key, now.Plaza, now.Kind, now.Start)
		if err != nil {
			return err
		}
		if len(now.Types) == 0 && now.TooLateNow == 0 {
			f.emptied++
			return nil
		}
		result := now.WindowResult
		result.Epoch, result.Revision, result.TooLate = f.epoch, was.Revision+1, now.TooLateNow
		if len(now.Types) == 0 {
			result = toll.WindowResult{}
			result.WindowID, result.End, result.Whole = now.WindowID, end, true
		}
		if err := f.inserter.Insert(ctx, tx, []toll.WindowResult{result}, ""); err != nil {
			return err
		}
		if len(now.Types) == 0 { // which is no result
			_, err := tx.ExecContext(ctx, `UPDATE toll_window SET published = 1`+key, now.Plaza, now.Kind,
				now.Start)
			if err != nil {
				return err
			}
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE toll_window SET too_late = ?`+key,
		now.TooLateNow, now.Plaza, now.Kind, now.Start)
	return err
}

// fixRanges corrects window_start and window_end near changes of the clock, where version 3 had
// others.
func (m *skippedTimes) fixRanges(ctx context.Context) error {
	const before, behind = 60, 1500 // minutes; a clock may repeat a day
	type row struct {
		toll.WindowID
		start, end string
	}
	var wrong []row
	read := func(changes []toll.Minute) error {
		var args []any
		for _, c := range changes {
			from, to := tables.AddMinutes(c, -before), tables.AddMinutes(c, behind)
			args = append(args, from, to, from, to)
		}
		const near = `start_minute BETWEEN ? AND ? OR end_minute BETWEEN ? AND ?`
		rows, err := m.DB.QueryContext(ctx, `SELECT toll_plaza_id, kind, start_minute, end_minute,
			CAST(window_start AS CHAR), CAST(window_end AS CHAR) FROM toll_window WHERE `+
			m.DB.Many(near+strings.Repeat(" OR "+near, len(changes)-1)), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id toll.WindowID
			var last toll.Minute
			var start, end string
			if err := rows.Scan(&id.Plaza, &id.Kind, &id.Start, &last, &start, &end); err != nil {
				return err
			}
			r := row{WindowID: id}
			r.start, r.end = tables.WallColumns(m.zone, toll.Window{Start: id.Start, End: last})
			if r.start != start || r.end != end {
				wrong = append(wrong, r)
			}
		}
		return rows.Err()
	}
	for changes := range slices.Chunk(m.zone.Changes(m.span), timeRanges) {
		if err := read(changes); err != nil {
			return err
		}
	}
	for _, r := range wrong {
		if _, err := m.DB.ExecContext(ctx, `UPDATE toll_window SET window_start = ?, window_end = ?
			WHERE toll_plaza_id = ? AND kind = ? AND start_minute = ?`,
			r.start, r.end, r.Plaza, r.Kind, r.Start); err != nil {
			return err
		}
	}
	return nil
}
