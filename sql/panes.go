package sql

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// paneSum is what batches hold of one minute of a plaza.
type paneSum struct {
	start   toll.Minute
	types   []toll.TypeCount // on time and late
	late    int64            // among them
	quarter []toll.TypeCount // late for minutes: in windows of quarters only
	tooLate int64
	rows    int64 // of livetolldata, where they were counted
}

// events returns the events of all outcomes.
func (p *paneSum) events() int64 {
	return toll.SumTypes(p.types) + toll.SumTypes(p.quarter) + p.tooLate
}

// paneSums gathers the minutes of plazas, in any order.
type paneSums struct {
	plazas map[int16]map[toll.Minute]*paneSum
	n      int                      // minutes of all plazas
	folds  map[int16]*foldedMinutes // of plazas whose old minutes are not known one by one any more
}

// foldedMinutes is what is left of a plaza's minutes that were added up.
type foldedMinutes struct {
	before toll.Minute // the minutes before it, of some batches or all
	events int64
	rows   int64 // of livetolldata, where they were counted
}

func newPaneSums() *paneSums {
	return &paneSums{plazas: map[int16]map[toll.Minute]*paneSum{}, folds: map[int16]*foldedMinutes{}}
}

// foldedBefore returns the minute from which on a plaza's minutes are complete: windows that begin
// earlier can't be counted.
func (s *paneSums) foldedBefore(plaza int16) toll.Minute {
	if f := s.folds[plaza]; f != nil {
		return f.before
	}
	return math.MinInt32
}

// add adds those minutes of a delta that are wanted.
func (s *paneSums) add(d *toll.PlazaDelta, want func(toll.Minute) bool) {
	if d.Fold != nil {
		f := s.folds[d.Plaza]
		if f == nil {
			f = &foldedMinutes{before: math.MinInt32}
			s.folds[d.Plaza] = f
		}
		f.before = max(f.before, d.Fold.Before)
		f.events += d.Fold.Events()
	}
	for i := range d.Panes {
		if p := &d.Panes[i]; want(p.Start) {
			sum := s.at(d.Plaza, p.Start)
			sum.types = toll.AddTypes(sum.types, p.Types)
			sum.late += p.Late
		}
	}
	for i := range d.LateQuarter {
		if p := &d.LateQuarter[i]; want(p.Start) {
			sum := s.at(d.Plaza, p.Start)
			sum.quarter = toll.AddTypes(sum.quarter, p.Types)
		}
	}
	for i := range d.TooLate {
		if p := &d.TooLate[i]; want(p.Start) {
			s.at(d.Plaza, p.Start).tooLate += p.Count()
		}
	}
}

func (s *paneSums) at(plaza int16, m toll.Minute) *paneSum {
	minutes := s.plazas[plaza]
	if minutes == nil {
		minutes = map[toll.Minute]*paneSum{}
		s.plazas[plaza] = minutes
	}
	sum := minutes[m]
	if sum == nil {
		sum = &paneSum{start: m}
		minutes[m] = sum
		s.n++
	}
	return sum
}

// of returns a plaza's minutes, ascending.
func (s *paneSums) of(plaza int16) paneList {
	minutes := s.plazas[plaza]
	list := make(paneList, 0, len(minutes))
	for _, sum := range minutes {
		list = append(list, sum)
	}
	slices.SortFunc(list, func(a, b *paneSum) int { return cmp.Compare(a.start, b.start) })
	return list
}

// drop forgets a plaza.
func (s *paneSums) drop(plaza int16) {
	s.n -= len(s.plazas[plaza])
	delete(s.plazas, plaza)
	delete(s.folds, plaza)
}

// keep forgets all minutes of a plaza but some.
func (s *paneSums) keep(plaza int16, some func(toll.Minute) bool) {
	minutes := s.plazas[plaza]
	before := len(minutes)
	maps.DeleteFunc(minutes, func(m toll.Minute, _ *paneSum) bool { return !some(m) })
	s.n -= before - len(minutes)
}

// paneList are minutes of one plaza, ascending.
type paneList []*paneSum

// in returns the minutes of a window.
func (l paneList) in(w toll.Window) paneList {
	search := func(m toll.Minute) int {
		i, _ := slices.BinarySearchFunc(l, m, func(p *paneSum, m toll.Minute) int {
			return cmp.Compare(p.start, m)
		})
		return i
	}
	from := search(w.Start)
	return l[from:max(from, search(w.End))]
}

// count adds the minutes up for a window of quarters or of any minutes.
func (l paneList) count(ofQuarters bool) (types []toll.TypeCount, late int64) {
	for _, p := range l {
		types = toll.AddTypes(types, p.types)
		late += p.late
		if ofQuarters {
			types = toll.AddTypes(types, p.quarter)
			late += toll.SumTypes(p.quarter)
		}
	}
	return types, late
}

// tooLate adds up the events that came too late for a window of quarters or of any minutes.
func (l paneList) tooLate(ofQuarters bool) int64 {
	var n int64
	for _, p := range l {
		n += p.tooLate
		if !ofQuarters {
			n += toll.SumTypes(p.quarter)
		}
	}
	return n
}

// windows returns the windows of a kind that hold one of the minutes, ascending, once each.
func (l paneList) windows(k *toll.WindowKind, z *toll.Zone) []toll.Window {
	var all []toll.Window
	tumbling := k.Day || k.Hop == k.Size
	for _, p := range l {
		if n := len(all); n > 0 && tumbling && p.start < all[n-1].End {
			continue
		}
		all = k.Covering(z, p.start, all)
	}
	slices.SortFunc(all, func(a, b toll.Window) int { return cmp.Compare(a.Start, b.Start) })
	return slices.Compact(all)
}

// joinWindows sorts windows and joins those that touch. Empty ones are left out.
func joinWindows(all []toll.Window) []toll.Window {
	all = slices.DeleteFunc(all, func(w toll.Window) bool { return w.Start >= w.End })
	slices.SortFunc(all, func(a, b toll.Window) int { return cmp.Compare(a.Start, b.Start) })
	joined := all[:0]
	for _, w := range all {
		if n := len(joined); n > 0 && w.Start <= joined[n-1].End {
			joined[n-1].End = max(joined[n-1].End, w.End)
			continue
		}
		joined = append(joined, w)
	}
	return joined
}

// addMinutes adds to a minute, as far as minutes go.
func addMinutes(m toll.Minute, n int64) toll.Minute {
	return toll.Minute(min(max(int64(m)+n, math.MinInt32), math.MaxInt32))
}
