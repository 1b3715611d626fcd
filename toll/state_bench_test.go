package toll

import "testing"

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
