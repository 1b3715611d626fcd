package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

const (
	// spacingKm is how far plazas of a road are apart where the plazas file gives no positions.
	spacingKm = 8
	// gravityKm is the distance over which the willingness to travel falls to 1/e. It is an
	// assumption.
	gravityKm = 25
	// reach is how many plazas a trip passes at most, so that long roads cost no more than many short
	// ones.
	reach = 24
	// fitRounds is how often the fit goes over a road's plazas. The volumes are then met within 1 %.
	fitRounds = 100
	// headroom is the capacity of a plaza of unknown lanes, in flows of its busiest minute.
	headroom = 1.5
	// longestWait is how long vehicles wait at most: those that would wait longer leave the road. So
	// what is on the way is bounded.
	longestWait = time.Hour
)

// line is one direction of a road, with its plazas in the order in which vehicles reach them.
type line struct {
	gates    []*gate
	km       []float64 // of each gate, from the first
	location *time.Location
	shape    *shape
	vary     *variation // nil for none
	key      uint64

	minute int64 // that share is of
	share  float64
}

// shareOf returns the share of a day's vehicles that comes in a minute of UTC.
func (l *line) shareOf(minute int64) float64 {
	if l.minute != minute {
		day, second := toll.WallTimeOf(time.Unix(minute*60, 0).In(l.location)).Day()
		l.minute, l.share = minute, l.shape.minute(day, int(second)/60)
		if l.vary != nil {
			l.share *= l.vary.factor(day, int(second)/60)
		}
	}
	return l.share
}

// gate is a plaza in one direction. Vehicles that come faster than it lets them pass wait in a
// point queue: one that takes no space.
type gate struct {
	plaza     int16
	line      *line
	perDay    float64 // vehicles, in this direction
	heavy     float64
	capacity  float64 // passenger cars a microsecond
	incidents []incidentSpan
	free      int64 // when the next vehicle may pass
}

// pass returns when a vehicle that arrives passes; false if that is so late that it turns away.
// Vehicles are to arrive in order.
func (g *gate) pass(at int64, kind string) (int64, bool) {
	t := max(at, g.free)
	if t-at > longestWait.Microseconds() {
		return 0, false
	}
	g.free = t
	need := 1.0 // of it, how many passenger cars have still to pass
	if kind == heavyKind {
		need = heavyCars
	}
	for {
		rate, until := g.rate(g.free)
		if span := need / rate; span <= float64(until-g.free) {
			g.free += int64(span)
			return t, true
		}
		need -= rate * float64(until-g.free)
		g.free = until
	}
}

// cars returns how many passenger cars a vehicle counts for, on average.
func (g *gate) cars() float64 { return 1 - g.heavy + heavyCars*g.heavy }

// rate returns how many passenger cars the gate lets pass in a microsecond, and until when that
// holds.
func (g *gate) rate(at int64) (rate float64, until int64) {
	for len(g.incidents) > 0 && g.incidents[0].end <= at {
		g.incidents = g.incidents[1:]
	}
	switch {
	case len(g.incidents) == 0:
		return g.capacity, math.MaxInt64
	case at < g.incidents[0].start:
		return g.capacity, g.incidents[0].start
	case g.incidents[0].size > 1:
		return g.capacity, g.incidents[0].end
	}
	minute := floorDiv(at, microsPerMinute)
	usual := g.perDay * g.cars() * g.line.shareOf(minute) / microsPerMinute
	return g.incidents[0].size * min(usual, g.capacity),
		min(g.incidents[0].end, (minute+1)*microsPerMinute)
}

func floorDiv(a, b int64) int64 {
	if q := a / b; a%b >= 0 {
		return q
	}
	return a/b - 1
}

// pair is an origin and a destination, as indexes of gates of a line.
type pair struct{ from, to int16 }

// fitPairs returns how many vehicles a day go from where to where on the line, so that as many pass
// each gate as its volume says. Willingness falls with distance (gravity). Each gate's factor then
// scales all trips that pass it, again and again, until all volumes are met: the entropy maximum of
// Van Zuylen and Willumsen, The Most Likely Trip Matrix Estimated from Traffic Counts
// (Transportation Research B, 1980), found by iterative proportional fitting as Furness did.
func (l *line) fitPairs() (pairs []pair, perDay []float64) {
	through := make([][]int, len(l.gates))
	for from := range l.gates {
		for to := from; to < min(len(l.gates), from+reach); to++ {
			for g := from; g <= to; g++ {
				through[g] = append(through[g], len(pairs))
			}
			pairs = append(pairs, pair{int16(from), int16(to)})
			perDay = append(perDay, math.Exp(-(l.km[to]-l.km[from])/gravityKm))
		}
	}
	// Factors near 1 keep the willingness as it is: each multiplies long trips more often than short
	// ones.
	passes, volume := 0.0, 0.0
	for g, trips := range through {
		volume += l.gates[g].perDay
		for _, n := range trips {
			passes += perDay[n]
		}
	}
	for n := range perDay {
		perDay[n] *= volume / passes
	}
	for range fitRounds {
		for g, trips := range through {
			sum := 0.0
			for _, n := range trips {
				sum += perDay[n]
			}
			for _, n := range trips {
				perDay[n] *= l.gates[g].perDay / sum
			}
		}
	}
	return pairs, perDay
}

// linesOf returns both directions of each road of a configuration, by its name. Plazas that have no
// road are on one together.
func linesOf(cfg *TripsConfig) ([]*line, error) {
	roads := map[string][]toll.Plaza{}
	for _, p := range cfg.Plazas {
		roads[p.Road] = append(roads[p.Road], p)
	}
	shape := newShape(cmp.Or(cfg.Peak, DefaultPeak), cfg.Variation > 0)
	var lines []*line
	for _, plazas := range roads {
		slices.SortFunc(plazas, func(p, q toll.Plaza) int {
			return cmp.Or(cmp.Compare(p.PositionKm, q.PositionKm), cmp.Compare(p.ID, q.ID))
		})
		km := positions(plazas)
		back := make([]float64, len(km))
		for i, last := range slices.Backward(km) {
			back[len(km)-1-i] = km[len(km)-1] - last
		}
		for _, km := range [][]float64{km, back} {
			l, err := newLine(cfg, plazas, km, shape)
			if err != nil {
				return nil, err
			}
			if len(lines) > 0 && lines[len(lines)-1].key == l.key {
				// The directions of a single plaza have the same ends, and still other vehicles.
				l.key = scramble(l.key)
			}
			lines = append(lines, l)
			slices.Reverse(plazas)
		}
	}
	slices.SortFunc(lines, func(a, b *line) int { return cmp.Compare(a.key, b.key) })
	return lines, nil
}

// positions returns how far each plaza is from the first one.
func positions(plazas []toll.Plaza) []float64 {
	km := make([]float64, len(plazas))
	for i := range plazas {
		km[i] = plazas[i].PositionKm - plazas[0].PositionKm
	}
	if len(slices.Compact(slices.Clone(km))) < len(km) { // two at one place, or none has a position
		for i := range km {
			km[i] = spacingKm * float64(i)
		}
	}
	return km
}

func newLine(cfg *TripsConfig, plazas []toll.Plaza, km []float64, shape *shape) (*line, error) {
	first, last := plazas[0].ID, plazas[len(plazas)-1].ID
	location, err := cfg.locationOf(&plazas[0])
	if err != nil {
		return nil, err
	}
	l := &line{km: km, location: location, shape: shape, minute: math.MinInt64,
		key: scramble(cfg.Seed) ^ scramble(uint64(uint16(first))<<16|uint64(uint16(last)))}
	if cfg.Variation > 0 {
		l.vary = newVariation(cfg.Variation, cfg.Seed, scramble(cfg.Seed)^scramble(
			uint64(uint16(min(first, last)))+1)) // the same in both directions
	}
	for i := range plazas {
		p := &plazas[i]
		g := &gate{plaza: p.ID, line: l, perDay: VehiclesPerDay(p) / 2, heavy: p.HeavyShare,
			incidents: cfg.incidentsOf(p.ID), free: math.MinInt64}
		if cars, ok := p.Capacity(); ok {
			g.capacity = queueFlow * cars / 2 / 60 / microsPerMinute
		} else {
			g.capacity = headroom * g.perDay * g.cars() * busiestMinute(shape) / microsPerMinute
		}
		l.gates = append(l.gates, g)
	}
	return l, nil
}

// busiestMinute returns the share of a weekday that its busiest minute has.
func busiestMinute(s *shape) float64 {
	most := 0.0
	for minute := range minutesPerDay {
		most = max(most, s.minute(0, minute))
	}
	return most
}
