package results

import (
	"context"
	dbsql "database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// history knows what is usual at plazas, from the windows of a quarter of an hour that are stored.
// It remembers the last dates that it was asked for; the weeks before a date hardly change any
// more.
type history struct {
	kind  string // of these windows; empty where they are not counted
	known map[int16]*[2]usualDate
	days  int // among these that are known with something usual
}

// usualDate is what is usual at a plaza on a date.
type usualDate struct {
	known bool
	day   int64 // as toll.WallTime.Day counts
	usual *traffic.UsualDay
}

// maxHistory bounds the days that a history remembers: some 20 MB. Of a day of which nothing is
// known it only remembers that, so there may be as many as there are plazas. It is a variable for
// tests.
var maxHistory = 8192

func newHistory(kinds []toll.WindowKind) history {
	h := history{known: map[int16]*[2]usualDate{}}
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

// usual returns what is usual at a plaza on a date, nil where nothing is known.
func (h *history) usual(ctx context.Context, q db.Reader, plaza int16, zone *toll.Zone,
	day int64) (*traffic.UsualDay, error) {
	if h.kind == "" {
		return nil, nil
	}
	dates := h.known[plaza]
	if dates == nil {
		dates = new([2]usualDate)
		h.known[plaza] = dates
	}
	at := &dates[day&1]
	if at.known && at.day == day {
		return at.usual, nil
	}
	usual, err := h.read(ctx, q, plaza, zone, day)
	if err != nil {
		return nil, err
	}
	if at.usual != nil {
		h.days--
	}
	if usual != nil {
		if h.days >= maxHistory {
			h.forget()
			h.known[plaza] = dates
			*dates = [2]usualDate{}
		}
		h.days++
	}
	*at = usualDate{known: true, day: day, usual: usual}
	return usual, nil
}

// read reads what passed on the same weekday in the weeks before. Since the plaza's first window, a
// quarter of an hour without one is one without a vehicle.
func (h *history) read(ctx context.Context, q db.Reader, plaza int16, zone *toll.Zone,
	day int64) (*traffic.UsualDay, error) {
	var first toll.Minute
	err := q.QueryRowContext(ctx, `SELECT start_minute FROM toll_window WHERE toll_plaza_id = ?
		AND kind = ? AND revision > 0
		ORDER BY start_minute LIMIT 1`, plaza, h.kind).Scan(&first)
	if errors.Is(err, dbsql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var days []int64
	var ranges []string
	args := []any{plaza, h.kind}
	for week := int64(1); week <= traffic.HistoryWeeks; week++ {
		d := day - 7*week
		start, end := midnight(zone, d), midnight(zone, d+1)
		if end <= first {
			break
		}
		days = append(days, d)
		ranges = append(ranges, "start_minute >= ? AND start_minute < ?")
		args = append(args, start, end)
	}
	if len(days) == 0 {
		return nil, nil
	}
	weeks := make([]traffic.DayCounts, len(days))
	for i, d := range days {
		weeks[i] = traffic.NewDayCounts(zone, d)
		if traffic.DayOf(zone, first) == d {
			_, slot := traffic.SlotOf(zone, first)
			for s := range slot {
				weeks[i][s] = traffic.NoCount
			}
		}
	}
	rows, err := q.QueryContext(ctx, `SELECT start_minute, events FROM toll_window
		WHERE toll_plaza_id = ? AND kind = ? AND revision > 0
		AND (`+strings.Join(ranges, " OR ")+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var start toll.Minute
		var events int64
		if err := rows.Scan(&start, &events); err != nil {
			return nil, err
		}
		if i := slices.Index(days, traffic.DayOf(zone, start)); i >= 0 {
			_, slot := traffic.SlotOf(zone, start)
			weeks[i].Add(slot, events)
		}
	}
	usual := traffic.UsualDayOf(weeks)
	return &usual, rows.Err()
}

// midnight returns the first minute of a date.
func midnight(zone *toll.Zone, day int64) toll.Minute {
	return zone.Boundary(toll.WallTime(day * 86400))
}
