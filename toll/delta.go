package toll

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Delta is what one batch means for one plaza: the message of the loop topic. There is exactly one
// per batch and plaza.
//
// The deltas of a plaza from one source partition form a chain: Prev is the Next of the partition's
// previous batch that had this plaza, 0 for none. A state that merges a delta only if Prev equals
// what it has merged is therefore always a prefix of that chain, and what it lacks can be
// sent again at any time.
type Delta struct {
	Epoch     uint64 // of the database's cursor when the delta was sent
	Partition int32  // source partition of the topic of events
	First     int64  // the batch is the offsets [First, Next) of the source partition
	Next      int64
	PlazaDelta
}

// PlazaDelta is the part of a delta that is known when its batch is stored.
type PlazaDelta struct {
	Plaza    int16
	Prev     int64 // see [Delta]
	Events   int64
	Checksum uint64   // sum over the events of the CRC-32 (IEEE) of the row's text, modulo 2^64
	Earliest WallTime // of the events' times
	Latest   WallTime
	// Panes are the minutes of the events that were on time or late. LateQuarter and TooLate are those
	// of events that came later than that, see [Timeliness]. Each is ascending by start; all counts
	// together add up to Events.
	Panes       []Pane
	LateQuarter []Pane
	TooLate     []Pane
	Ahead       int64 // events that ran ahead of their partition's clock, see [Clock]; among the above
	Lead        int64 // by how many seconds the last of them did

	// Ends is the Next of the batch that the delta ends with, where batches were compacted into one
	// row; 0 where the delta is of its batch alone and ends with it. See [PlazaDelta.End].
	Ends int64
	// Fold is the rollup of minutes that are no longer kept one by one; nil for none.
	Fold *Fold
}

// End returns the Next of the delta, from that of the stored batch that it is part of. Batches that
// were compacted into one row hold several deltas of a plaza, or one that ends before the row does.
func (d *PlazaDelta) End(batchNext int64) int64 {
	if d.Ends != 0 {
		return d.Ends
	}
	return batchNext
}

// Cells returns how many counts the delta holds, by which its message grows.
func (d *PlazaDelta) Cells() int {
	n := 1
	for _, panes := range [...][]Pane{d.Panes, d.LateQuarter, d.TooLate} {
		for i := range panes {
			n += 1 + len(panes[i].Types)
		}
	}
	if f := d.Fold; f != nil {
		n += len(f.OnTime) + len(f.LateQuarter) + len(f.TooLate)
	}
	return n
}

// Of returns the delta of the loop that a delta of a stored batch is sent as.
func (d *PlazaDelta) Of(epoch uint64, partition int32, first, next int64) *Delta {
	sent := &Delta{Epoch: epoch, Partition: partition, First: max(first, d.Prev), Next: d.End(next),
		PlazaDelta: *d}
	sent.Ends = 0
	return sent
}

// Fold is the rollup of a delta's minutes that begin before Before.
type Fold struct {
	Before      Minute
	OnTime      []TypeCount // events that were on time or late, ascending by type
	Late        int64       // among them
	LateQuarter []TypeCount
	TooLate     []TypeCount
}

// Events returns the number of events.
func (f *Fold) Events() int64 {
	if f == nil {
		return 0
	}
	return SumTypes(f.OnTime) + SumTypes(f.LateQuarter) + SumTypes(f.TooLate)
}

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
