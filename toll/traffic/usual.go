package traffic

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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

// Usual is what is usual in a quarter of an hour, in vehicles.
type Usual struct {
	Median float64 `json:"median"`
	// how far counts stray from the median: 1.4826 of it estimate the standard deviation
	MAD float64 `json:"mad"`
	N   int     `json:"weeks"` // how many weeks it was learned from
	// the median of the day's busiest quarter
	Peak float64 `json:"peak,omitzero"`
}

// median returns the middle of ascending values, or the mean of the two in the middle, and 0 of
// none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Known reports whether enough weeks are known to compare with.
func (u Usual) Known() bool { return u.N >= MinHistory }

// Scale returns by how many vehicles a count usually strays from the median: 1.4826·MAD, which
// estimates the standard deviation of what is normally distributed (Rousseeuw and Croux,
// Alternatives to the Median Absolute Deviation, 1993). It is never less than √median, by which
// even an unchanging flow strays, its vehicles coming independently (Poisson), nor less than 1
// vehicle.
func (u Usual) Scale() float64 {
	return max(1.4826*u.MAD, math.Sqrt(u.Median), 1)
}

// Z returns how far x is from usual, in scales. It compares cube roots, and so twice as many weigh
// as little more as half as many weigh less: counts are skewed, and a third root makes sums of
// independent parts nearly symmetric (Wilson and Hilferty, The Distribution of Chi-square, 1931).
// Near the median it is (x − median)/scale. It returns false where too few weeks are known.
func (u Usual) Z(x float64) (z float64, ok bool) {
	if !u.Known() {
		return 0, false
	}
	return departure(x, u.Median) * max(u.Median, 1) / u.Scale(), true
}

// damping keeps quotients of counts finite, and those of small ones near 1.
const damping = 3

// departure returns how far a count is from the expected one, relative to that.
func departure(count, expected float64) float64 {
	return 3 * (math.Cbrt((count+damping)/(expected+damping)) - 1)
}

// Band returns the counts between which nothing is below or above usual, see [Assessment.asks].
func (u Usual) Band() (low, high float64) {
	third := deviationZ * u.Scale() / max(u.Median, 1) / 3
	at := func(root float64) float64 {
		root = max(root, 0)
		return (u.Median+damping)*root*root*root - damping
	}
	return max(min(at(1-third), u.Median*belowShare), 0), max(at(1+third), u.Median*aboveShare,
		u.Median+aboveOfPeak*u.Peak)
}

// At returns what is usual at a level.
func (u Usual) At(l *Level) Usual {
	ratio := l.Ratio(u.Median)
	u.Median, u.MAD = u.Median*ratio, u.MAD*ratio
	return u
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
// not recorded, and is ignored; one that departed from the others all day was a holiday or a
// storm, and does not count.
//
// The median of a slot is smoothed by its neighbours: of eight counts of 200, chance alone moves it
// by 3 %. The spread can't be told from the eight counts of one slot. So it is pooled over a few
// hours of all weeks: how far each count was from what the other weeks, and the hours before
// it, led to expect.
func UsualDayOf(weeks []DayCounts) UsualDay {
	var days []*DayCounts
	for i := range weeks[:min(len(weeks), HistoryWeeks)] {
		if weeks[i].recorded() {
			days = append(days, &weeks[i])
		}
	}
	var day UsualDay
	others := day.learn(days)
	if ordinary := ordinaryDays(days, others); len(ordinary) < len(days) {
		days = ordinary
		others = day.learn(days)
	}
	day.learnSpread(days, others)
	return day
}

// expectations is what is expected on some days, by slot.
type expectations [HistoryWeeks][SlotsPerDay]float64

// learn sets the medians of days, and returns for each of the days the medians of the others.
func (d *UsualDay) learn(days []*DayCounts) *expectations {
	var medians [SlotsPerDay]float64
	var others expectations
	var values, rest [HistoryWeeks]float64
	for slot := range d {
		known := values[:0]
		for _, day := range days {
			if n := day[slot]; n != NoCount {
				known = append(known, float64(n))
			}
		}
		slices.Sort(known)
		medians[slot], d[slot].N = median(known), len(known)
		for i, day := range days {
			without := append(rest[:0], known...)
			if at, found := slices.BinarySearch(known, float64(day[slot])); found {
				without = slices.Delete(without, at, at+1)
			}
			others[i][slot] = median(without)
		}
	}
	medians = smooth(&medians)
	peak := slices.Max(medians[:])
	for slot, m := range medians {
		d[slot].Median, d[slot].Peak = m, peak
	}
	for i := range days {
		others[i] = smooth(&others[i])
	}
	return &others
}

// smooth replaces each value by a half of it and a quarter of each of its neighbours, but where
// that changes more than chance does: a lane that opens on the hour is a step.
func smooth(values *[SlotsPerDay]float64) [SlotsPerDay]float64 {
	smoothed := *values
	for i := 1; i < SlotsPerDay-1; i++ {
		mean := (values[i-1] + 2*values[i] + values[i+1]) / 4
		if math.Abs(mean-values[i]) <= math.Sqrt(values[i]) {
			smoothed[i] = mean
		}
	}
	return smoothed
}

// oddDay is how far most of a day's quarters between 06:00 and 20:00 may be from those of the
// other weeks. Holidays are at 0.5 to 0.75, and ordinary days within 0.1.
const oddDay = 0.2

// ordinaryDays leaves out those that depart from the others all day, unless too few were left.
func ordinaryDays(days []*DayCounts, others *expectations) []*DayCounts {
	var kept []*DayCounts
	for i, day := range days {
		var shares []float64
		for slot := SlotsPerDay * 6 / 24; slot < SlotsPerDay*20/24; slot++ {
			if n, e := day[slot], others[i][slot]; n != NoCount && e >= 1 {
				shares = append(shares, float64(n)/e)
			}
		}
		slices.Sort(shares)
		if len(shares) == 0 || math.Abs(median(shares)-1) < oddDay {
			kept = append(kept, day)
		}
	}
	if len(kept) < MinHistory {
		return days
	}
	return kept
}

// Of the departures in the hours around, spreadQuantile are smaller than spreadScales standard
// deviations: so many of what is normally distributed. Real departures have longer tails, which a
// median would not notice, and one odd day must not set alone.
const (
	spreadQuantile = 0.8
	spreadScales   = 1.2816
)

// learnSpread sets the spread of all hours.
func (d *UsualDay) learnSpread(days []*DayCounts, others *expectations) {
	const perHour = SlotsPerDay / 24
	var room [24][perHour * HistoryWeeks]float64
	var byHour [24][]float64
	for hour := range byHour {
		byHour[hour] = room[hour][:0]
	}
	for i, day := range days {
		var level Level
		for slot, n := range day {
			if n == NoCount {
				continue
			}
			base := others[i][slot]
			if expected := base * level.Ratio(base); expected >= 1 {
				byHour[slot/perHour] = append(byHour[slot/perHour],
					math.Abs(departure(float64(n), expected)))
			}
			level.Follow(float64(n), base)
		}
	}
	for hour := range byHour {
		slices.Sort(byHour[hour])
	}
	for hour := range byHour {
		share := quantileOf(byHour[max(hour-1, 0):min(hour+2, len(byHour))], spreadQuantile) /
			(spreadScales * 1.4826)
		for slot := hour * perHour; slot < (hour+1)*perHour; slot++ {
			d[slot].MAD = share * d[slot].Median
		}
	}
}

// quantileOf returns a quantile of the values of up to three ascending lists together, and 0 of
// none.
func quantileOf(lists [][]float64, quantile float64) float64 {
	n := 0
	var rest [3][]float64
	for i, list := range lists {
		rest[i], n = list, n+len(list)
	}
	largest := 0.0
	for above := n - int(float64(n-1)*quantile); above > 0 && n > 0; above-- {
		from := -1
		for i, list := range rest {
			if len(list) > 0 && (from < 0 || list[len(list)-1] > largest) {
				from, largest = i, list[len(list)-1]
			}
		}
		rest[from] = rest[from][:len(rest[from])-1]
	}
	return largest
}

// Level is how much of what is usual passes lately: the season, the weather, a holiday nearby. It
// follows quarter by quarter, one quarter behind, so that an incident is compared with what was
// before it.
type Level struct {
	Count float64 `json:"count"` // vehicles of the quarters before, the older the less
	Usual float64 `json:"usual"` // what is usual in these
	// of the last quarter, which does not count yet
	LastCount float64 `json:"last_count"`
	LastUsual float64 `json:"last_usual"`
}

const (
	// what remains of a quarter's weight in the next one: two hours back it is a twentieth
	levelKeeps = 0.7
	// how many quarters of the usual count along, so that a few vehicles at night don't say what the
	// rush hour is going to be
	levelPrior = 0.5
)

// Ratio returns the level where so many vehicles are usual.
func (l *Level) Ratio(usual float64) float64 {
	prior := levelPrior * usual
	if !(l.Usual+prior > 0) {
		return 1
	}
	return (l.Count + prior) / (l.Usual + prior)
}

// Follow adds a quarter of an hour. One without a vehicle, where there should be many, means
// that reports are missing, and does not change the level.
func (l *Level) Follow(count, usual float64) {
	if l.LastCount > 0 || l.LastUsual < fewVehicles {
		l.Count = float64(l.Count*levelKeeps) + l.LastCount
		l.Usual = float64(l.Usual*levelKeeps) + l.LastUsual
	}
	l.LastCount, l.LastUsual = count, usual
}

// At returns what is usual in a slot: of a nil day, nothing.
func (d *UsualDay) At(slot int) Usual {
	if d == nil {
		return Usual{}
	}
	return d[slot]
}

// UsualAt returns what is usual for the quarter of an hour before a minute, which may begin in one
// slot and end in the next: then it is both, weighted by how much lies in each. It returns true
// where the quarter is a slot. days returns what is usual on a date, as [toll.WallTime.Day] counts
// days, or nil.
func UsualAt(z *toll.Zone, end toll.Minute, days func(day int64) *UsualDay) (u Usual, slot bool) {
	start := toll.ClampMinute(int64(end) - toll.Quarter)
	day, minute := localMinute(z, start)
	first := days(day).At(minute / toll.Quarter)
	inNext := minute % toll.Quarter
	if inNext == 0 {
		return first, true
	}
	day, minute = localMinute(z, toll.ClampMinute(int64(end)-1))
	return first.blend(days(day).At(minute/toll.Quarter), inNext), false
}

// blend returns u with some minutes of a quarter replaced by next.
func (u Usual) blend(next Usual, minutes int) Usual {
	mix := func(a, b float64) float64 {
		return (float64(a*float64(toll.Quarter-minutes)) + float64(b*float64(minutes))) / toll.Quarter
	}
	return Usual{Median: mix(u.Median, next.Median), MAD: mix(u.MAD, next.MAD), N: min(u.N, next.N),
		Peak: max(u.Peak, next.Peak)}
}

// Holidays names the holiday on a date, as [toll.WallTime.Day] counts days: empty for none. A nil
// one knows none.
type Holidays func(day int64) string

// on returns the holiday on a date.
func (h Holidays) on(day int64) string {
	if h == nil {
		return ""
	}
	return h(day)
}

// WeeksBefore returns the dates of the same weekday that teach what is usual on a date, the latest
// first: no holiday is among them.
func (h Holidays) WeeksBefore(day int64) []int64 {
	var days []int64
	for week := int64(1); week <= HistoryWeeks; week++ {
		if d := day - 7*week; h.on(d) == "" {
			days = append(days, d)
		}
	}
	return days
}

// How far back, in days, earlier holidays of a name are looked for, and from where on: a holiday on
// a Sunday is observed on the Monday too.
const (
	earliestHoliday = 3*366 + 1
	latestHoliday   = 30
)

// DaysOffBefore returns the dates that teach what is usual on a holiday: the Sundays of the weeks
// before, and the earlier holidays of its name. On other dates there are none.
func (h Holidays) DaysOffBefore(day int64) (sundays, earlier []int64) {
	name := h.on(day)
	if name == "" {
		return nil, nil
	}
	for d := day - latestHoliday; d > day-earliestHoliday && len(earlier) < HistoryWeeks; d-- {
		if h.on(d) == name {
			earlier = append(earlier, d)
		}
	}
	return h.WeeksBefore(day + 7 - int64(WeekdayOf(day))), earlier
}

// DayOff is what is usual on a holiday.
type DayOff struct {
	UsualDay
	// Own is whether it was learned from earlier holidays of that name. Else it is a Sunday, and the
	// holiday may as well be like its weekday: calendars name some on which nearly all work.
	Own bool
}

// DayOffOf returns what is usual on a holiday, by the counts of the dates that
// [Holidays.DaysOffBefore] returns, and nil where too few of them are known.
//
// One or two earlier holidays give the course of the day but not its spread, which is taken from
// Sundays and from what chance does to a count. The level adapts to this year's volume in the first
// hours.
func DayOffOf(sundays, earlier []DayCounts) *DayOff {
	off := &DayOff{UsualDay: UsualDayOf(sundays)}
	if off.At(SlotsPerDay/2).N < MinHistory {
		return nil
	}
	var course UsualDay
	var days []*DayCounts
	for i := range earlier {
		if earlier[i].recorded() {
			days = append(days, &earlier[i])
		}
	}
	if len(days) == 0 {
		return off
	}
	off.Own = true
	course.learn(days)
	for slot := range off.UsualDay {
		u, sum, n := &off.UsualDay[slot], 0.0, 0.0
		for _, c := range course[max(slot-courseSlots, 0):min(slot+courseSlots+1, SlotsPerDay)] {
			if c.N > 0 {
				sum, n = sum+c.Median, n+1
			}
		}
		if n == 0 {
			*u = Usual{}
			continue
		}
		median := sum / n
		u.MAD = math.Hypot(u.MAD/max(u.Median, 1)*median, math.Sqrt(median/n)/1.4826)
		u.Median, u.Peak = median, course[slot].Peak
	}
	return off
}

// Or returns which of two a count on the holiday is compared with: what is usual on the weekday, or
// on the day off.
func (d *DayOff) Or(weekday, off Usual, count float64) Usual {
	z, ok := off.Z(count)
	other, known := weekday.Z(count)
	if !ok || known && !d.Own && math.Abs(other) <= math.Abs(z) {
		return weekday
	}
	return off
}

// courseSlots on either side smooth the course of a few days.
const courseSlots = 2

// ParseHolidays reads lines such as 2026-12-25,Christmas Day. A header date,name, empty lines and
// those that begin with # are skipped. It reports every violation at once.
func ParseHolidays(text string) (Holidays, error) {
	names := map[int64]string{}
	var errs []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || number == 1 && line == "date,name" {
			continue
		}
		date, name, _ := strings.Cut(line, ",")
		at, err := time.Parse(time.DateOnly, strings.TrimSpace(date))
		name = strings.TrimSpace(name)
		if err != nil || name == "" {
			errs = append(errs, fmt.Errorf("line %d is %q, want a date and a name, as in "+
				"2026-12-25,Christmas Day", number, line))
			continue
		}
		names[at.Unix()/86400] = name
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(day int64) string { return names[day] }, nil
}

// FederalHolidays names those of the United States (5 U.S.C. 6103) and, where one falls on a
// weekend, the Friday or Monday on which it is observed.
func FederalHolidays(day int64) string {
	date := time.Unix(day*86400, 0).UTC()
	if name := fixedHoliday(date); name != "" {
		return name
	}
	switch date.Weekday() {
	case time.Friday:
		return fixedHoliday(date.AddDate(0, 0, 1))
	case time.Thursday:
		if date.Month() == time.November && nthOfMonth(date) == 4 {
			return "Thanksgiving"
		}
	case time.Monday:
		if name := fixedHoliday(date.AddDate(0, 0, -1)); name != "" {
			return name
		}
		switch nth := nthOfMonth(date); {
		case date.Month() == time.January && nth == 3:
			return "Martin Luther King Day"
		case date.Month() == time.February && nth == 3:
			return "Presidents' Day"
		case date.Month() == time.May && date.Day() > 31-7:
			return "Memorial Day"
		case date.Month() == time.September && nth == 1:
			return "Labor Day"
		case date.Month() == time.October && nth == 2:
			return "Columbus Day"
		}
	}
	return ""
}

// nthOfMonth returns which of its month's days of that weekday a date is, from 1.
func nthOfMonth(date time.Time) int { return (date.Day() + 6) / 7 }

func fixedHoliday(date time.Time) string {
	return map[string]string{"01-01": "New Year's Day", "06-19": "Juneteenth",
		"07-04": "Independence Day", "11-11": "Veterans Day", "12-25": "Christmas Day",
	}[date.Format("01-02")]
}
