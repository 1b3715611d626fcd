package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Stored is a batch that is stored, as far as publishing it goes.
type Stored struct {
	Ref    toll.BatchRef
	Next   int64
	Deltas []toll.PlazaDelta
	oldest time.Time          // of the batch's records; zero where it is not known
	trace  monitor.BatchTrace // of its way so far; zero where it was stored before this session
}

// cells returns how many counts its deltas hold.
func (b *Stored) cells() (n int) {
	for i := range b.Deltas {
		n += b.Deltas[i].Cells()
	}
	return n
}

// published returns its whole way, of which sending its deltas was the last part.
func (b *Stored) published(partition int32, began, ended time.Time,
	err error) monitor.BatchTrace {
	t := b.trace
	t.Partition, t.First, t.Next, t.Events, t.Plazas = partition, b.Ref.First, b.Next,
		int(b.events()), len(b.Deltas)
	t.Resent = t.Stored.IsZero()
	t.Publishing, t.Ended, t.Err = began, ended, err
	return t
}

// events returns how many events were counted.
func (b *Stored) events() int64 {
	var n int64
	for i := range b.Deltas {
		n += b.Deltas[i].Events
	}
	return n
}

const (
	// pendingBatches is how many stored batches of a partition may wait to be published, and how many
	// are published at a time.
	pendingBatches = 4
	// manyDeltas is how many deltas are enough to be published at a time.
	manyDeltas = 10_000
	// togetherCells bounds what a plaza has in several batches and is sent as one message: with the
	// longest names of types it is no larger than a message of a single batch can be.
	togetherCells = maxCells / 2
)

// DecodeBatch reads a batch of the outbox.
func DecodeBatch(b *toll.StoredBatch) (Stored, error) {
	deltas, err := wire.DecodePlazaDeltas(b.Deltas)
	if err != nil {
		return Stored{},
			toll.Permanent(
				"the row of toll_batch is damaged; restore the database, or run: tollstream reset --yes",
				"read the outbox of partition %d, offset %d: %w", b.Partition, b.First, err)
	}
	return Stored{Ref: toll.BatchRef{First: b.First, Token: b.Token}, Next: b.Next,
		Deltas: deltas}, nil
}

// handOn reports whether the publisher is to be given a batch that was stored. While it sends again
// what is left from before, it finds that one in the database too: rows are stored meanwhile,
// however much is left.
func (s *Partition) handOn(stored Stored) bool {
	s.handMu.Lock()
	defer s.handMu.Unlock()
	s.storedTo = stored.Next
	return s.following && stored.Next > s.followed
}

// Progress returns the session's epoch and up to where it has stored.
func (s *Partition) Progress() toll.Cursor {
	s.handMu.Lock()
	defer s.handMu.Unlock()
	return toll.Cursor{Partition: s.partition, Epoch: s.epoch, Next: s.storedTo}
}

// caughtUp reports whether all is sent that was stored, given that it was sent up to an offset.
// Then the committer hands on what it stores from here on.
func (s *Partition) caughtUp(sent int64) bool {
	s.handMu.Lock()
	defer s.handMu.Unlock()
	if !s.following && sent >= s.storedTo {
		s.following, s.followed = true, sent
	}
	return s.following
}

// takeAcked takes the batches that are to be marked published. Marking late is sound (the searches
// next to the design cover it): an unmarked batch is sent again after a restart and skipped as a
// duplicate.
func (s *Partition) takeAcked() []toll.BatchRef {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	acked := s.acked
	s.acked = nil
	return acked
}

func (s *Partition) returnAcked(acked []toll.BatchRef) {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.acked = append(acked, s.acked...)
}

// marked notes how many batches were marked published.
func (s *Partition) marked(n int) {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.unmarked -= n
}

// published notes up to where the partition's batches are acknowledged by the broker; ref is the
// last of them where it is to be marked.
func (s *Partition) published(next int64, ref *toll.BatchRef) {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.sentTo = next
	if ref != nil {
		s.acked = append(s.acked, *ref)
		s.unmarked++
		notify(s.toMark)
	}
}

// PublishedTo returns up to where all that is stored is published and marked so in the database, -1
// while that is under way.
func (s *Partition) PublishedTo() int64 {
	s.ackMu.Lock()
	sent, unmarked := s.sentTo, s.unmarked
	s.ackMu.Unlock()
	s.handMu.Lock()
	defer s.handMu.Unlock()
	if unmarked > 0 || sent < s.storedTo {
		return -1
	}
	return s.storedTo
}

// markAcked marks what was acknowledged when no commit comes along to do it. A failure leaves it
// for later: an outage shows at the next batch.
func (s *Partition) markAcked() error {
	acked := s.takeAcked()
	if len(acked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.grace, 10*time.Second)
	defer cancel()
	err := s.store.MarkPublished(ctx, s.partition, s.cursor.Epoch, acked)
	if err == nil {
		s.marked(len(acked))
		return nil
	}
	s.returnAcked(acked)
	notify(s.toMark)
	if toll.IsPermanent(err) && s.ctx.Err() == nil {
		return err
	}
	s.cfg.Log.Debug("mark batches published", "partition", s.partition, "error", err)
	return nil
}

// publishAll sends the deltas of the batches that wait, and of further ones only after all of these
// are acknowledged. What is left from before comes first, from the offset unpublished on.
func (s *Partition) publishAll(unpublished int64) error {
	if err := s.publishLeft(unpublished); err != nil {
		return err
	}
	for b := range s.pending {
		s.pace.Turn(s.ctx)
		if s.ctx.Err() != nil {
			return nil
		}
		if err := s.publishBatches(s.epoch, s.alsoPending(b)); err != nil {
			return err
		}
	}
	return nil
}

// alsoPending returns a batch with those that wait behind it, as far as they may be published
// together.
func (s *Partition) alsoPending(b Stored) []Stored {
	batches := []Stored{b}
	for deltas, cells := len(b.Deltas), b.cells(); len(batches) < pendingBatches &&
		deltas < manyDeltas && cells < togetherCells; {
		select {
		case next, ok := <-s.pending:
			if !ok {
				return batches
			}
			batches = append(batches, next)
			deltas += len(next.Deltas)
			cells += next.cells()
		default:
			return batches
		}
	}
	return batches
}

// publishLeft sends again what is not known to be published, page by page out of the database,
// until it has caught up with the committer. After a rebuild that is the whole outbox.
func (s *Partition) publishLeft(sent int64) error {
	s.published(sent, nil)
	for !s.caughtUp(sent) {
		s.handMu.Lock()
		stored := s.storedTo
		s.handMu.Unlock()
		page, err := s.readOutbox(sent)
		if s.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if page.Epoch != s.epoch {
			return fmt.Errorf("partition %d: %w", s.partition, ErrOtherEpoch)
		}
		if len(page.Batches) == 0 {
			sent = stored // another owner published the rest
			s.published(sent, nil)
		}
		for i := range page.Batches {
			b, err := DecodeBatch(&page.Batches[i])
			if err == nil {
				err = s.publishBatches(s.epoch, []Stored{b})
			}
			if err != nil {
				return err
			}
			if s.ctx.Err() != nil {
				return nil
			}
			sent = b.Next
		}
	}
	return nil
}

// readOutbox reads a page of what is not known to be published, waiting for the database as long as
// the session lasts.
func (s *Partition) readOutbox(above int64) (toll.OutboxPage, error) {
	return backoff.Retry(s.ctx, func() (toll.OutboxPage, error) {
		page, err := s.store.Outbox(s.ctx, s.partition, above, true)
		if toll.IsPermanent(err) {
			err = backoff.Permanent(err)
		}
		return page, err
	}, backoff.WithBackOff(s.cfg.Backoff()), backoff.WithMaxElapsedTime(0))
}

// publishBatches sends the deltas of batches, in their order, and waits until all are acknowledged.
// What a plaza has in several of them is sent together, so that none of it arrives without what
// comes before.
func (s *Partition) publishBatches(epoch uint64, batches []Stored) (err error) {
	began := time.Now()
	var deltas []*toll.Delta
	for _, b := range batches {
		s.stats.Publishing(s.partition, b.Next, b.oldest)
		for i := range b.Deltas {
			deltas = append(deltas, b.Deltas[i].Of(epoch, s.partition, b.Ref.First, b.Next))
		}
	}
	defer func(done func()) {
		done()
		ended := time.Now()
		for i := range batches {
			s.stats.Published(batches[i].published(s.partition, began, ended, err))
		}
	}(s.stats.Call(s.partition))
	slices.SortStableFunc(deltas, func(a, b *toll.Delta) int { return cmp.Compare(a.Plaza, b.Plaza) })
	acks, waits := make(chan error, len(deltas)), 0
	for len(deltas) > 0 && err == nil {
		n := togetherFrom(deltas)
		err = s.publish(deltas[:n:n], func(err error) { acks <- err })
		deltas = deltas[n:]
		waits++
	}
	for ; waits > 0 && err == nil; waits-- {
		select {
		case err = <-acks:
		case <-s.grace.Done():
			err = s.grace.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("publish the deltas of partition %d up to offset %d: %w", s.partition,
			batches[len(batches)-1].Next, err)
	}
	for i := range batches {
		s.published(batches[i].Next, &batches[i].Ref)
	}
	return nil
}

// togetherFrom returns how many of the deltas, from the first on, are of one plaza and fit a
// message.
func togetherFrom(deltas []*toll.Delta) int {
	n, cells := 1, deltas[0].Cells()
	for ; n < len(deltas) && deltas[n].Plaza == deltas[0].Plaza; n++ {
		if cells += deltas[n].Cells(); cells > togetherCells {
			break
		}
	}
	return n
}
