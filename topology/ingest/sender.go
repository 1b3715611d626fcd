package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// Sender sends the deltas of all partitions of a run to the loop, in rounds: what waits for one
// plaza goes into one message. The plaza's state is then read, written and sent to the changelog
// once for all of them, which is most of what a delta costs.
//
// After each round it rests, longer the more messages that had: with ten plazas for two
// milliseconds, with a thousand for a fifth of a second, in which batches of several partitions,
// and several of one, come together. Where there are many plazas it rests for as long as two
// batches fill, and in a backlog for longer, unless a partition has little room for more. Deltas of
// one plaza keep their order, and what one call sends arrives or fails as a whole. A partition
// waits itself until what it sent is acknowledged, and then for the end of the rest, so that all
// that it stored meanwhile goes into the same round.
type Sender struct {
	emit    func(plaza int16, message []byte, done func(error)) error // done is called once
	pause   time.Duration                                             // for each message of a round
	latency time.Duration                                             // the latency target
	// has a value once a partition has no room
	urgent chan struct{}

	mu      sync.Mutex
	full    time.Time // when a batch was full
	plazas  []int16   // with parcels that wait, in the order of their first one
	waiting map[int16][]parcel
	resting chan struct{} // closed at the end of the rest, nil while there is none
	pace    pace
	ended   bool
	wake    chan struct{} // has a value once something waits
}

// parcel is what one call of Send sends.
type parcel struct {
	deltas [][]byte
	bytes  int
	done   func(error)
}

const (
	// MessagePause lets a process send 5,000 messages a second at most, if its plazas are many.
	MessagePause = 200 * time.Microsecond
	// maxRoundPause bounds how long deltas wait however many plazas there are.
	maxRoundPause = 500 * time.Millisecond
	// backlogRest is how long deltas wait for more in a backlog, of which nobody awaits the figures
	// within moments. It counts where plazas are so many that a partition takes longer to fill the
	// batches that Urge speaks of: the longer it is, the more events share a state's writing.
	backlogRest = 5 * time.Second
	// backlogLasts is how long after a full batch more of them are expected, and backlogStep how often
	// that is looked at.
	backlogLasts = 500 * time.Millisecond
	backlogStep  = 50 * time.Millisecond
	// joinShare is the part of a rest that the round after it waits for all partitions.
	joinShare = 64
	// maxDeltasBytes is how many bytes of parcels share a message. One parcel alone may take more.
	maxDeltasBytes = 128 << 10
)

// NewSender returns a sender that sends messages by emit, once Run is called, and rests for pause
// after each, or not at all; latency is what an event may take until it is stored.
func NewSender(emit func(plaza int16, message []byte, done func(error)) error,
	pause, latency time.Duration) *Sender {
	return &Sender{
		emit: emit, pause: pause, latency: latency, waiting: map[int16][]parcel{},
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
	}
}

var errSenderEnded = errors.New("the run has ended")

// Send sends deltas of one plaza with the next round, in one message. done is called once, when
// they are acknowledged or failed, unless Send returns an error.
func (s *Sender) Send(deltas []*toll.Delta, done func(error)) error {
	encoded := make([][]byte, len(deltas))
	for i, d := range deltas {
		encoded[i] = wire.AppendDelta(nil, d)
	}
	return s.SendEncoded(deltas[0].Plaza, encoded, done)
}

// SendEncoded sends as Send does what [wire.AppendDelta] wrote.
func (s *Sender) SendEncoded(plaza int16, deltas [][]byte, done func(error)) error {
	p := parcel{deltas: deltas, done: done}
	for _, d := range deltas {
		p.bytes += len(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errSenderEnded
	}
	if len(s.waiting[plaza]) == 0 {
		s.plazas = append(s.plazas, plaza)
	}
	s.waiting[plaza] = append(s.waiting[plaza], p)
	s.pace.note(plaza, time.Now())
	wait.Signal(s.wake)
	return nil
}

// Turn waits for the end of a rest in which many plazas' deltas are to come together, or of ctx.
func (s *Sender) Turn(ctx context.Context) {
	s.mu.Lock()
	resting := s.resting
	s.mu.Unlock()
	if resting == nil {
		return
	}
	select {
	case <-resting:
	case <-ctx.Done():
	}
}

// Urge ends a rest that is longer than its messages ask for.
func (s *Sender) Urge() { wait.Signal(s.urgent) }

// Full notes that a batch was full.
func (s *Sender) Full() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
}

// backlog reports whether batches are full.
func (s *Sender) backlog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backlogLocked()
}

func (s *Sender) backlogLocked() bool {
	return s.pause > 0 && time.Since(s.full) < backlogLasts
}

// Run sends rounds until ctx ends. Once hurry is done it rests no more.
func (s *Sender) Run(ctx, hurry context.Context) {
	defer s.end()
	rested := time.Duration(0)
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		if rested > shortestWait { // the partitions that waited for the end of the rest all send now
			sleep(hurry, rested/joinShare, nil)
		}
		messages, rest := s.round()
		rested = s.rest(hurry, messages, rest)
	}
}

// rest rests after a round of so many messages, for longer where round said so, and returns for how
// long it meant to.
func (s *Sender) rest(hurry context.Context, messages int,
	longer time.Duration) time.Duration {
	defer s.endRest()
	pause := min(time.Duration(messages)*s.pause, maxRoundPause)
	if messages == 0 || !sleep(hurry, pause, nil) {
		return pause
	}
	for rested := pause; ; {
		more := longer - rested
		if more <= 0 && rested < backlogRest && s.backlog() {
			more = backlogStep
		}
		if more <= 0 {
			return rested
		}
		if !sleep(hurry, more, s.urgent) {
			return pause
		}
		rested += more
	}
}

func (s *Sender) endRest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting != nil {
		close(s.resting)
		s.resting = nil
	}
}

// sleep waits for a while, and reports whether it did: not where ctx or sooner ended it.
func sleep(ctx context.Context, d time.Duration, sooner <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-sooner:
	case <-ctx.Done():
	}
	return false
}

// round sends all that waits, and returns in how many messages, and how long the rest is to be that
// begins with it: what a partition stores from now on belongs to the next round. 0 is for no longer
// than the messages ask for, which nobody need wait for the end of.
func (s *Sender) round() (messages int, rest time.Duration) {
	s.mu.Lock()
	plazas, waiting := s.plazas, s.waiting
	s.plazas, s.waiting = nil, make(map[int16][]parcel, len(waiting))
	rest = max(0, min(2*(s.waitLocked()-shortestWait), maxRest))
	if len(plazas) > 0 && (rest > 0 || s.backlogLocked()) && !s.ended {
		s.resting = make(chan struct{})
	}
	s.mu.Unlock()
	for _, plaza := range plazas {
		for parcels := waiting[plaza]; len(parcels) > 0; messages++ {
			n, size := 0, 0
			for n < len(parcels) && (n == 0 || size+parcels[n].bytes <= maxDeltasBytes) {
				size += parcels[n].bytes
				n++
			}
			s.dispatch(plaza, slices.Clip(parcels[:n]))
			parcels = parcels[n:]
		}
	}
	return messages, rest
}

// dispatch sends parcels as one message.
func (s *Sender) dispatch(plaza int16, parcels []parcel) {
	var deltas [][]byte
	for i := range parcels {
		deltas = append(deltas, parcels[i].deltas...)
	}
	done := func(err error) {
		for i := range parcels {
			parcels[i].done(err)
		}
	}
	if err := s.emit(plaza, wire.AppendDeltas(nil, deltas...), done); err != nil {
		done(err)
	}
}

// end fails what was not sent.
func (s *Sender) end() {
	s.mu.Lock()
	s.ended = true
	waiting := s.waiting
	s.plazas, s.waiting = nil, nil
	s.mu.Unlock()
	for _, parcels := range waiting {
		for _, p := range parcels {
			p.done(errSenderEnded)
		}
	}
}

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
