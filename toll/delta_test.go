package toll

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// randomDeltas returns the outboxes of batches that follow on each other, with where they end.
func randomDeltas(random *rand.Rand, batches int) (all [][]PlazaDelta, nexts []int64) {
	chain := map[int16]int64{}
	next := int64(100)
	for range batches {
		next += 1 + random.Int64N(50)
		var deltas []PlazaDelta
		for plaza := range int16(3) {
			if random.IntN(3) == 0 {
				continue
			}
			d := PlazaDelta{Plaza: plaza, Prev: chain[plaza], Checksum: random.Uint64(),
				Earliest: WallTime(random.IntN(1000)), Latest: WallTime(1000 + random.IntN(1000))}
			if random.IntN(4) == 0 {
				d.Ahead, d.Lead = 1+random.Int64N(3), random.Int64N(5000)
			}
			for _, panes := range [...]*[]Pane{&d.Panes, &d.LateQuarter, &d.TooLate} {
				for m := Minute(random.IntN(20)); m < 100 &&
					random.IntN(3) > 0; m += 1 + Minute(random.IntN(30)) {
					p := Pane{Start: m}
					for _, name := range []string{"bus", "car", "truck"} {
						if n := random.Int64N(4); n > 0 {
							p.Types = append(p.Types, TypeCount{name, n})
						}
					}
					if panes == &d.Panes && p.Count() > 0 {
						p.Late = random.Int64N(p.Count() + 1)
					}
					*panes = append(*panes, p)
					d.Events += p.Count()
				}
			}
			if d.Events == 0 {
				continue
			}
			chain[plaza] = next
			deltas = append(deltas, d)
		}
		all, nexts = append(all, deltas), append(nexts, next)
	}
	return all, nexts
}

// TestFoldedDeltasMergeAsTheirParts merges batches one by one, in one row, and merged in several
// steps with ever later minutes: each state counts the same.
func TestFoldedDeltasMergeAsTheirParts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	for range 300 {
		batches, nexts := randomDeltas(random, 1+random.IntN(12))
		before, err := json.Marshal(batches)
		if err != nil {
			t.Fatal(err)
		}
		last := nexts[len(nexts)-1]
		merge := func(states map[int16]*State, deltas []PlazaDelta, next int64) {
			for i := range deltas {
				d := deltas[i].Of(7, 2, 100, next)
				if states[d.Plaza] == nil {
					states[d.Plaza] = NewState(7)
				}
				for _, want := range []Outcome{Applied, Duplicate} { // the second time nothing happens
					if got := states[d.Plaza].Merge(d); got != want {
						t.Fatalf("the delta from %d to %d is a %v, want %v", d.Prev, d.Next, got, want)
					}
				}
			}
		}
		counts := func(states map[int16]*State) string {
			text := ""
			for plaza := range int16(3) {
				if s := states[plaza]; s != nil {
					text += fmt.Sprintln(plaza, s.Events, s.Checksum, s.Earliest, s.Latest, s.Types, s.Merged,
						s.Late, s.LateQuarter, s.TooLate, s.Ahead, s.Lead, s.Gaps)
				}
			}
			return text
		}
		oneByOne, packed, folded := map[int16]*State{}, map[int16]*State{}, map[int16]*State{}
		for i := range batches {
			merge(oneByOne, batches[i], nexts[i])
		}
		merge(packed, JoinDeltas(batches, nexts), last)
		cut := random.IntN(len(batches) + 1)
		first := FoldDeltas(JoinDeltas(batches[:cut], nexts[:cut]), Minute(random.IntN(60)))
		rest := JoinDeltas(batches[cut:], nexts[cut:])
		sum := FoldDeltas(JoinDeltas([][]PlazaDelta{first, rest}, []int64{last, last}),
			Minute(random.IntN(120)))
		merge(folded, sum, last)
		for i := range sum {
			if i > 0 && sum[i].Plaza == sum[i-1].Plaza {
				t.Fatalf("plaza %d has two deltas", sum[i].Plaza)
			}
			if f := sum[i].Fold; f != nil && len(sum[i].Panes) > 0 && sum[i].Panes[0].Start < f.Before {
				t.Fatalf("minute %d is left before %d", sum[i].Panes[0].Start, f.Before)
			}
		}
		if want := counts(oneByOne); counts(packed) != want || counts(folded) != want {
			t.Fatalf("one by one:\n%spacked:\n%sfolded:\n%s", want, counts(packed), counts(folded))
		}
		if after, _ := json.Marshal(batches); string(after) != string(before) {
			t.Fatal("the deltas that were merged have changed")
		}
	}
}

// A delta must fit a message of Kafka, whatever was added to it.
func TestFoldedDeltasStaySmall(t *testing.T) {
	var batches [][]PlazaDelta
	var nexts []int64
	for i := range 30 {
		d := PlazaDelta{Plaza: 1, Prev: int64(i)}
		for m := range Minute(1000) {
			d.Panes = append(d.Panes, Pane{Start: Minute(i)*1000 + m, Types: []TypeCount{{"car", 1}}})
			d.Events++
		}
		batches, nexts = append(batches, []PlazaDelta{d}), append(nexts, int64(i+1))
	}
	joined := JoinDeltas(batches, nexts)
	folded := FoldDeltas(joined, math.MinInt32)
	if len(folded) != 3 || folded[0].cells(math.MinInt32) != maxFoldCells || folded[0].Ends != 10 ||
		folded[1].Prev != 10 || folded[2].Ends != 30 {
		t.Errorf("%d deltas", len(folded))
	}
	if again := FoldDeltas(folded, 30_000); len(again) != 1 || again[0].Events != 30_000 ||
		again[0].Fold.Events() != 30_000 || again[0].Ends != 30 {
		t.Errorf("got %d deltas", len(again))
	}
}

// TestFoldedMinutesAreNotSubmitted merges a delta whose minutes before 10:20 were rolled up into an
// empty state, as after a rebuild. The state can't count the windows that hold such a minute, and
// must not seem to.
func TestFoldedMinutesAreNotSubmitted(t *testing.T) {
	kinds, err := ParseWindows("1m,10m/5m,15m,1h,day")
	if err != nil {
		t.Fatal(err)
	}
	clock := func(h, m Minute) Minute { return 20*1440 + h*60 + m }
	one := []TypeCount{{"car", 1}}
	pane := func(m Minute) Pane { return Pane{Start: m, Types: one} }
	s := NewState(0)
	// Another partition's minutes are all there still.
	if got := s.Merge(&Delta{Epoch: 7, Partition: 1, Next: 10,
		PlazaDelta: PlazaDelta{Plaza: 1, Events: 2,
			Panes: []Pane{pane(clock(10, 3)), pane(clock(10, 17))}}}); got != Applied {
		t.Fatal(got)
	}
	d := PlazaDelta{Plaza: 1, Events: 9, Ends: 50,
		Panes: []Pane{pane(clock(10, 21)), pane(clock(10, 40)), pane(clock(11, 5))},
		Fold: &Fold{Before: clock(10, 20), OnTime: []TypeCount{{"car", 4}}, Late: 1, LateQuarter: one,
			TooLate: one}}
	if got := s.Merge(d.Of(7, 0, 0, 60)); got != Applied || s.MergedIn(0) != 50 {
		t.Fatal(got, s.MergedIn(0))
	}
	if s.Late != 1 || s.LateQuarter != 1 || s.TooLate != 1 || s.Events != 11 ||
		!slices.Equal(s.Types, []TypeCount{{"car", 11}}) {
		t.Errorf("got %+v", s)
	}
	closer := Closer{Kinds: kinds, Zone: NewZone(time.UTC)}
	until := clock(24, 0)
	closing, due := closer.Close(1, s, until, until)
	if !due {
		t.Fatal("nothing is due")
	}
	var got []string
	for _, w := range closing.Windows {
		got = append(got, fmt.Sprint(w.Kind, " ", w.Start-20*1440, " ", w.Events()))
	}
	slices.Sort(got)
	want := []string{"10m/5m 620 1", "10m/5m 635 1", "10m/5m 640 1", "10m/5m 660 1", "10m/5m 665 1",
		"15m 630 1", "15m 660 1", "1h 660 1", "1m 621 1", "1m 640 1", "1m 665 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if closing.From != clock(10, 20) || !closing.PanesLost {
		t.Errorf("minutes from %d on have closed, their panes lost: %v", closing.From-20*1440,
			closing.PanesLost)
	}
	for _, w := range []Window{{clock(10, 15), clock(10, 25)}, {clock(10, 15), clock(10, 30)},
		{clock(10, 0), clock(11, 0)}, {clock(0, 0), clock(24, 0)}} {
		if !InRanges(closing.Recount, w) {
			t.Errorf("the window from %d is neither counted nor to be counted: %v", w.Start-20*1440,
				closing.Recount)
		}
	}
}

func TestFoldHorizon(t *testing.T) {
	const until, kept = 1_000_005, 4 * 1440
	state := func(done Minute, open, dirty Minute) *State {
		s := NewState(1)
		s.Done = done
		if open != 0 {
			s.Minutes.List = []Pane{{Start: open, Types: []TypeCount{{"car", 1}}}}
		}
		if dirty != 0 {
			s.Dirty = []Window{{dirty, dirty + 1}}
		}
		return s
	}
	for _, c := range []struct {
		name  string
		state *State
		keep  time.Duration
		want  Minute
	}{
		{"all closed", state(until, 0, 0), MinKeptMinutes, QuarterOf(until - kept)},
		{"less than is possible", state(until, 0, 0), time.Hour, QuarterOf(until - kept)},
		{"kept for longer", state(until, 0, 0), 10 * 24 * time.Hour, QuarterOf(until - 14400)},
		{"quiet for a year", state(until-500_000, 0, 0), MinKeptMinutes, QuarterOf(until - kept)},
		{"open, ahead", state(until, until+700, 0), MinKeptMinutes, QuarterOf(until - kept)},
		{"delivered long ago, with events since", state(until-20_000, until-10, 0), MinKeptMinutes,
			QuarterOf(until - 20_000 - longestWindow)},
		{"changed long ago", state(until, 0, until-30_000), MinKeptMinutes,
			QuarterOf(until - 30_000 - longestWindow)},
		{"nothing delivered yet", state(math.MinInt32, until-5, 0), MinKeptMinutes, math.MinInt32},
		{"the first minute changed", state(until, 0, math.MinInt32), MinKeptMinutes, math.MinInt32},
	} {
		if got := FoldHorizon(map[int16]*State{1: c.state, 2: state(until, 0, 0)}, until,
			c.keep); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got := FoldHorizon(nil, math.MinInt32, MinKeptMinutes); got != math.MinInt32 {
		t.Errorf("before all time: %d", got)
	}
}
