package simulate_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// monday is a Monday's midnight.
var monday = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// road is one of five plazas, 10 km apart.
func road() []toll.Plaza {
	var plazas []toll.Plaza
	for i, volume := range []float64{30_000, 36_000, 42_000, 33_000, 12_000} {
		plazas = append(plazas, toll.Plaza{ID: int16(1 + i), Road: "A1", PositionKm: 10 * float64(i),
			Lanes: 6, VehiclesPerDay: volume, HeavyShare: 0.1})
	}
	return plazas
}

// drive returns the events and the truth of a configuration with an end.
func drive(t testing.TB, cfg simulate.TripsConfig) (events []passed, truths []simulate.Truth) {
	t.Helper()
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	cfg.Truth = func(x simulate.Truth) { truths = append(truths, x) }
	trips, err := simulate.NewTrips(cfg)
	if err != nil {
		t.Fatal(err)
	}
	last := cfg.Start
	for {
		var e toll.Event
		at, ok := trips.Next(&e)
		if !ok {
			return events, truths
		}
		if at.Before(last) || !at.Before(cfg.End) || e.Time != toll.WallTimeOf(at) {
			t.Fatalf("%+v at %v, after one at %v, of [%v, %v)", e, at, last, cfg.Start, cfg.End)
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		last = at
		events = append(events, passed{at, e})
	}
}

// tripsOf returns a length of days that are like each other.
func tripsOf(length time.Duration) simulate.TripsConfig {
	return simulate.TripsConfig{ProfileConfig: simulate.ProfileConfig{Plazas: road(), Start: monday,
		End: monday.Add(length), Seed: 1}}
}

func TestTripsMeetTheVolumes(t *testing.T) {
	events, truths := drive(t, tripsOf(24*time.Hour))
	counts := map[int16]float64{}
	for _, p := range events {
		counts[p.e.Plaza]++
	}
	for _, p := range road() {
		if got := counts[p.ID]; math.Abs(got/p.VehiclesPerDay-1) > 0.02 {
			t.Errorf("plaza %d: %v vehicles, want %v", p.ID, got, p.VehiclesPerDay)
		}
	}
	far, near := 0, 0
	for _, x := range truths {
		switch {
		case x.Trip && x.From == 1 && x.To == 4:
			far += x.Vehicles
		case x.Trip && x.From == 1 && x.To == 2:
			near += x.Vehicles
		}
	}
	if far == 0 || near < far {
		t.Errorf("%d trips from 1 to 4, %d from 1 to 2", far, near)
	}
}

func TestTripsSameSeedSameVehicles(t *testing.T) {
	cfg := tripsOf(8 * time.Hour)
	cfg.Variation = 1
	events, _ := drive(t, cfg)
	again, _ := drive(t, cfg)
	if !slices.Equal(events, again) {
		t.Error("the same configuration gives other events")
	}
	cfg.Seed = 2
	if other, _ := drive(t, cfg); other[0].e == events[0].e {
		t.Error("another seed gives the same events")
	}
	cfg.Seed = 1
	cfg.Start = cfg.Start.Add(4*time.Hour + 17*time.Second)
	later, _ := drive(t, cfg)
	events = slices.DeleteFunc(events, func(p passed) bool { return p.at.Before(cfg.Start) })
	if !slices.Equal(events, later) {
		t.Errorf("a later start changes the events: %d and %d", len(events), len(later))
	}
}

// gaps returns how long vehicles took from one plaza to another, by their ids.
func gaps(events []passed, from, to int16) (seconds []float64) {
	left := map[int32]time.Time{}
	for _, p := range events {
		switch at, seen := left[p.e.Vehicle]; {
		case p.e.Plaza == from:
			left[p.e.Vehicle] = p.at
		case p.e.Plaza == to && seen:
			seconds = append(seconds, p.at.Sub(at).Seconds())
			delete(left, p.e.Vehicle)
		}
	}
	slices.Sort(seconds)
	return seconds
}

func TestTripsTakeAsLongAsRealOnes(t *testing.T) {
	for _, stops := range []float64{0, 0.3} {
		cfg := tripsOf(12 * time.Hour)
		cfg.Stops = stops
		events, _ := drive(t, cfg)
		all := gaps(events, 2, 3)
		median := all[len(all)/2]
		if median < 310 || median > 380 { // 10 km
			t.Errorf("%v stop: %v seconds", stops, median)
		}
		var apart []float64
		long := 0.0
		for _, s := range all {
			apart = append(apart, math.Abs(s-median))
			if s > 300+simulate.ShortestStop.Seconds() {
				long++
			}
		}
		slices.Sort(apart)
		if r := apart[len(apart)/2] / median; stops == 0 && (r < 0.06 || r > 0.13) {
			t.Errorf("MAD / median %v", r)
		}
		if long /= float64(len(all)); math.Abs(long-stops) > 0.02 {
			t.Errorf("%v of the vehicles stop, want %v", long, stops)
		}
	}
}

// TestTripsWaitAtABlockage: half of the vehicles pass, the others come later.
func TestTripsWaitAtABlockage(t *testing.T) {
	usual := tripsOf(15 * time.Hour)
	usual.Start = monday.Add(11 * time.Hour)
	blocked := usual
	start, end := monday.Add(12*time.Hour), monday.Add(12*time.Hour+30*time.Minute)
	blocked.Incidents = []simulate.Incident{{Plaza: 3, Kind: simulate.Blockage, Size: 0.5,
		Start: start, End: end}}
	type sections = map[time.Time]simulate.Truth
	passing := func(cfg simulate.TripsConfig) (in float64, all int, section sections) {
		events, truths := drive(t, cfg)
		for _, p := range of(events, 3) {
			if all++; !p.at.Before(start) && p.at.Before(end) {
				in++
			}
		}
		section = sections{}
		for _, x := range truths {
			if !x.Trip && x.From == 2 && x.To == 3 {
				section[x.Start] = x
			}
		}
		return in, all, section
	}
	in, all, before := passing(usual)
	inBlocked, allBlocked, section := passing(blocked)
	if share := inBlocked / in; share < 0.45 || share > 0.55 {
		t.Errorf("%v of the vehicles pass", share)
	}
	if math.Abs(float64(all-allBlocked)) > 0.001*float64(all) {
		t.Errorf("%d pass on that day, %d with the blockage", all, allBlocked)
	}
	last := end.Add(-5 * time.Minute)
	slower := section[last].Median - before[last].Median
	if slower < 10*time.Minute || slower > 16*time.Minute {
		t.Errorf("at the end it takes %v longer, of it %v in the queue", slower, section[last].Delay)
	}
	if later := end.Add(90 * time.Minute); section[later].Delay > 20*time.Second {
		t.Errorf("90 minutes later they wait %v", section[later].Delay)
	}
}

// TestTripsOfALonelyPlaza has other vehicles in each direction, also where a road has one plaza.
func TestTripsOfALonelyPlaza(t *testing.T) {
	cfg := tripsOf(time.Hour)
	cfg.Plazas = cfg.Plazas[:1]
	events, _ := drive(t, cfg)
	seen := map[passed]bool{}
	for _, p := range events {
		if seen[p] {
			t.Fatalf("%+v passed twice at %v", p.e, p.at)
		}
		seen[p] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d vehicles in an hour", len(seen))
	}
}

// TestTripsTurnAway: no vehicle waits for hours, so what is on the way is bounded.
func TestTripsTurnAway(t *testing.T) {
	cfg := tripsOf(20 * time.Hour)
	cfg.Incidents = []simulate.Incident{{Plaza: 3, Kind: simulate.Blockage,
		Start: monday.Add(6 * time.Hour), End: monday.Add(12 * time.Hour)}}
	events, truths := drive(t, cfg)
	for _, x := range truths {
		if x.Delay > 2*time.Hour {
			t.Errorf("%+v", x)
		}
	}
	for _, p := range of(events, 3) {
		if p.at.After(cfg.Incidents[0].Start.Add(time.Minute)) && p.at.Before(cfg.Incidents[0].End) {
			t.Fatalf("%+v passes at %v", p.e, p.at)
		}
	}
}

func TestTripsSurge(t *testing.T) {
	cfg := tripsOf(16 * time.Hour)
	cfg.Start = monday.Add(13 * time.Hour)
	count := func() (in float64) {
		events, _ := drive(t, cfg)
		for _, p := range of(events, 5) {
			if !p.at.Before(monday.Add(14*time.Hour)) && p.at.Before(monday.Add(15*time.Hour)) {
				in++
			}
		}
		return in
	}
	usual := count()
	cfg.Incidents = []simulate.Incident{{Plaza: 5, Kind: simulate.Surge, Size: 3,
		Start: monday.Add(14 * time.Hour), End: monday.Add(15 * time.Hour)}}
	near(t, "with the surge", count(), 3*usual)
}

// TestTripsAreReadBadly: some vehicles are not read, some twice, and some share an id.
func TestTripsAreReadBadly(t *testing.T) {
	cfg := tripsOf(12 * time.Hour)
	all, truths := drive(t, cfg)
	cfg.Unread = 0.1
	some, same := drive(t, cfg)
	near(t, "read", float64(len(some)), 0.9*float64(len(all)))
	if !slices.Equal(truths, same) {
		t.Error("the truth depends on what is read")
	}
	double, shared := 0.0, 0.0
	last := map[toll.Event]time.Time{}
	for _, p := range all {
		key := toll.Event{Vehicle: p.e.Vehicle, Plaza: p.e.Plaza}
		if at, seen := last[key]; seen && p.at.Sub(at) < 4*time.Second {
			double++
		}
		last[key] = p.at
		if p.e.Vehicle < simulate.MinVehicle+1000 {
			shared++
		}
	}
	for what, got := range map[string]float64{"read twice": double, "with a shared id": shared} {
		if share := got / float64(len(all)); share < 0.004 || share > 0.006 {
			t.Errorf("%s: %v", what, share)
		}
	}
}

// TestTripsWithoutPositions: plazas of which nothing but the number is known are on one road.
func TestTripsWithoutPositions(t *testing.T) {
	cfg := tripsOf(9 * time.Hour)
	cfg.Plazas = []toll.Plaza{simulate.DefaultPlaza(9), simulate.DefaultPlaza(8),
		simulate.DefaultPlaza(7)}
	_, truths := drive(t, cfg)
	sections := map[[2]int16]bool{}
	for _, x := range truths {
		if !x.Trip {
			sections[[2]int16{x.From, x.To}] = true
		}
	}
	if len(sections) != 4 || !sections[[2]int16{7, 8}] || !sections[[2]int16{9, 8}] {
		t.Errorf("sections %v", sections)
	}
}

func TestTripsConfig(t *testing.T) {
	cfg := tripsOf(time.Hour)
	cfg.Stops, cfg.Unread, cfg.Plazas = 0.95, -1, nil
	_, err := simulate.NewTrips(cfg)
	const want = "no plaza to simulate\nno location\nthe stops 0.95 are not from 0 to 0.9\n" +
		"the unread -1 are not from 0 to 0.5"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestTruthWriter(t *testing.T) {
	var b strings.Builder
	w := simulate.NewTruthWriter(&b)
	w.Write(simulate.Truth{Start: monday, From: 4006, To: 4007, Vehicles: 41,
		Median: 151_400 * time.Millisecond, P95: 3 * time.Minute, Delay: 950 * time.Millisecond})
	w.Write(simulate.Truth{Start: monday, Trip: true, From: 4006, To: 4006, Vehicles: 2})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	const want = `start,kind,from,to,vehicles,median_s,p95_s,delay_s
2026-03-02 00:00:00,section,4006,4007,41,151.4,180.0,0.9
2026-03-02 00:00:00,trip,4006,4006,2,0,0,0
`
	if b.String() != want {
		t.Errorf("got\n%s", &b)
	}
}
