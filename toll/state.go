package toll

import (
	"cmp"
	"slices"
)

// MaxPanes is how many minute panes a plaza's state keeps: the newest that hold any event, so at least the last two
// hours. Being a number of panes and not a span of time, it lets no single wrong clock push the others out.
const MaxPanes = 120

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
	Panes    []Pane      // ascending by start
	Merged   []Merged    // ascending by partition
	Gaps     int64       // deltas refused because one before them is missing
}

// Outcome says what became of a delta.
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
	return slices.BinarySearchFunc(s.Merged, partition, func(m Merged, p int32) int { return cmp.Compare(m.Partition, p) })
}

// Merge applies a delta once and in order, whatever is delivered.
//
// An older epoch is dropped. A newer one clears the whole state first: the database was rebuilt, and everything comes
// again. Then a delta at or below what is merged is a duplicate, one that continues the chain is applied, and any other
// leaves a gap.
func (s *State) Merge(d *Delta) Outcome {
	if d.Epoch < s.Epoch {
		return Stale
	}
	if d.Epoch > s.Epoch {
		*s = State{Epoch: d.Epoch}
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
	for i := range d.Panes {
		p := &d.Panes[i]
		s.Types = AddTypes(s.Types, p.Types)
		at, found := slices.BinarySearchFunc(s.Panes, p.Start, func(p Pane, start Minute) int { return cmp.Compare(p.Start, start) })
		if !found {
			if at == 0 && len(s.Panes) >= MaxPanes {
				continue // older than all that are kept
			}
			s.Panes = slices.Insert(s.Panes, at, Pane{Start: p.Start})
		}
		s.Panes[at].Types = AddTypes(s.Panes[at].Types, p.Types)
		if len(s.Panes) > MaxPanes {
			s.Panes = slices.Delete(s.Panes, 0, 1)
		}
	}
}

// Between returns the events by type in the minutes [start, end), as far as panes are kept.
func (s *State) Between(start, end Minute) []TypeCount {
	var types []TypeCount
	for i := range s.Panes {
		if p := &s.Panes[i]; p.Start >= start && p.Start < end {
			types = AddTypes(types, p.Types)
		}
	}
	return types
}
