package toll

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// cars is a pane of n cars.
func cars(start Minute, n int64) Pane { return Pane{Start: start, Types: []TypeCount{{"car", n}}} }

// panesAt returns panes of a car each.
func panesAt(starts ...Minute) Panes {
	p := NewPanes()
	for _, m := range starts {
		p.add(m, []TypeCount{{"car", 1}}, 0)
	}
	return p
}

func startsOf(p *Panes) []Minute {
	starts := []Minute{}
	for i := range p.List {
		starts = append(starts, p.List[i].Start)
	}
	return starts
}

func TestPanesAdd(t *testing.T) {
	p := NewPanes()
	types := []TypeCount{{"car", 2}}
	p.add(20, types, 1)
	p.add(10, []TypeCount{{"van", 1}}, 0)
	p.add(20, []TypeCount{{"bus", 4}, {"car", 1}}, 2)
	want := []Pane{{Start: 10, Types: []TypeCount{{"van", 1}}},
		{Start: 20, Types: []TypeCount{{"bus", 4}, {"car", 3}}, Late: 3}}
	if !reflect.DeepEqual(p.List, want) {
		t.Errorf("got %+v, want %+v", p.List, want)
	}
	if types[0].Count != 2 {
		t.Error("adding changed what was added")
	}
	p.From, p.Gap = 15, Window{30, 40}
	for _, m := range []Minute{14, 30, 39} {
		if p.add(m, types, 0); len(p.List) != 2 {
			t.Errorf("%d is kept, where panes were dropped", m)
		}
	}
	p.add(15, types, 0)
	p.add(29, types, 0)
	p.add(40, types, 0)
	if got := startsOf(&p); !slices.Equal(got, []Minute{10, 15, 20, 29, 40}) {
		t.Errorf("got %v", got)
	}
}

func TestPanesComplete(t *testing.T) {
	whole, cut, gap := NewPanes(), Panes{From: 100}, Panes{From: 100, Gap: Window{200, 300}}
	for _, c := range []struct {
		panes *Panes
		w     Window
		want  bool
	}{
		{&whole, Window{math.MinInt32, math.MaxInt32}, true},
		{&cut, Window{99, 110}, false},
		{&cut, Window{100, 110}, true},
		{&cut, Window{50, 60}, false},
		{&gap, Window{100, 200}, true},
		{&gap, Window{100, 201}, false},
		{&gap, Window{250, 260}, false},
		{&gap, Window{299, 310}, false},
		{&gap, Window{300, 310}, true},
		{&gap, Window{150, 350}, false},
	} {
		if got := c.panes.Complete(c.w); got != c.want {
			t.Errorf("%v of %+v: %v", c.w, *c.panes, got)
		}
	}
}

func TestPanesIn(t *testing.T) {
	p := panesAt(10, 11, 15, 20)
	for _, c := range []struct {
		w    Window
		want []Minute
	}{
		{Window{0, 10}, []Minute{}},
		{Window{10, 11}, []Minute{10}},
		{Window{11, 20}, []Minute{11, 15}},
		{Window{11, 21}, []Minute{11, 15, 20}},
		{Window{math.MinInt32, math.MaxInt32}, []Minute{10, 11, 15, 20}},
		{Window{15, 15}, []Minute{}},
		{Window{20, 10}, []Minute{}},
	} {
		if got := startsOf(&Panes{List: p.In(c.w)}); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.w, got, c.want)
		}
	}
}

func TestPanesDropBefore(t *testing.T) {
	p := panesAt(10, 11, 15, 20)
	p.Gap = Window{12, 14}
	p.dropBefore(11)
	if got := startsOf(&p); !slices.Equal(got, []Minute{11, 15, 20}) || p.From != 11 ||
		p.Gap != (Window{12, 14}) {
		t.Errorf("got %v, %+v", got, p)
	}
	p.dropBefore(5) // never back
	p.dropBefore(14)
	if got := startsOf(&p); !slices.Equal(got, []Minute{15, 20}) || p.From != 14 ||
		p.Gap != (Window{}) {
		t.Errorf("got %v, %+v", got, p)
	}
}

// What is dropped is what has closed first, and then what is furthest ahead.
func TestPanesBound(t *testing.T) {
	for _, c := range []struct {
		name   string
		starts []Minute
		done   Minute
		want   []Minute // for which there is room
		from   Minute
		gap    Window
	}{
		{"all fits", []Minute{1, 2, 3}, 3, []Minute{1, 2, 3}, math.MinInt32, Window{}},
		{"the oldest go", []Minute{1, 2, 3, 4}, 4, []Minute{3, 4}, 3, Window{}},
		{"what has not closed stays, what is furthest ahead goes", []Minute{1, 2, 3, 10, 20}, 2,
			[]Minute{2, 3}, 2, Window{10, 21}},
		{"none has closed", []Minute{5, 6, 7}, math.MinInt32, []Minute{5}, math.MinInt32, Window{6, 8}},
		{"at the end of time", []Minute{5, math.MaxInt32 - 1}, 3, []Minute{5}, math.MinInt32,
			Window{math.MaxInt32 - 1, math.MaxInt32}},
	} {
		p, room := panesAt(c.starts...), panesAt(c.want...)
		p.bound(c.done, 1, 3, room.bytes(1, 3))
		if got := startsOf(&p); !slices.Equal(got, c.want) || p.From != c.from || p.Gap != c.gap {
			t.Errorf("%s: got %v of %+v", c.name, got, p)
		}
	}
	p := panesAt(5, 6)
	if p.bound(10, 1, 3, 0); len(p.List) != 1 {
		t.Errorf("one stays whatever it takes: %+v", p)
	}
}

// A quarter is dropped as a whole.
func TestPanesBoundQuarters(t *testing.T) {
	p := panesAt(0, 15, 30)
	p.bound(20, Quarter, 3, 0)
	if got := startsOf(&p); !slices.Equal(got, []Minute{30}) || p.From != 30 {
		t.Errorf("got %v of %+v", got, p)
	}
	p = panesAt(0, 15, 30)
	p.bound(0, Quarter, 3, 0)
	if got := startsOf(&p); !slices.Equal(got, []Minute{0}) || p.Gap != (Window{15, 45}) {
		t.Errorf("got %v of %+v", got, p)
	}
}

func TestPanesBytes(t *testing.T) {
	for _, c := range []struct {
		name  string
		panes Panes
		types int
		want  int
	}{
		{"none", panesAt(), 3, 0},
		{"bits and a count", panesAt(5), 3, 2},
		{"many types", panesAt(5), 6, 3},
		{"following", panesAt(5, 6, 7), 3, 6},
		{"apart", panesAt(5, 6, 8), 3, 8},
		{"far apart", panesAt(5, 6, 1_000_000), 3, 10},
		{"two types, large counts, late",
			Panes{List: []Pane{{Types: []TypeCount{{"bus", 127}, {"car", 128}}, Late: 200}}}, 3, 1 + 1 + 2 +
				2},
	} {
		if got := c.panes.bytes(1, c.types); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// A gap grows to hold all that was dropped ahead, and what lies between goes too.
func TestPanesGapGrows(t *testing.T) {
	p := panesAt(10, 20, 30)
	two := panesAt(10, 20)
	most := two.bytes(1, 3)
	p.bound(0, 1, 3, most)
	p.add(40, []TypeCount{{"car", 1}}, 0)
	p.bound(0, 1, 3, most)
	if got := startsOf(&p); !slices.Equal(got, []Minute{10, 20}) || p.Gap != (Window{30, 41}) {
		t.Errorf("got %v of %+v", got, p)
	}
	p.add(35, []TypeCount{{"car", 1}}, 0)
	p.add(15, []TypeCount{{"car", 1}}, 0)
	p.bound(0, 1, 3, most)
	if got := startsOf(&p); !slices.Equal(got, []Minute{10, 15}) || p.Gap != (Window{20, 41}) {
		t.Errorf("got %v of %+v", got, p)
	}
	p.dropBefore(41)
	if p.Gap != (Window{}) || p.From != 41 || len(p.List) != 0 {
		t.Errorf("got %+v", p)
	}
}

// The last minute stands for all later ones and is in no window, so no pane is kept of it.
func TestPanesOfTheLastMinute(t *testing.T) {
	p := panesAt(5, math.MaxInt32)
	if got := startsOf(&p); !slices.Equal(got, []Minute{5}) {
		t.Errorf("got %v", got)
	}
	// as it was stored before
	p = Panes{From: math.MinInt32, List: []Pane{cars(5, 1), cars(6, 1), cars(math.MaxInt32, 1)}}
	p.bound(0, 1, 3, 0)
	if got := startsOf(&p); !slices.Equal(got, []Minute{5}) {
		t.Errorf("got %v", got)
	}
}

// Whatever comes in whatever order, what panes say they are complete for they have, and the bound
// holds.
func TestPanesAreCompleteWhereTheySaySo(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p, all := NewPanes(), map[Minute]int64{}
		done := Minute(math.MinInt32)
		most := 20 + rng.IntN(200)
		for range 300 {
			m := Minute(rng.IntN(400))
			switch rng.IntN(20) {
			case 0:
				m = Minute(rng.IntN(1e6))
			case 1:
				m = Minute(math.MaxInt32 - rng.IntN(3))
			case 2:
				done = max(done, Minute(rng.IntN(300)))
				p.dropBefore(done - 120)
			}
			n := 1 + rng.Int64N(300)
			all[m] += n
			p.add(m, []TypeCount{{"car", n}}, 0)
			p.bound(done, 1, 3, most)
			if total := p.bytes(1, 3); total > most && len(p.List) > 1 {
				t.Fatalf("seed %d: %d bytes, want at most %d", seed, total, most)
			}
			if p.From > max(done, math.MinInt32) {
				t.Fatalf("seed %d: panes from %d on, and %d is not done", seed, p.From, done)
			}
			from := Minute(rng.IntN(500))
			w := Window{from, from + Minute(rng.IntN(100))}
			if !p.Complete(w) {
				continue
			}
			types, _ := SumPanes(p.In(w))
			want := int64(0)
			for m, n := range all {
				if m >= w.Start && m < w.End {
					want += n
				}
			}
			if SumTypes(types) != want {
				t.Fatalf("seed %d: %v has %d, want %d: %+v", seed, w, SumTypes(types), want, p)
			}
		}
		if !slices.IsSortedFunc(p.List, func(a, b Pane) int { return comparePanes(a, b.Start) }) {
			t.Fatalf("seed %d: not ascending", seed)
		}
	}
}

func TestQuarterOf(t *testing.T) {
	for m, want := range map[Minute]Minute{0: 0, 14: 0, 15: 15, 29: 15, -1: -15, -15: -15, -16: -30,
		math.MaxInt32: 2147483640, math.MinInt32 + 8: math.MinInt32 + 8} {
		if got := QuarterOf(m); got != want {
			t.Errorf("%d: got %d, want %d", m, got, want)
		}
	}
}

func TestSumPanes(t *testing.T) {
	panes := []Pane{{Types: []TypeCount{{"car", 1}}, Late: 1},
		{Types: []TypeCount{{"bus", 2}, {"car", 3}}}, {Types: []TypeCount{{"van", 1}}, Late: 4}}
	types, late := SumPanes(panes)
	if want := []TypeCount{{"bus", 2}, {"car", 4}, {"van", 1}}; !slices.Equal(types, want) ||
		late != 5 {
		t.Errorf("got %v and %d late", types, late)
	}
	if panes[0].Types[0].Count != 1 {
		t.Error("the sum changed a pane")
	}
}

func TestAddRange(t *testing.T) {
	for _, c := range []struct {
		name string
		add  []Window
		want []Window
	}{
		{"empty", []Window{{5, 5}, {6, 5}}, nil},
		{"apart", []Window{{5, 6}, {1, 2}, {8, 9}}, []Window{{1, 2}, {5, 6}, {8, 9}}},
		{"touching", []Window{{5, 6}, {6, 7}, {4, 5}}, []Window{{4, 7}}},
		{"within", []Window{{1, 10}, {4, 5}}, []Window{{1, 10}}},
		{"over several", []Window{{1, 2}, {4, 5}, {7, 8}, {20, 30}, {2, 9}}, []Window{{1, 9}, {20, 30}}},
		{"all", []Window{{1, 2}, {4, 5}, {math.MinInt32, math.MaxInt32}},
			[]Window{{math.MinInt32, math.MaxInt32}}},
	} {
		var got []Window
		for _, w := range c.add {
			got = AddRange(got, w)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A list of ranges stays short, ascends, and never loses a minute; with few ranges it has none that
// was not added.
func TestAddRangeLosesNothing(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var ranges []Window
		added := map[Minute]bool{}
		span := 50 + rng.IntN(2000)
		joined := false
		for range rng.IntN(200) {
			start := Minute(rng.IntN(span))
			w := Window{start, start + Minute(rng.IntN(4))}
			for m := w.Start; m < w.End; m++ {
				added[m] = true
			}
			before := len(ranges)
			ranges = AddRange(ranges, w)
			joined = joined || before == maxRanges && len(ranges) == maxRanges
			if len(ranges) > maxRanges {
				t.Fatalf("seed %d: %d ranges", seed, len(ranges))
			}
			for i := 1; i < len(ranges); i++ {
				if ranges[i-1].End >= ranges[i].Start {
					t.Fatalf("seed %d: %v touch or don't ascend", seed, ranges)
				}
			}
		}
		for m := Minute(0); m < Minute(span+5); m++ {
			in := InRanges(ranges, Window{m, m + 1})
			if added[m] && !in {
				t.Fatalf("seed %d: minute %d was lost", seed, m)
			}
			if in && !added[m] && !joined {
				t.Fatalf("seed %d: minute %d was never added", seed, m)
			}
		}
	}
}

// Of a list that grows too long the nearest two are joined.
func TestAddRangeJoinsTheNearest(t *testing.T) {
	var ranges []Window
	for i := range Minute(maxRanges) {
		ranges = AddRange(ranges, Window{i * 100, i*100 + 1})
	}
	ranges = AddRange(ranges, Window{1050, 1051})
	if !slices.Contains(ranges, Window{1000, 1051}) && !slices.Contains(ranges, Window{1050, 1101}) ||
		len(ranges) != maxRanges {
		t.Errorf("got %v", ranges)
	}
}

func TestInRanges(t *testing.T) {
	ranges := []Window{{10, 20}, {30, 31}}
	for _, c := range []struct {
		w    Window
		want bool
	}{
		{Window{0, 10}, false}, {Window{0, 11}, true}, {Window{19, 20}, true}, {Window{20, 30},
			false}, {Window{20, 31}, true},
		{Window{30, 31}, true}, {Window{31, 40}, false}, {Window{0, 100}, true}, {Window{12, 12},
			false}, {Window{15, 12}, false},
	} {
		if got := InRanges(ranges, c.w); got != c.want {
			t.Errorf("%v: %v", c.w, got)
		}
	}
	if InRanges(nil, Window{0, 100}) {
		t.Error("an empty list has minutes")
	}
}

func TestAddTypes(t *testing.T) {
	for _, c := range []struct{ into, add, want []TypeCount }{
		{nil, nil, nil},
		{nil, []TypeCount{{"car", 1}}, []TypeCount{{"car", 1}}},
		{[]TypeCount{{"car", 1}}, []TypeCount{{"car", 2}}, []TypeCount{{"car", 3}}},
		{[]TypeCount{{"car", 1}, {"van", 5}}, []TypeCount{{"bus", 2}, {"truck", 3}, {"zoo", 4}},
			[]TypeCount{{"bus", 2}, {"car", 1}, {"truck", 3}, {"van", 5}, {"zoo", 4}}},
		{[]TypeCount{{"car", 1}}, []TypeCount{{"Car", 2}}, []TypeCount{{"Car", 2}, {"car", 1}}},
	} {
		if got := AddTypes(slices.Clone(c.into), c.add); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v + %v = %v, want %v", c.into, c.add, got, c.want)
		}
	}
}

func TestAddTypesCap(t *testing.T) {
	var types []TypeCount
	for i := range 100 {
		types = AddTypes(types, []TypeCount{{fmt.Sprintf("type%02d", i), 1}})
		if want := min(i+1, MaxTypes); len(types) != want {
			t.Fatalf("%d types after %d", len(types), i+1)
		}
		if SumTypes(types) != int64(i+1) {
			t.Fatalf("%d counted of %d", SumTypes(types), i+1)
		}
	}
	if !slices.IsSortedFunc(types, func(a, b TypeCount) int { return cmp.Compare(a.Type, b.Type) }) {
		t.Errorf("not ascending: %v", types)
	}
	if want := (TypeCount{OtherType, 100 - (MaxTypes - 1)}); !slices.Contains(types, want) {
		t.Errorf("%v lacks %v", types, want)
	}
	types = AddTypes(types, []TypeCount{{"type05", 1}, {OtherType, 1}, {"new", 1}})
	if want := (TypeCount{OtherType, 100 - (MaxTypes - 1) + 2}); !slices.Contains(types, want) ||
		!slices.Contains(types, TypeCount{"type05", 2}) {
		t.Errorf("%v lacks %v", types, want)
	}
}

func TestFlowPerHour(t *testing.T) {
	for _, c := range []struct {
		n    int64
		span time.Duration
		want float64
	}{
		{12, time.Minute, 720},
		{12, 15 * time.Minute, 48},
		{12, time.Hour, 12},
		{12, 24 * time.Hour, 0.5},
		{0, time.Minute, 0},
		{12, 0, 0},
	} {
		if got := FlowPerHour(c.n, c.span); got != c.want {
			t.Errorf("%d in %v: %v per hour, want %v", c.n, c.span, got, c.want)
		}
	}
}
