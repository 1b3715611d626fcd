package traffic

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

func TestStateText(t *testing.T) {
	var all []string
	for s := NoData; s <= WarmingUp; s++ {
		text, err := json.Marshal(map[State]State{s: s})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s.String(), string(text))
		var again map[State]State
		if err := json.Unmarshal(text, &again); err != nil || again[s] != s {
			t.Errorf("%s: read %s back as %v, %v", s, text, again, err)
		}
	}
	want := `no data {"no_data":"no_data"} free {"free":"free"} busy {"busy":"busy"} ` +
		`saturated {"saturated":"saturated"} below usual {"below_usual":"below_usual"} ` +
		`above usual {"above_usual":"above_usual"} catching up {"catching_up":"catching_up"} ` +
		`warming up {"warming_up":"warming_up"}`
	if got := strings.Join(all, " "); got != want {
		t.Errorf("got %s", got)
	}
	var s State
	if err := s.UnmarshalText([]byte("below usual")); err == nil ||
		!strings.Contains(err.Error(), `"below usual" is none of no_data, free`) {
		t.Errorf("an unknown state: %v", err)
	}
	if _, err := json.Marshal(State(8)); err == nil ||
		State(8).String() != "state 8" {
		t.Errorf("state 8: %v", err)
	}
}

// measureOf returns what a script says of a minute: of a plaza with 2 lanes "vc 0.80", of vehicles
// in a quarter "n 12", and where it is known what is usual, "n 12 of 61". "hour 40" are the
// vehicles of the hour; without it they are those of the quarter.
func measureOf(t testing.TB, text string) Measure {
	m := Measure{Plaza: 7, Count15: -1}
	words := strings.Fields(text)
	number := func() float64 {
		var x float64
		if _, err := fmt.Sscan(words[1], &x); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		words = words[2:]
		return x
	}
	for len(words) > 1 {
		switch words[0] {
		case "vc":
			vc := number()
			m.VC, m.Capacity, m.Lanes, m.Throughput = &vc, new(1300.0), 2, vc*1300
			if m.Count15 < 0 {
				m.Count15 = int64(vc * 1300 / 4)
			}
		case "n":
			m.Count15 = int64(number())
		case "hour":
			m.Count60 = int64(number())
		case "of":
			m.Against(Usual{Median: number(), N: 8})
		default:
			t.Fatalf("%q", text)
		}
	}
	m.Count60 = max(m.Count60, m.Count15)
	return m
}

// TestHysteresis runs scripts. A line is how many minutes, counted from 1, have which measure; then
// the state after the last of them and, where it was entered with the last, since when.
func TestHysteresis(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"three in a row", `
			2  vc 0.50 | no data
			1  vc 0.50 | free since 1
			2  vc 0.80 | free
			1  vc 0.50 | free
			2  vc 0.80 | free
			1  vc 0.80 | busy since 7`},
		{"busy is left lower than it is entered", `
			3  vc 0.74 | free since 1
			9  vc 0.74 | free
			3  vc 0.75 | busy since 13
			9  vc 0.65 | busy
			2  vc 0.64 | busy
			1  vc 0.70 | busy
			3  vc 0.64 | free since 28`},
		{"saturated", `
			3  vc 0.99 | busy since 1
			2  vc 1.00 | busy
			1  vc 0.99 | busy
			3  vc 1.00 | saturated since 7
			9  vc 0.90 | saturated
			3  vc 0.89 | busy since 19
			9  vc 0.99 | busy`},
		{"from saturated, busy is left where it is left", `
			3  vc 1.10 | saturated since 1
			3  vc 0.66 | busy since 4
			3  vc 1.10 | saturated since 7
			3  vc 0.64 | free since 10`},
		{"a level beyond supports the nearer one", `
			3  vc 0.50 | free since 1
			1  vc 1.10 | free
			1  vc 0.80 | free
			1  vc 1.10 | busy since 4
			3  vc 1.10 | saturated since 7
			1  vc 0.50 | saturated
			1  vc 0.80 | saturated
			1  vc 0.50 | busy since 10
			1  vc 0.50 | busy
			1  vc 1.10 | busy
			1  vc 0.50 | busy
			1  vc 1.10 | busy`},
		{"first state of a plaza at its capacity", `
			1  vc 1.01 | no data
			1  vc 0.99 | no data
			1  vc 1.01 | busy since 1`},
		{"above usual", `
			3  n 100 of 100 | free since 1
			5  n 140 of 100 | free
			5  n 141 of 100 | above usual since 9
			9  n 123 of 100 | above usual
			3  n 122 of 100 | free since 23`},
		{"few vehicles are never above usual", `
			3  n 7 of 0  | free since 1
			9  n 27 of 0 | free
			5  n 28 of 0 | above usual since 13
			3  n 11 of 0 | above usual
			3  n 10 of 0 | free since 21`},
		{"above usual goes before busy, and saturated before both", `
			5  vc 0.50 n 500 of 100 | above usual since 1
			3  vc 0.75 n 500 of 100 | above usual
			3  vc 0.80 n 105 of 100 | busy since 9
			5  vc 0.80 n 500 of 100 | above usual since 12
			3  vc 1.01 n 500 of 100 | saturated since 17`},
		{"below usual", `
			3  n 61 of 61 | free since 1
			20 n 37 of 61 | free
			4  n 36 of 61 | free
			1  n 61 of 61 | free
			5  n 36 of 61 | below usual since 29
			9  n 45 of 61 | below usual
			3  n 46 of 61 | free since 43`},
		{"below usual needs a large deviation too", `
			3  n 16 of 16 | free since 1
			20 n 4 of 16  | free
			5  n 3 of 16  | below usual since 24
			9  n 7 of 16  | below usual
			3  n 8 of 16  | free since 38`},
		{"below usual needs enough vehicles", `
			3  n 9 of 10 | free since 1
			20 n 1 of 10 | free
			5  n 0 of 10 | below usual since 24
			9  n 0 of 6  | below usual
			3  n 0 of 5  | no data since 38`},
		{"not one vehicle where eight are usual can be chance", `
			3  n 8 of 8    | free since 1
			3  n 0 of 8    | no data since 4`},
		{"below usual from free, busy and saturated, and back", `
			3  vc 0.50 n 230 of 260 | free since 1
			20 vc 0.50 n 230 of 260 | free
			5  vc 0.10 n 32 of 260  | below usual since 24
			3  vc 1.10 n 357 of 260 | saturated since 29
			5  vc 0.10 n 32 of 260  | below usual since 32
			3  vc 0.80 n 260 of 260 | busy since 37
			5  vc 0.10 n 32 of 260  | below usual since 40
			3  vc 0.60 n 230 of 260 | free since 45`},
		{"below usual goes before saturated", `
			3  vc 1.20 n 90 of 100 | saturated since 1
			20 vc 1.20 n 90 of 100 | saturated
			5  vc 1.20 n 40 of 100 | below usual since 24`},
		{"no data", `
			9  n 0       | no data
			3  n 1       | free since 10
			2  n 0       | free
			1  n 1       | free
			3  n 0       | no data since 16
			3  n 1 of 1  | free since 19
			3  n 0 of 1  | no data since 22
			5  n 0 of 61 | below usual since 25
			3  n 0       | no data since 30`},
		{"a quarter without a vehicle can be chance", `
			3  n 1 hour 5      | free since 1
			9  n 0 hour 23     | free
			3  n 0 hour 24     | no data since 13
			3  n 0 hour 23     | no data
			3  n 1 hour 24     | free since 19
			3  n 0 of 7 hour 9 | free
			3  n 0 of 7        | no data since 25
			3  n 1 of 7        | free since 28
			3  n 0 of 8 hour 9 | no data since 31`},
		{"the first quarter ever is not below usual", `
			3   n 2 of 61  | free since 1
			11  n 20 of 61 | free
			5   n 20 of 61 | below usual since 15`},
		{"no data and below usual have nothing in common", `
			3  n 60 of 60 | free since 1
			20 n 60 of 60 | free
			1  n 0        | free
			1  n 0 of 60  | free
			1  n 0        | free
			1  n 60 of 60 | free
			1  n 0        | free
			5  n 0 of 60  | below usual since 29`},
		{"minutes left out", `
			2  vc 0.50 | no data
			1  skip
			2  vc 0.50 | no data
			1  vc 0.50 | free since 4
			2  vc 0.80 | free
			60 skip
			2  vc 0.80 | free
			1  vc 0.80 | busy since 69`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Assessment
			end := toll.Minute(0)
			for line := range strings.Lines(strings.TrimSpace(c.script)) {
				line = strings.TrimSpace(line)
				var count int
				left, right, _ := strings.Cut(line, "|")
				if _, err := fmt.Sscan(left, &count); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				_, what, _ := strings.Cut(left, " ")
				if strings.TrimSpace(what) == "skip" {
					end += toll.Minute(count)
					continue
				}
				state, since, entered := strings.Cut(strings.TrimSpace(right), " since ")
				for i := range count {
					end++
					m := measureOf(t, what)
					m.End = end
					before := a
					change, ok := a.assess(m)
					last := i == count-1
					if ok != (last && entered) {
						t.Fatalf("minute %d, %q: transition %v to %s", end, line, ok, a.State)
					}
					if ok && (fmt.Sprint(change.Since) != since || change.Detected != end ||
						change.From != before.State || change.To != a.State ||
						change.Plaza != 7 || a.Since != change.Since || a.Why != change.Why) {
						t.Fatalf("minute %d, %q: %+v", end, line, change)
					}
					if last && a.State.String() != state {
						t.Fatalf("minute %d, %q: %s", end, line, a.State)
					}
					if a.Until != end || !reflect.DeepEqual(a.Last, m) {
						t.Fatalf("minute %d: until %d, last %+v", end, a.Until, a.Last)
					}
					again := a
					if _, ok := again.assess(measureOf(t, "vc 1.5")); ok || !reflect.DeepEqual(again, a) {
						t.Fatalf("minute %d: one that was assessed before changed %+v to %+v", end, a, again)
					}
				}
			}
		})
	}
}

func TestWhy(t *testing.T) {
	for _, c := range []struct {
		measure string
		state   State
		want    string
	}{
		{"vc 1.0924", Saturated,
			"throughput 1,420 pc/h is 109 % of the capacity of 1,300 pc/h (2 lanes); how long the queue " +
				"is can't be told from crossings"},
		{"vc 0.998", Busy, "throughput 1,297 pc/h is 99 % of the capacity of 1,300 pc/h (2 lanes)"},
		{"vc 0.70", Busy,
			"throughput 910 pc/h is 70 % of the capacity of 1,300 pc/h (2 lanes); busy until it " +
				"is below 65 %"},
		{"vc 0.92", Saturated, "throughput 1,196 pc/h is 92 % of the capacity of 1,300 pc/h (2 lanes); " +
			"saturated until it is below 90 %; how long the queue is can't be told from crossings"},
		{"vc 1.12", Saturated,
			"throughput 1,456 pc/h is 112 % of the capacity of 1,300 pc/h (2 lanes), " +
				"which looks too low: check lanes and capacity_per_lane in the plazas file; how long the " +
				"queue is can't be told from crossings"},
		{"vc 0.29", Free, "throughput 377 pc/h is 29 % of the capacity of 1,300 pc/h (2 lanes)"},
		{"n 95 of 61", AboveUsual, "95 vehicles in 15 min, usual are 61 (z 3.6)"},
		{"n 4 of 61.5", BelowUsual, "4 vehicles in 15 min, usual are 61.5 (z −12.3)"},
		{"vc 0.1 n 1 of 61", BelowUsual, "1 vehicle in 15 min, usual are 61 (z −14.1)"},
		{"n 0 of 61", BelowUsual,
			"no vehicle in 15 min, usual are 61 (z −15); missing reports look the same"},
		{"n 61 of 61.1", Free, "61 vehicles in 15 min, usual are 61.1 (z 0)"},
		{"n 12345678", Free, "12,345,678 vehicles in 15 min; lanes and what is usual are not known"},
		{"n 0 of 1", NoData, "no vehicle in 15 min, usual are 1"},
		{"n 0", NoData, "no vehicle in 15 min; what is usual is not known yet"},
	} {
		m := measureOf(t, c.measure)
		if got := why(c.state, 1, nil, &m); got != c.want {
			t.Errorf("%s, %s:\ngot  %s\nwant %s", c.measure, c.state, got, c.want)
		}
	}
	m := measureOf(t, "n 0 of 61")
	if got := why(NoData, MaxQuiet, nil, &m); got != "no vehicle for two days" {
		t.Error(got)
	}
	m = measureOf(t, "vc 0.5")
	m.Lanes = 1
	if got := why(Free, 0, nil, &m); !strings.HasSuffix(got, "(1 lane)") {
		t.Error(got)
	}
	var a Assessment
	a.assess(measureOf(t, "vc 0.5"))
	if a.Why != "assessed for the first time just now" {
		t.Error(a.Why)
	}
}

// poisson draws how many independent vehicles come where mean come on average (Knuth, The Art of
// Computer Programming, 3.4.1).
func poisson(r *rand.Rand, mean float64) int64 {
	n := int64(-1)
	for p, limit := 1.0, math.Exp(-mean); p > limit; n++ {
		p *= r.Float64()
	}
	return n
}

// traffic draws panes for the minutes [from, until), a tenth of the vehicles trucks. rate is in
// vehicles per minute.
func traffic(r *rand.Rand, from, until toll.Minute, rate func(m toll.Minute) float64) []toll.Pane {
	var panes []toll.Pane
	for m := from; m < until; m++ {
		p := toll.Pane{Start: m}
		for _, c := range []toll.TypeCount{{Type: "car", Count: poisson(r, 0.9*rate(m))},
			{Type: "truck", Count: poisson(r, 0.1*rate(m))}} {
			if c.Count > 0 {
				p.Types = append(p.Types, c)
			}
		}
		if len(p.Types) > 0 {
			panes = append(panes, p)
		}
	}
	return panes
}

const oneDay = toll.Minute(1440)

// weekdayRate is a day at one plaza: from night, in vehicles per quarter of an hour, to a peak at
// 08:00.
func weekdayRate(night, peak float64) func(toll.Minute) float64 {
	return func(m toll.Minute) float64 {
		hours := float64(m%oneDay)/60 - 8
		return (night + (peak-night)*math.Exp(-hours*hours/8)) / 15
	}
}

// learned returns what is usual on the eighth week's date, and that for every other date too.
func learned(r *rand.Rand, z *toll.Zone, rate func(toll.Minute) float64) func(int64) *UsualDay {
	weeks := make([]DayCounts, HistoryWeeks)
	for i := range weeks {
		weeks[i] = NewDayCounts(z, 0)
		for _, p := range traffic(r, 0, oneDay, rate) {
			_, slot := SlotOf(z, p.Start)
			weeks[i].Add(slot, p.Count())
		}
	}
	u := UsualDayOf(weeks)
	return func(int64) *UsualDay { return &u }
}

func states(changes []Transition) []State {
	var s []State
	for _, c := range changes {
		s = append(s, c.To)
	}
	return s
}

func story(changes []Transition) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s to %s: since %s, detected %s: %s\n", c.From, c.To,
			c.Since.Time().Format("02 15:04"), c.Detected.Time().Format("02 15:04"), c.Why)
	}
	return b.String()
}

// A rush hour brings 3,700 vehicles a quarter, a tenth of them trucks, to lanes that pass 3,250
// cars: no more than 3,000 vehicles pass.
func TestRushHour(t *testing.T) {
	utc := zoneOf(t, "UTC")
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		wanted := weekdayRate(400, 3700)
		rate := func(m toll.Minute) float64 { return min(wanted(m), 3000/15) }
		for _, by := range []*Basis{
			{Plaza: toll.Plaza{ID: 7, Lanes: 20}, Zone: utc},
			{Plaza: toll.Plaza{ID: 7, Lanes: 20}, Zone: utc, Usual: learned(r, utc, rate)},
		} {
			var a Assessment
			panes := traffic(r, 0, oneDay, rate)
			changes := a.Run(panes, 0, 4*60, by)
			for _, at := range []struct {
				until toll.Minute
				want  State
			}{{4 * 60, Free}, {6*60 + 22, Busy}, {8 * 60, Saturated}, {9 * 60, Saturated}, {12 * 60,
				Free}, {oneDay, Free}} {
				changes = append(changes, a.Run(panes, a.Until, at.until, by)...)
				if a.State != at.want {
					t.Errorf("seed %d: %s at %s, want %s\n%s", seed, a.State, at.until.Time().Format("15:04"),
						at.want, story(changes))
				}
			}
			// A flow that only chance changes may be above or below usual once in a few days.
			changes = slices.DeleteFunc(changes, func(c Transition) bool {
				return c.From == AboveUsual || c.To == AboveUsual || c.From == BelowUsual || c.To == BelowUsual
			})
			// There and back takes five; where throughput is near capacity for long, chance may add one way
			// and back.
			if got := states(changes); len(got) > 7 ||
				!slices.Equal(got[:3], []State{Free, Busy, Saturated}) {
				t.Errorf("seed %d:\n%s", seed, story(changes))
			}
			if c := changes[2]; !strings.Contains(c.Why, "how long the queue is can't be told") ||
				*c.Measure.VC < 1 {
				t.Errorf("seed %d: %+v", seed, c)
			}
		}
	}
}

// For forty minutes one vehicle of twenty gets through, on a plaza of which lanes are known and on
// one of which they are not.
func TestBlockage(t *testing.T) {
	utc := zoneOf(t, "UTC")
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		rate := weekdayRate(60, 200)
		usual := learned(r, utc, rate)
		for _, plaza := range []toll.Plaza{{ID: 7}, {ID: 7, Lanes: 2}} {
			const onset, end = 7*60 + 20, 8 * 60
			panes := traffic(r, 0, oneDay, func(m toll.Minute) float64 {
				if m >= onset && m < end {
					return rate(m) / 20
				}
				return rate(m)
			})
			var a Assessment
			changes := a.Run(panes, 0, oneDay, &Basis{Plaza: plaza, Zone: utc, Usual: usual})
			i := slices.IndexFunc(changes, func(c Transition) bool {
				return c.To == BelowUsual && c.Detected > onset
			})
			if i < 0 || i+1 == len(changes) {
				t.Fatalf("seed %d:\n%s", seed, story(changes))
			}
			began, ended := changes[i], changes[i+1]
			if began.Detected <= onset || began.Detected > onset+15 ||
				began.Since != began.Detected-minutesToDeviate+1 {
				t.Errorf("seed %d: began\n%s", seed, story(changes))
			}
			if ended.Detected < end || ended.Detected > end+20 || !ended.To.isLevel() {
				t.Errorf("seed %d: ended\n%s", seed, story(changes))
			}
		}
	}
}

// Where reports stop for good it is below usual by day, and at night no data.
func TestReportsStop(t *testing.T) {
	utc := zoneOf(t, "UTC")
	r := rand.New(rand.NewPCG(3, 3))
	rate := weekdayRate(2, 90)
	by := &Basis{Plaza: toll.Plaza{ID: 7, Lanes: 2}, Zone: utc, Usual: learned(r, utc, rate)}
	var a Assessment
	changes := a.Run(traffic(r, 0, 8*60, rate), 0, 30*oneDay, by)
	var got []string
	for _, c := range changes {
		if c.Detected > 8*60 {
			got = append(got, fmt.Sprintf("%s %s", c.Since.Time().Format("2"), c.To))
		}
	}
	// On the third day the two days since the last vehicle are over.
	want := []string{"1 below usual", "1 no data", "2 below usual", "2 no data", "3 below usual",
		"3 no data"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q\n%s", got, want, story(changes))
	}
	last := changes[len(changes)-1]
	if last.Since < 2*oneDay+8*60 || last.Since > 2*oneDay+8*60+20 ||
		a.Why != "no vehicle for two days" || a.Until != 30*oneDay || a.Last.End != 30*oneDay {
		t.Errorf("%+v\n%s", a, story(changes))
	}
	if !strings.Contains(changes[slices.IndexFunc(changes, func(c Transition) bool {
		return c.Detected > 8*60
	})+2].Why, "missing reports look the same") {
		t.Errorf("%s", story(changes))
	}
}

// Few vehicles, by chance now and then none in a quarter, are neither a blockage nor a rush, and
// seldom no data.
func TestQuietNight(t *testing.T) {
	utc := zoneOf(t, "UTC")
	for _, perQuarter := range []float64{0.1, 1, 3, 6} {
		const nights = 20
		noData := 0
		for seed := range uint64(nights) {
			r := rand.New(rand.NewPCG(seed, 4))
			rate := func(toll.Minute) float64 { return perQuarter / 15 }
			var a Assessment
			changes := a.Run(traffic(r, 0, 8*60, rate), 0, 8*60,
				&Basis{Plaza: toll.Plaza{ID: 7, Lanes: 2}, Zone: utc, Usual: learned(r, utc, rate)})
			for _, c := range changes {
				switch c.To {
				case NoData:
					noData++
				case BelowUsual, Busy, Saturated:
					t.Errorf("%v a quarter, seed %d:\n%s", perQuarter, seed, story(changes))
				}
			}
		}
		if noData > 4*nights || perQuarter >= 1 && noData > nights {
			t.Errorf("%v a quarter: %d times no data in %d nights", perQuarter, noData, nights)
		}
	}
}

// A flow that does not change, known from eight weeks, is below usual by chance on fewer than one
// day in ten.
func TestFalseAlarms(t *testing.T) {
	utc := zoneOf(t, "UTC")
	for _, perQuarter := range []float64{8, 10, 15, 30, 60} {
		const days = 20
		below := 0
		for seed := range uint64(days) {
			r := rand.New(rand.NewPCG(seed, 9))
			rate := func(toll.Minute) float64 { return perQuarter / 15 }
			var a Assessment
			for _, c := range a.Run(traffic(r, 0, oneDay, rate), 0, oneDay,
				&Basis{Zone: utc, Usual: learned(r, utc, rate)}) {
				if c.To == BelowUsual {
					below++
				}
			}
		}
		if below > days/10 {
			t.Errorf("%v a quarter: %d times below usual in %d days", perQuarter, below, days)
		}
	}
}

// anything draws traffic that does what traffic doesn't: bursts, silence, leaps.
func anything(r *rand.Rand, from, until toll.Minute) []toll.Pane {
	rates := map[toll.Minute]float64{}
	panes := traffic(r, from, until, func(m toll.Minute) float64 {
		stretch := m / toll.Minute(7+m/500%40)
		if _, ok := rates[stretch]; !ok {
			rates[stretch] = []float64{0, 0, 0.2, 4, 14, 18, 22, 26}[r.IntN(8)]
		}
		return rates[stretch]
	})
	for range 3 {
		at := from + toll.Minute(r.IntN(int(until-from)))
		length := toll.Minute(r.IntN(4 * int(oneDay)))
		panes = slices.DeleteFunc(panes, func(p toll.Pane) bool {
			return p.Start >= at && p.Start < at+length
		})
	}
	return panes
}

func anyBasis(r *rand.Rand, z *toll.Zone) *Basis {
	by := &Basis{Plaza: toll.Plaza{ID: 7, Lanes: r.IntN(3)}, Zone: z,
		Holidays: func(day int64) string { return []string{"", "Labor Day"}[day&1] }}
	if r.IntN(3) > 0 {
		by.Usual = func(day int64) *UsualDay {
			if day%5 == 0 {
				return nil
			}
			var u UsualDay
			for slot := range u {
				u[slot] = Usual{Median: float64(int(day+int64(slot)/4) * 37 % 300), MAD: float64(slot % 20),
					N: 2 + slot%50}
			}
			return &u
		}
	}
	return by
}

// Whatever comes, and however it is cut into runs and stored in between: the same transitions, a
// chain, none within as many minutes of the last as it takes to ask for one, and dated to when it
// was first asked for.
func TestRunProperties(t *testing.T) {
	total := 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 5))
		z := zoneOf(t, []string{"UTC", "Europe/Berlin", "Asia/Kathmandu"}[seed%3])
		by := anyBasis(r, z)
		from := minuteAt(t, "2022-03-22 10:07")
		until := from + 12*oneDay
		panes := anything(r, from, until)

		var whole Assessment
		want := whole.Run(panes, from, until, by)
		total += len(want)

		var cut Assessment
		var got []Transition
		for at := from; at < until; {
			next := min(at+toll.Minute(1+r.IntN(1<<r.IntN(13))), until)
			seen := slices.DeleteFunc(slices.Clone(panes), func(p toll.Pane) bool {
				return p.Start < at-toll.MeasureSpan || p.Start >= next
			})
			got = append(got, cut.Run(seen, at, next, by)...)
			if again := cut.Run(seen, at, next, by); len(again) > 0 {
				t.Fatalf("seed %d: minutes to %d assessed again: %s", seed, next, story(again))
			}
			text, err := json.Marshal(cut)
			if err != nil {
				t.Fatal(err)
			}
			if len(text) > 1000 {
				t.Errorf("seed %d: %d bytes: %s", seed, len(text), text)
			}
			stored := Assessment{}
			if err := json.Unmarshal(text, &stored); err != nil || !reflect.DeepEqual(stored, cut) {
				t.Fatalf("seed %d: %v\nread  %+v\nof    %+v", seed, err, stored, cut)
			}
			cut, at = stored, next
		}
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(cut, whole) {
			t.Fatalf("seed %d: in pieces\n%sat once\n%s\n%+v\n%+v", seed, story(got), story(want), cut,
				whole)
		}

		state, last := NoData, from-minutesToEnter
		for _, c := range want {
			if c.From != state || c.To == c.From || c.Detected < last+minutesToEnter ||
				c.Since != c.Detected-toll.Minute(enough(c.To))+1 || c.Measure.End != c.Detected ||
				c.Why == "" {
				t.Errorf("seed %d: %s, %d: %+v", seed, state, last, c)
			}
			state, last = c.To, c.Detected
		}
	}
	if total < 200 {
		t.Errorf("only %d transitions", total)
	}
}

// Run leaves minutes out of a long silence, which changes nothing.
func TestRunIsMinuteByMinute(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 6))
		z := zoneOf(t, "Europe/Berlin")
		by := anyBasis(r, z)
		from := minuteAt(t, "2022-03-22 10:07")
		panes := append(anything(r, from, from+oneDay), anything(r, from+9*oneDay, from+10*oneDay)...)
		until := from + 20*oneDay

		var a Assessment
		var slow Assessment
		slow.First = panes[0].Start + 1
		got := a.Run(panes, from, until, by)
		dates := by.datesOnce()
		var want []Transition
		for end := from + 1; end <= until; end++ {
			m := measureAt(panes, end, by.Plaza, DefaultEquivalents()).ofMinutes(slow.observed(int64(end)))
			slow.compare(&m, by.Zone, dates)
			if change, ok := slow.assess(m); ok {
				want = append(want, change)
			}
		}
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(a, slow) {
			t.Fatalf("seed %d: run\n%sminute by minute\n%s\n%+v\n%+v", seed, story(got), story(want), a,
				slow)
		}
	}
}

// In its first quarter of an hour a plaza is judged by the minutes that it was observed, as views
// show it: not by a fifteenth of its flow.
func TestFirstMinutes(t *testing.T) {
	plaza := toll.Plaza{ID: 1, Lanes: 2, CapacityPerLane: 600} // 20 cars a minute
	for _, c := range []struct {
		perMinute int64
		want      string
	}{
		{9, "free: throughput 540 pc/h is 45 % of the capacity of 1,200 pc/h (2 lanes)"},
		{16, "busy: throughput 960 pc/h is 80 % of the capacity of 1,200 pc/h (2 lanes)"},
		{25, "saturated: throughput 1,500 pc/h is 125 % of the capacity of 1,200 pc/h (2 lanes); " +
			"how long the queue is can't be told from crossings"},
	} {
		var panes []toll.Pane
		for m := toll.Minute(100); m < 103; m++ {
			panes = append(panes, mixed(m, toll.TypeCount{Type: "car", Count: c.perMinute}))
		}
		var a Assessment
		changes := a.Run(panes, 90, 103, &Basis{Plaza: plaza, Zone: zoneOf(t, "UTC")})
		if len(changes) != 1 || changes[0].Measure.Observed != 3 ||
			changes[0].To.String()+": "+changes[0].Why != c.want {
			t.Errorf("%d a minute: %+v, want %s", c.perMinute, changes, c.want)
		}
	}
}

// A wrong clock, or a plaza that comes back after years, costs days and not years.
func TestRunLeaps(t *testing.T) {
	asked := 0
	by := &Basis{Zone: zoneOf(t, "UTC"), Usual: func(int64) *UsualDay { asked++; return nil }}
	var a Assessment
	a.Run([]toll.Pane{mixed(10, toll.TypeCount{Type: "car", Count: 3}),
		mixed(500_000_000, toll.TypeCount{Type: "car", Count: 3})}, 0,
		math.MaxInt32, by)
	if a.State != NoData || a.Until != math.MaxInt32 || asked > 20 {
		t.Errorf("asked %d times; %+v", asked, a)
	}
	if changes := a.Run(nil, 0, math.MaxInt32, by); changes != nil {
		t.Errorf("again: %v", changes)
	}

	// Before 1970, where ends are negative and one of them is 0.
	var early Assessment
	panes := traffic(rand.New(rand.NewPCG(1, 1)), -100, 100, func(toll.Minute) float64 { return 4 })
	for m := toll.Minute(-100); m < 100; m++ {
		changes := early.Run(panes, m, m+1, by)
		if early.Until != m+1 || (len(changes) > 0) != (m == -98) {
			t.Fatalf("minute %d: %+v, %v", m, early, changes)
		}
	}

	// Minutes that no one submits are left out.
	var gaps Assessment
	gaps.Run(panes, -100, -98, by)
	if changes := gaps.Run(panes, -50, -48, by); changes != nil || gaps.Until != -48 ||
		gaps.Streak != 2 {
		t.Errorf("%+v, %v", gaps, changes)
	}
	if changes := gaps.Run(panes, -48, -47, by); len(changes) != 1 || changes[0].Since != -49 {
		t.Errorf("%+v, %v", gaps, changes)
	}
	if changes := gaps.Run(panes, -60, -60, by); changes != nil || gaps.Until != -47 {
		t.Errorf("no minute: %+v, %v", gaps, changes)
	}
}

func BenchmarkRunDay(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	z := zoneOf(b, "Europe/Berlin")
	rate := weekdayRate(40, 370)
	panes := traffic(r, 0, oneDay, rate)
	by := &Basis{Plaza: toll.Plaza{Lanes: 2}, Zone: z, Usual: learned(r, z, rate)}
	b.ReportAllocs()
	for b.Loop() {
		var a Assessment
		a.Run(panes, 0, oneDay, by)
	}
}
