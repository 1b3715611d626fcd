package tables

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// paneSum is what batches hold of one minute of a plaza.
type paneSum struct {
	Start   toll.Minute
	Types   []toll.TypeCount // on time and late
	Late    int64            // among them
	quarter []toll.TypeCount // Late for minutes: in windows of quarters only
	tooLate int64
	Rows    int64 // Of livetolldata, where they were counted
}

// Events returns the events of all outcomes.
func (p *paneSum) Events() int64 {
	return toll.SumTypes(p.Types) + toll.SumTypes(p.quarter) + p.tooLate
}

// PaneSums gathers the minutes of plazas, in any order.
type PaneSums struct {
	Plazas map[int16]map[toll.Minute]*paneSum
	N      int                      // minutes of all plazas
	Folds  map[int16]*foldedMinutes // Of plazas whose old minutes are not known one by one any more
}

// foldedMinutes is what is left of a plaza's minutes that were rolled up.
type foldedMinutes struct {
	Before toll.Minute // the minutes before it, of some batches or all
	Events int64
	Rows   int64 // Of livetolldata, where they were counted
}

func NewPaneSums() *PaneSums {
	return &PaneSums{Plazas: map[int16]map[toll.Minute]*paneSum{}, Folds: map[int16]*foldedMinutes{}}
}

// FoldedBefore returns the minute from which on a plaza's minutes are complete: windows that begin
// earlier can't be counted.
func (s *PaneSums) FoldedBefore(plaza int16) toll.Minute {
	if f := s.Folds[plaza]; f != nil {
		return f.Before
	}
	return math.MinInt32
}

// Add adds those minutes of a delta that are wanted.
func (s *PaneSums) Add(d *toll.PlazaDelta, want func(toll.Minute) bool) {
	if d.Fold != nil {
		f := s.Folds[d.Plaza]
		if f == nil {
			f = &foldedMinutes{Before: math.MinInt32}
			s.Folds[d.Plaza] = f
		}
		f.Before = max(f.Before, d.Fold.Before)
		f.Events += d.Fold.Events()
	}
	for i := range d.Panes {
		if p := &d.Panes[i]; want(p.Start) {
			sum := s.at(d.Plaza, p.Start)
			sum.Types = toll.AddTypes(sum.Types, p.Types)
			sum.Late += p.Late
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

func (s *PaneSums) at(plaza int16, m toll.Minute) *paneSum {
	minutes := s.Plazas[plaza]
	if minutes == nil {
		minutes = map[toll.Minute]*paneSum{}
		s.Plazas[plaza] = minutes
	}
	sum := minutes[m]
	if sum == nil {
		sum = &paneSum{Start: m}
		minutes[m] = sum
		s.N++
	}
	return sum
}

// Of returns a plaza's minutes, ascending.
func (s *PaneSums) Of(plaza int16) PaneList {
	minutes := s.Plazas[plaza]
	list := make(PaneList, 0, len(minutes))
	for _, sum := range minutes {
		list = append(list, sum)
	}
	slices.SortFunc(list, func(a, b *paneSum) int { return cmp.Compare(a.Start, b.Start) })
	return list
}

// Drop forgets a plaza.
func (s *PaneSums) Drop(plaza int16) {
	s.N -= len(s.Plazas[plaza])
	delete(s.Plazas, plaza)
	delete(s.Folds, plaza)
}

// Keep forgets all minutes of a plaza but some.
func (s *PaneSums) Keep(plaza int16, some func(toll.Minute) bool) {
	minutes := s.Plazas[plaza]
	before := len(minutes)
	maps.DeleteFunc(minutes, func(m toll.Minute, _ *paneSum) bool { return !some(m) })
	s.N -= before - len(minutes)
}

// PaneList are minutes of one plaza, ascending.
type PaneList []*paneSum

// In returns the minutes of a window.
func (l PaneList) In(w toll.Window) PaneList {
	search := func(m toll.Minute) int {
		i, _ := slices.BinarySearchFunc(l, m, func(p *paneSum, m toll.Minute) int {
			return cmp.Compare(p.Start, m)
		})
		return i
	}
	from := search(w.Start)
	return l[from:max(from, search(w.End))]
}

// Count adds the minutes up for a window of quarters or of any minutes. The types are only to be
// read: those of a single minute are its own.
func (l PaneList) Count(ofQuarters bool) (types []toll.TypeCount, late int64) {
	if len(l) == 1 && (!ofQuarters || len(l[0].quarter) == 0) {
		return l[0].Types, l[0].Late
	}
	for _, p := range l {
		types = toll.AddTypes(types, p.Types)
		late += p.Late
		if ofQuarters {
			types = toll.AddTypes(types, p.quarter)
			late += toll.SumTypes(p.quarter)
		}
	}
	return types, late
}

// TooLate sums the events that came too late for a window of quarters or of any minutes.
func (l PaneList) TooLate(ofQuarters bool) int64 {
	var n int64
	for _, p := range l {
		n += p.tooLate
		if !ofQuarters {
			n += toll.SumTypes(p.quarter)
		}
	}
	return n
}

// Windows returns the windows of a kind that hold one of the minutes, ascending, once each.
func (l PaneList) Windows(k *toll.WindowKind, z *toll.Zone) []toll.Window {
	var all []toll.Window
	tumbling := k.Day || k.Hop == k.Size
	for _, p := range l {
		if n := len(all); n > 0 && tumbling && p.Start < all[n-1].End {
			continue
		}
		all = k.Covering(z, p.Start, all)
	}
	slices.SortFunc(all, func(a, b toll.Window) int { return cmp.Compare(a.Start, b.Start) })
	return slices.Compact(all)
}

// JoinWindows sorts windows and joins those that touch. Empty ones are left out.
func JoinWindows(all []toll.Window) []toll.Window {
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

// AddMinutes adds to a minute, as far as minutes go.
func AddMinutes(m toll.Minute, n int64) toll.Minute {
	return toll.Minute(min(max(int64(m)+n, math.MinInt32), math.MaxInt32))
}
