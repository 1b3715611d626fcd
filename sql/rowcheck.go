package sql

import (
	"maps"
	"slices"

	"tollstream/toll"
)

// maxRowWindows bounds the windows that wait for livetolldata's rows to be compared with: some 60 MB. It is a variable for
// tests.
var maxRowWindows = 1_000_000

// rowWindow is a window that is compared with the rows of livetolldata itself, since the outbox no longer has its minutes.
type rowWindow struct {
	kind *toll.WindowKind
	toll.Window
	want int64 // events that it counts, and those that came too late for it
}

// rowCheck compares windows with the sums of rows. Rows come ascending by plaza and minute.
type rowCheck struct {
	c       *windowCheck
	windows map[int16][]rowWindow
	n       int // windows of all plazas

	plaza   int16 // whose rows are read
	minutes []toll.Minute
	sums    []int64 // of the rows of minutes[:i+1]
}

// byRows takes note of a row of toll_window that the outbox can't be compared with, and reports whether its window can be
// compared with rows: those are all there, all from the topic, and all that it is to count was delivered.
func (p *plazaWindows) byRows(kind string, row *checkedRow) bool {
	r := &p.rows
	i := slices.IndexFunc(p.v.in.Windows, func(k toll.WindowKind) bool { return k.Name == kind })
	if pruned, some := p.retired[retiredRows]; !p.deep || i < 0 || some && row.Start <= pruned || p.baseline[int(p.plaza)].rows > 0 ||
		r.n >= maxRowWindows {
		return false
	}
	k := &p.v.in.Windows[i]
	for _, w := range k.Covering(p.zone, row.Start, nil) {
		if w.Start == row.Start && w.End <= p.done && !toll.InRanges(p.dirty, w) && len(p.flight.in(w)) == 0 {
			if r.windows == nil {
				r.windows = map[int16][]rowWindow{}
			}
			r.windows[p.plaza] = append(r.windows[p.plaza], rowWindow{k, w, row.events + row.tooLate})
			r.n++
			return true
		}
	}
	return false
}

// add adds rows of a plaza.
func (r *rowCheck) add(plaza int16, m toll.Minute, rows int64) {
	if plaza != r.plaza {
		r.end()
		r.plaza = plaza
	}
	if len(r.windows[plaza]) == 0 {
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

// end compares the windows of the plaza whose rows were read.
func (r *rowCheck) end() {
	before := func(m toll.Minute) int64 {
		if i, _ := slices.BinarySearch(r.minutes, m); i > 0 {
			return r.sums[i-1]
		}
		return 0
	}
	for _, w := range r.windows[r.plaza] {
		if rows := before(w.End) - before(w.Start); rows != w.want {
			id := toll.WindowID{Plaza: r.plaza, Kind: w.kind.Name, Start: w.Start}
			r.c.found.ofWindow(KindWindowRows, id, rows, w.want, "window "+id.Kind+" from "+r.c.clock(w.Start)+": "+
				plural(w.want, "event")+" in toll_window, those that came too late among them, but "+plural(rows, "row")+" in livetolldata")
		}
	}
	r.n -= len(r.windows[r.plaza])
	delete(r.windows, r.plaza)
	r.minutes, r.sums = r.minutes[:0], r.sums[:0]
}

// finish compares the windows of all plazas that are left, which have no rows.
func (r *rowCheck) finish() {
	r.end()
	for _, r.plaza = range slices.Sorted(maps.Keys(r.windows)) {
		r.end()
	}
}
