package traffic

import (
	"fmt"
	"math"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// ImpossibleVC is the throughput over capacity above which the capacity is wrong. Crossings are
// what a plaza discharges, so they never exceed what it can; the tenth allows for a quarter of an
// hour in which chance lets more pass, and for a lane that is opened for a while.
const ImpossibleVC = 1.1

// Percent returns throughput over capacity in whole per cent, rounded down: 99.8 % is not full.
func Percent(vc float64) float64 { return math.Floor(vc*100 + 1e-9) }

// Overrun is the proof that a configured capacity is too low: so much more than that passed in a
// quarter of an hour that chance does not explain it. Between [ImpossibleVC] and that the capacity
// is doubtful, and a plaza at which so much passes is saturated by it.
type Overrun struct {
	Capacity float64     `json:"capacity"` // that was configured, passenger cars per hour
	VC       float64     `json:"vc"`       // the highest throughput over it
	At       toll.Minute `json:"at"`       // the last end of a quarter of an hour with too much
}

// String is what an operator should do about it, to follow a sentence on a state; empty for nil.
func (o *Overrun) String() string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("; the capacity of %s pc/h looks wrong: throughput was up to %s %% of it, "+
		"so correct lanes and capacity_per_lane in the plazas file", grouped(o.Capacity),
		grouped(Percent(o.VC)))
}

const (
	// overrunMinutes is how long a capacity counts as wrong after the last time. It is a week, so that
	// a peak of every Monday keeps it wrong and a burst of events that were sent twice is forgotten.
	overrunMinutes = 7 * 24 * 60
	// overrunDeviations of a Poisson distribution are what chance does not explain.
	overrunDeviations = 3
)

// followOverrun takes the measure of one more minute.
func (a *Assessment) followOverrun(m *Measure) {
	if o := a.Overrun; o != nil && (m.Capacity == nil || *m.Capacity != o.Capacity ||
		int64(m.End)-int64(o.At) > overrunMinutes) {
		a.Overrun = nil
	}
	if m.VC == nil {
		return
	}
	full := *m.Capacity * float64(m.minutes()) / 60 // what can pass meanwhile
	if *m.VC <= ImpossibleVC+overrunDeviations/math.Sqrt(full) {
		return
	}
	next := Overrun{Capacity: *m.Capacity, VC: *m.VC, At: m.End}
	if a.Overrun != nil {
		next.VC = max(next.VC, a.Overrun.VC)
	}
	a.Overrun = &next
}

// CapacityWrong reports whether more than the configured capacity passes, or did in the last week.
func (a *Assessment) CapacityWrong() bool {
	return a.Overrun != nil || a.Last.overCapacity()
}

// overCapacity reports whether more passed in a whole quarter of an hour than the capacity allows.
// Of a few minutes, chance may have it so.
func (m *Measure) overCapacity() bool {
	return m.VC != nil && *m.VC > ImpossibleVC && m.Observed == 0
}

// vc returns throughput over capacity where that means something: nil where the capacity is not
// known, or known to be wrong.
func (a *Assessment) vc(m *Measure) *float64 {
	if a.Overrun != nil {
		return nil
	}
	return m.VC
}

// QuarterFlow is what passed in a quarter of an hour.
type QuarterFlow struct {
	Start toll.Minute
	Cars  float64 // passenger cars
}

// CapacityBound is what a plaza's capacity is at least, as far as its crossings show.
type CapacityBound struct {
	CarsPerHour float64 `json:"passenger_cars_per_hour"`
	// on how many days an hour of that, or up to 5 % less, passed
	Days int `json:"days"`
}

const (
	plateauQuarters = 4    // an hour
	plateauSpread   = 0.05 // how far a quarter of it may be from their mean, where more is no chance
	plateauDays     = 5    // that must reach the bound
)

// LearnCapacity returns a lower bound of a plaza's capacity from the quarters of an hour of some
// weeks, ascending; false where they show none.
//
// A plaza that has a queue discharges as much as it can, which shows as a plateau: the flow stays
// the same for long, day after day. So a plateau is an hour, of four quarters in a row, of which
// each is within 5 % of their mean, or within two standard deviations of a Poisson distribution
// where that is more. Each day's highest one counts, and the bound is what five days reach. This is
// the selected maxima method (Minderhoud, Botma, Bovy: Assessment of Roadway Capacity Estimation
// Methods, Transportation Research Record 1572, 1997), with a low order statistic in place of the
// mean, so that one day with wrong clocks or events that were sent twice moves nothing.
//
// It is a bound and no estimate: crossings don't show whether there was a queue, and a peak that
// never fills the plaza has a plateau too. So it must never raise a state: otherwise every daily
// peak would be at capacity. What it does show is a configured capacity that is too low.
func LearnCapacity(z *toll.Zone, quarters []QuarterFlow) (b CapacityBound, ok bool) {
	highest := map[int64]float64{} // of a date, passenger cars per hour
	for i := range len(quarters) - plateauQuarters + 1 {
		hour := quarters[i : i+plateauQuarters]
		if hour[plateauQuarters-1].Start-hour[0].Start != (plateauQuarters-1)*toll.Quarter {
			continue
		}
		sum := 0.0
		for _, q := range hour {
			sum += q.Cars
		}
		mean := sum / plateauQuarters
		allowed := max(plateauSpread*mean, 2*math.Sqrt(mean))
		if !slices.ContainsFunc(hour, func(q QuarterFlow) bool {
			return math.Abs(q.Cars-mean) > allowed
		}) {
			day := DayOf(z, hour[0].Start)
			highest[day] = max(highest[day], sum)
		}
	}
	if len(highest) < plateauDays {
		return b, false
	}
	var daily []float64
	for _, flow := range highest {
		daily = append(daily, flow)
	}
	slices.Sort(daily)
	slices.Reverse(daily)
	b.CarsPerHour = daily[plateauDays-1]
	for _, flow := range daily {
		if flow >= b.CarsPerHour*(1-plateauSpread) {
			b.Days++
		}
	}
	return b, b.CarsPerHour > 0
}
