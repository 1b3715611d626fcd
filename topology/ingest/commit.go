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
func (s *Partition) commitAll() error {
	idle := time.NewTimer(turnEvery)
	defer idle.Stop()
	marking := false // the timer is set for batches to mark
	for {
		s.Stats.Turn(s.partition)
		select {
		case <-s.ctx.Done():
			return s.markAcked()
		case <-idle.C:
			if err := s.markAcked(); err != nil {
				return err
			}
			idle.Reset(turnEvery)
			marking = false
			continue
		case <-s.progress.toMark:
			if !marking {
				idle.Reset(markDelay)
				marking = true
			}
			continue
		case <-s.filled:
		}
		s.mu.Lock()
		replaced := s.replaced
		s.mu.Unlock()
		if replaced != "" {
			return RefuseLog(s.ctx, s.cfg, s.Store, s.Database, &s.cursor, replaced)
		}
		if !s.gather() {
			return s.markAcked()
		}
		b := s.take()
		if b == nil {
			continue
		}
		s.Stats.Taken(b.len())
		if b.taken = time.Now(); s.isFull(b) {
			s.Pace.Full()
		}
		stored, err := s.storeBatch(b)
		if err != nil {
			return err
		}
		s.giveBack(b)
		s.mu.Lock()
		if !s.open.empty() {
			wait.Signal(s.filled)
		}
		s.mu.Unlock()
		idle.Reset(markDelay)
		marking = true
		if !s.progress.store(stored.Next) {
			continue
		}
		if len(s.pending) >= urgentBatches {
			s.Pace.Urge()
		}
		select {
		case s.pending <- stored:
		case <-s.ctx.Done():
			return s.markAcked()
		}
	}
}

// gather waits until the open batch is full or its time is up, and reports whether the session goes
// on.
func (s *Partition) gather() bool {
	s.mu.Lock()
	full, began := s.isFull(s.open), s.open.began
	s.mu.Unlock()
	if fill := s.fill(began); fill > 0 && !full {
		sleep(s.ctx, fill, s.full)
	}
	// Once the session has ended, add may have given up on a record and taken a later one: such a
	// batch must not be stored.
	return s.ctx.Err() == nil
}

// fill returns how much longer a batch may fill that began at a time. Of the time until its first
// event is to be stored, fetching took a share, and the commit takes about as long as the last one.
func (s *Partition) fill(began time.Time) time.Duration {
	wait := s.Pace.Wait()
	left := wait - wait/lingerShare - min(s.took, wait/2) - time.Since(began)
	return max(left, min(wait, shortestWait))
}

// storeBatch stores what a builder holds as one batch, however often the database is
// unavailable meanwhile.
func (s *Partition) storeBatch(b *builder) (Stored, error) {
	token := s.cfg.NewToken()
	started := time.Now()
	pauses := s.cfg.Backoff()
	for attempts := 1; ; attempts++ {
		batch, deltas, undo := s.batch(b, token)
		acked := s.progress.takeAcked()
		answered := s.Database.Await(s.partition)
		err := s.Store.Commit(s.grace, batch, acked)
		answered()
		s.progress.mark(acked, err)
		if refused, ok := errors.AsType[*toll.RefusedError](err); ok {
			undo()
			s.Stats.Refused(s.partition, refused)
			b.refuse(refused.Rows)
			s.rebase(b)
			continue
		}
		if err != nil {
			err = s.resolve(batch, err, pauses)
		}
		switch {
		case err == nil:
			s.Database.Up(s.partition)
			s.cursor.Next, s.cursor.Token, s.cursor.Last = batch.Next, batch.Token, batch.Last
			s.Mark(batch.Next)
			s.took = time.Since(started)
			s.Stats.Stored(s.partition, batch, deltas, s.took)
			stored := s.stored(toll.BatchRef{First: batch.First, Token: batch.Token}, batch.Next, deltas,
				batch.Deltas)
			stored.oldest = b.oldest
			stored.trace = monitor.BatchTrace{Rejected: len(batch.Rejects), Attempts: attempts,
				Began: b.began, Taken: b.taken, Stored: time.Now()}
			return stored, nil
		case errors.Is(err, errNotStored):
			undo()
		default:
			s.Stats.NotStored(monitor.BatchTrace{
				Partition: s.partition, First: batch.First, Next: b.next, Events: b.rows.Len(),
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
func (s *Partition) resolve(batch *toll.Batch, cause error, pauses backoff.BackOff) error {
	if toll.IsPermanent(cause) {
		return cause
	}
	moved := errors.Is(cause, toll.ErrCursorMoved)
	if !moved && s.grace.Err() == nil {
		s.Database.Down(s.partition, cause)
	}
	var cursor toll.Cursor
	err := wait.Retry(s.grace, s.cfg.Backoff(), func() (err error) {
		if s.ctx.Err() != nil {
			return backoff.Permanent(s.ctx.Err())
		}
		cursor, err = s.Store.Cursor(s.grace, s.partition)
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
		if !moved && wait.For(s.ctx, pauses.NextBackOff()) != nil {
			return s.ctx.Err()
		}
		return errNotStored
	case cursor.Epoch != batch.Epoch:
		return fmt.Errorf("partition %d: %w", s.partition, ErrOtherEpoch)
	}
	return fmt.Errorf("partition %d: %w", s.partition, errFenced)
}

// batch makes the batch of a builder, and links its deltas into the partition's chain; undo takes
// them out again.
func (s *Partition) batch(b *builder, token uint64) (batch *toll.Batch, deltas []toll.PlazaDelta,
	undo func()) {
	deltas = b.deltas()
	for i := range deltas {
		deltas[i].Prev = s.chain[deltas[i].Plaza]
		s.chain[deltas[i].Plaza] = b.next
	}
	undo = func() {
		for i := range deltas {
			if deltas[i].Prev == 0 {
				delete(s.chain, deltas[i].Plaza)
			} else {
				s.chain[deltas[i].Plaza] = deltas[i].Prev
			}
		}
	}
	return &toll.Batch{
		Partition: s.partition,
		First:     s.cursor.Next,
		Next:      b.next,
		Epoch:     s.cursor.Epoch,
		Expect:    s.cursor.Token,
		Token:     token,
		Rows:      b.rows,
		Extra:     b.extra(),
		Rejects:   b.rejects,
		Retries:   b.retries,
		Deltas:    wire.AppendPlazaDeltas(nil, deltas),
		Chain:     wire.AppendChain(nil, s.chain),
		Clock:     wire.AppendClock(nil, &b.clock),
		Gone:      max(0, s.From-s.cursor.Next),
		Last:      b.identity(s.cursor.Last),
		Minutes:   b.minutes(),
		TooLate:   s.late.of(deltas),
	}, deltas, undo
}
