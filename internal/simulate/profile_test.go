package simulate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// busy is a plaza with so many vehicles that most of an hour's shares are known within a per cent.
func busy(id int16) toll.Plaza {
	return toll.Plaza{ID: id, Lanes: 100, VehiclesPerDay: 300_000, HeavyShare: 0.1}
}

// near fails unless a count is what a Poisson distribution of that mean has, but for 1 in a
// million.
func near(t testing.TB, what string, got, mean float64) {
	t.Helper()
	if math.Abs(got-mean) > 5*math.Sqrt(mean) {
		t.Errorf("%s: %v, want about %.0f", what, got, mean)
	}
}

// share returns the share of an hour after sharpening.
func share(table [24]float64, peak float64, hour int) float64 {
	sum := 0.0
	for _, s := range table {
		sum += math.Pow(s, peak)
	}
	return math.Pow(table[hour], peak) / sum
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func profile(t testing.TB, cfg simulate.ProfileConfig) *simulate.Profile {
	t.Helper()
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	p, err := simulate.NewProfile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// passed is an event and its instant.
type passed struct {
	at time.Time
	e  toll.Event
}

// all returns the events of a configuration with an end, after it held each to what events must be.
func all(t testing.TB, cfg simulate.ProfileConfig) []passed {
	t.Helper()
	p := profile(t, cfg)
	var events []passed
	last := cfg.Start
	for {
		var e toll.Event
		at, ok := p.Next(&e)
		if !ok {
			break
		}
		if at.Before(last) || !at.Before(cfg.End) {
			t.Fatalf("an event at %v, after one at %v, of [%v, %v)", at, last, cfg.Start, cfg.End)
		}
		if e.Time != toll.WallTimeOf(at) {
			t.Fatalf("the event at %v shows %v", at, e.Time)
		}
		if err := e.Validate(); err != nil || e.Vehicle < simulate.MinVehicle ||
			e.Vehicle > simulate.MaxVehicle {
			t.Fatalf("%+v: %v", e, err)
		}
		last = at
		events = append(events, passed{at, e})
	}
	if _, ok := p.Next(new(toll.Event)); ok {
		t.Fatal("an event after the end")
	}
	return events
}

// hours counts the events of each hour of the wall clock.
func hours(events []passed) (counts [24]int) {
	for _, p := range events {
		_, second := p.e.Time.Day()
		counts[second/3600]++
	}
	return counts
}

// The measured shares, as the issue states them, in per cent.
var (
	weekday = [24]float64{2.06, 1.35, .96, .96, 1.84, 2.96, 5.08, 5.92, 6.27, 6.02, 5.43, 5.08, 4.91,
		4.89, 5.09, 5.23, 5.20, 5.13, 5.16, 4.79, 4.18, 4.30, 4.00, 3.18}
	weekend = [24]float64{3.48, 2.81, 2.11, 1.69, 1.64, 1.97, 2.98, 3.42, 4.14, 4.39, 4.93, 5.27, 5.41,
		5.51, 5.61, 5.63, 5.62, 5.56, 5.48, 5.13, 4.63, 4.62, 4.35, 3.60}
)

// TestDayFollowsTheTable holds a day's hours to the table by the chi-square test: 23 degrees of
// freedom, 1 in 100,000 days is as far off as 69.
func TestDayFollowsTheTable(t *testing.T) {
	for _, c := range []struct {
		name  string
		day   int // of March 2026, whose first is a Sunday
		peak  float64
		table [24]float64
	}{
		{"a Monday as measured", 2, 1, weekday},
		{"a Saturday as measured", 7, 1, weekend},
		{"a Friday, sharpened", 6, 1.3, weekday},
		{"a Sunday, sharpened by default", 8, 0, weekend},
		{"a Tuesday, flattened", 3, 0.5, weekday},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Date(2026, 3, c.day, 0, 0, 0, 0, time.UTC)
			plaza := busy(4000)
			events := all(t, simulate.ProfileConfig{Plazas: []toll.Plaza{plaza}, Start: start,
				End: start.AddDate(0, 0, 1), Seed: 1, Peak: c.peak})
			peak := c.peak
			if peak == 0 {
				peak = simulate.DefaultPeak
			}
			chi := 0.0
			for h, got := range hours(events) {
				want := plaza.VehiclesPerDay * share(c.table, peak, h)
				chi += (float64(got) - want) * (float64(got) - want) / want
				near(t, fmt.Sprintf("hour %d", h), float64(got), want)
			}
			if chi > 69 {
				t.Errorf("chi-square %.1f", chi)
			}
			near(t, "the day", float64(len(events)), plaza.VehiclesPerDay)
		})
	}
}

// TestArrivalsArePoisson compares variance and mean of seconds within one minute's rate, and their
// correlation.
func TestArrivalsArePoisson(t *testing.T) {
	start := time.Date(2026, 3, 2, 14, 0, 0, 0, time.UTC) // a flat hour
	events := all(t, simulate.ProfileConfig{Plazas: []toll.Plaza{busy(1)}, Start: start,
		End: start.Add(time.Hour), Seed: 2})
	var seconds [3600]float64
	for _, p := range events {
		seconds[p.at.Unix()-start.Unix()]++
	}
	mean := float64(len(events)) / 3600
	variance, next := 0.0, 0.0
	for i, n := range seconds {
		variance += (n - mean) * (n - mean) / 3600
		if i > 0 {
			next += (n - mean) * (seconds[i-1] - mean) / 3600
		}
	}
	if r := variance / mean; r < 0.9 || r > 1.1 {
		t.Errorf("variance over mean of a second's vehicles: %v", r)
	}
	if r := next / variance; math.Abs(r) > 0.08 {
		t.Errorf("correlation of neighbouring seconds: %v", r)
	}
}

func TestPlazasDiffer(t *testing.T) {
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	plazas := []toll.Plaza{
		{ID: 1, VehiclesPerDay: 200_000, HeavyShare: 0.3},
		{ID: 2, VehiclesPerDay: 50_000},
		{ID: 3, Lanes: 6},
		{ID: 4, HeavyShare: 1},
	}
	counts, types := map[int16]int{}, map[int16]map[string]int{}
	for _, p := range all(t,
		simulate.ProfileConfig{Plazas: plazas, Start: start, End: start.AddDate(0, 0, 1), Seed: 3}) {
		counts[p.e.Plaza]++
		if types[p.e.Plaza] == nil {
			types[p.e.Plaza] = map[string]int{}
		}
		types[p.e.Plaza][p.e.Type]++
	}
	near(t, "plaza 1", float64(counts[1]), 200_000)
	near(t, "plaza 2", float64(counts[2]), 50_000)
	near(t, "plaza 3, by its lanes", float64(counts[3]), 6*simulate.DefaultPerLane)
	near(t, "plaza 4, by the default lanes", float64(counts[4]),
		simulate.DefaultLanes*simulate.DefaultPerLane)
	near(t, "trucks of plaza 1", float64(types[1]["truck"]), 60_000)
	near(t, "cars of plaza 1", float64(types[1]["car"]), 140_000*11.0/13)
	near(t, "vans of plaza 1", float64(types[1]["van"]), 140_000*2.0/13)
	if types[2]["truck"] != 0 || types[4]["truck"] != counts[4] {
		t.Errorf("trucks: %v of plaza 2, %v of plaza 4", types[2]["truck"], types[4]["truck"])
	}
}

func of(events []passed, plaza int16) []passed {
	return slices.DeleteFunc(slices.Clone(events), func(p passed) bool { return p.e.Plaza != plaza })
}

func TestSameSeedSameVehicles(t *testing.T) {
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	cfg := simulate.ProfileConfig{Plazas: []toll.Plaza{simulate.DefaultPlaza(1),
		simulate.DefaultPlaza(2)}, Start: start, End: start.Add(3 * time.Hour), Seed: 4}
	events := all(t, cfg)
	if len(events) < 5000 {
		t.Fatalf("%d events", len(events))
	}
	if !slices.Equal(events, all(t, cfg)) {
		t.Error("the same configuration gives other events")
	}
	other := cfg
	other.Seed = 5
	if a, b := of(events, 1)[0].e, of(all(t, other), 1)[0].e; a.Vehicle == b.Vehicle {
		t.Error("another seed gives the same events")
	}
	if of(events, 1)[0].e.Vehicle == of(events, 2)[0].e.Vehicle {
		t.Error("two plazas have the same events")
	}
	// More plazas, in another order, change no other plaza's.
	more := cfg
	more.Plazas = []toll.Plaza{simulate.DefaultPlaza(-7), simulate.DefaultPlaza(2),
		simulate.DefaultPlaza(3), simulate.DefaultPlaza(1)}
	with := all(t, more)
	for _, plaza := range []int16{1, 2} {
		if !slices.Equal(of(events, plaza), of(with, plaza)) {
			t.Errorf("more plazas change the events of plaza %d", plaza)
		}
	}
	// A later start, within a minute, and an earlier end cut the events and change none.
	part := cfg
	part.Start, part.End = start.Add(61*time.Minute+17*time.Second), start.Add(90*time.Minute+1)
	want := slices.DeleteFunc(slices.Clone(events), func(p passed) bool {
		return p.at.Before(part.Start) || !p.at.Before(part.End)
	})
	if !slices.Equal(want, all(t, part)) {
		t.Error("another start or end changes the events")
	}
}

// TestKnownEvents holds the stream of a seed to what it was: a change of it breaks what people have
// noted down.
func TestKnownEvents(t *testing.T) {
	p := profile(t,
		simulate.ProfileConfig{Plazas: sample(t), Start: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC),
			Seed: 1})
	var got strings.Builder
	for range 4 {
		var e toll.Event
		at, _ := p.Next(&e)
		fmt.Fprintf(&got, "%s %d %s %d\n", at.Format("15:04:05.000000"), e.Vehicle, e.Type, e.Plaza)
	}
	const want = `08:00:00.096117 1114399 car 4004
08:00:00.097639 1964427 car 4000
08:00:00.109929 2664895 car 4001
08:00:00.229958 6045117 car 4001
`
	if got.String() != want {
		t.Errorf("got\n%s", &got)
	}
}

func TestOwnClock(t *testing.T) {
	// Two plazas with the same day, on clocks nine hours apart; events show the time of a third.
	start := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	tokyo, berlin := busy(1), busy(2)
	tokyo.Timezone, berlin.Timezone = "Asia/Tokyo", ""
	zone(t, tokyo.Timezone)
	events := all(t, simulate.ProfileConfig{
		Plazas: []toll.Plaza{tokyo, berlin}, Location: zone(t, "Europe/Berlin"), Start: start,
		End: start.AddDate(0, 0, 1), Seed: 6,
	})
	for plaza, offset := range map[int16]int{1: 9 - 1, 2: 0} {
		counts := hours(of(events, plaza))
		for h, got := range counts {
			near(t, fmt.Sprintf("plaza %d, hour %d", plaza, h), float64(got),
				300_000*share(weekday, simulate.DefaultPeak, (h+offset)%24))
		}
	}
}

// TestClocksChange: the day that is short lacks the hour's vehicles, the one that is long has them
// twice.
func TestClocksChange(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		start time.Time
		long  time.Duration
		times float64 // how often 02:00 to 03:00 is
	}{
		{time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 23 * time.Hour, 0},
		{time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 25 * time.Hour, 2},
	} {
		end := c.start.AddDate(0, 0, 1)
		if end.Sub(c.start) != c.long {
			t.Fatal(end)
		}
		plaza := busy(1)
		counts := hours(all(t, simulate.ProfileConfig{Plazas: []toll.Plaza{plaza}, Location: berlin,
			Start: c.start, End: end, Seed: 7}))
		for h, got := range counts {
			want := plaza.VehiclesPerDay * share(weekend, simulate.DefaultPeak, h)
			if h == 2 {
				want *= c.times
			}
			near(t, fmt.Sprintf("%v, hour %d", c.start, h), float64(got), want)
		}
	}
}

func TestIncidents(t *testing.T) {
	start := time.Date(2026, 3, 2, 14, 0, 0, 0, time.UTC)
	cfg := simulate.ProfileConfig{Plazas: []toll.Plaza{busy(1), busy(2)}, Start: start,
		End: start.Add(3 * time.Hour), Seed: 8}
	usual := all(t, cfg)
	at := func(m, s int) time.Time { return start.Add(time.Duration(m*60+s) * time.Second) }
	cfg.Incidents = []simulate.Incident{
		{Plaza: 1, Kind: simulate.Surge, Start: at(100, 20), End: at(120, 0), Size: 2.5},
		{Plaza: 1, Kind: simulate.Blockage, Start: at(20, 30), End: at(50, 10), Size: 0.05},
		{Plaza: 1, Kind: simulate.Blockage, Start: at(50, 10), End: at(50, 40), Size: 0},
	}
	events := all(t, cfg)
	count := func(events []passed, from, until time.Time) (n float64) {
		for _, p := range events {
			if p.e.Plaza == 1 && !p.at.Before(from) && p.at.Before(until) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		from, until time.Time
		flow        float64
	}{
		{at(0, 0), at(20, 30), 1},
		{at(20, 30), at(20, 45), 0.05},
		{at(20, 30), at(50, 10), 0.05},
		{at(50, 10), at(50, 40), 0},
		{at(50, 40), at(51, 0), 1},
		{at(51, 0), at(100, 0), 1},
		{at(100, 0), at(100, 20), 1},
		{at(100, 20), at(101, 0), 2.5},
		{at(100, 20), at(120, 0), 2.5},
		{at(120, 0), at(180, 0), 1},
	} {
		got, want := count(events, c.from, c.until), c.flow*count(usual, c.from, c.until)
		// What is random in both: the difference of two Poisson counts.
		if math.Abs(got-want) > 5*math.Sqrt(want*(1+c.flow)) {
			t.Errorf("%v to %v: %v vehicles, want about %v", c.from, c.until, got, want)
		}
	}
	if !slices.Equal(of(usual, 2), of(events, 2)) {
		t.Error("an incident changes another plaza")
	}
	// A blockage takes vehicles away and changes no other; after an incident all is as it would have
	// been.
	known := map[passed]bool{}
	for _, p := range usual {
		known[p] = true
	}
	for _, p := range of(events, 1) {
		if outside := p.at.Before(at(100, 0)) || !p.at.Before(at(120, 0)); outside && !known[p] {
			t.Fatalf("%v is none of the usual events", p)
		}
	}
}

func TestProfileConfigReportsAll(t *testing.T) {
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	incident := func(plaza int16, kind string, size float64, from,
		to time.Duration) simulate.Incident {
		return simulate.Incident{Plaza: plaza, Kind: kind, Size: size, Start: start.Add(from),
			End: start.Add(to)}
	}
	cfg := simulate.ProfileConfig{
		Plazas: []toll.Plaza{{ID: 1}, {ID: 2, VehiclesPerDay: 0.5}, {ID: 1}},
		Start:  start, End: start.AddDate(0, 0, 1), Peak: 11, Location: time.UTC,
		Incidents: []simulate.Incident{
			incident(1, simulate.Blockage, 0.05, time.Hour, 2*time.Hour),
			incident(3, simulate.Blockage, 0.05, time.Hour, 2*time.Hour),
			incident(1, "flood", 1, 3*time.Hour, 4*time.Hour),
			incident(1, simulate.Blockage, 1, 3*time.Hour, 4*time.Hour),
			incident(1, simulate.Blockage, math.NaN(), 3*time.Hour, 4*time.Hour),
			incident(1, simulate.Surge, 1, 3*time.Hour, 4*time.Hour),
			incident(1, simulate.Surge, 101, 3*time.Hour, 4*time.Hour),
			incident(2, simulate.Surge, 2, 4*time.Hour, 4*time.Hour),
			incident(2, simulate.Surge, 2, -time.Second, time.Hour),
			incident(2, simulate.Surge, 2, 23*time.Hour, 24*time.Hour+1),
			incident(1, simulate.Surge, 2, 119*time.Minute, 3*time.Hour),
			incident(2, simulate.Surge, 2, 119*time.Minute, 3*time.Hour),
		},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	const want = `plaza 2: 0.5 vehicles a day, want 1 to 50000000
plaza 1 is there twice
the peak 11 is not above 0 and at most 10
incident 3,2026-03-02 01:00:00,1h0m0s,blockage,0.05: the plaza is not simulated
incident 1,2026-03-02 03:00:00,1h0m0s,flood,1: the kind "flood" is neither blockage nor surge
incident 1,2026-03-02 03:00:00,1h0m0s,blockage,1: the size 1 of a blockage is not from 0 to below 1
incident 1,2026-03-02 03:00:00,1h0m0s,blockage,NaN: the size NaN of a blockage is not from 0 to below 1
incident 1,2026-03-02 03:00:00,1h0m0s,surge,1: the size 1 of a surge is not above 1 and at most 100
incident 1,2026-03-02 03:00:00,1h0m0s,surge,101: the size 101 of a surge is not above 1 and at most 100
incident 2,2026-03-02 04:00:00,0s,surge,2: the length 0s is not above 0
incident 2,2026-03-01 23:59:59,1h0m1s,surge,2: it starts before the first event, 2026-03-02 00:00:00
incident 2,2026-03-02 23:00:00,1h0m0.000000001s,surge,2: it ends at 2026-03-03 00:00:00, after the last event, 2026-03-03 00:00:00
incident 1,2026-03-02 01:59:00,1h1m0s,surge,2: it overlaps the blockage from 2026-03-02 01:00:00`
	if err.Error() != want {
		t.Errorf("got\n%v", err)
	}
	if _, err := simulate.NewProfile(cfg); err == nil {
		t.Error("NewProfile takes it")
	}
	for _, bad := range []simulate.ProfileConfig{
		{Location: time.UTC, Start: start},
		{Plazas: []toll.Plaza{{ID: 1}}, Start: start},
		{Plazas: []toll.Plaza{{ID: 1}}, Location: time.UTC},
		{Plazas: []toll.Plaza{{ID: 1}}, Location: time.UTC, Start: start, End: start},
		{Plazas: []toll.Plaza{{ID: 1}}, Location: time.UTC, Start: start.AddDate(8000, 0, 0)},
		{Plazas: []toll.Plaza{{ID: 1}}, Location: time.UTC, Start: start, End: start.AddDate(8000, 0, 0)},
	} {
		if _, err := simulate.NewProfile(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestEndOfTime: without an end the profile goes on to the last year, and before 1970 all is as
// after.
func TestEndOfTime(t *testing.T) {
	for _, start := range []time.Time{
		time.Date(9998, 12, 31, 23, 0, 0, 0, time.UTC),
		time.Date(1000, 1, 1, 0, 0, 30, 0, time.UTC),
	} {
		p := profile(t, simulate.ProfileConfig{Plazas: []toll.Plaza{simulate.DefaultPlaza(1)},
			Start: start, Seed: 9})
		var e toll.Event
		n := 0
		for ; n < 2000; n++ {
			at, ok := p.Next(&e)
			if !ok {
				break
			}
			if at.Before(start) || e.Validate() != nil {
				t.Fatalf("%v %+v", at, e)
			}
		}
		if last := start.Year() == 9998; last != (n < 2000) {
			t.Errorf("from %v on there are %d events", start, n)
		}
	}
}

func TestLabels(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	start := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 02:30, the first of two
	incidents := []simulate.Incident{
		{Plaza: 4001, Kind: simulate.Surge, Start: start.Add(time.Hour).UTC(),
			End: start.Add(2 * time.Hour), Size: 2.5},
		{Plaza: 4000, Kind: simulate.Blockage, Start: start, End: start.Add(20 * time.Minute),
			Size: 0.05},
	}
	var b bytes.Buffer
	if err := simulate.WriteLabels(&b, berlin, incidents); err != nil {
		t.Fatal(err)
	}
	const want = `{"plaza":4000,"kind":"blockage","size":0.05,"start":"2026-10-25T02:30:00+02:00","end":"2026-10-25T02:50:00+02:00","start_wall":"2026-10-25 02:30:00","end_wall":"2026-10-25 02:50:00"}
{"plaza":4001,"kind":"surge","size":2.5,"start":"2026-10-25T02:30:00+01:00","end":"2026-10-25T03:30:00+01:00","start_wall":"2026-10-25 02:30:00","end_wall":"2026-10-25 03:30:00"}
`
	if b.String() != want {
		t.Errorf("got\n%s", &b)
	}
	var l simulate.Label
	if err := json.NewDecoder(&b).Decode(&l); err != nil || !l.Start.Equal(start) || l.Plaza != 4000 {
		t.Errorf("%+v %v", l, err)
	}
}

func sample(t testing.TB) []toll.Plaza {
	t.Helper()
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		t.Fatal(err)
	}
	return plazas
}

// TestSamplePlazas holds the sample file to what its comment says.
func TestSamplePlazas(t *testing.T) {
	plazas := sample(t)
	var ids []int16
	over := 0
	for i := range plazas {
		p := &plazas[i]
		ids = append(ids, p.ID)
		// The busiest hour of a weekday has 6.87 % of the day; a truck takes the place of two cars.
		vc := p.VehiclesPerDay * 0.0687 * (1 + p.HeavyShare) / (float64(p.Lanes) * p.CapacityPerLane)
		t.Logf("plaza %d: v/c %.2f", p.ID, vc)
		switch {
		case vc > 1:
			over++
		case p.ID != 4010 && vc < 0.7:
			t.Errorf("plaza %d has a peak of only %.2f of what it can take", p.ID, vc)
		}
	}
	if over != 1 {
		t.Errorf("%d plazas are over what they can take, want one", over)
	}
	if !slices.Equal(ids, simulate.DefaultPlazas()) {
		t.Errorf("plazas %v", ids)
	}
	if p := plazas[0]; p.Name != "Boughton" || p.VehiclesPerDay != 86_640 || p.Lanes != 8+6 ||
		p.HeavyShare != 0.092 {
		t.Errorf("%+v", p)
	}
	if p := plazas[1]; p.Name != "Devon" || p.VehiclesPerDay != 88_090 || p.Lanes != 6+6 ||
		p.HeavyShare != 0.067 {
		t.Errorf("%+v", p)
	}
}

func BenchmarkProfile(b *testing.B) {
	p := profile(b,
		simulate.ProfileConfig{Plazas: sample(b), Start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
			Seed: 1})
	var e toll.Event
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.Next(&e); !ok {
			b.Fatal("the end")
		}
	}
}

// TestNoMorePassThanCan crowds a plaza with four times what it can take.
func TestNoMorePassThanCan(t *testing.T) {
	plaza := toll.Plaza{ID: 1, Lanes: 2, VehiclesPerDay: 70_000, HeavyShare: 0.1}
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	quarters := map[int]float64{}
	for _, p := range all(t, simulate.ProfileConfig{Plazas: []toll.Plaza{plaza}, Start: start,
		End: start.Add(10 * time.Hour), Variation: 1, Seed: 4, Incidents: []simulate.Incident{{Plaza: 1,
			Kind: simulate.Surge, Size: 3, Start: start.Add(5 * time.Hour),
			End: start.Add(7 * time.Hour)}}}) {
		cars := 1.0
		if p.e.Type == "truck" {
			cars = 2
		}
		quarters[int(p.at.Sub(start)/(15*time.Minute))] += cars
	}
	const capacity = 2 * 650 / 4
	for quarter := range 40 {
		if cars := quarters[quarter]; cars < 0.88*capacity || cars > 1.15*capacity {
			t.Errorf("quarter %d: %v passenger cars, of %v that can pass", quarter, cars, capacity)
		}
	}
}
