package topology

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tollstream/codecs"
	"tollstream/toll"
)

// deltaSender sends the deltas of all sources of a run to the loop, in rounds: what waits for one plaza goes into one message.
// The plaza's state is then read, written and sent to the changelog once for all of them, which is most of what a delta costs.
//
// After each round it rests, longer the more messages that had: with ten plazas for two milliseconds, with a thousand for a fifth
// of a second, in which batches of several partitions, and several of one, come together. Deltas of one plaza keep their
// order, and what one call sends arrives or fails as a whole. A source waits itself until what it sent is acknowledged.
type deltaSender struct {
	emit  func(plaza int16, message []byte, done func(error)) error // done is called once
	pause time.Duration                                             // for each message of a round

	mu      sync.Mutex
	plazas  []int16 // with parcels that wait, in the order of their first one
	waiting map[int16][]parcel
	ended   bool
	wake    chan struct{} // has a value once something waits
}

// parcel is what one call of send sends.
type parcel struct {
	deltas [][]byte
	bytes  int
	done   func(error)
}

const (
	// messagePause lets a process send 5,000 messages a second at most, if its plazas are many.
	messagePause = 200 * time.Microsecond
	// maxRoundPause bounds how long deltas wait however many plazas there are.
	maxRoundPause = 500 * time.Millisecond
	// maxDeltasBytes is how many bytes of parcels share a message. One parcel alone may take more.
	maxDeltasBytes = 128 << 10
)

func newDeltaSender(emit func(plaza int16, message []byte, done func(error)) error, pause time.Duration) *deltaSender {
	return &deltaSender{emit: emit, pause: pause, waiting: map[int16][]parcel{}, wake: make(chan struct{}, 1)}
}

var errSenderEnded = errors.New("the run has ended")

// send sends deltas of one plaza with the next round, in one message. done is called once, when they are acknowledged or
// failed, unless send returns an error.
func (s *deltaSender) send(deltas []*toll.Delta, done func(error)) error {
	p := parcel{deltas: make([][]byte, len(deltas)), done: done}
	for i, d := range deltas {
		p.deltas[i] = codecs.AppendDelta(nil, d)
		p.bytes += len(p.deltas[i])
	}
	plaza := deltas[0].Plaza
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errSenderEnded
	}
	if len(s.waiting[plaza]) == 0 {
		s.plazas = append(s.plazas, plaza)
	}
	s.waiting[plaza] = append(s.waiting[plaza], p)
	notify(s.wake)
	return nil
}

// run sends rounds until ctx ends. Once hurry is done it rests no more.
func (s *deltaSender) run(ctx, hurry context.Context) {
	defer s.end()
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		pause := min(time.Duration(s.round())*s.pause, maxRoundPause)
		if pause <= 0 {
			continue
		}
		select {
		case <-time.After(pause):
		case <-hurry.Done():
		}
	}
}

// round sends all that waits, and returns in how many messages.
func (s *deltaSender) round() (messages int) {
	s.mu.Lock()
	plazas, waiting := s.plazas, s.waiting
	s.plazas, s.waiting = nil, make(map[int16][]parcel, len(waiting))
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
	return messages
}

// dispatch sends parcels as one message.
func (s *deltaSender) dispatch(plaza int16, parcels []parcel) {
	var deltas [][]byte
	for i := range parcels {
		deltas = append(deltas, parcels[i].deltas...)
	}
	done := func(err error) {
		for i := range parcels {
			parcels[i].done(err)
		}
	}
	if err := s.emit(plaza, codecs.AppendDeltas(nil, deltas...), done); err != nil {
		done(err)
	}
}

// end fails what was not sent.
func (s *deltaSender) end() {
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
