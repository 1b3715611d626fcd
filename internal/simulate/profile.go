package simulate

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// MaxPeak bounds the exponent of [ProfileConfig]: at 10 a weekday has nearly all its traffic in two
// hours.
const MaxPeak = 10

// MaxPerDay bounds a plaza's vehicles a day. It is a hundred times what the busiest have.
const MaxPerDay = 50_000_000

// ProfileConfig configures a [Profile].
type ProfileConfig struct {
	// Plazas are simulated, each number once. VehiclesPerDay is how many vehicles pass on a day of 24
	// hours, weekday or weekend, on average (0: DefaultPerLane for each lane, of which there are
	// DefaultLanes where that is 0 as well); HeavyShare of them are trucks, the others cars and vans.
	// The hours of the day are those of the plaza's own clock.
	Plazas []toll.Plaza
	// Location is the zone of the events' times, and of plazas that have no zone of their own.
	Location *time.Location
	// Start and End bound the events' times: [Start, End). Without an End they last to the end of
	// the year 9998.
	Start, End time.Time
	// Seed chooses the vehicles. Those of a plaza's minute depend on seed, plaza and minute alone, so
	// the same seed gives the same ones whatever Start and the other plazas are.
	Seed uint64
	// Peak is the exponent on the measured shares of the hours: 1 is as measured, more is sharper. 0
	// is DefaultPeak.
	Peak float64
	// Variation scales how much days, hours, weather and holidays depart from an average day: 1 is as
	// measured on a real highway, 0 is an average day every day, to [MaxVariation]. What varies
	// depends on seed, plaza and time alone. With it the average of a year is about 1 % below
	// VehiclesPerDay.
	Variation float64
	// Incidents multiply what would pass otherwise. Two at one plaza may not overlap.
	Incidents []Incident
}

// Validate reports every violation.
func (c *ProfileConfig) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Plazas) == 0 {
		report("no plaza to simulate")
	}
	plazas := map[int16]bool{}
	for i := range c.Plazas {
		p := &c.Plazas[i]
		if plazas[p.ID] {
			report("plaza %d is there twice", p.ID)
		}
		plazas[p.ID] = true
		if err := p.Validate(); err != nil {
			report("plaza %d: %w", p.ID, err)
		}
		if v := p.VehiclesPerDay; v != 0 && !(v >= 1 && v <= MaxPerDay) {
			report("plaza %d: %v vehicles a day, want 1 to %d", p.ID, v, MaxPerDay)
		}
	}
	if c.Location == nil {
		report("no location")
	}
	if !toll.WallTimeOf(c.Start).Valid() || c.Start.Year() > maxYear {
		report("the start %s is outside the years 1000 to %d", c.Start.Format(time.DateTime), maxYear)
	}
	if !c.End.IsZero() && (!c.End.After(c.Start) || c.End.Year() > maxYear) {
		report("the end %s is not after the start %s and before the end of the year %d",
			c.End.Format(time.DateTime), c.Start.Format(time.DateTime), maxYear)
	}
	if c.Peak < 0 || c.Peak > MaxPeak || math.IsNaN(c.Peak) {
		report("the peak %v is not above 0 and at most %d", c.Peak, MaxPeak)
	}
	if !(c.Variation >= 0 && c.Variation <= MaxVariation) {
		report("the variation %v is not from 0 to %d", c.Variation, MaxVariation)
	}
	for i := range c.Incidents {
		if err := c.validateIncident(i, plazas); err != nil {
			report("incident %v: %w", &c.Incidents[i], err)
		}
	}
	return errors.Join(errs...)
}

// maxYear is the last year that is simulated: its end is a valid time of an event in every zone.
const maxYear = 9998

func (c *ProfileConfig) validateIncident(at int, plazas map[int16]bool) error {
	i := &c.Incidents[at]
	if err := i.validate(); err != nil {
		return err
	}
	switch {
	case !plazas[i.Plaza]:
		return errors.New("the plaza is not simulated")
	case i.Start.Before(c.Start):
		return fmt.Errorf("it starts before the first event, %s", c.Start.Format(time.DateTime))
	case !c.End.IsZero() && i.End.After(c.End):
		return fmt.Errorf("it ends at %s, after the last event, %s", i.End.Format(time.DateTime),
			c.End.Format(time.DateTime))
	}
	for other := range c.Incidents[:at] {
		if o := &c.Incidents[other]; o.Plaza == i.Plaza && o.Start.Before(i.End) &&
			i.Start.Before(o.End) {
			return fmt.Errorf("it overlaps the %s from %s", o.Kind, o.Start.Format(time.DateTime))
		}
	}
	return nil
}

// Profile makes the vehicles of days that follow a measured shape, at all plazas in time order. At
// each plaza they come as a Poisson process whose rate is that of the minute on the plaza's own
// clock, so where clocks change a day is shorter or longer and has fewer or more vehicles. It holds
// one vehicle a plaza, however long it runs. It is for one goroutine.
//
// No more pass than a plaza's capacity, where its lanes are known: crossings are discharge. What
// comes on top goes another way, and neither waits nor comes later.
type Profile struct {
	streams  queue[*stream] // the next event first
	location *time.Location
	wall     func(time.Time) toll.WallTime
	pending  bool // the event on top was given out
}

// NewProfile returns the profile of a configuration, or all that is wrong with it.
func NewProfile(cfg ProfileConfig) (*Profile, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	shape := newShape(cmp.Or(cfg.Peak, DefaultPeak), cfg.Variation > 0)
	p := &Profile{location: cfg.Location, wall: wallClock()}
	for i := range cfg.Plazas {
		s, err := newStream(&cfg, &cfg.Plazas[i], shape)
		if err != nil {
			return nil, err
		}
		if s.next() {
			p.streams = append(p.streams, s)
		}
	}
	heap.Init(&p.streams)
	return p, nil
}

// Next makes an event and returns the instant of it, to the microsecond; false at the end. Instants
// never decrease; wall times do, where clocks are set back.
func (p *Profile) Next(e *toll.Event) (at time.Time, ok bool) {
	if p.pending {
		if p.streams[0].next() {
			heap.Fix(&p.streams, 0)
		} else {
			heap.Pop(&p.streams)
		}
	}
	if p.pending = len(p.streams) > 0; !p.pending {
		return time.Time{}, false
	}
	s := p.streams[0]
	at = time.UnixMicro(s.at).In(p.location)
	*e = toll.Event{Time: p.wall(at), Vehicle: s.vehicle, Type: s.vehicleType, Plaza: s.plaza}
	return at, true
}

// ordered is what a queue holds.
type ordered[T any] interface{ before(T) bool }

// queue is a heap, with what comes first at its beginning.
type queue[T ordered[T]] []T

func (q queue[T]) Len() int           { return len(q) }
func (q queue[T]) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q queue[T]) Less(i, j int) bool { return q[i].before(q[j]) }
func (q *queue[T]) Push(x any)        { *q = append(*q, x.(T)) }
func (q *queue[T]) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// before orders streams by time, and by plaza where that is the same.
func (s *stream) before(t *stream) bool {
	return s.at < t.at || s.at == t.at && s.plaza < t.plaza
}

// until returns the end of the events, in microseconds.
func (c *ProfileConfig) until() int64 {
	if c.End.IsZero() {
		return time.Date(maxYear+1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	}
	return c.End.UnixMicro()
}

// locationOf returns the zone of a plaza's clock.
func (c *ProfileConfig) locationOf(p *toll.Plaza) (*time.Location, error) {
	if p.Timezone == "" {
		return c.Location, nil
	}
	location, err := time.LoadLocation(p.Timezone)
	if err != nil {
		return nil, fmt.Errorf("plaza %d: timezone: %w", p.ID, err)
	}
	return location, nil
}

// incidentsOf returns the incidents of a plaza, by start.
func (c *ProfileConfig) incidentsOf(plaza int16) []incidentSpan {
	var spans []incidentSpan
	for _, i := range c.Incidents {
		if i.Plaza == plaza {
			spans = append(spans, incidentSpan{i.Start.UnixMicro(), i.End.UnixMicro(), i.Size})
		}
	}
	slices.SortFunc(spans, func(a, b incidentSpan) int { return cmp.Compare(a.start, b.start) })
	return spans
}

// Hourly shares of a day's traffic, in per cent, hours 0 to 23, as measured: they were computed
// from the public 10-minute entry counts of New York's congestion zone of 2025. Each table sums to
// 100 within rounding.
var (
	weekdayShares = [24]float64{
		2.06, 1.35, .96, .96, 1.84, 2.96, 5.08, 5.92, 6.27, 6.02, 5.43, 5.08,
		4.91, 4.89, 5.09, 5.23, 5.20, 5.13, 5.16, 4.79, 4.18, 4.30, 4.00, 3.18,
	}
	weekendShares = [24]float64{
		3.48, 2.81, 2.11, 1.69, 1.64, 1.97, 2.98, 3.42, 4.14, 4.39, 4.93, 5.27,
		5.41, 5.51, 5.61, 5.63, 5.62, 5.56, 5.48, 5.13, 4.63, 4.62, 4.35, 3.60,
	}
)

// DefaultPeak sharpens the measured shares. They are the sum of many gantries, whose peaks differ
// by minutes and hours; one plaza's day is less flat than that. The figure is an assumption: it
// makes the weekday's busiest hour 6.9 % of the day.
const DefaultPeak = 1.3

// minutesPerDay is of a day on the wall clock, however long it really is.
const minutesPerDay = 24 * 60

// shape is how a day's vehicles spread over its hours: for weekdays and for weekends 24 shares that
// sum to 1.
type shape struct {
	weekday, weekend [24]float64
	holidays         bool // those of a workday without work have the weekend's shares
}

// newShape returns the measured shares, each raised to the power of peak and then scaled to sum to
// 1: 1 is as measured, more is sharper, less is flatter.
func newShape(peak float64, holidays bool) *shape {
	return &shape{sharpen(weekdayShares, peak), sharpen(weekendShares, peak), holidays}
}

func sharpen(shares [24]float64, peak float64) [24]float64 {
	sum := 0.0
	for h, s := range shares {
		shares[h] = math.Pow(s, peak)
		sum += shares[h]
	}
	for h := range shares {
		shares[h] /= sum
	}
	return shares
}

// of returns the shares of a day, counted from 1970-01-01, which was a Thursday.
func (s *shape) of(day int64) *[24]float64 {
	if isWeekend(day) {
		return &s.weekend
	}
	if h, ok := holidayOn(day); s.holidays && ok && h.weekend {
		return &s.weekend
	}
	return &s.weekday
}

func isWeekend(day int64) bool {
	d := ((day+4)%7 + 7) % 7
	return d == 0 || d == 6
}

// minute returns the share of a day that falls into one of its minutes, 0 to 1439.
//
// Within an hour with share s the density is the parabola whose integral is s and which has the
// values l and r at the hour's ends, each the harmonic mean of the two shares that meet there:
//
//	f(x) = l(1−x) + rx + 6x(1−x)(s − (l+r)/2), 0 ≤ x < 1
//
// So it is continuous, over midnight between weekday and weekend too, every hour keeps its share
// and every day its sum. As a harmonic mean is at most twice the smaller value, l and r are at most
// 2s, and then f is nowhere negative.
func (s *shape) minute(day int64, minute int) float64 {
	hour := minute / 60
	shares := s.of(day)
	share := shares[hour]
	var before, after float64
	if hour == 0 {
		before = s.of(day - 1)[23]
	} else {
		before = shares[hour-1]
	}
	if hour == 23 {
		after = s.of(day + 1)[0]
	} else {
		after = shares[hour+1]
	}
	l, r := harmonicMean(before, share), harmonicMean(share, after)
	until := func(x float64) float64 { // the integral of f from 0 to x
		return l*(x-x*x/2) + r*x*x/2 + 6*(share-(l+r)/2)*(x*x/2-x*x*x/3)
	}
	from := minute % 60
	return max(0, until(float64(from+1)/60)-until(float64(from)/60))
}

func harmonicMean(a, b float64) float64 { return 2 * a * b / (a + b) }

// holiday is a day on which fewer vehicles pass.
type holiday struct {
	factor  float64 // of the vehicles that would pass otherwise
	weekend bool    // its hours are those of a weekend: nobody drives to work
}

// The holidays of the United States on which the counts of Interstate 94 at Saint Paul fell from
// October 2016 to September 2017 (UCI Machine Learning Repository, "Metro Interstate Traffic
// Volume"), with the share of the usual that was left. On the other listed days, Columbus Day and
// Veterans Day, traffic was as usual.
var (
	newYear        = holiday{0.63, true}
	kingDay        = holiday{0.85, false}
	presidentsDay  = holiday{0.90, false}
	memorialDay    = holiday{0.62, true}
	independence   = holiday{0.59, true}
	laborDay       = holiday{0.67, true}
	thanksgiving   = holiday{0.57, true}
	dayAfterThanks = holiday{0.67, true}
	christmas      = holiday{0.66, true}
)

// holidayOn returns the holiday on a day, counted from 1970-01-01; false where it is none. One with
// a date of its own that falls on a Sunday is on the Monday too, and on a Saturday on the Friday.
func holidayOn(day int64) (holiday, bool) {
	date := time.Unix(day*86400, 0).UTC()
	if h, ok := fixedHoliday(date); ok {
		return h, true
	}
	switch date.Weekday() {
	case time.Monday:
		if h, ok := fixedHoliday(date.AddDate(0, 0, -1)); ok {
			return h, true
		}
	case time.Friday:
		if h, ok := fixedHoliday(date.AddDate(0, 0, 1)); ok {
			return h, true
		}
	}
	nth := (date.Day() + 6) / 7 // of this weekday in its month
	last := date.AddDate(0, 0, 7).Month() != date.Month()
	switch month, weekday := date.Month(), date.Weekday(); {
	case month == time.January && weekday == time.Monday && nth == 3:
		return kingDay, true
	case month == time.February && weekday == time.Monday && nth == 3:
		return presidentsDay, true
	case month == time.May && weekday == time.Monday && last:
		return memorialDay, true
	case month == time.September && weekday == time.Monday && nth == 1:
		return laborDay, true
	case month == time.November && weekday == time.Thursday && nth == 4:
		return thanksgiving, true
	case month == time.November && weekday == time.Friday && (date.Day()+5)/7 == 4:
		return dayAfterThanks, true
	}
	return holiday{}, false
}

// fixedHoliday returns the holiday that is on the same date each year.
func fixedHoliday(date time.Time) (holiday, bool) {
	switch month, day := date.Month(), date.Day(); {
	case month == time.January && day == 1:
		return newYear, true
	case month == time.July && day == 4:
		return independence, true
	case month == time.December && day == 25:
		return christmas, true
	}
	return holiday{}, false
}
