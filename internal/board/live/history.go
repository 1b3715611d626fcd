package live

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// history reads what passed a plaza on its local dates.
type history struct {
	store *sql.Store
	b     *board.Board
	p     *board.Plaza
	zone  *toll.Zone  // of the plaza's clock
	now   toll.Minute // the stream's, or the wall clock's before the first event
	today int64       // the plaza's date now, as toll.WallTime.Day counts
	first toll.Minute // the quarter of an hour of the plaza's first event
	// the kind of windows of a quarter of an hour; empty where they are not counted
	quarter string
	minute  string // the same of a minute
}

func newHistory(store *sql.Store, b *board.Board, p *board.Plaza) *history {
	h := &history{store: store, b: b, p: p, zone: toll.NewZone(p.Location), now: b.Now(),
		first: math.MaxInt32}
	if b.StreamTime == nil {
		h.now = toll.MinuteAt(b.At.Unix())
	}
	h.today = traffic.DayOf(h.zone, h.now)
	if p.FirstEvent != nil {
		h.first = toll.QuarterOf(toll.MinuteAt(p.FirstEvent.Unix()))
	}
	for _, k := range b.Kinds {
		switch {
		case k.Day || k.Size != k.Hop:
		case k.Size == toll.Quarter:
			h.quarter = k.Name
		case k.Size == 1:
			h.minute = k.Name
		}
	}
	return h
}

// quarters returns the quarters of an hour of a date. Counts are those of the group table, which
// are of now, and else those of the windows that have closed.
func (h *history) quarters(ctx context.Context, day int64) ([]board.Quarter, error) {
	date := toll.Window{Start: midnight(h.zone, day), End: midnight(h.zone, day+1)}
	var windows []results.StoredWindow
	if h.quarter != "" {
		var err error
		if windows, err = h.store.WindowsBetween(ctx, int16(h.p.ID), h.quarter, date); err != nil {
			return nil, err
		}
	}
	var capacity *float64
	if h.p.Capacity != nil {
		capacity = new(*h.p.Capacity * toll.Quarter / 60)
	}
	var points []board.Quarter
	for start := date.Start; start < date.End; start += toll.Quarter {
		point := board.Quarter{Start: start.Time(), Capacity: capacity}
		if types, known := h.count(toll.Window{Start: start, End: start + toll.Quarter}, windows); known {
			point.Count, point.ByType = new(toll.SumTypes(types)), board.ByType(types)
		}
		points = append(points, point)
	}
	return points, nil
}

// count returns what passed in a quarter of an hour, and false where it has not begun or that is
// not known.
func (h *history) count(w toll.Window, windows []results.StoredWindow) ([]toll.TypeCount, bool) {
	if w.Start > h.now || w.Start < h.first {
		return nil, false
	}
	if quarters := &h.p.Counts.Quarters; quarters.Complete(w) {
		types, _ := toll.SumPanes(quarters.In(w))
		return types, true
	}
	// The window may be longer, where clocks were set back.
	i := slices.IndexFunc(windows, func(v results.StoredWindow) bool {
		return v.Start < w.End && v.End > w.Start
	})
	switch {
	case i >= 0 && windows[i].Start == w.Start && windows[i].End == w.End:
		return windows[i].Types, true
	case i >= 0 || h.quarter == "":
		return nil, false
	}
	return nil, h.b.Passed(w) // closed, and without events there is no window
}

// addUsual adds what is usual in the quarters of today.
func (h *history) addUsual(ctx context.Context, points []board.Quarter) error {
	if h.quarter == "" {
		return nil
	}
	usual, err := h.store.UsualDay(ctx, int16(h.p.ID), h.quarter, h.zone, h.today)
	if err != nil {
		return err
	}
	for i := range points {
		point := &points[i]
		_, slot := traffic.SlotOf(h.zone, toll.MinuteAt(point.Start.Unix()))
		if u := usual.At(slot); u.Known() {
			point.UsualMedian, point.UsualLow, point.UsualHigh = new(u.Median),
				new(max(u.Median-3*u.Scale(), 0)), new(u.Median+3*u.Scale())
		}
	}
	return nil
}

// soFar returns what passed on a date before a minute, nil where some of it is not known. A quarter
// of an hour that the minute lies in counts by its minutes; where these are not known, and it had
// an end, by the share of it that had passed.
func (h *history) soFar(ctx context.Context, points []board.Quarter,
	until toll.Minute) (*int64, error) {
	var sum int64
	known := false
	for i := range points {
		start := toll.MinuteAt(points[i].Start.Unix())
		w := toll.Window{Start: start, End: min(start+toll.Quarter, until)}
		switch count := points[i].Count; {
		case start >= until:
		case count == nil && w.End <= h.first: // before the plaza's time
		case count == nil:
			return nil, nil
		case w.Span() == toll.Quarter*time.Minute || until > h.now:
			sum, known = sum+*count, true
		case h.minute != "":
			minutes, err := h.store.WindowsBetween(ctx, int16(h.p.ID), h.minute, w)
			if err != nil {
				return nil, err
			}
			for i := range minutes {
				sum += minutes[i].Events()
			}
			known = true
		default:
			sum, known = sum+int64(math.Round(float64(*count)*w.Span().Minutes()/toll.Quarter)), true
		}
	}
	if !known {
		return nil, nil
	}
	return &sum, nil
}

// aWeekBefore returns the minute in which the plaza's clock showed the time of now on the date a
// week before.
func (h *history) aWeekBefore() toll.Minute {
	_, second := h.zone.Wall(h.now.Time()).Day()
	return h.zone.Minute(toll.WallTime((h.today-7)*86400 + int64(second)))
}

// midnight returns the first minute of a date.
func midnight(zone *toll.Zone, day int64) toll.Minute {
	return zone.Boundary(toll.WallTime(day * 86400))
}
