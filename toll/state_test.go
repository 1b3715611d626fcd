package toll

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// step is a delta of one event per offset, all cars in the minute of the same number as at.
func step(epoch uint64, partition int32, prev, first, next int64, at Minute) *Delta {
	n := next - first
	w := WallTime(at) * 60
	return &Delta{Epoch: epoch, Partition: partition, First: first, Next: next, PlazaDelta: PlazaDelta{
		Plaza: 4856, Prev: prev, Events: n, Checksum: uint64(n) * 1000, Earliest: w, Latest: w + 59,
		Panes: []Pane{{Start: at, Types: []TypeCount{{"car", n}}}},
	}}
}

func TestMergeRules(t *testing.T) {
	type expect struct {
		outcome Outcome
		events  int64
		merged  int64 // of the delta's partition
		gaps    int64
	}
	var s State
	for i, c := range []struct {
		d    *Delta
		want expect
	}{
		{step(1, 0, 0, 0, 10, 5), expect{Applied, 10, 10, 0}}, // the epoch rises from 0
		{step(1, 0, 0, 0, 10, 5), expect{Duplicate, 10, 10, 0}},
		// offsets 10 to 19 had none of this plaza
		{step(1, 0, 10, 20, 30, 6), expect{Applied, 20, 30, 0}},
		{step(1, 0, 10, 20, 30, 6), expect{Duplicate, 20, 30, 0}},
		{step(1, 0, 0, 0, 10, 5), expect{Duplicate, 20, 30, 0}},
		{step(1, 0, 40, 40, 50, 7), expect{Gap, 20, 30, 1}},
		{step(1, 0, 40, 40, 50, 7), expect{Gap, 20, 30, 2}},
		{step(1, 0, 10, 30, 40, 7), expect{Gap, 20, 30, 3}}, // a chain that branches off
		{step(1, 0, 0, 30, 40, 7), expect{Gap, 20, 30, 4}},  // a chain that begins again
		// the first that is known of a partition, but not its first
		{step(1, 3, 5, 5, 9, 7), expect{Gap, 20, 0, 5}},
		{step(1, 3, 0, 5, 9, 7), expect{Applied, 24, 9, 5}},
		{step(1, 1, 0, 0, 1, 7), expect{Applied, 25, 1, 5}}, // partitions don't mind each other
		{step(1, 0, 30, 30, 40, 7), expect{Applied, 35, 40, 5}},
		{step(1, 0, 40, 40, 50, 7), expect{Applied, 45, 50, 5}}, // what had left a gap, sent again
		{step(0, 0, 50, 50, 60, 7), expect{Stale, 45, 50, 5}},
		{step(7, 0, 50, 50, 60, 7), expect{Gap, 0, 0, 1}}, // a rebuild clears first
		{step(7, 0, 0, 0, 10, 5), expect{Applied, 10, 10, 1}},
		{step(1, 0, 10, 20, 30, 6), expect{Stale, 10, 10, 1}},
		{step(9, 2, 0, 100, 101, 5), expect{Applied, 1, 101, 0}},
	} {
		before := fmt.Sprintf("%+v", s)
		outcome := s.Merge(c.d)
		got := expect{outcome, s.Events, s.MergedIn(c.d.Partition), s.Gaps}
		if got != c.want {
			t.Fatalf("step %d: got %+v, want %+v", i, got, c.want)
		}
		if (outcome == Duplicate || outcome == Stale) && fmt.Sprintf("%+v", s) != before {
			t.Fatalf("step %d: %v changed the state", i, outcome)
		}
		if s.Events != SumTypes(s.Types) || s.Checksum != uint64(s.Events)*1000 {
			t.Fatalf("step %d: %+v does not add up", i, s)
		}
	}
}

func TestMergeKeepsTimesAndCounts(t *testing.T) {
	var s State
	d1, d2 := step(1, 0, 0, 0, 10, 100), step(1, 1, 0, 0, 5, 90)
	d2.Panes = append(d2.Panes, Pane{Start: 100, Types: []TypeCount{{"bus", 2}}})
	d2.Events += 2
	for _, d := range []*Delta{d1, d2} {
		if o := s.Merge(d); o != Applied {
			t.Fatal(o)
		}
	}
	want := State{Epoch: 1, Events: 17, Checksum: 15000, Earliest: 5400, Latest: 6059,
		Types:  []TypeCount{{"bus", 2}, {"car", 15}},
		Merged: []Merged{{0, 10, 6059}, {1, 5, 5459}},
		Done:   math.MinInt32,
		Minutes: Panes{From: math.MinInt32, List: []Pane{
			{Start: 90, Types: []TypeCount{{"car", 5}}},
			{Start: 100, Types: []TypeCount{{"bus", 2}, {"car", 10}}}}},
		Quarters: Panes{From: math.MinInt32,
			List: []Pane{{Start: 90, Types: []TypeCount{{"bus", 2}, {"car", 15}}}}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
	// An earlier time in a partition doesn't take back the latest.
	if s.Merge(step(1, 0, 10, 10, 20, 1)); s.Merged[0].Latest != 6059 || s.Latest != 6059 ||
		s.Earliest != 60 {
		t.Errorf("got %+v", s)
	}
	if d1.Panes[0].Types[0].Count != 10 || len(d2.Panes[1].Types) != 1 {
		t.Error("merging changed a delta")
	}
}

func TestMergeTimesBefore1970(t *testing.T) {
	var s State
	s.Merge(step(1, 0, 0, 0, 1, -100))
	if s.Earliest != -6000 || s.Latest != -5941 || s.Merged[0].Latest != -5941 {
		t.Errorf("got %+v", s)
	}
}

func TestStateIn(t *testing.T) {
	s := State{Minutes: Panes{List: []Pane{
		{Start: 10, Types: []TypeCount{{"car", 1}}}, {Start: 11, Types: []TypeCount{{"bus", 2}}},
		{Start: 15, Types: []TypeCount{{"car", 4}}}}}}
	for _, c := range []struct {
		start, end Minute
		want       []TypeCount
	}{
		{0, 10, nil},
		{10, 11, []TypeCount{{"car", 1}}},
		{10, 15, []TypeCount{{"bus", 2}, {"car", 1}}},
		{0, 100, []TypeCount{{"bus", 2}, {"car", 5}}},
		{16, 100, nil},
		{11, 11, nil},
	} {
		if got := s.In(Window{c.start, c.end}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("[%d, %d): got %v, want %v", c.start, c.end, got, c.want)
		}
	}
}

// Whatever is delivered, again and in whatever order, the state is a prefix of each
// partition's chain, and sending the rest completes it.
func TestMergeIsExactWhateverIsDelivered(t *testing.T) {
	const partitions, length = 3, 20
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var chains [partitions][]*Delta
		var want State
		for p := range chains {
			var prev int64
			for range length {
				first := prev + rng.Int64N(5)
				next := first + 1 + rng.Int64N(9)
				d := step(1, int32(p), prev, first, next, Minute(rng.IntN(50)))
				chains[p] = append(chains[p], d)
				want.Merge(d)
				prev = next
			}
		}
		var s State
		check := func() {
			var events int64
			for p := range chains {
				for _, d := range chains[p] {
					if d.Next <= s.MergedIn(int32(p)) {
						events += d.Events
					}
				}
			}
			if s.Events != events || SumTypes(s.Types) != events || s.Checksum != uint64(events)*1000 {
				t.Fatalf("seed %d: %d events, but %d are merged", seed, s.Events, events)
			}
		}
		for range 200 {
			p := rng.IntN(partitions)
			s.Merge(chains[p][rng.IntN(length)])
			check()
		}
		for p := range chains {
			for _, d := range chains[p] {
				s.Merge(d)
			}
		}
		check()
		if s.Gaps = 0; !reflect.DeepEqual(s, want) {
			t.Fatalf("seed %d: got %+v, want %+v", seed, s, want)
		}
	}
}

// However many types come, a state counts at most MaxTypes apart, in its panes as well: names of
// types take room too.
func TestMergeBoundsTypes(t *testing.T) {
	s := NewState(0)
	for n := range int64(300) {
		pane := Pane{Start: Minute(n % 10),
			Types: []TypeCount{{"car", 2}, {fmt.Sprintf("type %03d", n), 1}}}
		s.Merge(&Delta{Next: n + 1, PlazaDelta: PlazaDelta{Prev: n, Events: 6, Panes: []Pane{pane},
			LateQuarter: []Pane{pane}}})
	}
	names := map[string]bool{}
	var minutes, quarters int64
	for _, p := range s.Minutes.List {
		minutes += p.Count()
		for _, c := range p.Types {
			names[c.Type] = true
		}
	}
	for _, p := range s.Quarters.List {
		quarters += p.Count()
		for _, c := range p.Types {
			names[c.Type] = true
		}
	}
	if len(s.Types) != MaxTypes || len(names) > MaxTypes || !names[OtherType] {
		t.Errorf("%d types are counted, and panes name %d", len(s.Types), len(names))
	}
	if SumTypes(s.Types) != 1800 || minutes != 900 || quarters != 1800 {
		t.Errorf("%d events, %d in minutes, %d in quarters", SumTypes(s.Types), minutes, quarters)
	}
}

func TestWindowsOfState(t *testing.T) {
	s := State{Minutes: Panes{List: []Pane{
		{Start: 40, Types: []TypeCount{{"car", 9}}},
		{Start: 99, Types: []TypeCount{{"car", 3}, {"van", 1}}},
		{Start: 100, Types: []TypeCount{{"car", 2}}},
		{Start: 103, Types: []TypeCount{{"car", 5}}},
	}}}
	if got := s.In(LastMinutes(100, 60)); !slices.Equal(got, []TypeCount{{"car", 5}, {"van", 1}}) {
		t.Errorf("in the window: %v", got)
	}
	if got := s.PerMinute(LastMinutes(100, 3)); !slices.Equal(got, []int64{0, 4, 2}) {
		t.Errorf("minutes %v", got)
	}
	if got := s.After(100); got != 5 {
		t.Errorf("%d after", got)
	}
	if got := s.PerMinute(Window{5, 5}); len(got) != 0 {
		t.Errorf("minutes of an empty window: %v", got)
	}
}

// BenchmarkMerge merges the delta of a usual batch, some minutes of three types, into a state that
// is full of panes.
func BenchmarkMerge(b *testing.B) {
	types := func(n int64) []TypeCount {
		return []TypeCount{{"car", 11 * n}, {"truck", 4 * n}, {"van", 2 * n}}
	}
	const kept = 120
	s := *NewState(0)
	for m := range Minute(kept) {
		s.add(&PlazaDelta{Events: 17, Panes: []Pane{{Start: m, Types: types(1)}}})
	}
	d := Delta{Partition: 1,
		PlazaDelta: PlazaDelta{Plaza: 4856, Events: 34,
			Panes: []Pane{{Start: kept - 2, Types: types(1)}, {Start: kept - 1, Types: types(1)}}}}
	b.ReportAllocs()
	for b.Loop() {
		d.Prev, d.Next = d.Next, d.Next+100
		if o := s.Merge(&d); o != Applied {
			b.Fatal(o)
		}
	}
}
