package monitor

import (
	"math"
	"sync"
	"time"
)

// Arrivals are judged by slots of time: one counts once, however many events it brings. So what
// reports in bursts is no different from what reports evenly.
const (
	arrivalSlot = 10 * time.Second
	// arrivalSpan is how far back the share of slots reaches, about: a quarter of an hour.
	arrivalSpan = 90 // slots
	// arrivalsKnown is how many slots with events make the share known.
	arrivalsKnown = 5
)

// arrivals follows when events arrive at the topic, in wall time, whatever their event time is. It
// is safe for concurrent use.
type arrivals struct {
	now func() time.Time

	mu    sync.Mutex
	last  time.Time // zero for never
	slot  int64     // of last
	slots float64   // with events, the older ones weigh less
	span  float64   // all of them
	count int       // slots with events since the process began
}

// note takes the time of an arrival, which is not later than now. What is older than the last one
// changes nothing.
func (a *arrivals) note(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); at.After(now) { // by a wrong clock
		at = now
	}
	if !at.After(a.last) {
		return
	}
	slot := at.UnixNano() / int64(arrivalSlot)
	if passed := float64(slot - a.slot); a.last.IsZero() {
		a.slots, a.span, a.count = 1, 1, 1
	} else if passed > 0 {
		fade := math.Exp(-passed / arrivalSpan)
		a.slots, a.span, a.count = a.slots*fade+1, a.span*fade+passed, a.count+1
	}
	a.last, a.slot = at, slot
}

// read returns when the last event arrived, zero for never, and the share of slots that had events
// before, 0 for not known.
func (a *arrivals) read() (last time.Time, share float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count < arrivalsKnown {
		return a.last, 0
	}
	return a.last, a.slots / a.span
}

// Arrived returns when the last event arrived at the topic, as far as it is known: zero for never.
// Before that, events arrived in a share of all slots of ten seconds; 0 for not known.
func (s *Stats) Arrived() (last time.Time, share float64) { return s.arrivals.read() }

// Silence returns for how long no event has arrived, where that is no chance: its probability is
// below 1 in 10,000 at the rate before. Where that rate is not known, it is more than a quarter of
// an hour. Else it is 0. It says nothing of the process's own health.
func (s *Stats) Silence() time.Duration {
	last, share := s.arrivals.read()
	if last.IsZero() {
		return 0
	}
	age := s.arrivals.now().Sub(last)
	patience := 15 * time.Minute
	if share > 0 {
		patience = time.Duration(-math.Log(1e-4) / share * float64(arrivalSlot))
	}
	if age > patience {
		return age
	}
	return 0
}

// look notes an arrival where the end of a partition has moved since the last look. That is so
// whatever timestamps records bear: those of a replay may be as old as its events.
func (s *Stats) look(p *partitionStats) {
	end := p.known()
	if p.observed > 0 && end > p.observed {
		s.arrivals.note(s.arrivals.now())
	}
	p.observed = max(p.observed, end)
}
