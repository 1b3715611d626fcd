package ingest

import (
	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// intakeLoop adds the bundles that goka passes on, until the session ends.
func (p *Partition) intakeLoop() {
	for {
		select {
		case b := <-p.passed:
			p.addBundle(b)
			<-p.room
		case <-p.ctx.Done():
			return
		}
	}
}

// addBundle adds a bundle to the open batch. It waits while that is full, and returns early when
// the session ends: what is left is then not stored, and is read again. Records that can't be read
// end the session, before any that follow them are added.
func (p *Partition) addBundle(in bundle) {
	for {
		first, full, held, err := p.fillOpen(&in)
		if first {
			wait.Signal(p.filled)
		}
		if full {
			wait.Signal(p.full)
		}
		if err != nil {
			p.fail(p.unreadable(err))
			<-p.ctx.Done()
			return
		}
		switch {
		case held && !full:
			if !p.learn() {
				return
			}
			continue
		case !held && in.oversized == nil && in.records.Len() == 0:
			return
		}
		select {
		case <-p.taken:
		case <-p.ctx.Done():
			return
		}
	}
}

// learn gives the open batch the schema of the record that is held, from the registry, however long
// that is unavailable. It reports whether the session goes on.
func (p *Partition) learn() bool {
	id := codecs.SchemaID(p.taking.Value)
	for pauses, down := p.cfg.Backoff(), false; ; {
		schema, err := p.cfg.Schemas.Schema(p.ctx, id)
		switch {
		case p.ctx.Err() != nil:
			return false
		case err == nil:
			if down {
				p.cfg.Log.Info("the schema registry recovered", "partition", p.partition)
			}
			p.mu.Lock()
			p.open.decoder.Learn(id, schema)
			p.mu.Unlock()
			return true
		case toll.IsPermanent(err):
			p.fail(err)
			<-p.ctx.Done()
			return false
		case !down:
			down = true
			p.cfg.Log.Warn("the schema registry is unavailable; retrying with backoff", "partition",
				p.partition, "schema", id, "error", err)
		}
		if wait.For(p.ctx, pauses.NextBackOff()) != nil {
			return false
		}
	}
}

// fillOpen takes from a bundle until the open batch is full, or a record is held whose schema is
// not known yet. It reports whether the batch holds something that held nothing before, and whether
// it is full.
func (p *Partition) fillOpen(in *bundle) (first, full, held bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.open
	first, full = b.empty(), p.isFull(b)
	if in.oversized != nil && !full {
		b.addOversized(in.oversized)
		in.oversized = nil
		return first, p.isFull(b), false, nil
	}
	added := false
	for more := true; !full; added = true {
		if !p.held {
			if more, err = in.records.Next(&p.taking); !more {
				break
			}
		}
		p.held = p.cfg.Schemas != nil && b.decoder.Lacks(p.taking.Value) != 0
		if p.held {
			break
		}
		p.next.read(&p.taking)
		b.add(&p.next)
		full = p.isFull(b)
	}
	if added {
		b.noteLast(&p.next)
	}
	return first && added, full, p.held, err
}

func (p *Partition) isFull(b *builder) bool {
	return b.len()+b.extra() >= p.cfg.BatchRows || b.bytes+b.rejectBytes >= p.cfg.BatchBytes ||
		len(b.cells) >= maxCells
}

// maxCells bounds what a batch counts apart, so that the delta of a plaza stays well below a Kafka
// message's size.
const maxCells = 20_000

// take swaps the open batch for the spare one, or returns nil when there is nothing to store.
func (p *Partition) take() *builder {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open.empty() {
		return nil
	}
	b := p.open
	p.open, p.spare = p.spare, nil
	p.open.begin(&b.clock)
	select {
	case <-p.full: // it was about the batch that is taken
	default:
	}
	wait.Signal(p.taken)
	return b
}

// rebase builds the open batch again on the event time with which the one before it ends now that
// rows of that were rejected: how late its events are depends on it.
func (p *Partition) rebase(before *builder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open.start == before.clock {
		return
	}
	p.open.begin(&before.clock)
	p.open.rebuild(nil)
}

func (p *Partition) giveBack(b *builder) {
	b.reset()
	p.mu.Lock()
	p.spare = b
	p.mu.Unlock()
}
