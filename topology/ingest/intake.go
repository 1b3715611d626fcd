package ingest

import (
	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// takeIn adds a bundle to the open batch. It waits while that is full, and returns early when the
// session ends: what is left is then not stored, and is read again. A record that can't be decoded
// ends the session, before any that follow it are added.
func (s *Partition) takeIn(in bundle) {
	for {
		added, full, held, err := s.addSome(&in)
		if added {
			wait.Signal(s.filled)
		}
		if full {
			wait.Signal(s.full)
		}
		if err != nil {
			s.fail(s.unreadable(err))
			<-s.ctx.Done()
			return
		}
		switch {
		case held && !full:
			if !s.learn() {
				return
			}
			continue
		case !held && in.oversized == nil && in.records.Len() == 0:
			return
		}
		select {
		case <-s.taken:
		case <-s.ctx.Done():
			return
		}
	}
}

// learn gives the open batch the schema of the record that is held, from the registry, however long
// that is unavailable. It reports whether the session goes on.
func (s *Partition) learn() bool {
	id := codecs.SchemaID(s.taking.Value)
	for pauses, down := s.cfg.Backoff(), false; ; {
		schema, err := s.cfg.Schemas.Schema(s.ctx, id)
		switch {
		case s.ctx.Err() != nil:
			return false
		case err == nil:
			if down {
				s.cfg.Log.Info("the schema registry recovered", "partition", s.partition)
			}
			s.mu.Lock()
			s.open.decoder.Learn(id, schema)
			s.mu.Unlock()
			return true
		case toll.IsPermanent(err):
			s.fail(err)
			<-s.ctx.Done()
			return false
		case !down:
			down = true
			s.cfg.Log.Warn("the schema registry is unavailable; retrying with backoff", "partition",
				s.partition, "schema", id, "error", err)
		}
		if wait.For(s.ctx, pauses.NextBackOff()) != nil {
			return false
		}
	}
}

// addSome takes from a bundle until the open batch is full, or a record is held whose schema is not
// known yet. It reports whether the batch holds something that held nothing before, and whether it
// is full.
func (s *Partition) addSome(in *bundle) (first, full, held bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.open
	first, full = b.empty(), s.isFull(b)
	if in.oversized != nil && !full {
		b.addOversized(in.oversized)
		in.oversized = nil
		return first, s.isFull(b), false, nil
	}
	added := false
	for more := true; !full; added = true {
		if !s.held {
			if more, err = in.records.Next(&s.taking); !more {
				break
			}
		}
		s.held = s.cfg.Schemas != nil && b.decoder.Lacks(s.taking.Value) != 0
		if s.held {
			break
		}
		s.next.read(&s.taking)
		b.add(&s.next)
		full = s.isFull(b)
	}
	if added {
		b.added(&s.next)
	}
	return first && added, full, s.held, err
}

func (s *Partition) isFull(b *builder) bool {
	return b.len()+b.extra() >= s.cfg.BatchRows || b.bytes+b.rejectBytes >= s.cfg.BatchBytes ||
		len(b.cells) >= maxCells
}

// maxCells bounds what a batch counts apart, so that the delta of a plaza stays well below a Kafka
// message's size.
const maxCells = 20_000

// take swaps the open batch for the spare one, or returns nil when there is nothing to store.
func (s *Partition) take() *builder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.empty() {
		return nil
	}
	b := s.open
	s.open, s.spare = s.spare, nil
	s.open.begin(&b.clock)
	select {
	case <-s.full: // it was about the batch that is taken
	default:
	}
	wait.Signal(s.taken)
	return b
}

// rebase builds the open batch again on the event time with which the one before it ends now that
// rows of that were refused: how late its events are depends on it.
func (s *Partition) rebase(before *builder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.start == before.clock {
		return
	}
	s.open.begin(&before.clock)
	s.open.refuse(nil)
}

func (s *Partition) giveBack(b *builder) {
	b.reset()
	s.mu.Lock()
	s.spare = b
	s.mu.Unlock()
}
