package toll

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// JoinDeltas returns the deltas of stored batches that follow on each other as those of one:
// unchanged, but for where each of them ends. They ascend by plaza, those of a plaza in the order
// of their chain. nexts are the batches'.
func JoinDeltas(batches [][]PlazaDelta, nexts []int64) []PlazaDelta {
	n := 0
	for _, deltas := range batches {
		n += len(deltas)
	}
	joined := make([]PlazaDelta, 0, n)
	for i, deltas := range batches {
		for _, d := range deltas {
			d.Ends = d.End(nexts[i])
			joined = append(joined, d)
		}
	}
	slices.SortStableFunc(joined, func(a, b PlazaDelta) int { return cmp.Compare(a.Plaza, b.Plaza) })
	return joined
}

// MinKeptMinutes is the shortest time that the minutes of events are kept one by one: an event may
// be counted in windows of quarters for two days, and the longest window begins 25 hours before it
// ends.
const MinKeptMinutes = 4 * 24 * time.Hour

// longestWindow is more than the length of a day on which clocks are set back.
const longestWindow = 27 * 60

// FoldHorizon returns the minute before which minutes may be rolled up: windows that hold an
// earlier one are closed and stored, and no event on time or late will change them any more. States
// are those of all plazas, as the group table's topic has them, windows have closed up to the
// minute until, and keep is at least [MinKeptMinutes].
func FoldHorizon(states map[int16]*State, until Minute, keep time.Duration) Minute {
	horizon := int64(until) - int64(max(keep, MinKeptMinutes)/time.Minute)
	for _, s := range states {
		horizon = min(horizon, int64(s.OpenFrom())-longestWindow)
	}
	if horizon < math.MinInt32+Quarter {
		return math.MinInt32
	}
	return QuarterOf(Minute(horizon))
}

// maxFoldCells bounds the counts of a delta that others were added to, so that it stays well below
// a Kafka message's size.
const maxFoldCells = 20_000

// FoldDeltas merges the deltas of each plaza, which must be as [JoinDeltas] returns them. A plaza
// is left with one delta, or several where that would hold too many counts. The minutes before a
// minute are rolled up, see [Fold]; events and checksums stay what they are.
//
// A state that has merged nothing of the first of these deltas, or all of the last, takes the
// result as it would have taken them. One that ends in between has merged a part that is
// no longer apart from the rest.
func FoldDeltas(deltas []PlazaDelta, before Minute) []PlazaDelta {
	folded := deltas[:0:0]
	for len(deltas) > 0 {
		n := 1
		cells := deltas[0].cells(before)
		for n < len(deltas) && deltas[n].Plaza == deltas[0].Plaza {
			if cells += deltas[n].cells(before); cells > maxFoldCells {
				break
			}
			n++
		}
		folded = append(folded, foldRun(deltas[:n], before))
		deltas = deltas[n:]
	}
	return folded
}

// cells returns how many counts a delta holds of the minutes from one on.
func (d *PlazaDelta) cells(from Minute) int {
	n := 0
	for _, panes := range [...][]Pane{d.Panes, d.LateQuarter, d.TooLate} {
		for i := range panes {
			if panes[i].Start >= from {
				n += 1 + len(panes[i].Types)
			}
		}
	}
	return n
}

// foldRun merges deltas of one plaza that follow on each other.
func foldRun(run []PlazaDelta, before Minute) PlazaDelta {
	sum := PlazaDelta{
		Plaza: run[0].Plaza, Prev: run[0].Prev, Ends: run[len(run)-1].Ends, Earliest: run[0].Earliest,
		Latest: run[0].Latest,
	}
	for i := range run {
		if f := run[i].Fold; f != nil {
			before = max(before, f.Before)
		}
	}
	fold, folds := Fold{Before: before}, false
	// take moves the panes of minutes before the horizon into total, and the others behind those of
	// the deltas so far.
	take := func(panes *[]Pane, more []Pane, total *[]TypeCount) {
		for i := range more {
			if p := &more[i]; p.Start >= before {
				*panes = append(*panes, *p)
			} else {
				*total = AddTypes(*total, p.Types)
				folds = true
				if total == &fold.OnTime {
					fold.Late += p.Late
				}
			}
		}
	}
	for i := range run {
		d := &run[i]
		sum.Events += d.Events
		sum.Checksum += d.Checksum
		sum.Earliest, sum.Latest = min(sum.Earliest, d.Earliest), max(sum.Latest, d.Latest)
		sum.Ahead += d.Ahead
		if d.Ahead > 0 {
			sum.Lead = d.Lead
		}
		take(&sum.Panes, d.Panes, &fold.OnTime)
		take(&sum.LateQuarter, d.LateQuarter, &fold.LateQuarter)
		take(&sum.TooLate, d.TooLate, &fold.TooLate)
		if f := d.Fold; f != nil {
			folds = true
			fold.OnTime = AddTypes(fold.OnTime, f.OnTime)
			fold.Late += f.Late
			fold.LateQuarter = AddTypes(fold.LateQuarter, f.LateQuarter)
			fold.TooLate = AddTypes(fold.TooLate, f.TooLate)
		}
	}
	for _, panes := range [...]*[]Pane{&sum.Panes, &sum.LateQuarter, &sum.TooLate} {
		*panes = joinPanes(*panes)
	}
	if folds {
		sum.Fold = &fold
	}
	return sum
}

// joinPanes sums panes of the same minute. The counts of the panes that it is given stay as they
// are.
func joinPanes(panes []Pane) []Pane {
	slices.SortStableFunc(panes, func(a, b Pane) int { return cmp.Compare(a.Start, b.Start) })
	joined := panes[:0]
	owned := false // whether the last one's counts are its own
	for _, p := range panes {
		n := len(joined)
		if n == 0 || joined[n-1].Start != p.Start {
			joined = append(joined, p)
			owned = false
			continue
		}
		if !owned {
			joined[n-1].Types = slices.Clone(joined[n-1].Types)
			owned = true
		}
		joined[n-1].Types = AddTypes(joined[n-1].Types, p.Types)
		joined[n-1].Late += p.Late
	}
	return joined
}
