package traffic

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestParseEquivalents(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]float64 // of some types
		errs []string
	}{
		{"", map[string]float64{"truck": 2, "bus": 2, "car": 1, "van": 1, "TRUCK": 2}, nil},
		{"truck=2.5,bus=1", map[string]float64{"truck": 2.5, "bus": 1, "lorry": 2}, nil},
		{" Truck = 3 , motorcycle=0.5", map[string]float64{"truck": 3, "Motorcycle": 0.5}, nil},
		{"truck", nil, []string{`equivalent "truck", want`}},
		{"truck=x,bus=0,semi=NaN,rv=Inf,=2,bus=21,a b c d e f g h i=2,", nil, []string{
			`"truck" is "x"`, `"bus" is "0"`, `"semi" is "NaN"`, `"rv" is "Inf"`,
			`"=2": vehicle_type: empty`,
			`"bus" is given twice`, `"bus" is "21"`, `17 characters`, `equivalent "", want`}},
	} {
		e, err := ParseEquivalents(c.text)
		if (err != nil) != (c.errs != nil) {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if err != nil {
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.errs) {
				t.Errorf("%q: got %d errors, want %d: %v", c.text, len(lines), len(c.errs), err)
				continue
			}
			for i, want := range c.errs {
				if !strings.Contains(lines[i], want) {
					t.Errorf("%q: got %q, want %q", c.text, lines[i], want)
				}
			}
			continue
		}
		for name, want := range c.want {
			if got := e.Of(name); got != want {
				t.Errorf("%q: %s counts as %v cars, want %v", c.text, name, got, want)
			}
		}
		if again, err := ParseEquivalents(e.String()); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%q: read %q back as %v, %v", c.text, e, again, err)
		}
	}
	if got := (Equivalents{"truck": 2.5, "bus": 2}).String(); got != "bus=2,truck=2.5" {
		t.Error(got)
	}
	for _, cars := range []float64{math.NaN(), math.Inf(1), 0, -2} {
		if got := (Equivalents{"truck": cars}).Of("truck"); got != 1 {
			t.Errorf("an equivalent of %v became %v", cars, got)
		}
	}
}

// mixed returns one pane.
func mixed(start toll.Minute, types ...toll.TypeCount) toll.Pane {
	return toll.Pane{Start: start, Types: types}
}

func show(x *float64) string {
	if x == nil {
		return "none"
	}
	return fmt.Sprintf("%.4g", *x)
}

func TestMeasureAt(t *testing.T) {
	// The hour [940, 1000) has quarters of 30, 60, 90 and 120 vehicles, 20 trucks among the last.
	hour := []toll.Pane{
		mixed(939, toll.TypeCount{Type: "car", Count: 1000}), // before the hour
		mixed(940, toll.TypeCount{Type: "car", Count: 10}), mixed(954,
			toll.TypeCount{Type: "car", Count: 20}),
		mixed(955, toll.TypeCount{Type: "car", Count: 60}),
		mixed(970, toll.TypeCount{Type: "car", Count: 30}), mixed(984,
			toll.TypeCount{Type: "car", Count: 60}),
		mixed(985, toll.TypeCount{Type: "car", Count: 40}), mixed(992,
			toll.TypeCount{Type: "truck", Count: 20}), mixed(999,
			toll.TypeCount{Type: "car", Count: 60}),
		mixed(1000, toll.TypeCount{Type: "car", Count: 1000}), // after it
	}
	zoo := []toll.Pane{mixed(90, toll.TypeCount{Type: "bus", Count: 10},
		toll.TypeCount{Type: "car", Count: 70}, toll.TypeCount{Type: "motorcycle", Count: 8},
		toll.TypeCount{Type: "truck", Count: 12})}
	for _, c := range []struct {
		name  string
		panes []toll.Pane
		end   toll.Minute
		plaza toll.Plaza
		eq    string
		want  string // counts of quarter/hour, heavy ones, then the figures
	}{
		// PHF = 300/(4·120); f = 1/(1 + 20/120); demand = 4·120/f; v = 300/(0.625·0.9375) with f = 1/(1 +
		// 20/300) of the hour.
		{"an hour", hour, 1000, toll.Plaza{ID: 7, Lanes: 2}, "",
			"120/300 heavy 20/20 flow 480 headway 7.5 share 0.1667 f 0.8571 PHF 0.625 v 512 demand 560 " +
				"v/c 0.4308"},
		// One minute later the quarters are 40 (10 have gone), 60+0, …: 20+60, 30, 60+40, 80+1000.
		{"a minute later", hour, 1001, toll.Plaza{}, "",
			"1080/1290 heavy 20/20 flow 4320 headway 0.8333 share 0.01852 f 0.9818 PHF 0.2986 v 4387 " +
				"demand 4400 v/c none"},
		// f = 1/(1 + 0.10·1.5 + 0.12·1 + 0.08·(−0.5)) = 1/1.23
		{"several types", zoo, 100, toll.Plaza{Lanes: 1, CapacityPerLane: 984}, "bus=2.5,motorcycle=0.5",
			"100/100 heavy 22/22 flow 400 headway 9 share 0.22 f 0.813 PHF 0.25 v 492 demand 492 v/c 0.5"},
		{"a quarter without a vehicle", zoo, 106, toll.Plaza{Lanes: 1, CapacityPerLane: 984},
			"bus=2.5,motorcycle=0.5",
			"0/100 heavy 0/22 flow 0 headway none share none f 1 PHF 0.25 v 492 demand 0 v/c 0"},
		{"nothing", nil, 100, toll.Plaza{Lanes: 2}, "",
			"0/0 heavy 0/0 flow 0 headway none share none f 1 PHF none v 0 demand 0 v/c 0"},
		{"panes without counts", []toll.Pane{{Start: 99}}, 100, toll.Plaza{}, "",
			"0/0 heavy 0/0 flow 0 headway none share none f 1 PHF none v 0 demand 0 v/c none"},
		{"the beginning of time",
			[]toll.Pane{mixed(math.MinInt32, toll.TypeCount{Type: "car", Count: 15})}, math.MinInt32 + 1,
			toll.Plaza{}, "",
			"15/15 heavy 0/0 flow 60 headway 60 share 0 f 1 PHF 0.25 v 60 demand 60 v/c none"},
		{"an even flow", []toll.Pane{mixed(40, toll.TypeCount{Type: "car", Count: 9}),
			mixed(55, toll.TypeCount{Type: "car", Count: 9}),
			mixed(70, toll.TypeCount{Type: "car", Count: 9}), mixed(85,
				toll.TypeCount{Type: "car", Count: 9})},
			100, toll.Plaza{}, "",
			"9/36 heavy 0/0 flow 36 headway 100 share 0 f 1 PHF 1 v 36 demand 36 v/c none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eq, err := ParseEquivalents(c.eq)
			if err != nil {
				t.Fatal(err)
			}
			m := measureAt(c.panes, c.end, c.plaza, eq)
			got := fmt.Sprintf(
				"%d/%d heavy %d/%d flow %.4g headway %s share %s f %.4g PHF %s v %.4g demand %.4g v/c %s",
				m.Count15, m.Count60, m.Heavy15, m.Heavy60, m.FlowPerHour, show(m.HeadwaySeconds),
				show(m.HeavyShare), m.HeavyFactor,
				show(m.PHF), m.PassengerCarFlow, m.Throughput, show(m.VC))
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if m.Plaza != c.plaza.ID || m.End != c.end {
				t.Errorf("plaza %d, end %d", m.Plaza, m.End)
			}
		})
	}
}

func TestMeasureAgainst(t *testing.T) {
	for _, c := range []struct {
		usual Usual
		z     string
	}{
		{Usual{}, "none"},
		{Usual{Median: 50, MAD: 4, N: 2}, "none"},
		{Usual{Median: 50, MAD: 4, N: 3}, "-1.428"}, // 3·(∛(43/53) − 1)·√50
	} {
		m := Measure{Count15: 40}
		m.Against(c.usual)
		if show(m.Z) != c.z || (m.Usual != nil) != (c.usual.N > 0) {
			t.Errorf("%+v: usual %v, z %s; want z %s", c.usual, m.Usual, show(m.Z), c.z)
		}
	}
}

func TestMeasureJSON(t *testing.T) {
	nothing := measureAt(nil, 100, toll.Plaza{ID: 7}, nil)
	text, err := json.Marshal(nothing)
	if want :=
		`{"plaza":7,"end":100,"count_15":0,"count_60":0,"heavy_15":0,"heavy_60":0,"flow_per_hour":0,"heavy_factor":1,"passenger_car_flow":0,"demand":0}`; err != nil || string(text) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, text, want)
	}
	full := measureAt([]toll.Pane{mixed(99, toll.TypeCount{Type: "car", Count: 5},
		toll.TypeCount{Type: "truck", Count: 2})}, 100,
		toll.Plaza{ID: 7, Lanes: 3}, DefaultEquivalents())
	full.Against(Usual{Median: 7, MAD: 1, N: 5}) // z is 0, and there all the same
	if text, err = json.Marshal(full); err != nil || !strings.Contains(string(text), `"z":0`) {
		t.Errorf("%s, %v", text, err)
	}
	var again Measure
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, full) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, again, full)
	}
}

// randomPanes returns panes with gaps, bursts and many types.
func randomPanes(r *rand.Rand, from, until toll.Minute) []toll.Pane {
	names := []string{"TRUCK", "bus", "car", "motorcycle", "truck", "van"}
	var panes []toll.Pane
	for m := from; m < until; m++ {
		if r.IntN(4) == 0 {
			continue
		}
		if r.IntN(60) == 0 {
			m += toll.Minute(r.IntN(200))
		}
		p := toll.Pane{Start: m}
		for _, name := range names {
			if r.IntN(2) == 0 {
				p.Types = append(p.Types, toll.TypeCount{Type: name, Count: r.Int64N(20)})
			}
		}
		panes = append(panes, p)
	}
	return panes
}

func TestSliderIsMeasureAt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	eq := Equivalents{"truck": 2.3, "bus": 1.7, "motorcycle": 0.45}
	plaza := toll.Plaza{ID: 7, Lanes: 2}
	for round := range 30 {
		panes := randomPanes(r, 1000, 2000)
		slider := NewSlider(panes, plaza, eq)
		for end := toll.Minute(950); end < 2400; end++ {
			if round%2 == 1 && r.IntN(3) == 0 {
				end += toll.Minute(r.IntN(150))
			}
			got, want := slider.MeasureAt(end), measureAt(panes, end, plaza, eq)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d, end %d\ngot  %+v\nwant %+v", round, end, got, want)
			}
		}
	}
}

func BenchmarkSlider(b *testing.B) {
	panes := randomPanes(rand.New(rand.NewPCG(1, 2)), 0, 1440)
	eq := DefaultEquivalents()
	b.ReportAllocs()
	for b.Loop() {
		slider := NewSlider(panes, toll.Plaza{Lanes: 2}, eq)
		for end := toll.Minute(1); end <= 1440; end++ {
			slider.MeasureAt(end)
		}
	}
}

// TestImpossibleThroughput lets more pass than the configured capacity, then as much as it.
func TestImpossibleThroughput(t *testing.T) {
	var a Assessment
	end := toll.Minute(1000)
	run := func(minutes int, text string) {
		t.Helper()
		for range minutes {
			m := measureOf(t, text)
			end++
			m.End = end
			a.assess(m)
		}
	}
	run(3, "vc 0.80")
	if a.State != Busy || a.CapacityWrong() {
		t.Fatalf("%+v", a)
	}
	run(3, "vc 2.13")
	if a.State != Free || !a.CapacityWrong() || a.Overrun == nil || a.Overrun.VC != 2.13 {
		t.Fatalf("%+v", a)
	}
	const wrong = "the capacity of 1,300 pc/h looks wrong: throughput was up to 213 % of it, so " +
		"correct lanes and capacity_per_lane in the plazas file"
	if !strings.HasSuffix(a.Why, wrong) {
		t.Errorf("why: %s", a.Why)
	}
	run(9, "vc 2.13 n 692 of 300")
	if a.State != AboveUsual || !strings.HasSuffix(a.Why, wrong) {
		t.Errorf("%s: %s", a.State, a.Why)
	}
	// What it was on the way up and down says nothing either, for a week.
	run(6*24*60, "vc 1.00")
	if a.State != Free {
		t.Errorf("%s: %s", a.State, a.Why)
	}
	run(24*60+3, "vc 1.00")
	if a.State != Saturated || a.CapacityWrong() {
		t.Errorf("a week after: %s: %s", a.State, a.Why)
	}

	// A corrected capacity counts at once.
	run(1, "vc 2.13")
	m := measureOf(t, "vc 0.90")
	m.End, m.Capacity = end+1, new(2770.0)
	if a.assess(m); a.CapacityWrong() {
		t.Errorf("%+v", a)
	}
}

// TestDoubtfulCapacity lets a little more pass than what may be right.
func TestDoubtfulCapacity(t *testing.T) {
	for _, c := range []struct {
		vc              float64
		doubtful, wrong bool
	}{{1.10, false, false}, {1.11, true, false}, {1.26, true, false}, {1.27, true, true}} {
		a := Assessment{}
		for i := range 3 {
			m := Measure{Plaza: 7, End: toll.Minute(100 + i), Count15: 400, Count60: 1600, Lanes: 2,
				Capacity: new(1300.0), VC: new(c.vc)}
			a.assess(m)
		}
		if a.CapacityWrong() != c.doubtful || (a.Overrun != nil) != c.wrong ||
			(a.State == Saturated) == c.wrong {
			t.Errorf("%v: %s, %+v", c.vc, a.State, a)
		}
	}
}

// days returns quarters of an hour of some days, from 1970-01-01 on.
func days(n int, cars func(day, quarter int) float64) []QuarterFlow {
	var all []QuarterFlow
	for day := range n {
		for quarter := range SlotsPerDay {
			all = append(all, QuarterFlow{Cars: cars(day, quarter),
				Start: toll.Minute(day*1440 + quarter*toll.Quarter)})
		}
	}
	return all
}

func TestLearnCapacity(t *testing.T) {
	utc := zoneOf(t, "UTC")
	// a peak that is cut off, at 800 cars a quarter with a per cent of noise
	cut := func(day, quarter int) float64 {
		return min(1000*math.Exp(-math.Pow(float64(quarter-32)/8, 2)), 800+8*float64((quarter*7+day)%3-1))
	}
	b, ok := LearnCapacity(utc, days(20, cut))
	if !ok || math.Abs(b.CarsPerHour-3200) > 64 || b.Days != 20 {
		t.Errorf("a cut peak: %+v, %v", b, ok)
	}
	// one day of everything twice, and one burst, move nothing
	b, _ = LearnCapacity(utc, days(20, func(day, quarter int) float64 {
		switch {
		case day == 5:
			return 2 * cut(day, quarter)
		case day == 6 && quarter == 40:
			return 50_000
		}
		return cut(day, quarter)
	}))
	if math.Abs(b.CarsPerHour-3200) > 64 || b.Days != 20 {
		t.Errorf("with a wrong day: %+v", b)
	}
	// a pointed peak has its plateau below the top: a bound
	b, ok = LearnCapacity(utc, days(20, func(_, quarter int) float64 {
		return max(0, 800-100*math.Abs(float64(quarter-32)))
	}))
	if ok && b.CarsPerHour >= 3200 {
		t.Errorf("a pointed peak: %+v", b)
	}
	if b, ok := LearnCapacity(utc, days(4, cut)); ok {
		t.Errorf("four days: %+v", b)
	}
	if b, ok := LearnCapacity(utc, nil); ok {
		t.Errorf("none: %+v", b)
	}
	// quarters that are missing are no plateau
	var few []QuarterFlow
	for _, q := range days(20, cut) {
		if q.Start/toll.Quarter%3 != 0 {
			few = append(few, q)
		}
	}
	if b, ok := LearnCapacity(utc, few); ok {
		t.Errorf("with gaps: %+v", b)
	}
}

func zoneOf(t testing.TB, name string) *toll.Zone {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return toll.NewZone(loc)
}

func wall(t testing.TB, s string) toll.WallTime {
	t.Helper()
	at, err := time.Parse(time.DateTime, s)
	if err != nil {
		t.Fatal(err)
	}
	return toll.WallTimeOf(at)
}

// assess judges one more minute, and writes the sentence that Run writes once at its end.
func (a *Assessment) assess(m Measure) (Transition, bool) {
	change, said := a.judge(&m)
	if said == confirmed {
		a.Why = why(a.State, a.Quiet, a.Overrun, &m) + a.kindOfDay(a.State, a.Since, &m)
	}
	return change, said == changed
}

// measureAt returns the measure of a plaza at the end of a minute, from panes of a minute,
// ascending. A minute without a pane is one without a vehicle.
func measureAt(panes []toll.Pane, end toll.Minute, plaza toll.Plaza, eq Equivalents) Measure {
	var sum tally
	for i := range panes {
		p := &panes[i]
		if ago := int64(end) - int64(p.Start); ago > 0 && ago <= toll.MeasureSpan {
			sum.add(3-int(ago-1)/toll.Quarter, p, 1, eq)
		}
	}
	return sum.measure(end, &plaza)
}
