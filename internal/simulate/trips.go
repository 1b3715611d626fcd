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
	share := func(what string, x, most float64) error {
		if x >= 0 && x <= most {
			return nil
		}
		return fmt.Errorf("the %s %v are not from 0 to %v", what, x, most)
	}
	return errors.Join(c.ProfileConfig.Validate(), share("stops", c.Stops, MaxStops),
		share("unread", c.Unread, MaxUnread))
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
	cfg    TripsConfig
	moving queue[*vehicle] // and of each source the next one to set out
	random rand.PCG
	draw   *rand.Rand // of one vehicle at one gate
	wall   func(time.Time) toll.WallTime
	start  int64
	end    int64
	truth  *recorder // nil for none
}

// NewTrips returns the trips of a configuration, or all that is wrong with it.
func NewTrips(cfg TripsConfig) (*Trips, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Trips{cfg: cfg, wall: wallClock(), start: cfg.Start.UnixMicro(), end: cfg.until()}
	t.draw = rand.New(&t.random)
	if cfg.Truth != nil {
		t.truth = &recorder{location: cfg.Location, report: cfg.Truth, cells: map[Truth]*truthSums{}}
	}
	lines, err := linesOf(&cfg)
	if err != nil {
		return nil, err
	}
	from := t.start - warmUp.Microseconds()
	for _, l := range lines {
		pairs, perDay := l.fitPairs()
		t.follow(newSource(l, pairs, perDay, l.key, from, t.end))
		for i, g := range l.gates {
			for n, s := range g.incidents {
				if s.size > 1 {
					t.follow(newSource(l, []pair{{int16(i), int16(i)}}, []float64{g.perDay * (s.size - 1)},
						scramble(l.key)+uint64(i)<<32+uint64(n), s.start, min(s.end, t.end)))
				}
			}
		}
	}
	return t, nil
}

// Next makes an event and returns the instant of it, to the microsecond; false at the end. Instants
// never decrease.
func (t *Trips) Next(e *toll.Event) (at time.Time, ok bool) {
	for len(t.moving) > 0 && t.moving[0].at < t.end {
		v := t.moving[0]
		if s := v.source; s != nil {
			v.source = nil
			t.follow(s)
		}
		micros, plaza := v.at, v.plaza()
		if t.advance(v) && micros >= t.start {
			at = time.UnixMicro(micros).In(t.cfg.Location)
			*e = toll.Event{Time: t.wall(at), Vehicle: v.id, Type: v.kind, Plaza: plaza}
			return at, true
		}
	}
	if t.truth != nil {
		t.truth.until(t.end)
	}
	return time.Time{}, false
}

// follow lets the next vehicle of a source set out, unless there is none.
func (t *Trips) follow(s *source) {
	if v := s.next(); v != nil {
		heap.Push(&t.moving, v)
	}
}

// advance moves the vehicle that is first in the queue on, and reports whether it is read now.
func (t *Trips) advance(v *vehicle) (read bool) {
	if v.again {
		heap.Pop(&t.moving)
		return true
	}
	if v.waited == 0 {
		at, passes := v.line.gates[v.gate].pass(v.at, v.kind)
		if !passes {
			heap.Pop(&t.moving)
			return false
		}
		if v.waited = at - v.at; v.waited > 0 {
			v.at = at
			heap.Fix(&t.moving, 0)
			return false
		}
	}
	if v.gate == v.from {
		v.set = v.at
	} else {
		v.delayed += v.waited
	}
	if t.truth != nil && v.at >= t.start {
		t.truth.passed(v)
	}
	t.random.Seed(v.seed, uint64(v.gate))
	here := *v
	if v.gate < v.to {
		t.onward(v)
		heap.Fix(&t.moving, 0)
	} else {
		heap.Pop(&t.moving)
	}
	read = t.draw.Float64() >= t.cfg.Unread
	if read && t.draw.Float64() < doubleShare {
		double := here
		double.again = true
		double.at += t.draw.Int64N(doubleWithin.Microseconds())
		heap.Push(&t.moving, &double)
	}
	return read
}

// onward lets a vehicle drive to the next gate, where it arrives.
func (t *Trips) onward(v *vehicle) {
	v.gate++
	v.passed, v.waited = v.at, 0
	km := v.line.km[v.gate] - v.line.km[v.gate-1]
	v.at += int64(km * v.perKm * math.Exp(sectionSpread*t.draw.NormFloat64()))
	if v.stopped = t.draw.Float64() < t.cfg.Stops; v.stopped {
		v.everStopped = true
		v.at += ShortestStop.Microseconds() + t.draw.Int64N((LongestStop - ShortestStop).Microseconds())
	}
}

// vehicle is one on its way: it arrives at a gate, waits there to pass it, or is to be read again.
// Times are in microseconds.
type vehicle struct {
	at      int64 // when that happens
	set     int64 // when it passed the first gate
	passed  int64 // when it passed the gate before
	waited  int64 // how long, at this gate, once it is known
	delayed int64 // how long, at the gates after the first up to this
	seed    uint64
	perKm   float64
	line    *line
	source  *source // that it sets out from; nil once it has
	kind    string
	id      int32
	// gates
	from, gate, to int16

	again       bool // it is read for the second time
	stopped     bool // on the section before this gate
	everStopped bool
}

func (v *vehicle) plaza() int16 { return v.line.gates[v.gate].plaza }

// before orders vehicles by time. Where that is the same, those that are on the way are first.
func (v *vehicle) before(w *vehicle) bool {
	switch {
	case v.at != w.at:
		return v.at < w.at
	case v.source == nil || w.source == nil:
		return v.source == nil && (w.source != nil || v.seed < w.seed)
	}
	return v.source.key < w.source.key
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
}

func newSource(l *line, pairs []pair, perDay []float64, key uint64, start, end int64) *source {
	s := &source{line: l, pairs: pairs, key: key, start: start, end: end,
		minute: floorDiv(start, microsPerMinute) - 1}
	s.draw = rand.New(&s.random)
	sum := 0.0
	for _, n := range perDay {
		sum += n
		s.until = append(s.until, sum)
	}
	return s
}

// next draws the next vehicle to set out, nil for none.
func (s *source) next() *vehicle {
	for {
		s.u += s.draw.ExpFloat64() / s.mean // before the first minute infinite
		for !(s.u < 1) {
			s.minute++
			if s.minute*microsPerMinute >= s.end {
				return nil
			}
			s.random.Seed(s.key, scramble(uint64(s.minute)))
			s.mean = s.until[len(s.until)-1] * s.line.shareOf(s.minute)
			s.u = s.draw.ExpFloat64() / s.mean
		}
		at := s.minute*microsPerMinute + int64(s.u*microsPerMinute)
		if at >= s.end {
			return nil
		}
		// One that sets out before the start is drawn as well: the next one is the same nevertheless.
		if v := s.vehicle(at); at >= s.start {
			return v
		}
	}
}

// vehicle draws the vehicle that sets out.
func (s *source) vehicle(at int64) *vehicle {
	x := s.draw.Float64() * s.until[len(s.until)-1]
	n := min(sort.SearchFloat64s(s.until, x), len(s.until)-1)
	p := s.pairs[n]
	v := &vehicle{at: at, source: s, line: s.line, from: p.from, gate: p.from, to: p.to,
		seed: s.draw.Uint64(), id: MinVehicle + s.draw.Int32N(MaxVehicle-MinVehicle+1)}
	if s.draw.Float64() < sharedShare {
		v.id = MinVehicle + s.draw.Int32N(sharedIDs)
	}
	v.kind = kindOf(s.draw.Float64(), s.line.gates[p.from].heavy)
	d := driving[v.kind]
	v.perKm = float64(time.Hour.Microseconds()) / d.kmPerHour * math.Exp(d.spread*s.draw.NormFloat64())
	return v
}
