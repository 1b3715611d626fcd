package simulate

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// TripsConfig configures [Trips]. Of the incidents a blockage lets Size of the vehicles pass that
// pass usually, in each direction, and the others wait. A surge brings more vehicles that pass that
// plaza only.
type TripsConfig struct {
	ProfileConfig
	Stops  float64     // share of the vehicles that stop on a section, from 0 to MaxStops
	Unread float64     // share of the passing vehicles that are not read, from 0 to MaxUnread
	Truth  func(Truth) // is called with what really happened, every five minutes; nil: it isn't
}

// Bounds and usual values of what trips do. A stop takes as long as any from the shortest to the
// longest.
const (
	MaxStops      = 0.9
	DefaultStops  = 0.03
	MaxUnread     = 0.5
	DefaultUnread = 0.02
	ShortestStop  = 5 * time.Minute
	LongestStop   = 45 * time.Minute
)

// Validate reports every violation.
func (c *TripsConfig) Validate() error {
	err := c.ProfileConfig.Validate()
	if !(c.Stops >= 0 && c.Stops <= MaxStops) {
		err = errors.Join(err, fmt.Errorf("the stops %v are not from 0 to %v", c.Stops, MaxStops))
	}
	if !(c.Unread >= 0 && c.Unread <= MaxUnread) {
		err = errors.Join(err, fmt.Errorf("the unread %v are not from 0 to %v", c.Unread, MaxUnread))
	}
	return err
}

// How vehicles drive where nothing is in their way. The figures are assumptions, such that the
// travel times of a section spread as real ones do: their median absolute deviation is 7 to 13 % of
// the median.
var driving = map[string]struct{ kmPerHour, spread float64 }{
	"car":   {112, 0.085},
	"van":   {104, 0.085},
	"truck": {86, 0.05},
}

const (
	sectionSpread = 0.03  // of a vehicle's speed from section to section
	doubleShare   = 0.005 // of the vehicles that are read are read twice
	doubleWithin  = 3 * time.Second
	sharedShare   = 0.005 // of the vehicles have an id that others have as well
	sharedIDs     = 1000
	// warmUp is how long before the start the first vehicles set out, so that the road is not empty
	// then
	warmUp = 3 * time.Hour
)

// Trips makes vehicles that drive along the roads of the plazas file, in both directions, and pass
// one plaza after the other. It holds the vehicles that are on the way, however long it runs. It is
// for one goroutine.
//
// Where a vehicle sets out and where it goes follows the volumes of the plazas ([fitPairs]); when,
// the same hours, weather and holidays as in [Profile], of its road's first plaza. A plaza has half
// of its lanes for each direction.
type Trips struct {
	cfg     TripsConfig
	sources sources
	moving  vehicles
	random  rand.PCG
	draw    *rand.Rand // of one vehicle at one gate
	wall    func(time.Time) toll.WallTime
	start   int64
	end     int64
	truth   *recorder // nil for none
}

// NewTrips returns the trips of a configuration, or all that is wrong with it.
func NewTrips(cfg TripsConfig) (*Trips, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	end := cfg.End
	if end.IsZero() {
		end = time.Date(maxYear+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	t := &Trips{cfg: cfg, wall: wallClock(), start: cfg.Start.UnixMicro(), end: end.UnixMicro()}
	t.draw = rand.New(&t.random)
	if cfg.Truth != nil {
		t.truth = newRecorder(cfg.Location, cfg.Truth)
	}
	lines, err := linesOf(&cfg)
	if err != nil {
		return nil, err
	}
	from := t.start - warmUp.Microseconds()
	for _, l := range lines {
		volumes := make([]float64, len(l.gates))
		for i, g := range l.gates {
			volumes[i] = g.perDay
		}
		pairs, perDay := fitPairs(l.km, volumes)
		t.sources = append(t.sources, newSource(l, pairs, perDay, l.key, from, t.end))
		for i, g := range l.gates {
			for n, s := range g.incidents {
				if s.size > 1 {
					t.sources = append(t.sources, newSource(l, []pair{{int16(i), int16(i)}},
						[]float64{g.perDay * (s.size - 1)}, scramble(l.key)+uint64(i)<<32+uint64(n),
						s.start, min(s.end, t.end)))
				}
			}
		}
	}
	for _, s := range t.sources {
		s.next()
	}
	heap.Init(&t.sources)
	return t, nil
}

// Next makes an event and returns the instant of it, to the microsecond; false at the end. Instants
// never decrease.
func (t *Trips) Next(e *toll.Event) (at time.Time, ok bool) {
	for {
		v, ok := t.nextVehicle()
		if !ok || v.at >= t.end {
			if t.truth != nil {
				t.truth.until(t.end)
			}
			return time.Time{}, false
		}
		if (v.again || t.advance(&v)) && v.at >= t.start {
			at = time.UnixMicro(v.at).In(t.cfg.Location)
			*e = toll.Event{Time: t.wall(at), Vehicle: v.id, Type: v.kind, Plaza: v.plaza()}
			return at, true
		}
	}
}

// nextVehicle returns the vehicle that is next to arrive, to pass or to set out.
func (t *Trips) nextVehicle() (vehicle, bool) {
	first := t.sources[0]
	if len(t.moving) > 0 && t.moving[0].at <= first.at {
		return t.moving.pop(), true
	}
	if first.at == math.MaxInt64 {
		return vehicle{}, false
	}
	v := first.vehicle()
	first.next()
	heap.Fix(&t.sources, 0)
	return v, true
}

// advance moves a vehicle on, and reports whether it is read now.
func (t *Trips) advance(v *vehicle) (read bool) {
	g := v.line.gates[v.gate]
	if !v.queued {
		at, passes := g.pass(v.at, v.kind)
		if !passes {
			return false
		}
		if v.waited = at - v.at; v.waited > 0 {
			v.at, v.queued = at, true
			t.moving.push(*v)
			return false
		}
	}
	if v.gate == v.from {
		v.set = v.at
	}
	if t.truth != nil && v.at >= t.start {
		t.truth.passed(v)
	}
	t.random.Seed(v.seed, uint64(v.gate))
	if v.gate < v.to {
		t.moving.push(t.onward(v))
	}
	read = t.draw.Float64() >= t.cfg.Unread
	if read && t.draw.Float64() < doubleShare {
		double := *v
		double.again = true
		double.at += t.draw.Int64N(doubleWithin.Microseconds())
		t.moving.push(double)
	}
	return read
}

// onward returns the vehicle as it arrives at the next gate.
func (t *Trips) onward(v *vehicle) vehicle {
	next := *v
	next.gate++
	next.passed, next.queued = v.at, false
	if v.gate > v.from {
		next.delayed += v.waited
	}
	km := v.line.km[next.gate] - v.line.km[v.gate]
	next.at += int64(km * v.perKm * math.Exp(sectionSpread*t.draw.NormFloat64()))
	if next.stopped = t.draw.Float64() < t.cfg.Stops; next.stopped {
		next.everStopped = true
		next.at += ShortestStop.Microseconds() +
			t.draw.Int64N((LongestStop - ShortestStop).Microseconds())
	}
	return next
}

// vehicle is one on its way: it arrives at a gate, waits there to pass it, or is to be read again.
// Times are in microseconds.
type vehicle struct {
	at      int64 // when that happens
	set     int64 // when it passed the first gate
	passed  int64 // when it passed the gate before
	waited  int64 // how long, at this gate
	delayed int64 // how long, at the gates between the first and this
	seed    uint64
	perKm   float64
	line    *line
	kind    string
	id      int32
	// gates
	from, gate, to int16

	queued, again bool
	stopped       bool // on the section before this gate
	everStopped   bool
}

func (v *vehicle) plaza() int16 { return v.line.gates[v.gate].plaza }

// vehicles is a heap by time. Package container/heap would allocate each.
type vehicles []vehicle

func (h vehicles) before(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seed < h[j].seed
}

func (h *vehicles) push(v vehicle) {
	*h = append(*h, v)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.before(i, up) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (h *vehicles) pop() vehicle {
	s := *h
	first, last := s[0], len(s)-1
	s[0] = s[last]
	s = s[:last]
	*h = s
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			return first
		}
		if down+1 < last && s.before(down+1, down) {
			down++
		}
		if !s.before(down, i) {
			return first
		}
		s[i], s[down] = s[down], s[i]
		i = down
	}
}

// source is where vehicles of a line come from: minute by minute, each with a random stream of its
// own, so that the same vehicles set out whatever the start is.
type source struct {
	line       *line
	pairs      []pair
	until      []float64 // vehicles a day of this and the pairs before it
	key        uint64
	start, end int64

	minute int64
	u      float64 // how far into the minute it is: 0 to 1
	mean   float64 // vehicles of the minute
	random rand.PCG
	draw   *rand.Rand
	at     int64 // when the next vehicle sets out; math.MaxInt64 for none
}

// sources is a heap by time.
type sources []*source

func (s sources) Len() int      { return len(s) }
func (s sources) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s sources) Less(i, j int) bool {
	return s[i].at < s[j].at || s[i].at == s[j].at && s[i].key < s[j].key
}
func (s *sources) Push(x any) { *s = append(*s, x.(*source)) }
func (s *sources) Pop() any   { panic("sources stay") }

func newSource(l *line, pairs []pair, perDay []float64, key uint64, start, end int64) *source {
	s := &source{line: l, pairs: pairs, key: key, start: start, end: end,
		minute: floorDiv(start, microsPerMinute) - 1, u: 1}
	s.draw = rand.New(&s.random)
	sum := 0.0
	for _, n := range perDay {
		sum += n
		s.until = append(s.until, sum)
	}
	return s
}

// next advances to the next vehicle.
func (s *source) next() {
	for s.at != math.MaxInt64 {
		if s.u < 1 {
			s.u += s.draw.ExpFloat64() / s.mean
		}
		if !(s.u < 1) {
			if s.minute++; s.minute*microsPerMinute >= s.end {
				s.at = math.MaxInt64
				return
			}
			s.random.Seed(s.key, scramble(uint64(s.minute)))
			s.mean = s.until[len(s.until)-1] * s.line.shareOf(s.minute)
			s.u = s.draw.ExpFloat64() / s.mean
		}
		if s.u < 1 {
			s.at = s.minute*microsPerMinute + int64(s.u*microsPerMinute)
			if s.at >= s.end {
				s.at = math.MaxInt64
			}
			if s.at >= s.start {
				return
			}
			s.vehicle() // it sets out before the start; the next one is the same nevertheless
		}
	}
}

// vehicle draws the vehicle that sets out.
func (s *source) vehicle() vehicle {
	x := s.draw.Float64() * s.until[len(s.until)-1]
	n := min(sort.SearchFloat64s(s.until, x), len(s.until)-1)
	p := s.pairs[n]
	v := vehicle{at: s.at, line: s.line, from: p.from, gate: p.from, to: p.to, seed: s.draw.Uint64(),
		id: MinVehicle + s.draw.Int32N(MaxVehicle-MinVehicle+1)}
	if s.draw.Float64() < sharedShare {
		v.id = MinVehicle + s.draw.Int32N(sharedIDs)
	}
	v.kind = kindOf(s.draw.Float64(), s.line.gates[p.from].heavy)
	d := driving[v.kind]
	v.perKm = float64(time.Hour.Microseconds()) / d.kmPerHour * math.Exp(d.spread*s.draw.NormFloat64())
	return v
}
