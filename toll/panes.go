package toll

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Limits of what a state keeps, so that it stays small whatever comes. What it drops is counted
// from the outbox when it is needed after all, so they bound memory and not truth.
const (
	// KeptMinutes and KeptQuarters are how many minutes before the last closed one stay, as panes of a
	// minute and of a quarter of an hour.
	KeptMinutes  = Minute(MinuteRetention / 6e10)
	KeptQuarters = Minute(QuarterRetention / 6e10)
	// MinuteBytes and QuarterBytes bound what the panes of either length take in a state: room for
	// four hours of minutes and for two and a half days of quarters with three types of vehicles,
	// those that have not closed yet among them.
	MinuteBytes  = 1400
	QuarterBytes = 2000
	// Quarter is the length of a quarter pane, in minutes.
	Quarter = 15
)

// Panes is a bounded stretch of panes, ascending. It knows for which minutes it is complete: for
// those from From on that do not lie in Gap.
type Panes struct {
	List []Pane
	From Minute // panes that begin before it were dropped
	Gap  Window // panes that begin in it were dropped, being too many and far ahead; empty for none
}

// NewPanes returns panes that are complete, as nothing was ever dropped.
func NewPanes() Panes { return Panes{From: math.MinInt32} }

// Complete reports whether nothing was dropped in a window.
func (p *Panes) Complete(w Window) bool {
	return w.Start >= p.From &&
		(p.Gap.Start >= p.Gap.End || w.End <= p.Gap.Start || w.Start >= p.Gap.End)
}

// holds reports whether a pane may be kept. That of the last minute is not: it is in no window, and
// no gap reaches beyond it.
func (p *Panes) holds(start Minute) bool {
	return start >= p.From && start < math.MaxInt32 && !(start >= p.Gap.Start && start < p.Gap.End)
}

func comparePanes(p Pane, start Minute) int { return cmp.Compare(p.Start, start) }

// add counts events in the pane that begins at start. Where that was dropped it stays so.
func (p *Panes) add(start Minute, types []TypeCount, late int64) {
	if !p.holds(start) {
		return
	}
	at, found := slices.BinarySearchFunc(p.List, start, comparePanes)
	if !found {
		p.List = slices.Insert(p.List, at, Pane{Start: start})
	}
	p.List[at].Types = AddTypes(p.List[at].Types, types)
	p.List[at].Late += late
}

// bytes returns what a pane takes in a state that counts so many types apart: a bit for each type,
// the counts, and how many came late.
func (p *Pane) bytes(types int) int {
	n := (types+1)/7 + 1
	for i := range p.Types {
		n += varintBytes(p.Types[i].Count)
	}
	if p.Late > 0 {
		n += varintBytes(p.Late)
	}
	return n
}

// bytes returns what panes of length minutes take in a state: each itself, and where it does not
// follow on the one before it the distance between them and how many follow on it.
func (p *Panes) bytes(length Minute, types int) int {
	n := 0
	for i := range p.List {
		n += p.List[i].bytes(types)
		if i == 0 {
			continue
		}
		if apart := (int64(p.List[i].Start) - int64(p.List[i-1].Start)) / int64(length); apart != 1 {
			n += varintBytes(2*(apart-1)) + 1
		}
	}
	return n
}

// varintBytes returns how many groups of seven bits a number has.
func varintBytes(n int64) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// bound drops panes of length minutes until what is left takes no more than most bytes in a
// state that counts so many types apart: the first, as long as it begins before done, and else the
// last, which is furthest ahead.
func (p *Panes) bound(done, length Minute, types, most int) {
	for len(p.List) > 1 && p.bytes(length, types) > most {
		if first := &p.List[0]; first.Start < done {
			p.dropBefore(ClampMinute(int64(first.Start) + int64(length)))
			continue
		}
		last := p.List[len(p.List)-1].Start
		gap := Window{Start: last, End: ClampMinute(int64(last) + int64(length))}
		if p.Gap.Start < p.Gap.End {
			gap = Window{Start: min(p.Gap.Start, gap.Start), End: max(p.Gap.End, gap.End)}
		}
		p.Gap = gap
		p.List = slices.DeleteFunc(p.List, func(q Pane) bool { return !p.holds(q.Start) })
	}
}

// dropBefore drops the panes that begin before a minute.
func (p *Panes) dropBefore(from Minute) {
	if from <= p.From {
		return
	}
	p.From = from
	at, _ := slices.BinarySearchFunc(p.List, from, comparePanes)
	p.List = slices.Delete(p.List, 0, at)
	if p.Gap.End <= from {
		p.Gap = Window{}
	}
}

// In returns the panes that begin in a window.
func (p *Panes) In(w Window) []Pane {
	from, _ := slices.BinarySearchFunc(p.List, w.Start, comparePanes)
	to, _ := slices.BinarySearchFunc(p.List, w.End, comparePanes)
	return p.List[from:max(from, to)]
}

// QuarterOf returns the minute at which the quarter of an hour begins that m lies in.
func QuarterOf(m Minute) Minute { return Minute(floorTo(int64(m), Quarter)) }

// SumPanes adds panes up.
func SumPanes(panes []Pane) (types []TypeCount, late int64) {
	for i := range panes {
		types = AddTypes(types, panes[i].Types)
		late += panes[i].Late
	}
	return types, late
}

// maxRanges bounds a list of ranges; beyond it, near ones are joined with what lies between.
const maxRanges = 32

// AddRange adds minutes to an ascending list of ranges that don't touch. A list that grows too long
// covers more than was added, never less.
func AddRange(ranges []Window, w Window) []Window {
	if w.Start >= w.End {
		return ranges
	}
	from, _ := slices.BinarySearchFunc(ranges, w.Start, func(r Window, start Minute) int {
		return cmp.Compare(r.End, start)
	})
	to := from
	for to < len(ranges) && ranges[to].Start <= w.End {
		w.Start, w.End = min(w.Start, ranges[to].Start), max(w.End, ranges[to].End)
		to++
	}
	ranges = slices.Replace(ranges, from, to, w)
	if len(ranges) <= maxRanges {
		return ranges
	}
	nearest := 1
	for i := 2; i < len(ranges); i++ {
		if int64(ranges[i].Start)-int64(ranges[i-1].End) < int64(ranges[nearest].Start)-int64(
			ranges[nearest-1].End) {
			nearest = i
		}
	}
	ranges[nearest-1].End = ranges[nearest].End
	return slices.Delete(ranges, nearest, nearest+1)
}

// InRanges reports whether a window and a list of ranges have a minute in common.
func InRanges(ranges []Window, w Window) bool {
	i, _ := slices.BinarySearchFunc(ranges, w.Start, func(r Window, start Minute) int {
		if r.End <= start {
			return -1
		}
		return 1
	})
	return w.Start < w.End && i < len(ranges) && ranges[i].Start < w.End
}

// OtherType gathers what exceeds [MaxTypes]. A type of this name in an event is counted with it.
const OtherType = "(other)"

// MaxTypes bounds the vehicle types that are counted apart, per plaza; rows keep every type.
const MaxTypes = 32

// TypeCount is a number of events of one vehicle type.
type TypeCount struct {
	Type  string
	Count int64
}

// Pane is the smallest unit that is stored of a plaza's history: one minute of event time, or of
// what is kept for longer a quarter of an hour, with counts by vehicle type in ascending order of
// type.
type Pane struct {
	Start Minute
	Types []TypeCount
	Late  int64 // events among them that came after the watermark
}

// Count returns the events in the pane.
func (p *Pane) Count() int64 { return SumTypes(p.Types) }

// SumTypes adds the counts up.
func SumTypes(types []TypeCount) int64 {
	var n int64
	for _, t := range types {
		n += t.Count
	}
	return n
}

// AddTypes merges counts into an ascending list and returns it. A new type that would be one too
// many is counted as [OtherType].
func AddTypes(into []TypeCount, add []TypeCount) []TypeCount {
	if into == nil && len(add) > 0 {
		into = make([]TypeCount, 0, len(add))
	}
	for _, t := range add {
		into = addType(into, t.Type, t.Count)
	}
	return into
}

func compareType(t TypeCount, name string) int { return cmp.Compare(t.Type, name) }

func addType(into []TypeCount, name string, n int64) []TypeCount {
	i, found := slices.BinarySearchFunc(into, name, compareType)
	switch {
	case found:
		into[i].Count += n
		return into
	case len(into) >= MaxTypes-1 && name != OtherType:
		return addType(into, OtherType, n)
	}
	return slices.Insert(into, i, TypeCount{name, n})
}

// FlowPerHour returns the flow of n vehicles that passed within a span, in vehicles per hour: q =
// 3600·n/T with T in seconds. It is the flow rate of the Highway Capacity Manual: the equivalent
// hourly rate at which vehicles pass a point during an interval, which may be shorter or longer
// than an hour.
func FlowPerHour(n int64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return 3600 * float64(n) / span.Seconds()
}
