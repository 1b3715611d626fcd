package verify

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// maxRowWindows bounds the windows that wait for livetolldata's rows to be compared with: some 60
// MB. It is a variable for tests.
var maxRowWindows = 1_000_000

// rowWindow is a window that is compared with the rows of livetolldata itself, since the outbox no
// longer has its minutes.
type rowWindow struct {
	kind *toll.WindowKind
	toll.Window
	want    int64 // events that it counts, and those that came too late for it
	compare bool  // whether the rows are all there, and all that it is to count was delivered
}

// rowCheck compares windows with the sums of rows. Rows come ascending by plaza and minute.
type rowCheck struct {
	c       *windowCheck
	windows map[int16][]rowWindow
	n       int  // windows of all plazas
	full    bool // whether there were too many

	reading bool  // whether rows were read
	plaza   int16 // of them
	minutes []toll.Minute
	sums    []int64 // of the rows of minutes[:i+1]
}

// byRows takes note of a row of toll_window that the outbox can't be compared with, and reports
// whether its window will be compared with rows.
func (p *plazaWindows) byRows(kind string, row *checkedRow) bool {
	r := &p.rows
	i := slices.IndexFunc(p.v.in.Windows, func(k toll.WindowKind) bool { return k.Name == kind })
	if !p.deep || i < 0 || p.baseline[int(p.plaza)].Rows > 0 {
		return false
	}
	if r.n >= maxRowWindows {
		r.full = true
		return false
	}
	k := &p.v.in.Windows[i]
	for _, w := range k.Covering(p.zone, row.Start, nil) {
		if w.Start != row.Start {
			continue
		}
		pruned, some := p.retired[tables.RetiredRows]
		compare := !(some && w.Start <= pruned) && w.End <= p.done && !toll.InRanges(p.dirty, w) &&
			len(p.flight.In(w)) == 0
		if r.windows == nil {
			r.windows = map[int16][]rowWindow{}
		}
		r.windows[p.plaza] = append(r.windows[p.plaza],
			rowWindow{k, w, row.events + row.tooLate, compare})
		r.n++
		return compare
	}
	return false
}

// add adds rows of a plaza.
func (r *rowCheck) add(plaza int16, m toll.Minute, rows int64) {
	if !r.reading || plaza != r.plaza {
		if r.reading {
			r.end()
		}
		r.reading, r.plaza = true, plaza
	}
	if len(r.windows[plaza]) == 0 && r.c.stored.Folds[plaza] == nil {
		return
	}
	n := len(r.minutes)
	switch {
	case n == 0:
		r.minutes, r.sums = append(r.minutes, m), append(r.sums, rows)
	case r.minutes[n-1] == m:
		r.sums[n-1] += rows
	default:
		r.minutes, r.sums = append(r.minutes, m), append(r.sums, r.sums[n-1]+rows)
	}
}

// in returns how many rows of the plaza are in a window.
func (r *rowCheck) in(w toll.Window) int64 {
	before := func(m toll.Minute) int64 {
		if i, _ := slices.BinarySearch(r.minutes, m); i > 0 {
			return r.sums[i-1]
		}
		return 0
	}
	return before(w.End) - before(w.Start)
}

// end compares the windows of the plaza whose rows were read.
func (r *rowCheck) end() {
	for _, w := range r.windows[r.plaza] {
		if rows := r.in(w.Window); w.compare && rows != w.want {
			r.problem(w.kind, w.Window, rows, w.want,
				text.Count(w.want, "event")+" in toll_window, those that came too late among them, but "+
					text.Count(rows, "row")+" in livetolldata")
		}
	}
	if r.c.stored.Folds[r.plaza] != nil {
		r.missing()
	}
	r.n -= len(r.windows[r.plaza])
	delete(r.windows, r.plaza)
	r.minutes, r.sums = r.minutes[:0], r.sums[:0]
}

// missing looks for windows that toll_window lacks although rows belong to them, of the time whose
// minutes were rolled up.
func (r *rowCheck) missing() {
	p := r.c.plaza(r.plaza)
	from := toll.Minute(math.MinInt32)
	pruned, some := p.retired[tables.RetiredRows]
	if some {
		from = tables.AddMinutes(pruned, 1)
	}
	known := p.baseline[int(r.plaza)].Rows == 0 && !r.full
	if some || !known {
		p.v.report.MinutesFolded = true
	}
	if !known {
		return
	}
	type id struct {
		kind  *toll.WindowKind
		start toll.Minute
	}
	has := map[id]bool{}
	for _, w := range r.windows[r.plaza] {
		has[id{w.kind, w.Start}] = true
	}
	var windows []toll.Window
	for i := range p.v.in.Windows {
		k := &p.v.in.Windows[i]
		retired, old := p.retired[tables.RetiredWindows+k.Name]
		last := toll.Minute(math.MinInt32) // the end of the last window, where they tile the time
		for _, m := range r.minutes {
			if m >= p.folded {
				break
			}
			if m < from || m < last {
				continue
			}
			windows = k.Covering(p.zone, m, windows[:0])
			for _, w := range windows {
				if k.Day || k.Hop == k.Size {
					last = w.End
				}
				if has[id{k, w.Start}] || old && w.End <= retired || w.End > p.done ||
					toll.InRanges(p.dirty, w) || len(p.flight.In(w)) > 0 {
					continue
				}
				has[id{k, w.Start}] = true
				r.problem(k, w, r.in(w), 0, "it is not in toll_window, but "+text.Count(r.in(w), "row")+
					" in livetolldata are of its time")
			}
		}
	}
}

func (r *rowCheck) problem(k *toll.WindowKind, w toll.Window, want, got int64, text string) {
	id := toll.WindowID{Plaza: r.plaza, Kind: k.Name, Start: w.Start}
	r.c.found.ofWindow(KindWindowRows, id, want, got,
		"window "+k.Name+" from "+r.c.clock(w.Start)+": "+text)
}

// finish compares the windows of all plazas that are left, which have no rows.
func (r *rowCheck) finish() {
	if r.reading {
		r.end()
	}
	for _, plaza := range slices.Sorted(maps.Keys(r.windows)) {
		r.plaza = plaza
		r.end()
	}
	r.reading = false
}

// checkMinutes compares the rows of livetolldata with the outbox, minute by minute, for the plazas
// that are looked at, and adds those rows up by plaza in the same scan. Rows without a time are in
// no minute.
//
// Of a plaza with rows from before it is not known which minutes those are of, so it can only have
// too few. Minutes from which rows were pruned can only have too many, and those that were rolled
// up are compared in one.
func (c *windowCheck) checkMinutes(ctx context.Context, q db.Reader, scan *rowscan.Scan,
	baseline map[int]tables.RowCount) error {
	err := scan.Minutes(ctx, q, c.from, c.to, func(g *rowscan.Group) error {
		c.count(g)
		if g.Plaza == tables.NullPlaza || !g.Timed {
			return nil
		}
		plaza, m := int16(g.Plaza), g.Minute
		c.rows.add(plaza, m, g.Rows)
		if sum := c.stored.Plazas[plaza][m]; sum != nil {
			sum.Rows += g.Rows
		} else if f := c.stored.Folds[plaza]; f != nil && m < f.Before {
			f.Rows += g.Rows
		} else if baseline[g.Plaza].Rows == 0 {
			c.minuteProblem(plaza, m, 0, g.Rows)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.rows.finish()
	pruned := int64(math.MinInt64)
	before, some := c.retired[tables.RetiredRows]
	if some {
		pruned = int64(before)
	}
	for plaza := range c.stored.Plazas {
		f := c.stored.Folds[plaza]
		for _, sum := range c.stored.Of(plaza) {
			want := sum.Events()
			if f != nil && sum.Start < f.Before {
				f.Rows += sum.Rows
				f.Events += want
			} else if sum.Rows < want && int64(sum.Start) > pruned || sum.Rows > want &&
				baseline[int(plaza)].Rows == 0 {
				c.minuteProblem(plaza, sum.Start, want, sum.Rows)
			}
		}
	}
	for _, plaza := range slices.Sorted(maps.Keys(c.stored.Folds)) {
		if f := c.stored.Folds[plaza]; f.Rows < f.Events && !some || f.Rows > f.Events &&
			baseline[int(plaza)].Rows == 0 {
			c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: f.Before}, f.Events, f.Rows,
				"minutes before "+c.clock(f.Before)+": "+text.Count(f.Rows, "row")+" in livetolldata, "+
					text.Number(f.Events)+" stored")
		}
	}
	return nil
}

func (c *windowCheck) minuteProblem(plaza int16, m toll.Minute, want, got int64) {
	c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: m}, want, got,
		"minute "+c.clock(m)+": "+text.Count(got, "row")+" in livetolldata, "+text.Number(want)+" stored")
}

// count adds a group to its plaza's rows.
func (c *windowCheck) count(g *rowscan.Group) {
	total, counted := c.counts[g.Plaza]
	total.Exact = (total.Exact || !counted) && g.Exact
	total.Rows += g.Rows
	total.Checksum += g.Checksum
	c.counts[g.Plaza] = total
}
