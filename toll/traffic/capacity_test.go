package traffic

import (
	"math"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

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
