package ingest

import (
	"time"
)

// pace counts how many plazas have events at the moment. What a batch or a round of deltas costs
// grows with the plazas in it more than with the events, so the more plazas there are, the more is
// saved by letting each of them bring several events.
type pace struct {
	seen  [1 << 16 / 64]uint64 // a bit for each plaza of the span that is under way
	count int                  // of those bits
	last  int                  // the count of the span before
	began time.Time
}

// paceSpan is how long plazas are counted for.
const paceSpan = time.Second

func (p *pace) note(plaza int16, now time.Time) {
	p.roll(now)
	if word, bit := &p.seen[uint16(plaza)/64], uint64(1)<<(uint16(plaza)%64); *word&bit == 0 {
		*word |= bit
		p.count++
	}
}

// plazas returns how many plazas have events: in this span or the one before, whichever has more.
func (p *pace) plazas(now time.Time) int {
	p.roll(now)
	return max(p.count, p.last)
}

func (p *pace) roll(now time.Time) {
	age := now.Sub(p.began)
	if age < paceSpan {
		return
	}
	p.last = p.count
	if age >= 2*paceSpan {
		p.last = 0
	}
	p.count, p.began = 0, now
	clear(p.seen[:])
}

const (
	// shortestWait is how long a batch fills where there are few plazas, unless the latency target is
	// shorter.
	shortestWait = 20 * time.Millisecond
	// plazaWait is how long a batch fills for each plaza, up to the latency target.
	plazaWait = 250 * time.Microsecond
	// lingerShare is the part of that time that a small fetch may wait for more.
	lingerShare = 8
	// maxRest bounds how long deltas wait for more.
	maxRest = time.Second
)

// Wait returns how long an event may take until it is stored, for the plazas that have events at
// the moment: the latency target where they are many, as each of them then costs a message, a state
// and a write to the group table for an event or two.
func (s *Sender) Wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitLocked()
}

func (s *Sender) waitLocked() time.Duration {
	plazas := s.pace.plazas(time.Now())
	return min(max(time.Duration(plazas)*plazaWait, shortestWait), s.latency)
}

// Linger returns how long to wait after a fetch that brought little.
func (s *Sender) Linger() time.Duration {
	if wait := s.Wait(); wait > shortestWait {
		return wait / lingerShare
	}
	return 0
}
