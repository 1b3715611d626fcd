package toll

import (
	"cmp"
	"math"
	"slices"
)

// Merged is how far a plaza's state has come in one source partition.
type Merged struct {
	Partition int32
	Next      int64    // Next of the last delta that was merged
	Latest    WallTime // highest event time among them
}

// State is what the group table holds of one plaza.
type State struct {
	Epoch    uint64
	Events   int64
	Checksum uint64 // see [PlazaDelta.Checksum]
	Earliest WallTime
	Latest   WallTime
	Types    []TypeCount // since the beginning, ascending by type
	Merged   []Merged    // ascending by partition
	Gaps     int64       // deltas refused because one before them is missing

	// Events by [Timeliness]; the rest were on time. Ahead is how many ran ahead of their partition's
	// clock, on time as they are, and Lead by how many seconds the last of them did.
	Late, LateQuarter, TooLate int64
	Ahead, Lead                int64

	Minutes  Panes // of a minute: the events that were on time or late
	Quarters Panes // of a quarter of an hour: these, and those that were late for minutes

	// Done is the minute up to which windows were closed and stored: those that end at or before it.
	// Dirty are minutes before Done whose counts changed since their windows were stored. Both are
	// behind what is stored rather than ahead of it: after a crash some windows are submitted again,
	// which changes nothing.
	Done  Minute
	Dirty []Window
}

// NewState returns the state of a plaza before its first event.
func NewState(epoch uint64) *State {
	return &State{Epoch: epoch, Minutes: NewPanes(), Quarters: NewPanes(), Done: math.MinInt32}
}

// Outcome is what became of a delta.
type Outcome uint8

// The outcomes of [State.Merge].
const (
	Applied   Outcome = iota // counted
	Duplicate                // was merged before; nothing changed
	Stale                    // of an older epoch; nothing changed
	Gap                      // a delta before it is missing; nothing but Gaps changed
)

func (o Outcome) String() string {
	return [...]string{"applied", "duplicate", "stale", "gap"}[o]
}

// MergedIn returns the offset that the state has merged of a source partition, 0 for none.
func (s *State) MergedIn(partition int32) int64 {
	if i, ok := s.findMerged(partition); ok {
		return s.Merged[i].Next
	}
	return 0
}

func (s *State) findMerged(partition int32) (int, bool) {
	return slices.BinarySearchFunc(s.Merged, partition, func(m Merged, p int32) int {
		return cmp.Compare(m.Partition, p)
	})
}

// Merge applies a delta once and in order, whatever is delivered.
//
// An older epoch is dropped. A newer one clears the whole state first: the database was rebuilt,
// and everything comes again. Then a delta at or below what is merged is a duplicate, one that
// continues the chain is applied, and any other leaves a gap.
func (s *State) Merge(d *Delta) Outcome {
	if d.Epoch < s.Epoch {
		return Stale
	}
	if d.Epoch > s.Epoch {
		*s = *NewState(d.Epoch)
	}
	i, found := s.findMerged(d.Partition)
	var merged int64
	if found {
		merged = s.Merged[i].Next
	}
	if d.Next <= merged {
		return Duplicate
	}
	if d.Prev != merged {
		s.Gaps++
		return Gap
	}
	if !found {
		s.Merged = slices.Insert(s.Merged, i, Merged{Partition: d.Partition, Latest: d.Latest})
	}
	s.Merged[i].Next = d.Next
	s.Merged[i].Latest = max(s.Merged[i].Latest, d.Latest)
	s.add(&d.PlazaDelta)
	return Applied
}

func (s *State) add(d *PlazaDelta) {
	if s.Events == 0 {
		s.Earliest, s.Latest = d.Earliest, d.Latest
	}
	s.Earliest = min(s.Earliest, d.Earliest)
	s.Latest = max(s.Latest, d.Latest)
	s.Events += d.Events
	s.Checksum += d.Checksum
	s.Ahead += d.Ahead
	if d.Ahead > 0 {
		s.Lead = d.Lead
	}
	for i := range d.Panes {
		p := &d.Panes[i]
		s.Types = AddTypes(s.Types, p.Types)
		s.Late += p.Late
		types := s.apart(p.Types)
		s.Minutes.add(p.Start, types, p.Late)
		s.Quarters.add(QuarterOf(p.Start), types, p.Late)
		s.touch(p.Start)
	}
	for i := range d.LateQuarter {
		p := &d.LateQuarter[i]
		n := p.Count()
		s.Types = AddTypes(s.Types, p.Types)
		s.LateQuarter += n
		s.Quarters.add(QuarterOf(p.Start), s.apart(p.Types), n)
		s.touch(p.Start)
	}
	for i := range d.TooLate {
		s.Types = AddTypes(s.Types, d.TooLate[i].Types)
		s.TooLate += d.TooLate[i].Count()
	}
	if d.Fold != nil {
		s.addFold(d.Fold)
	}
	s.Minutes.bound(s.Done, 1, len(s.Types), MinuteBytes)
	s.Quarters.bound(s.Done, Quarter, len(s.Types), QuarterBytes)
}

// addFold counts the events of minutes that were rolled up. Windows that have such a minute closed
// long ago and are stored; the state can't count them, so it drops the panes that they are made of.
func (s *State) addFold(f *Fold) {
	for _, types := range [...][]TypeCount{f.OnTime, f.LateQuarter, f.TooLate} {
		s.Types = AddTypes(s.Types, types)
	}
	s.Late += f.Late
	s.LateQuarter += SumTypes(f.LateQuarter)
	s.TooLate += SumTypes(f.TooLate)
	s.Done = max(s.Done, f.Before)
	s.Minutes.dropBefore(f.Before)
	s.Quarters.dropBefore(QuarterOf(ClampMinute(int64(f.Before) + Quarter - 1)))
}

// OpenFrom returns a minute before which the state has no window left to submit, as far as
// [State.MarkStored] recorded it: windows that begin and end before it are stored as the state has
// counted them.
func (s *State) OpenFrom() Minute {
	from := Minute(math.MaxInt32)
	if first, ok := s.firstOpen(); ok {
		from = min(first, s.Done)
	}
	for _, w := range s.Dirty {
		from = min(from, w.Start)
	}
	return from
}

// apart returns counts with those of types that the state does not count apart as [OtherType], so
// that all panes together have no more types than the state.
func (s *State) apart(types []TypeCount) []TypeCount {
	for i := range types {
		if !s.counts(types[i].Type) {
			var known []TypeCount
			for _, t := range types {
				if !s.counts(t.Type) {
					t.Type = OtherType
				}
				known = addType(known, t.Type, t.Count)
			}
			return known
		}
	}
	return types // nearly always
}

func (s *State) counts(name string) bool {
	_, found := slices.BinarySearchFunc(s.Types, name, compareType)
	return found
}

// touch notes that the count of a minute changed.
func (s *State) touch(m Minute) {
	if m < s.Done {
		s.Dirty = AddRange(s.Dirty, Window{Start: m, End: ClampMinute(int64(m) + 1)})
	}
}

// In returns the events by type in a window, as far as panes are kept.
func (s *State) In(w Window) []TypeCount {
	types, _ := SumPanes(s.Minutes.In(w))
	return types
}

// After returns the events after a minute, as far as panes are kept: those of a clock that runs
// ahead of it.
func (s *State) After(m Minute) int64 {
	var n int64
	for i := range s.Minutes.List {
		if s.Minutes.List[i].Start > m {
			n += s.Minutes.List[i].Count()
		}
	}
	return n
}

// PerMinute returns the events of each minute of a window, as far as panes are kept.
func (s *State) PerMinute(w Window) []int64 {
	counts := make([]int64, max(int64(w.End)-int64(w.Start), 0))
	for i := range s.Minutes.List {
		if p := &s.Minutes.List[i]; p.Start >= w.Start && p.Start < w.End {
			counts[int64(p.Start)-int64(w.Start)] += p.Count()
		}
	}
	return counts
}
