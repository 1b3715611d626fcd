package results

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// history knows what is usual at plazas, from the windows of a quarter of an hour that are stored.
// It remembers the last dates that it was asked for; the weeks before a date hardly change any
// more.
type history struct {
	kind     string // of these windows; empty where they are not counted
	holidays traffic.Holidays
	known    map[int16]*[2]usualDate
	days     int // among these that are known with something usual
	// where the first windows begin of plazas that are assessed now
	firsts map[int16]toll.Minute
}

// noWindow is where the first window of a plaza begins that has none.
const noWindow toll.Minute = math.MaxInt32

// usualDate is what is usual at a plaza on a date.
type usualDate struct {
	known bool
	day   int64 // as toll.WallTime.Day counts
	usual *traffic.UsualDay
	off   *traffic.DayOff // of a holiday; else nil
}

// maxHistory bounds the days that a history remembers: some 20 MB. Of a day of which nothing is
// known it only remembers that, so there may be as many as there are plazas. It is a variable for
// tests.
var maxHistory = 8192

func newHistory(kinds []toll.WindowKind, holidays traffic.Holidays) history {
	h := history{holidays: holidays, known: map[int16]*[2]usualDate{},
		firsts: map[int16]toll.Minute{}}
	for _, k := range kinds {
		if k.Size == toll.Quarter && k.Hop == toll.Quarter && !k.Day {
			h.kind = k.Name
		}
	}
	return h
}

// forget makes it read everything again.
func (h *history) forget() {
	clear(h.known)
	h.days = 0
}

// begin reads at once where the first windows begin of the plazas of which a date is not known yet:
// at a start, and at midnight, these are all. end forgets it.
func (h *history) begin(ctx context.Context, q db.Reader, plazas []int16,
	date func(plaza int16) int64) error {
	if h.kind == "" {
		return nil
	}
	var firsts []string
	var args []any
	for _, plaza := range plazas {
		day := date(plaza)
		if dates := h.known[plaza]; dates != nil && dates[day&1].known && dates[day&1].day == day {
			continue
		}
		h.firsts[plaza] = noWindow
		firsts = append(firsts, firstWindow)
		args = append(args, plaza, h.kind)
	}
	if len(firsts) == 0 {
		return nil
	}
	query := firstWindow // without parentheses, which the embedded server accepts around two or more
	if len(firsts) > 1 {
		query = "(" + strings.Join(firsts, ") UNION ALL (") + ")"
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var plaza int16
		var first toll.Minute
		if err := rows.Scan(&plaza, &first); err != nil {
			return err
		}
		h.firsts[plaza] = first
	}
	return rows.Err()
}

const firstWindow = `SELECT toll_plaza_id, start_minute FROM toll_window WHERE toll_plaza_id = ?
	AND kind = ? AND revision > 0 ORDER BY start_minute LIMIT 1`

func (h *history) end() { clear(h.firsts) }

// date returns what is usual at a plaza on a date.
func (h *history) date(ctx context.Context, q db.Reader, plaza int16, zone *toll.Zone,
	day int64) (usualDate, error) {
	if h.kind == "" {
		return usualDate{}, nil
	}
	dates := h.known[plaza]
	if dates == nil {
		dates = new([2]usualDate)
		h.known[plaza] = dates
	}
	at := &dates[day&1]
	if at.known && at.day == day {
		return *at, nil
	}
	read, err := h.read(ctx, q, plaza, zone, day)
	if err != nil {
		return usualDate{}, err
	}
	if at.usual != nil {
		h.days--
	}
	if read.usual != nil {
		if h.days >= maxHistory {
			h.forget()
			h.known[plaza] = dates
			*dates = [2]usualDate{}
		}
		h.days++
	}
	*at = read
	return read, nil
}

// read reads what passed on the dates that a date is compared with. Since the plaza's first window,
// a quarter of an hour without one is one without a vehicle.
func (h *history) read(ctx context.Context, q db.Reader, plaza int16, zone *toll.Zone,
	day int64) (usualDate, error) {
	date := usualDate{known: true, day: day}
	first, found := h.firsts[plaza]
	if !found {
		err := q.QueryRowContext(ctx, firstWindow, plaza, h.kind).Scan(&plaza, &first)
		if errors.Is(err, dbsql.ErrNoRows) {
			first = noWindow
		} else if err != nil {
			return date, err
		}
	}
	if first == noWindow {
		return date, nil
	}
	weeks := h.holidays.WeeksBefore(day)
	sundays, earlier := h.holidays.DaysOffBefore(day)
	counts := map[int64]*traffic.DayCounts{}
	var ranges []string
	args := []any{plaza, h.kind}
	for _, d := range slices.Concat(weeks, sundays, earlier) {
		start, end := zone.Midnight(d), zone.Midnight(d+1)
		if end <= first || counts[d] != nil {
			continue
		}
		counts[d] = new(traffic.NewDayCounts(zone, d))
		ranges = append(ranges, "start_minute >= ? AND start_minute < ?")
		args = append(args, start, end)
		if traffic.DayOf(zone, first) == d {
			_, slot := traffic.SlotOf(zone, first)
			for s := range slot {
				counts[d][s] = traffic.NoCount
			}
		}
	}
	if len(counts) == 0 {
		return date, nil
	}
	var start toll.Minute
	var events int64
	rows, err := q.QueryContext(ctx, `SELECT start_minute, events FROM toll_window
		WHERE toll_plaza_id = ? AND kind = ? AND revision > 0
		AND (`+strings.Join(ranges, " OR ")+`)`, args...)
	err = db.Each(rows, err, []any{&start, &events}, func() error {
		if c := counts[traffic.DayOf(zone, start)]; c != nil {
			_, slot := traffic.SlotOf(zone, start)
			c.Add(slot, events)
		}
		return nil
	})
	of := func(days []int64) (all []traffic.DayCounts) {
		for _, d := range days {
			if c := counts[d]; c != nil {
				all = append(all, *c)
			}
		}
		return all
	}
	if known := of(weeks); len(known) > 0 {
		date.usual = new(traffic.UsualDayOf(known))
	}
	if h.holidays != nil {
		date.off = traffic.DayOffOf(of(sundays), of(earlier))
	}
	return date, err
}

// PlazaPeriod is what has closed at a plaza in a period.
type PlazaPeriod struct {
	Plaza int16
	// the beginning of its first window that is stored, of any time; nil where there is none
	First   *toll.Minute
	Windows []StoredWindow // ascending by start
}

// ReadBetween reads a plaza's windows of a kind that begin in a stretch of time, ascending.
type ReadBetween func(plaza int16, kind string, w toll.Window) ([]StoredWindow, error)

// EachPlaza reads the windows of a kind that begin in a period, plaza by plaza in ascending order,
// all in one snapshot. Plazas are those that have such a window at any time, and those of the
// plazas file. within returns the period of a plaza; each may read more in the same snapshot.
func (r *Reader) EachPlaza(ctx context.Context, kind string, within func(plaza int16) toll.Window,
	each func(p *PlazaPeriod, read ReadBetween) error) error {
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		plazas, err := periodPlazas(ctx, q, kind)
		if err != nil {
			return err
		}
		read := func(plaza int16, kind string, w toll.Window) ([]StoredWindow, error) {
			rows, err := tables.ReadWindows(ctx, q, `WHERE toll_plaza_id = ? AND kind = ?
				AND start_minute >= ? AND start_minute < ? ORDER BY start_minute`,
				plaza, kind, w.Start, w.End)
			return appendStored(nil, rows), err
		}
		for _, plaza := range plazas {
			p := PlazaPeriod{Plaza: plaza}
			var first dbsql.Null[int32]
			if err := q.QueryRowContext(ctx, `SELECT MIN(start_minute) FROM toll_window
				WHERE toll_plaza_id = ? AND kind = ?`, plaza, kind).Scan(&first); err != nil {
				return err
			}
			if first.Valid {
				p.First = new(toll.Minute(first.V))
			}
			if p.Windows, err = read(plaza, kind, within(plaza)); err != nil {
				return err
			}
			if err := each(&p, read); err != nil {
				return err
			}
		}
		return nil
	})
	return r.db.Wrap(fmt.Sprintf("read the windows of %s", kind), err)
}

// periodPlazas returns the plazas that have windows of a kind, and those of the plazas file.
func periodPlazas(ctx context.Context, q db.Reader, kind string) ([]int16, error) {
	stored, err := tables.StoredKinds(ctx, q)
	if err != nil {
		return nil, err
	}
	known := map[int16]bool{}
	for plaza, kinds := range stored {
		if slices.Contains(kinds, kind) {
			known[plaza] = true
		}
	}
	var plaza int16
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id FROM toll_plaza`)
	err = db.Each(rows, err, []any{&plaza}, func() error {
		known[plaza] = true
		return nil
	})
	return slices.Sorted(maps.Keys(known)), err
}

// WindowPosition is where a window is among those of a plaza: descending by start, then ascending
// by kind.
type WindowPosition struct {
	Start toll.Minute
	Kind  string
}

// WindowPage returns a plaza's windows of some kinds that begin in a stretch of time, descending by
// start and then ascending by kind: those behind a position, or the first where it is nil, as many
// as limit at most. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) WindowPage(ctx context.Context, plaza int16, kinds []string, within toll.Window,
	before *WindowPosition, limit int) ([]StoredWindow, error) {
	var all []StoredWindow
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		all = nil
		for _, kind := range kinds { // each read stops at the limit, by the primary key
			end := int64(within.End)
			if before != nil && kind <= before.Kind {
				end = min(end, int64(before.Start))
			} else if before != nil {
				end = min(end, int64(before.Start)+1)
			}
			rows, err := tables.ReadWindows(ctx, q, `WHERE toll_plaza_id = ? AND kind = ?
				AND start_minute >= ? AND start_minute < ? ORDER BY start_minute DESC LIMIT ?`,
				plaza, kind, within.Start, end, limit)
			if err != nil {
				return err
			}
			all = appendStored(all, rows)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b StoredWindow) int {
		return cmp.Or(cmp.Compare(b.Start, a.Start), cmp.Compare(a.Kind, b.Kind))
	})
	return all[:min(len(all), limit)], r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza),
		err)
}

// WindowsBetween returns a plaza's windows of a kind that begin in a stretch of time, ascending by
// start. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) WindowsBetween(ctx context.Context, plaza int16, kind string,
	w toll.Window) ([]StoredWindow, error) {
	rows, err := tables.ReadWindows(ctx, r.db,
		`WHERE toll_plaza_id = ? AND kind = ? AND start_minute >= ? AND start_minute < ?
			ORDER BY start_minute`,
		plaza, kind, w.Start, w.End)
	return appendStored(nil, rows), r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza), err)
}

// RetiredBefore returns up to which minute old windows of a kind were deleted: of those that end at
// or before it, some may be missing that had events.
func (r *Reader) RetiredBefore(ctx context.Context, kind string) (toll.Minute, error) {
	retired, err := tables.ReadRetired(ctx, r.db)
	before, ok := retired[tables.RetiredWindows+kind]
	if !ok {
		before = math.MinInt32
	}
	return before, r.db.Wrap("read which windows were deleted", err)
}

func appendStored(all []StoredWindow, rows []tables.WindowRow) []StoredWindow {
	for i := range rows {
		all = append(all, StoredWindow{rows[i].WindowResult, rows[i].TooLateNow, rows[i].Published})
	}
	return all
}

// UsualDay returns what is usual at a plaza on a date, as [toll.WallTime.Day] counts days: learned
// from its windows of a kind, which must be of a quarter of an hour, on the same weekday of the
// weeks before. It is nil where nothing is known. off is what is usual on a holiday instead, nil
// where that is not known and on other dates.
func (r *Reader) UsualDay(ctx context.Context, plaza int16, kind string, zone *toll.Zone, day int64,
	holidays traffic.Holidays) (usual *traffic.UsualDay, off *traffic.DayOff, err error) {
	h := history{kind: kind, holidays: holidays}
	var date usualDate
	err = r.db.Snapshot(ctx, func(q db.Reader) (err error) {
		date, err = h.read(ctx, q, plaza, zone, day)
		return err
	})
	return date.usual, date.off, r.db.Wrap(fmt.Sprintf("read what is usual at plaza %d", plaza), err)
}
