package traffic

import (
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// How much of the past says what is usual. Three weeks are the fewest whose median one odd week
// can't set alone; eight are two months, after which the season is another one.
const (
	MinHistory   = 3
	HistoryWeeks = 8
)

// SlotsPerDay is the number of slots of a day: the quarters of an hour that the plaza's clock
// shows. With the weekday, a slot names what is compared.
const SlotsPerDay = 96

// SlotOf returns the weekday and slot that a clock in the zone shows at a minute.
func SlotOf(z *toll.Zone, m toll.Minute) (weekday time.Weekday, slot int) {
	day, minute := localMinute(z, m)
	return WeekdayOf(day), minute / toll.Quarter
}

// DayOf returns the date that a clock in the zone shows at a minute, as [toll.WallTime.Day] counts
// days.
func DayOf(z *toll.Zone, m toll.Minute) int64 {
	day, _ := localMinute(z, m)
	return day
}

// WeekdayOf returns the weekday of a date, as [toll.WallTime.Day] counts days. The same weekday of
// the week before is day − 7.
func WeekdayOf(day int64) time.Weekday {
	const first = int64(time.Thursday) // 1970-01-01
	return time.Weekday(((day+first)%7 + 7) % 7)
}

// localMinute returns the date, and the minutes since its midnight, that a clock in the zone shows.
func localMinute(z *toll.Zone, m toll.Minute) (day int64, minute int) {
	day, second := z.Wall(m.Time()).Day()
	return day, int(second / 60)
}

// Usual is what is usual in one slot of one weekday, in vehicles per quarter of an hour: median and
// MAD of the weeks before. MAD is the median absolute deviation from the median.
type Usual struct {
	Median float64 `json:"median"`
	MAD    float64 `json:"mad"`
	N      int     `json:"weeks"` // how many weeks it was learned from
}

// UsualOf returns what is usual from the counts of one slot in the weeks before, the latest week
// first. It looks at [HistoryWeeks] of them; a count of [NoCount] is a week without one.
func UsualOf(counts []int64) Usual {
	known := make([]float64, 0, HistoryWeeks)
	for _, n := range counts[:min(len(counts), HistoryWeeks)] {
		if n >= 0 {
			known = append(known, float64(n))
		}
	}
	u := Usual{Median: median(known), N: len(known)}
	for i, n := range known {
		known[i] = math.Abs(n - u.Median)
	}
	u.MAD = median(known)
	return u
}

// median returns the middle of values, or the mean of the two in the middle, and 0 of none. It
// sorts them.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Known reports whether enough weeks are known to compare with.
func (u Usual) Known() bool { return u.N >= MinHistory }

// Scale returns by how many vehicles a count usually strays from the median: 1.4826·MAD, which
// estimates the standard deviation of what is normally distributed (Rousseeuw and Croux,
// Alternatives to the Median Absolute Deviation, 1993).
//
// The MAD of a few weeks can be small by chance, and in quiet slots it is 0. So the scale is never
// less than √median, by which even an unchanging flow strays, its vehicles coming independently
// (Poisson), nor less than 1 vehicle.
func (u Usual) Scale() float64 {
	return max(1.4826*u.MAD, math.Sqrt(u.Median), 1)
}

// Z returns how far x is from usual, in scales: the robust z-score (x − median)/(1.4826·MAD) of
// Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993), with the scale bounded as in
// [Usual.Scale]. It returns false where too few weeks are known.
func (u Usual) Z(x float64) (z float64, ok bool) {
	if !u.Known() {
		return 0, false
	}
	return (x - u.Median) / u.Scale(), true
}

// UsualDay is what is usual on one date, by slot: learned from the same weekday of the weeks
// before.
type UsualDay [SlotsPerDay]Usual

// NoCount stands for the count of a slot that is not known.
const NoCount = -1

// DayCounts is what passed on one date, by slot: vehicles, or [NoCount].
type DayCounts [SlotsPerDay]int64

// NewDayCounts returns the counts of a date on which nothing has passed yet, as [toll.WallTime.Day]
// counts days. Where clocks change, slots that the date does not have, and those that last longer
// than a quarter of an hour, have no count.
func NewDayCounts(z *toll.Zone, day int64) DayCounts {
	var c DayCounts
	for slot := range c {
		wall := toll.WallTime(day*86400 + int64(slot)*toll.Quarter*60)
		start, end := z.Boundary(wall), z.Boundary(wall+toll.Quarter*60)
		if shown, minute := localMinute(z, start); shown != day || minute != slot*toll.Quarter ||
			end-start != toll.Quarter {
			c[slot] = NoCount
		}
	}
	return c
}

// Add adds vehicles to a slot that has a count.
func (c *DayCounts) Add(slot int, vehicles int64) {
	if c[slot] != NoCount {
		c[slot] += vehicles
	}
}

// recorded reports whether any vehicle passed.
func (c *DayCounts) recorded() bool {
	return slices.ContainsFunc(c[:], func(n int64) bool { return n > 0 })
}

// UsualDayOf returns what is usual on a date from the counts of the same weekday in the weeks
// before, the latest week first. It looks at [HistoryWeeks] of them. A date without any vehicle was
// not recorded, and says nothing.
func UsualDayOf(weeks []DayCounts) UsualDay {
	weeks = weeks[:min(len(weeks), HistoryWeeks)]
	var day UsualDay
	counts := make([]int64, 0, HistoryWeeks)
	for slot := range day {
		counts = counts[:0]
		for i := range weeks {
			if weeks[i].recorded() {
				counts = append(counts, weeks[i][slot])
			}
		}
		day[slot] = UsualOf(counts)
	}
	return day
}

// At returns what is usual in a slot: of a nil day, nothing.
func (d *UsualDay) At(slot int) Usual {
	if d == nil {
		return Usual{}
	}
	return d[slot]
}

// UsualAt returns what is usual for the quarter of an hour before a minute, which may begin in one
// slot and end in the next: then it is both, weighted by how much lies in each. days returns what
// is usual on a date, as [toll.WallTime.Day] counts days, or nil.
func UsualAt(z *toll.Zone, end toll.Minute, days func(day int64) *UsualDay) Usual {
	start := toll.ClampMinute(int64(end) - toll.Quarter)
	day, minute := localMinute(z, start)
	first := days(day).At(minute / toll.Quarter)
	inNext := minute % toll.Quarter
	if inNext == 0 {
		return first
	}
	day, minute = localMinute(z, toll.ClampMinute(int64(end)-1))
	return first.blend(days(day).At(minute/toll.Quarter), inNext)
}

// blend returns u with some minutes of a quarter replaced by next.
func (u Usual) blend(next Usual, minutes int) Usual {
	mix := func(a, b float64) float64 {
		return (float64(a*float64(toll.Quarter-minutes)) + float64(b*float64(minutes))) / toll.Quarter
	}
	return Usual{Median: mix(u.Median, next.Median), MAD: mix(u.MAD, next.MAD), N: min(u.N, next.N)}
}
