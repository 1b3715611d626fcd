package toll

import (
	"cmp"
	"slices"
	"time"
)

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
