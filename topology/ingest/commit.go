package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

const (
	// markDelay is how long an acknowledged batch waits to be marked published together with the next
	// commit.
	markDelay = 100 * time.Millisecond
	// turnEvery is how often the loop turns that has nothing to do, far below the limit of its health.
	turnEvery = monitor.LoopLimit / 4
)

// commitAll stores batches until the session ends.
func (p *Partition) commitAll() error {
	idle := time.NewTimer(turnEvery)
	defer idle.Stop()
	marking := false // the timer is set for batches to mark
	for {
		p.Stats.Turn(p.partition)
		select {
		case <-p.ctx.Done():
			return p.markAcked()
		case <-idle.C:
			if err := p.markAcked(); err != nil {
				return err
			}
			idle.Reset(turnEvery)
			marking = false
			continue
		case <-p.progress.toMark:
			if !marking {
				idle.Reset(markDelay)
				marking = true
			}
			continue
		case <-p.filled:
		}
		p.mu.Lock()
		replaced := p.replaced
		p.mu.Unlock()
		if replaced != "" {
			return RefuseLog(p.ctx, p.cfg, p.Store, p.Database, &p.cursor, replaced)
		}
		if !p.gather() {
			return p.markAcked()
		}
		b := p.take()
		if b == nil {
			continue
		}
		p.Stats.Taken(b.len())
		if b.taken = time.Now(); p.isFull(b) {
			p.Pace.Full()
		}
		stored, err := p.storeBatch(b)
		if err != nil {
			return err
		}
		p.giveBack(b)
		p.mu.Lock()
		if !p.open.empty() {
			wait.Signal(p.filled)
		}
		p.mu.Unlock()
		idle.Reset(markDelay)
		marking = true
		if !p.progress.store(stored.Next) {
			continue
		}
		if len(p.pending) >= urgentBatches {
			p.Pace.Urge()
		}
		select {
		case p.pending <- stored:
		case <-p.ctx.Done():
			return p.markAcked()
		}
	}
}

// gather waits until the open batch is full or its time is up, and reports whether the session goes
// on.
func (p *Partition) gather() bool {
	p.mu.Lock()
	full, began := p.isFull(p.open), p.open.began
	p.mu.Unlock()
	if fill := p.fill(began); fill > 0 && !full {
		sleep(p.ctx, fill, p.full)
	}
	// Once the session has ended, the intake may have given up on a record and taken a later one: such
	// a batch must not be stored.
	return p.ctx.Err() == nil
}

// fill returns how much longer a batch may fill that began at a time. Of the time until its first
// event is to be stored, fetching took a share, and the commit takes about as long as the last one.
func (p *Partition) fill(began time.Time) time.Duration {
	wait := p.Pace.Wait()
	left := wait - wait/lingerShare - min(p.took, wait/2) - time.Since(began)
	return max(left, min(wait, shortestWait))
}

// storeBatch stores what a builder holds as one batch, however often the database is
// unavailable meanwhile.
func (p *Partition) storeBatch(b *builder) (Stored, error) {
	token := p.cfg.NewToken()
	started := time.Now()
	pauses := p.cfg.Backoff()
	for attempts := 1; ; attempts++ {
		batch, deltas, undo := p.batch(b, token)
		acked := p.progress.takeAcked()
		answered := p.Database.Await(p.partition)
		err := p.Store.Commit(p.grace, batch, acked)
		answered()
		p.progress.mark(acked, err)
		if rejected, ok := errors.AsType[*toll.RejectedError](err); ok {
			undo()
			p.Stats.Rejected(p.partition, rejected)
			b.rebuild(rejected.Rows)
			p.rebase(b)
			continue
		}
		if err != nil {
			err = p.resolve(batch, err, pauses)
		}
		switch {
		case err == nil:
			p.Database.Up(p.partition)
			p.cursor.Next, p.cursor.Token, p.cursor.Last = batch.Next, batch.Token, batch.Last
			p.Mark(batch.Next)
			p.took = time.Since(started)
			p.Stats.Stored(p.partition, batch, deltas, p.took)
			stored := p.stored(toll.BatchRef{First: batch.First, Token: batch.Token}, batch.Next, deltas,
				batch.Deltas)
			stored.oldest = b.oldest
			stored.trace = monitor.BatchTrace{Rejected: len(batch.Rejects), Attempts: attempts,
				Began: b.began, Taken: b.taken, Stored: time.Now()}
			return stored, nil
		case errors.Is(err, errNotStored):
			undo()
		default:
			p.Stats.NotStored(monitor.BatchTrace{
				Partition: p.partition, First: batch.First, Next: b.next, Events: b.rows.Len(),
				Rejected: len(b.rejects), Attempts: attempts,
				Began: b.began, Taken: b.taken, Ended: time.Now(), Err: err,
			})
			return Stored{}, err
		}
	}
}

// errNotStored says that a batch is known not to be stored and may be tried again.
var errNotStored = errors.New("the batch was not stored")

// resolve finds out what became of a batch whose commit failed or was not answered: nil for stored
// after all, errNotStored for certainly not, and any other error for a session that must end.
//
// A batch keeps its token through all attempts. If an earlier one is still open on the server and
// commits late, it either comes before the next attempt, whose compare-and-set then fails and leads
// here again, or never: both attempts have the same contents, and only one can move the cursor.
func (p *Partition) resolve(batch *toll.Batch, cause error, pauses backoff.BackOff) error {
	if toll.IsPermanent(cause) {
		return cause
	}
	moved := errors.Is(cause, toll.ErrCursorMoved)
	if !moved && p.grace.Err() == nil {
		p.Database.Down(p.partition, cause)
	}
	var cursor toll.Cursor
	err := wait.Retry(p.grace, p.cfg.Backoff(), func() (err error) {
		if p.ctx.Err() != nil {
			return backoff.Permanent(p.ctx.Err())
		}
		cursor, err = p.Store.Cursor(p.grace, p.partition)
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case cursor.Token == batch.Token && cursor.Next == batch.Next:
		return nil
	case cursor.LogReplaced != "":
		return LogReplaced(cursor.LogReplaced)
	case cursor.Token == batch.Expect && cursor.Next == batch.First && cursor.Epoch == batch.Epoch:
		// Longer each time, so that a server which answers reads and refuses writes is not hammered.
		if !moved && wait.For(p.ctx, pauses.NextBackOff()) != nil {
			return p.ctx.Err()
		}
		return errNotStored
	case cursor.Epoch != batch.Epoch:
		return fmt.Errorf("partition %d: %w", p.partition, ErrOtherEpoch)
	}
	return fmt.Errorf("partition %d: %w", p.partition, errFenced)
}

// batch makes the batch of a builder, and links its deltas into the partition's chain; undo takes
// them out again.
func (p *Partition) batch(b *builder, token uint64) (batch *toll.Batch, deltas []toll.PlazaDelta,
	undo func()) {
	deltas = b.deltas()
	for i := range deltas {
		deltas[i].Prev = p.chain[deltas[i].Plaza]
		p.chain[deltas[i].Plaza] = b.next
	}
	undo = func() {
		for i := range deltas {
			if deltas[i].Prev == 0 {
				delete(p.chain, deltas[i].Plaza)
			} else {
				p.chain[deltas[i].Plaza] = deltas[i].Prev
			}
		}
	}
	return &toll.Batch{
		Partition: p.partition,
		First:     p.cursor.Next,
		Next:      b.next,
		Epoch:     p.cursor.Epoch,
		Expect:    p.cursor.Token,
		Token:     token,
		Rows:      b.rows,
		Extra:     b.extra(),
		Rejects:   b.rejects,
		Retries:   b.retries,
		Deltas:    wire.AppendPlazaDeltas(nil, deltas),
		Chain:     wire.AppendChain(nil, p.chain),
		Clock:     wire.AppendClock(nil, &b.clock),
		Gone:      max(0, p.From-p.cursor.Next),
		Last:      b.identity(p.cursor.Last),
		Minutes:   b.minutes(),
		TooLate:   p.late.of(deltas),
	}, deltas, undo
}
