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
	streams  streams // a heap, the next event on top
	location *time.Location
	wall     func(time.Time) toll.WallTime
	pending  bool // the event on top was given out
}

// NewProfile returns the profile of a configuration, or all that is wrong with it.
func NewProfile(cfg ProfileConfig) (*Profile, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	end := cfg.End
	if end.IsZero() {
		end = time.Date(maxYear+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	shape := newShape(cmp.Or(cfg.Peak, DefaultPeak), cfg.Variation > 0)
	p := &Profile{location: cfg.Location, wall: wallClock()}
	for i := range cfg.Plazas {
		s, err := newStream(&cfg, &cfg.Plazas[i], shape, end)
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

// streams is a heap by time, and by plaza where that is the same.
type streams []*stream

func (s streams) Len() int      { return len(s) }
func (s streams) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s streams) Less(i, j int) bool {
	return s[i].at < s[j].at || s[i].at == s[j].at && s[i].plaza < s[j].plaza
}
func (s *streams) Push(x any) { *s = append(*s, x.(*stream)) }
func (s *streams) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
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
