package journeys

import (
	"maps"
	"math"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Verdict says whether the ids of vehicles make journeys.
type Verdict uint8

// Verdicts.
const (
	TooFew      Verdict = iota // no pair of plazas has enough vehicles to tell
	HasJourneys                // travel times are what they seem
	RandomIDs                  // most pairs are chance: ids are drawn at random
)

func (v Verdict) String() string {
	return [...]string{"too few", "journeys", "no journeys: ids look random"}[v]
}

// Bounds of the verdict, and of what a number of vehicles can tell.
const (
	// MinVehicles is how many vehicles a pair of plazas needs before it is tested, or compared with.
	MinVehicles = 30
	// maxRandomness is between what chance gives and what vehicles do, see [Times.Randomness].
	maxRandomness = 0.35
	// minSeconds is less than any two plazas are apart. Where few random ids come fast, the next one
	// that is equal comes within seconds, always.
	minSeconds = 10
)

// Counts reports whether the times of a pair are those of vehicles that drive, and whether there
// are enough to tell.
func (t Times) Counts() (counts, tested bool) {
	if t.Vehicles() < MinVehicles {
		return false, false
	}
	return t.Alike(), true
}

// Alike reports whether the times of a pair are as alike as those of vehicles that drive. Of a few
// vehicles chance makes that, too.
func (t Times) Alike() bool {
	return t.Randomness() < maxRandomness && t.Median() >= minSeconds
}

// Verdict says whether pairs of plazas are journeys: where those that count hold at least half of
// the segments of all that can be tested, in the window and before it.
func (c *Counts) Verdict() Verdict {
	pairs := maps.Clone(c.Sections)
	for p, t := range c.Before {
		pairs[p] = Sum(pairs[p], t)
	}
	var counted, all int64
	for _, t := range pairs {
		counts, tested := t.Counts()
		if tested {
			all += t.Vehicles()
		}
		if counts {
			counted += t.Vehicles()
		}
	}
	switch {
	case all == 0:
		return TooFew
	case 2*counted < all:
		return RandomIDs
	}
	return HasJourneys
}

// Source says where a figure to compare with comes from.
type Source uint8

// Sources.
const (
	NoSource   Source = iota
	WeeksAgo          // the same window of the weeks before
	HourBefore        // the hour before the window
	OffPeak           // the off-peak hours of the day before
	AllSeen           // all that was read, for want of off-peak hours
)

func (s Source) String() string {
	return [...]string{"", "the same time of the weeks before", "the hour before",
		"off-peak hours", "all vehicles read"}[s]
}

// History is what a section's times are compared with. All may be empty.
type History struct {
	Weeks   Times // of the same windows of the weeks before
	Before  Times // of the hour before the window
	OffPeak Times // of off-peak hours, see [OffPeakWindow]
}

// UsualWeeks is how many weeks say what is usual.
const UsualWeeks = 4

// Earlier returns the same window of the weeks before, the last one first. Wall times stay,
// whatever clocks did between.
func (w Window) Earlier() [UsualWeeks]Window {
	var all [UsualWeeks]Window
	for i := range all {
		week := toll.WallTime(i+1) * 7 * 86400
		all[i] = Window{w.Start - week, w.End - week}
	}
	return all
}

// OffPeakWindow returns the last off-peak hours before a window's day: 19:00 to 22:00 of the day
// before. They are off-peak on each day of the week: FHWA counts 9:00 to 16:00 and 19:00 to 22:00
// from Monday to Friday, 6:00 to 22:00 at weekends (The Urban Congestion Report: Documentation and
// Definitions).
func (w Window) OffPeakWindow() Window {
	day, _ := w.Start.Day()
	midnight := toll.WallTime(day * 86400)
	return Window{midnight - 5*3600, midnight - 2*3600}
}

// Reference is what a section's times are compared with, in seconds; 0 where it is not known.
type Reference struct {
	Usual     float64
	UsualFrom Source
	// Free is the travel time in free flow: the 15th percentile of the off-peak hours, as FHWA's Urban
	// Congestion Report defines it (there as the 85th of speed).
	Free     float64
	FreeFrom Source
}

// Reference returns what a section's times are compared with: usual is the median of the weeks
// before, or else of the hour before. now is what arrived in the window itself. A source with fewer
// than MinVehicles says nothing.
func (h *History) Reference(now Times) Reference {
	var r Reference
	for _, s := range []struct {
		times Times
		from  Source
	}{{h.Weeks, WeeksAgo}, {h.Before, HourBefore}} {
		if r.UsualFrom == NoSource && s.times.Vehicles() >= MinVehicles {
			r.Usual, r.UsualFrom = s.times.Keep().Median(), s.from
		}
	}
	for _, s := range []struct {
		times Times
		from  Source
	}{{h.OffPeak, OffPeak}, {Sum(h.Weeks, h.Before, now), AllSeen}} {
		if r.FreeFrom == NoSource && s.times.Vehicles() >= MinVehicles {
			r.Free, r.FreeFrom = s.times.Keep().Percentile(15), s.from
		}
	}
	return r
}

// Measures is what the vehicles of a section say. Times are in seconds, of the vehicles that
// [Times.Keep] keeps. What is not known is 0.
type Measures struct {
	Vehicles int64 // that are measured
	Stopped  int64 // those that are not: they stopped on the way, or were not read between

	Median float64
	// Low and High are the median's 95 % confidence interval, see [Times.MedianInterval]; 0 of fewer
	// than six vehicles.
	Low, High     float64
	P80, P85, P95 float64
	Mean          float64
	Reference

	// ToUsual is the median by the usual one: 1.2 is a fifth longer.
	ToUsual float64
	// TravelTimeIndex is the mean time by that in free flow, PlanningTimeIndex the 95th percentile by
	// it, BufferIndex (95th percentile − mean) by mean: FHWA, Travel Time Reliability: Making It There
	// On Time, All The Time, 2006.
	TravelTimeIndex, PlanningTimeIndex, BufferIndex float64
	// Reliability is the 80th percentile by the 50th. 23 CFR 490.505 defines the level of travel time
	// reliability (LOTTR) by it, over a year; this one is of a window.
	Reliability float64
	// SpeedKmh is the space-mean speed: the vehicles' way by their time together (HCM 2016, chapter
	// 4).
	SpeedKmh float64
	// DelayHours is the vehicle-hours above the time in free flow, of the vehicles that were measured.
	DelayHours float64
}

// Measure measures the times of a section of a length, 0 for not known. Of fewer than [MinCell]
// vehicles it returns false: they could be recognised.
func Measure(times Times, r Reference, km float64) (Measures, bool) {
	kept := times.Keep()
	m := Measures{Vehicles: kept.Vehicles(), Reference: r}
	if m.Stopped = times.Vehicles() - m.Vehicles; m.Vehicles < MinCell {
		return Measures{}, false
	}
	m.Median, m.Mean = kept.Median(), kept.Mean()
	m.Low, m.High, _ = kept.MedianInterval()
	m.P80, m.P85, m.P95 = kept.Percentile(80), kept.Percentile(85), kept.Percentile(95)
	m.Reliability = m.P80 / kept.Percentile(50)
	m.BufferIndex = (m.P95 - m.Mean) / m.Mean
	if r.Usual > 0 {
		m.ToUsual = m.Median / r.Usual
	}
	if r.Free > 0 {
		m.TravelTimeIndex, m.PlanningTimeIndex = m.Mean/r.Free, m.P95/r.Free
		for _, x := range kept {
			m.DelayHours += max(float64(x.Seconds)-r.Free, 0) * float64(x.Vehicles) / 3600
		}
	}
	if km > 0 {
		m.SpeedKmh = km / m.Mean * 3600
	}
	return m, true
}

// Length returns how far apart two plazas are along their road, and false where that is not known.
func Length(from, to *toll.Plaza) (km float64, ok bool) {
	if from.Road == "" || from.Road != to.Road || from.PositionKm == to.PositionKm {
		return 0, false
	}
	return math.Abs(to.PositionKm - from.PositionKm), true
}

// Departures is what became of the vehicles that left a plaza in the time [MaxGap] before a moment,
// by minutes: those that left in [at − 60·(i+1), at − 60·i) are at index i.
type Departures struct {
	At toll.WallTime
	// Next counts those that were seen next at To. Of those not seen since To is From.
	Next map[Pair]*[MaxGap / 60]int64
}

// NewDepartures returns departures that hold nothing yet.
func NewDepartures(at toll.WallTime) *Departures {
	return &Departures{At: at, Next: map[Pair]*[MaxGap / 60]int64{}}
}

// CountDepartures counts what became of the vehicles that left plazas before a moment. It takes the
// passages of the time MaxGap before into account.
func CountDepartures(passages []Passage, at toll.WallTime) *Departures {
	d := NewDepartures(at)
	d.Add(passages)
	return d
}

// Add counts what became of further vehicles, all of whose passages are there. A vehicle that is
// seen next at the same plaza has not left it before.
func (d *Departures) Add(passages []Passage) {
	passages = within(passages, Window{d.At - MaxGap, d.At})
	for i, p := range passages {
		pair := Pair{p.Plaza, p.Plaza}
		if i+1 < len(passages) && passages[i+1].Vehicle == p.Vehicle {
			if pair.To = passages[i+1].Plaza; pair.To == p.Plaza {
				continue
			}
		}
		if d.Next[pair] == nil {
			d.Next[pair] = new([MaxGap / 60]int64)
		}
		d.Next[pair][(d.At-p.At-1)/60]++
	}
}

// Bounds of what is overdue.
const (
	overdueAfter = 1.3              // of the usual time
	cohort       = 15 * time.Minute // of departures that should have arrived
)

// Overdue is how many of the vehicles that left a plaza a while ago should have arrived at the
// next, and have not: between Low and High. Vehicles that arrived say how slow a section was;
// before a closure shows in their times, it shows here.
type Overdue struct {
	Left, Arrived int64 // of the cohort, and how many of it arrived
	Expected      float64
	Low, High     float64

	deviation float64 // of Expected − Arrived, where all is as usual
}

// Overdue returns what is overdue on a section: of the vehicles that left From in the quarter of an
// hour until 1.3 × usual ago. How many of them are for To is known from those that left before, of
// which the share p went on there: Expected = p·Left. The band is Expected − Arrived ±
// 1.96·√(p·(1−p)· (Left + Left²/earlier)), the binomial's deviation with that of p itself, and
// never more than those not seen since. It returns false where fewer than MinVehicles left, in the
// cohort or earlier.
func (d *Departures) Overdue(p Pair, usual float64) (Overdue, bool) {
	first := int(math.Ceil(overdueAfter * usual / 60))
	end := first + int(cohort/time.Minute)
	if !(usual > 0) || end >= MaxGap/60 {
		return Overdue{}, false
	}
	var all, arrived, gone, earlier, went int64
	for q, next := range d.Next {
		if q.From != p.From {
			continue
		}
		of, before := sum(next[first:end]), sum(next[end:])
		all, earlier = all+of, earlier+before
		switch q.To {
		case p.To:
			arrived, went = of, before
		case q.From:
			gone = of
		}
	}
	if earlier < MinVehicles || all < MinVehicles {
		return Overdue{}, false
	}
	share, n := float64(went)/float64(earlier), float64(all)
	o := Overdue{Left: all, Arrived: arrived, Expected: share * n}
	o.deviation = math.Sqrt(share * (1 - share) * (n + n*n/float64(earlier)))
	half := z95 * o.deviation
	missing := o.Expected - float64(arrived)
	o.Low = min(max(missing-half, 0), float64(gone))
	o.High = min(max(missing+half, 0), float64(gone))
	return o, true
}

func sum(counts []int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
