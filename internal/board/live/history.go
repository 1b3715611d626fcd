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
	store    *sql.Store
	holidays traffic.Holidays // nil for none
	b        *board.Board
	p        *board.Plaza
	zone     *toll.Zone  // of the plaza's clock
	now      toll.Minute // the stream's, or the wall clock's before the first event
	today    int64       // the plaza's date now, as toll.WallTime.Day counts
	first    toll.Minute // the quarter of an hour of the plaza's first event
	// the kind of windows of a quarter of an hour; empty where they are not counted
	quarter string
	minute  string // the same of a minute
	// windows of a quarter of an hour that end at or before it may have been deleted
	retired toll.Minute
}

func newHistory(store *sql.Store, holidays traffic.Holidays, b *board.Board,
	p *board.Plaza) *history {
	h := &history{store: store, holidays: holidays, b: b, p: p, zone: toll.NewZone(p.Location),
		now:   b.Now(),
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

// date returns a date as a stretch of time.
func (h *history) date(day int64) toll.Window {
	return toll.Window{Start: h.zone.Midnight(day), End: h.zone.Midnight(day + 1)}
}

// quarters returns the quarters of an hour that begin in a stretch of time. Counts are those of the
// group table, which are of now, and else those of the windows that have closed.
func (h *history) quarters(ctx context.Context, w toll.Window) ([]board.Quarter, error) {
	w.Start, w.End = nextQuarter(w.Start), nextQuarter(w.End)
	var windows []results.StoredWindow
	h.retired = math.MinInt32
	if h.quarter != "" {
		var err error
		// What retention deletes in between is missing, and known to be: it is asked for last.
		if windows, err = h.store.WindowsBetween(ctx, int16(h.p.ID), h.quarter, w); err != nil {
			return nil, err
		}
		if h.retired, err = h.store.RetiredBefore(ctx, h.quarter); err != nil {
			return nil, err
		}
	}
	var capacity *float64
	if h.p.Capacity != nil {
		capacity = new(*h.p.Capacity * toll.Quarter / 60)
	}
	var points []board.Quarter
	for start := w.Start; start < w.End; start += toll.Quarter {
		point := board.Quarter{Start: start.Time(), Capacity: capacity}
		if types, known := h.count(toll.Window{Start: start, End: start + toll.Quarter}, windows); known {
			point.Count, point.ByType = new(toll.SumTypes(types)), board.ByType(types)
			if a := h.p.Assessment; a != nil && a.Equivalents != nil {
				point.PassengerCars = new(a.Equivalents.PassengerCars(types))
			}
		}
		points = append(points, point)
	}
	return points, nil
}

// nextQuarter returns the first quarter of an hour that begins at or after a minute.
func nextQuarter(m toll.Minute) toll.Minute { return toll.QuarterOf(m + toll.Quarter - 1) }

// series returns what passed in a range. Without a beginning, or an end, it is of the date of the
// other, and without both of today. It is longest at most.
func (h *history) series(ctx context.Context, r board.Range) (*board.Series, error) {
	w := h.date(h.today)
	switch from, until := minutesOf(r); {
	case r.From != nil && r.Until != nil:
		w = toll.Window{Start: from, End: until}
	case r.From != nil:
		w = toll.Window{Start: from, End: h.date(traffic.DayOf(h.zone, from)).End}
	case r.Until != nil:
		w = toll.Window{Start: h.date(traffic.DayOf(h.zone, until-1)).Start, End: until}
	}
	w.End = min(w.End, w.Start+toll.Minute(board.LongestSeries/time.Minute))
	s := &board.Series{From: w.Start.Time(), Until: w.End.Time()}
	var err error
	if s.Quarters, err = h.quarters(ctx, w); err != nil {
		return nil, err
	}
	return s, h.addUsual(ctx, s.Quarters)
}

// minutesOf returns the minutes that begin in a range, as far as a minute can be one.
func minutesOf(r board.Range) (from, until toll.Minute) {
	from, until = math.MinInt32, math.MaxInt32
	next := func(t time.Time) toll.Minute { return toll.MinuteAt(t.Add(time.Minute - 1).Unix()) }
	if r.From != nil {
		from = next(*r.From)
	}
	if r.Until != nil {
		until = next(*r.Until)
	}
	return from, until
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
	// closed, and without events there is no window; nor is there one that was deleted
	return nil, h.b.Passed(w) && w.End > h.retired
}

// levelQuarters is how many quarters of an hour before a series say at what level it begins: of
// what was before them, a twentieth is left.
const levelQuarters = 8

// addUsual adds what is usual in quarters of an hour. The band is that of the states: it follows
// the level of the quarters before, and there is none where these are not known.
func (h *history) addUsual(ctx context.Context, points []board.Quarter) error {
	if h.quarter == "" || len(points) == 0 {
		return nil
	}
	start := toll.MinuteAt(points[0].Start.Unix())
	before, err := h.quarters(ctx, toll.Window{Start: start - levelQuarters*toll.Quarter, End: start})
	if err != nil {
		return err
	}
	var level, levelOff traffic.Level
	var usual *traffic.UsualDay
	var off *traffic.DayOff
	day, known := int64(math.MinInt64), 0
	add := func(point *board.Quarter) error {
		start := toll.MinuteAt(point.Start.Unix())
		if d := traffic.DayOf(h.zone, start); d != day {
			var err error
			day, levelOff = d, traffic.Level{}
			if usual, off, err = h.store.UsualDay(ctx, int16(h.p.ID), h.quarter, h.zone, day,
				h.holidays); err != nil {
				return err
			}
		}
		_, slot := traffic.SlotOf(h.zone, start)
		base := usual.At(slot)
		now, n := base.At(&level), point.Count
		var baseOff traffic.Usual
		if off != nil {
			baseOff = off.At(slot)
			at := baseOff.At(&levelOff)
			if n == nil {
				now = at
			} else {
				now = off.Or(now, at, float64(*n))
			}
		}
		low, high := now.Band()
		if known >= levelQuarters && now.Known() {
			point.UsualMedian, point.UsualLow, point.UsualHigh = &now.Median, &low, &high
		}
		switch {
		case start+toll.Quarter > h.now: // it is not over
			return nil
		case n == nil:
			known, level, levelOff = 0, traffic.Level{}, traffic.Level{}
			return nil
		}
		known++
		for l, u := range map[*traffic.Level]traffic.Usual{&level: base, &levelOff: baseOff} {
			switch count := float64(*n); {
			case !u.Known():
			case now.Known() && (count < low || count > high):
				l.Follow(u.Median, u.Median)
			default:
				l.Follow(count, u.Median)
			}
		}
		return nil
	}
	for i := range before {
		if err := add(&before[i]); err != nil {
			return err
		}
	}
	for i := range points {
		if err := add(&points[i]); err != nil {
			return err
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
