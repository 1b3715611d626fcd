package ingest

import (
	"sync"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// progress is how far a partition has come. The committer and the publisher share it.
type progress struct {
	mu     sync.Mutex
	stored int64 // Next of the last batch that is stored
	sent   int64 // Next of the last batch that the broker has acknowledged
	// follows is from where on the publisher takes batches from the committer, as it has sent all
	// before; fromOutbox until then.
	follows  int64
	acked    []toll.BatchRef // acknowledged and not marked published yet
	unmarked int             // of them, those that are being marked among them
	toMark   chan struct{}   // has a value once a batch is acknowledged
}

// fromOutbox says that the publisher reads batches from the database.
const fromOutbox = -1

// newProgress returns the progress of a partition that is stored up to an offset.
func newProgress(stored int64) progress {
	return progress{stored: stored, follows: fromOutbox, toMark: make(chan struct{}, 1)}
}

// storedUpTo returns up to where batches are stored.
func (p *progress) storedUpTo() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored
}

// store notes that a batch is stored, and reports whether the publisher is to be given it. While
// that sends again what is left from before, it finds this batch in the database too: rows are
// stored meanwhile, however much is left.
func (p *progress) store(next int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = next
	return p.follows != fromOutbox && next > p.follows
}

// caughtUp reports whether all was sent that is stored. The committer passes on what it stores from
// then on.
func (p *progress) caughtUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.follows == fromOutbox && p.sent >= p.stored {
		p.follows = p.sent
	}
	return p.follows != fromOutbox
}

// sentUpTo notes that all below an offset is acknowledged, and marked published where it has to be.
func (p *progress) sentUpTo(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = next
}

// acknowledge notes that a batch is acknowledged, which is to be marked published.
func (p *progress) acknowledge(next int64, ref toll.BatchRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = next
	p.acked = append(p.acked, ref)
	p.unmarked++
	wait.Signal(p.toMark)
}

// takeAcked takes the batches that are to be marked published. Marking late is sound (the searches
// next to the design cover it): an unmarked batch is sent again after a restart and skipped as a
// duplicate.
func (p *progress) takeAcked() []toll.BatchRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	acked := p.acked
	p.acked = nil
	return acked
}

// mark notes what became of batches that were taken: they are marked published, or not, for err.
func (p *progress) mark(acked []toll.BatchRef, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.acked = append(acked, p.acked...)
		return
	}
	p.unmarked -= len(acked)
}

// published returns up to where all that is stored is published and marked so in the database, -1
// while that is under way.
func (p *progress) published() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unmarked > 0 || p.sent < p.stored {
		return -1
	}
	return p.stored
}
