// Package simulate generates events: vehicles that pass toll plazas. The same configuration gives
// the same events. A [Generator] draws one after the other at an even rate; a [Profile] follows the
// traffic of a day.
package simulate

import (
	"math/rand/v2"
	"time"

	"github.com/tollstream/tollstream/toll"
)

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
