package journeys_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

// passages reads lines such as "1 10:00:05 A": a vehicle, a time and a plaza.
func passages(t *testing.T, lines ...string) []journeys.Passage {
	t.Helper()
	var all []journeys.Passage
	for _, line := range lines {
		var p journeys.Passage
		var clock, plaza string
		if _, err := fmt.Sscan(line, &p.Vehicle, &clock, &plaza); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p.At, p.Plaza = at(t, clock), int16(plaza[0]-'A')
		all = append(all, p)
	}
	return journeys.Sort(all)
}

// at returns a time of 30 October 2022, when clocks in Berlin show 02:00 to 03:00 twice.
func at(t *testing.T, clock string) toll.WallTime {
	t.Helper()
	d, err := time.Parse(time.DateTime, "2022-10-30 "+clock)
	if err != nil {
		t.Fatal(err)
	}
	return toll.WallTimeOf(d)
}

func berlin(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestSegmentsAndTrips(t *testing.T) {
	for _, c := range []struct {
		name           string
		lines          []string
		segments, runs string
	}{
		{"in any order, doubled", []string{"1 10:20:00 B", "1 10:00:00 A", "1 10:20:00 B"},
			"A1200B", "AB"},
		{"the last read departs, the first arrives",
			[]string{"1 10:00:00 A", "1 10:01:00 A", "1 10:11:00 B", "1 10:12:00 B"}, "A600B", "AABB"},
		{"a tie is ordered by plaza and not counted",
			[]string{"1 10:00:00 B", "1 10:00:00 A", "1 10:10:00 C"}, "B600C", "ABC"},
		{"two hours are the longest", []string{"1 10:00:00 A", "1 12:00:00 B", "1 14:00:01 C"},
			"A7200B", "AB C"},
		{"one vehicle's way is not another's", []string{"1 10:00:00 A", "2 10:10:00 B"}, "", "A B"},
		{"the hour that is shown twice", []string{"1 01:00:00 A", "1 01:59:59 B", "1 02:30:00 C",
			"1 03:10:00 D", "1 04:00:00 A", "2 01:50:00 A", "2 03:10:00 B"}, "A3599B D3000A", ""},
		{"before and after it", []string{"1 01:00:00 A", "1 01:59:59 B", "2 03:00:00 A", "2 03:10:00 B"},
			"A3599B A600B", "AB AB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := passages(t, c.lines...)
			changes := journeys.Changes(berlin(t), at(t, "00:00:00"), at(t, "23:00:00"))
			var segments, runs []string
			for s := range journeys.Segments(all, changes) {
				segments = append(segments, fmt.Sprintf("%c%d%c", 'A'+s.From, s.Gap(), 'A'+s.To))
			}
			for run := range journeys.Runs(all, changes) {
				plazas := ""
				for _, p := range run {
					plazas += string(rune('A' + p.Plaza))
				}
				runs = append(runs, plazas)
			}
			if got := fmt.Sprint(segments); got != "["+c.segments+"]" {
				t.Errorf("segments %s, want %s", got, c.segments)
			}
			if got := fmt.Sprint(runs); got != "["+c.runs+"]" {
				t.Errorf("trips %s, want %s", got, c.runs)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	year := func(y int) toll.WallTime {
		return toll.WallTimeOf(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	got := journeys.Changes(berlin(t), year(2022), year(2023))
	want := "[{2022-03-27 02:00:00 2022-03-27 03:00:00} {2022-10-30 02:00:00 2022-10-30 03:00:00}]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if got := journeys.Changes(time.UTC, year(1900), year(2100)); len(got) > 0 {
		t.Errorf("UTC: %v", got)
	}
	if got := journeys.Changes(berlin(t), at(t, "03:00:00"), at(t, "23:00:00")); len(got) > 0 {
		t.Errorf("after the change: %v", got)
	}
}

func TestCountAndTrips(t *testing.T) {
	all := passages(t, "1 10:00:00 A", "1 10:20:00 B", "1 10:40:00 C", // all the way
		"2 09:50:00 A", "2 10:10:00 B", // arrived before the window
		"3 10:25:00 B", "3 10:25:01 B", // only here
		"4 10:16:00 C", "4 10:36:00 B") // the other way
	w := journeys.Window{Start: at(t, "10:15:00"), End: at(t, "10:45:00")}
	c := journeys.Count(all, nil, w)
	const a, b, d = 0, 1, 2
	if want := map[journeys.Pair]journeys.Times{{From: a, To: b}: {{1200, 1}},
		{From: b, To: d}: {{1200, 1}},
		{From: d, To: b}: {{1200, 1}}}; !reflect.DeepEqual(c.Sections, want) {
		t.Errorf("sections %v, want %v", c.Sections, want)
	}
	if want := map[journeys.Pair]journeys.Times{{From: a,
		To: b}: {{1200, 1}}}; !reflect.DeepEqual(c.Before,
		want) {
		t.Errorf("before %v, want %v", c.Before, want)
	}
	if got := c.Plazas[b]; got != (journeys.Seen{Passages: 4, First: 1}) || got.ShareFirst() != 0.25 {
		t.Errorf("seen %+v", got)
	}
	trips := journeys.CountTrips(all, nil, w, nil)
	if got := fmt.Sprint(trips.Cells, trips.Same, trips.Origins(), trips.Destinations()); got !=
		"map[{0 2}:1 {2 1}:1] map[1:1] map[0:1 2:1] map[1:1 2:1]" {
		t.Errorf("trips %s", got)
	}
	trips = journeys.CountTrips(all, nil, w, new(int16(a)))
	if len(trips.Cells)+len(trips.Same) > 0 {
		t.Errorf("nobody passed A in the window: %v", trips)
	}
}

func times(seconds ...int32) journeys.Times {
	var tally journeys.Tally
	for _, s := range seconds {
		tally.Add(journeys.Pair{}, s, 1)
	}
	return tally.Times()[journeys.Pair{}]
}

// TestOrderStatistics compares percentiles, medians and deviations with those of a sorted list.
func TestOrderStatistics(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	middle := func(all []float64) float64 {
		slices.Sort(all)
		return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
	for range 500 {
		n := 1 + draw.IntN(60)
		seconds, all := make([]int32, n), make([]float64, n)
		for i := range seconds {
			seconds[i] = 100 + draw.Int32N(20)
			all[i] = float64(seconds[i])
		}
		x := times(seconds...)
		m := middle(all)
		if x.Median() != m || x.Vehicles() != int64(n) {
			t.Fatalf("%v: median %v, want %v", seconds, x.Median(), m)
		}
		for _, percent := range []int64{15, 50, 80, 95, 100} {
			k := (n*int(percent) + 99) / 100
			if got := x.Percentile(percent); got != all[max(k, 1)-1] {
				t.Fatalf("%v: p%d %v", all, percent, got)
			}
		}
		low, high, ok := x.MedianInterval()
		if ok != (n >= 6) || ok && !(low <= m && m <= high) {
			t.Fatalf("%v: interval %v to %v", all, low, high)
		}
		deviations := make([]float64, n)
		for i, s := range all {
			deviations[i] = math.Abs(s - m)
		}
		if got, want := x.MAD(), middle(deviations); got != want {
			t.Fatalf("%v: MAD %v, want %v", all, got, want)
		}
	}
	if m := times().Median(); !math.IsNaN(m) || !math.IsNaN(times().Percentile(50)) {
		t.Error("a median of nothing")
	}
}

// TestMedianIntervalHolds: the interval holds the true median of 95 samples in 100, or more.
func TestMedianIntervalHolds(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{6, 15, 40, 200} {
		held := 0
		const samples = 2000
		for range samples {
			seconds := make([]int32, n)
			for i := range seconds {
				seconds[i] = int32(600 * math.Exp(0.1*draw.NormFloat64()))
			}
			if low, high, _ := times(seconds...).MedianInterval(); low <= 600 && 600 <= high {
				held++
			}
		}
		if held < samples*94/100 {
			t.Errorf("%d vehicles: %d of %d intervals hold the median", n, held, samples)
		}
	}
}

func TestKeepDropsStops(t *testing.T) {
	kept := times(580, 590, 600, 600, 610, 620, 700, 1500, 3000).Keep()
	if got := fmt.Sprint(kept); got != "[{580 1} {590 1} {600 2} {610 1} {620 1} {700 1}]" {
		t.Errorf("kept %v", got)
	}
	// All as fast: a quarter longer is still normal.
	if got := times(600, 600, 600, 600, 749, 751).Keep().Vehicles(); got != 5 {
		t.Errorf("kept %d", got)
	}
}

// drive draws the passages of vehicles that pass four plazas, 600 s apart with a spread of 8 %; of
// each way a share stops for 5 to 60 minutes.
func drive(draw *rand.Rand, vehicles int, stops float64) []journeys.Passage {
	var all []journeys.Passage
	for v := range vehicles {
		at := float64(draw.IntN(5 * 3600))
		for plaza := range int16(4) {
			all = append(all, journeys.Passage{Vehicle: int32(v), At: toll.WallTime(at), Plaza: plaza})
			at += 600 * math.Exp(0.08*draw.NormFloat64())
			if draw.Float64() < stops {
				at += 300 + draw.Float64()*3300
			}
		}
	}
	return journeys.Sort(all)
}

// TestFewIDs: where random ids are so few that an equal one comes within seconds, always, that
// makes no journeys either.
func TestFewIDs(t *testing.T) {
	w := journeys.Window{Start: journeys.MaxGap, End: journeys.MaxGap + 900}
	for _, ids := range []int32{10_000, 100, 10} {
		draw := rand.New(rand.NewPCG(uint64(ids), 19))
		var all []journeys.Passage
		for range int(w.End) * 10 {
			all = append(all, journeys.Passage{Vehicle: draw.Int32N(ids),
				At: toll.WallTime(draw.IntN(int(w.End))), Plaza: int16(draw.IntN(11))})
		}
		if v := journeys.Count(journeys.Sort(all), nil, w).Verdict(); v != journeys.RandomIDs {
			t.Errorf("%d ids: %v", ids, v)
		}
	}
	if v := journeys.Count(nil, nil, w).Verdict(); v != journeys.TooFew || v.String() != "too few" {
		t.Errorf("nothing: %v", v)
	}
}

// TestMeasure: the figures by hand, of forty vehicles.
func TestMeasure(t *testing.T) {
	var seconds []int32
	for i := range int32(40) {
		seconds = append(seconds, 600+5*i) // 600 to 795
	}
	m, ok := journeys.Measure(times(append(seconds, 3000, 4000)...), journeys.Reference{Usual: 620,
		UsualFrom: journeys.WeeksAgo, Free: 600, FreeFrom: journeys.OffPeak}, 20)
	if !ok {
		t.Fatal("not measured")
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	if m.Vehicles != 40 || m.Stopped != 2 {
		t.Errorf("%d measured, %d stopped", m.Vehicles, m.Stopped)
	}
	near("median", m.Median, 697.5)
	near("85th percentile", m.P85, 765)
	near("95th percentile", m.P95, 785)
	near("mean", m.Mean, 697.5)
	near("travel time index", m.TravelTimeIndex, 697.5/600)
	near("planning time index", m.PlanningTimeIndex, 785./600)
	near("buffer index", m.BufferIndex, (785-697.5)/697.5)
	near("reliability", m.Reliability, 755./695)
	near("speed", m.SpeedKmh, 20/697.5*3600)
	near("delay", m.DelayHours, 40*97.5/3600)
	near("to usual", m.ToUsual, 697.5/620)
	if _, ok := journeys.Measure(times(600, 610, 620, 630), journeys.Reference{}, 20); ok {
		t.Error("four vehicles are shown")
	}
}

func TestReference(t *testing.T) {
	many := func(seconds int32) journeys.Times { return journeys.Times{{seconds, 40}} }
	for _, c := range []struct {
		history journeys.History
		want    journeys.Reference
	}{
		{journeys.History{}, journeys.Reference{Free: 900, FreeFrom: journeys.AllSeen}},
		{journeys.History{Before: many(700)}, journeys.Reference{Usual: 700,
			UsualFrom: journeys.HourBefore, Free: 700, FreeFrom: journeys.AllSeen}},
		{journeys.History{Weeks: many(620), Before: many(700), OffPeak: many(600)},
			journeys.Reference{Usual: 620, UsualFrom: journeys.WeeksAgo, Free: 600,
				FreeFrom: journeys.OffPeak}},
		{journeys.History{Weeks: times(620), Before: many(700), OffPeak: times(600)},
			journeys.Reference{Usual: 700, UsualFrom: journeys.HourBefore, Free: 700,
				FreeFrom: journeys.AllSeen}},
	} {
		if got := c.history.Reference(many(900)); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.history, got, c.want)
		}
	}
}

// TestOverdue: while all drive on nothing is overdue; once the section is closed, those are that
// should have arrived, though nobody says so.
func TestOverdue(t *testing.T) {
	draw := rand.New(rand.NewPCG(5, 6))
	section := journeys.Pair{From: 1, To: 2}
	const now = 5*3600 - 1200
	all := drive(draw, 6000, 0)
	open, ok := journeys.CountDepartures(all, now).Overdue(section, 600)
	if !ok || open.Low > 0 || open.High > float64(open.Left)/10 {
		t.Errorf("open: %+v, %v", open, ok)
	}
	closed := slices.DeleteFunc(slices.Clone(all), func(p journeys.Passage) bool {
		return p.Plaza >= 2 && p.At > now-1800
	})
	o, ok := journeys.CountDepartures(closed, now).Overdue(section, 600)
	if missing := float64(o.Left - o.Arrived); !ok || o.Low < missing*0.75 || o.High > missing ||
		missing < 100 {
		t.Errorf("closed: %+v, %v", o, ok)
	}
	if _, ok := journeys.CountDepartures(all, now).Overdue(section, 0); ok {
		t.Error("overdue by an unknown time")
	}
	if _, ok := journeys.CountDepartures(all[:20], now).Overdue(section, 600); ok {
		t.Error("overdue of a handful")
	}
}

func TestShares(t *testing.T) {
	for _, c := range []struct {
		counts map[string]int64
		want   string
	}{
		{map[string]int64{"a": 10, "b": 30, "c": 5}, "b:30 a:10 c:5 "},
		{map[string]int64{"a": 10, "b": 30, "c": 4}, "b:30 other:14 "}, // or c were known by the total
		{map[string]int64{"a": 10, "b": 30, "c": 1, "d": 2, "e": 10}, "b:30 a:10 e:10 other:3 "},
		{map[string]int64{"a": 3}, "other:3 "},
		{map[string]int64{}, ""},
	} {
		got, sum := "", 0.0
		for _, s := range journeys.Shares(c.counts, cmp.Compare[string]) {
			name := s.Of
			if s.Other {
				name += "other"
			}
			got += fmt.Sprintf("%s:%d ", name, s.Vehicles)
			if sum += s.Fraction; !(s.Low <= s.Fraction && s.Fraction <= s.High) {
				t.Errorf("%+v", s)
			}
		}
		if got != c.want || len(c.counts) > 0 && math.Abs(sum-1) > 1e-9 {
			t.Errorf("%v: got %q (%v), want %q", c.counts, got, sum, c.want)
		}
	}
	if low, high := journeys.Interval(10, 100); math.Abs(low-0.0552) > 1e-3 ||
		math.Abs(high-0.1744) > 1e-3 {
		t.Errorf("10 of 100: %v to %v", low, high)
	}
}

func TestLength(t *testing.T) {
	a := toll.Plaza{ID: 1, Road: "A 9", PositionKm: 10}
	b := toll.Plaza{ID: 2, Road: "A 9", PositionKm: 32.5}
	if km, ok := journeys.Length(&b, &a); !ok || km != 22.5 {
		t.Errorf("%v, %v", km, ok)
	}
	if _, ok := journeys.Length(&a, &toll.Plaza{Road: "A 3", PositionKm: 32.5}); ok {
		t.Error("a length between two roads")
	}
}

// TestOrderDoesNotMatter: the same counts come of rows in any order, doubled or not.
func TestOrderDoesNotMatter(t *testing.T) {
	draw := rand.New(rand.NewPCG(7, 8))
	all := drive(draw, 300, 0.3)
	w := journeys.Window{Start: 3600, End: 3 * 3600}
	want := journeys.Count(all, nil, w)
	mixed := slices.Concat(all, all[:200], all[100:150])
	draw.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	if got := journeys.Count(journeys.Sort(mixed), nil, w); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(slices.Collect(maps.Keys(want.Sections))) < 3 {
		t.Errorf("sections: %v", want.Sections)
	}
}
