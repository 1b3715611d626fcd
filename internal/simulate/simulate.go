// Package simulate generates events: vehicles that pass toll plazas. The same configuration gives
// the same events. A [Generator] draws one after the other at an even rate; a [Profile] follows the
// traffic of a day.
package simulate

import (
	"cmp"
	_ "embed"
	"math"
	"math/rand/v2"
	"time"

	"github.com/tollstream/tollstream/toll"
)

const microsPerMinute = 60_000_000

// vanShare is the course's, of what is no truck: 2 vans to 11 cars.
const vanShare = 2.0 / (11 + 2)

// heavyKind is the type of the vehicles that a plaza's heavy share is of.
const heavyKind = "truck"

// heavyCars is how many passenger cars a truck counts for, as package traffic has it by default.
const heavyCars = 2

// queueShape is the shape of the Erlang distribution of the gaps within a queue. It is an
// assumption.
const queueShape = 4

// queueFlow is what a queue discharges, in capacities: a little more, as what a plaza can take
// varies.
const queueFlow = 1.02

// incidentSpan is an incident of one plaza: [start, end) in microseconds since 1970-01-01 UTC.
type incidentSpan struct {
	start, end int64
	size       float64
}

// stream makes the vehicles of one plaza, one after the other. It goes from minute to minute of
// UTC. Each minute has a random stream of its own, and within it vehicles come with exponential
// gaps, at the minute's own rate.
type stream struct {
	plaza      int16
	perDay     float64
	heavyShare float64
	shape      *shape
	variation  *variation // nil for none
	// vehicles of a minute that the plaza's capacity lets pass; infinite if not known
	most       float64
	location   *time.Location
	key        uint64 // of its random streams
	start, end int64  // of all events, in microseconds
	incidents  []incidentSpan

	// The minute, counted from 1970-01-01 UTC, and how far into it the stream is: 0 to 1.
	minute int64
	u      float64
	usual  float64 // vehicles of the minute that come without an incident
	// vehicles of the minute that are drawn: at its largest flow, as far as they can pass
	mean   float64
	full   bool // more come than can pass
	random rand.PCG
	draw   *rand.Rand
	thin   *rand.Rand // nil: all of the minute's vehicles pass

	// The next event.
	at          int64
	vehicle     int32
	vehicleType string
}

func newStream(cfg *ProfileConfig, p *toll.Plaza, shape *shape) (*stream, error) {
	location, err := cfg.locationOf(p)
	if err != nil {
		return nil, err
	}
	s := &stream{
		plaza: p.ID, perDay: VehiclesPerDay(p), heavyShare: p.HeavyShare, shape: shape,
		location: location,
		key:      scramble(cfg.Seed) ^ scramble(uint64(uint16(p.ID))+1),
		start:    cfg.Start.UnixMicro(), end: cfg.until(), incidents: cfg.incidentsOf(p.ID),
	}
	s.draw = rand.New(&s.random)
	s.most = math.Inf(1)
	if capacity, ok := p.Capacity(); ok {
		s.most = queueFlow * capacity / 60 / (1 - p.HeavyShare + heavyCars*p.HeavyShare)
		s.most += (1 - 1.0/queueShape) / 2 // what each minute's first gap, a whole one, costs
	}
	if cfg.Variation > 0 {
		s.variation = newVariation(cfg.Variation, cfg.Seed, s.key)
	}
	s.minute = floorDiv(s.start, microsPerMinute)
	s.openMinute()
	return s, nil
}

// next advances to the next vehicle; false at the end.
func (s *stream) next() bool {
	for {
		s.u += s.gap()
		for !(s.u < 1) {
			s.minute++
			if s.minute*microsPerMinute >= s.end {
				return false
			}
			s.openMinute()
			s.u = s.gap()
		}
		s.at = s.minute*microsPerMinute + int64(s.u*microsPerMinute)
		if s.at >= s.end {
			return false
		}
		// Drawn for those that don't pass as well, so that a blockage takes vehicles away and changes no
		// other.
		s.vehicle = MinVehicle + s.draw.Int32N(MaxVehicle-MinVehicle+1)
		s.vehicleType = s.drawType()
		if s.at >= s.start && s.passes() {
			return true
		}
	}
}

// gap draws the time to the next vehicle, in minutes. Vehicles that come freely have exponential
// gaps. Those of a queue pass one after the other: the gaps of [queueShape] vehicles that come
// freely, on average, which vary less.
func (s *stream) gap() float64 {
	if !s.full {
		return s.draw.ExpFloat64() / s.mean // of a mean of 0: infinite
	}
	sum := 0.0
	for range queueShape {
		sum += s.draw.ExpFloat64()
	}
	return sum / queueShape / s.mean
}

func (s *stream) drawType() string { return kindOf(s.draw.Float64(), s.heavyShare) }

// kindOf returns the type of a vehicle by a number from 0 to 1.
func kindOf(x, heavyShare float64) string {
	switch {
	case x < heavyShare:
		return heavyKind
	case x < heavyShare+(1-heavyShare)*vanShare:
		return "van"
	}
	return "car"
}

// openMinute begins the minute: its random stream and its rate.
func (s *stream) openMinute() {
	s.u = 0
	s.random.Seed(s.key, scramble(uint64(s.minute)))
	day, second := toll.WallTimeOf(time.Unix(s.minute*60, 0).In(s.location)).Day()
	s.usual = s.perDay * s.shape.minute(day, int(second)/60)
	if s.variation != nil {
		s.usual *= s.variation.factor(day, int(second)/60)
	}

	// Incidents begin and end within minutes: vehicles are made at the minute's largest flow, and each
	// then passes with the probability that makes the flow right.
	s.thin = nil
	largest := 1.0
	from, until := s.minute*microsPerMinute, (s.minute+1)*microsPerMinute
	for len(s.incidents) > 0 && s.incidents[0].end <= from {
		s.incidents = s.incidents[1:]
	}
	for _, i := range s.incidents {
		if i.start >= until {
			break
		}
		const stream = 0x696e636964656e74 // any constant, so that it isn't the vehicles' stream
		s.thin = rand.New(rand.NewPCG(s.key^stream, scramble(uint64(s.minute))))
		largest = max(largest, i.size)
	}
	s.mean = min(s.usual*largest, s.most)
	s.full = s.usual*largest > s.most
}

// passes decides whether the vehicle passes.
func (s *stream) passes() bool {
	if s.thin == nil {
		return true
	}
	flow := 1.0
	for _, i := range s.incidents {
		if i.start <= s.at && s.at < i.end {
			flow = i.size
		}
		if i.start > s.at {
			break
		}
	}
	return s.thin.Float64()*s.mean < min(s.usual*flow, s.most)
}

// scramble is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014): it makes seeds that are one apart differ in half their bits.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Vehicle ids are drawn evenly from [MinVehicle, MaxVehicle], as the course's generator draws them.
const (
	MinVehicle = 10_000
	MaxVehicle = 10_000_000
)

// mix holds a vehicle type as often as it comes: 11 cars to 4 trucks to 2 vans.
var mix = [...]string{
	"car", "car", "car", "car", "car", "car", "car", "car", "car", "car", "car",
	"truck", "truck", "truck", "truck",
	"van", "van",
}

// DefaultPlazas returns the course's plazas: 4000 to 4010, and 4856.
func DefaultPlazas() []int16 {
	return []int16{4000, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4009, 4010, 4856}
}

// Clock gives the time of the n-th event, counted from 0. It is asked for each event once, in
// order.
type Clock func(n int64) toll.WallTime

// Generator draws one event after the other. It is for one goroutine.
type Generator struct {
	plazas []int16
	clock  Clock
	rand   *rand.Rand
	n      int64
}

// New returns a generator that draws from plazas, of which there must be one at least.
func New(plazas []int16, seed uint64, clock Clock) *Generator {
	const stream = 0x746f6c6c // any constant: PCG takes two seeds
	return &Generator{plazas: plazas, clock: clock, rand: rand.New(rand.NewPCG(seed, stream))}
}

// Next draws an event.
func (g *Generator) Next(e *toll.Event) {
	e.Time = g.clock(g.n)
	e.Vehicle = MinVehicle + g.rand.Int32N(MaxVehicle-MinVehicle+1)
	e.Type = mix[g.rand.IntN(len(mix))]
	e.Plaza = g.plazas[g.rand.IntN(len(g.plazas))]
	g.n++
}

// Steady returns a clock that starts at an instant and advances evenly, rate events to a second.
func Steady(start time.Time, rate float64) Clock {
	wall := wallClock()
	return func(n int64) toll.WallTime {
		// Whole seconds apart, so that the sum stays exact however far it runs.
		seconds := float64(n) / rate
		whole := int64(seconds)
		return wall(start.Add(time.Duration(whole)*time.Second +
			time.Duration((seconds-float64(whole))*float64(time.Second))))
	}
}

// Live returns a clock that shows the time of now, in its location.
func Live(now func() time.Time) Clock {
	wall := wallClock()
	return func(int64) toll.WallTime { return wall(now()) }
}

// wallClock returns a [toll.WallTimeOf] that remembers the last second.
func wallClock() func(time.Time) toll.WallTime {
	var second int64
	var last toll.WallTime
	known := false
	return func(t time.Time) toll.WallTime {
		if u := t.Unix(); !known || u != second {
			second, last, known = u, toll.WallTimeOf(t), true
		}
		return last
	}
}

// SamplePlazas is a plazas file with the course's plazas, as package codecs reads it.
//
//go:embed plazas.csv
var SamplePlazas string

// What a plaza is taken to have where the plazas file has nothing: few vehicles for its lanes.
const (
	DefaultLanes      = 4
	DefaultPerLane    = 5000 // vehicles a day
	DefaultHeavyShare = 0.08
)

// DefaultPlaza returns a plaza of which nothing but its number is known.
func DefaultPlaza(id int16) toll.Plaza {
	return toll.Plaza{ID: id, Lanes: DefaultLanes, VehiclesPerDay: DefaultLanes * DefaultPerLane,
		HeavyShare: DefaultHeavyShare}
}

// VehiclesPerDay returns how many vehicles a day are simulated at a plaza.
func VehiclesPerDay(p *toll.Plaza) float64 {
	if p.VehiclesPerDay > 0 {
		return p.VehiclesPerDay
	}
	return float64(cmp.Or(p.Lanes, DefaultLanes)) * DefaultPerLane
}
