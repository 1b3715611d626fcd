package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tollstream/codecs"
	"tollstream/toll"
)

// errFenced ends a session whose partition is written by another owner.
var errFenced = errors.New("another process moved the cursor")

// source owns one partition of the topic of events for the length of a session: it gathers records into batches, stores
// them one after the other, and publishes what they mean per plaza.
//
// Three goroutines work on it. goka's calls add. The committer takes what has been gathered whenever it is idle, so a
// batch is as large as the time that the one before it took to commit: small when there is little to do, up to the
// limit when there is a backlog. The publisher sends the deltas of one batch after the other.
type source struct {
	partition int32
	cfg       *Config
	store     Store
	publish   func(d *toll.Delta, done func(error)) error // done is called once, when acknowledged or failed
	mark      func(offset int64)                          // shows progress to the consumer group, for lag displays
	stats     *Stats
	fail      func(error) // ends the session

	ctx    context.Context // of the session: add gives up when it ends
	cancel context.CancelFunc
	grace  context.Context // of statements that a stop should let finish
	kill   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	open   *builder      // being filled by add, guarded by mu
	spare  *builder      // nil while it is being committed, guarded by mu
	filled chan struct{} // has a value once open holds something
	taken  chan struct{} // has a value once the committer took open
	full   chan struct{} // has a value once open is full

	// The committer's alone.
	cursor  toll.Cursor
	chain   map[int16]int64
	pending chan storedDeltas

	ackMu sync.Mutex
	acked []toll.BatchRef // acknowledged by the broker and not marked published yet
}

// storedDeltas is a batch that is stored and waits to be published.
type storedDeltas struct {
	ref    toll.BatchRef
	next   int64
	deltas []toll.PlazaDelta
	oldest time.Time // of the batch's records; zero where it is not known
}

// pendingBatches is how many stored batches of a partition may wait for their deltas to be acknowledged.
const pendingBatches = 4

func (s *source) init(cursor toll.Cursor, unpublished []toll.StoredBatch) ([]storedDeltas, error) {
	chain, err := codecs.DecodeChain(cursor.Chain)
	if err != nil {
		return nil, toll.Permanent("the row of toll_cursor is damaged; restore the database, or run: tollstream reset --yes",
			"read the chain of partition %d: %w", s.partition, err)
	}
	s.cursor, s.chain = cursor, chain
	resend := make([]storedDeltas, len(unpublished))
	for i, b := range unpublished {
		deltas, err := codecs.DecodePlazaDeltas(b.Deltas)
		if err != nil {
			return nil, toll.Permanent("the row of toll_batch is damaged; restore the database, or run: tollstream reset --yes",
				"read the outbox of partition %d, offset %d: %w", s.partition, b.First, err)
		}
		resend[i] = storedDeltas{ref: toll.BatchRef{First: b.First, Token: b.Token}, next: b.Next, deltas: deltas}
	}
	return resend, nil
}

// start starts the committer and the publisher, which sends the given batches again before any new one.
func (s *source) start(parent context.Context, resend []storedDeltas) {
	s.ctx, s.cancel = context.WithCancel(parent)
	s.grace, s.kill = context.WithCancel(context.WithoutCancel(parent))
	s.filled, s.taken, s.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	s.pending = make(chan storedDeltas, pendingBatches)
	s.open = newBuilder(s.store.NewRows(), s.cfg.Format, s.cfg.Zone)
	s.spare = newBuilder(s.store.NewRows(), s.cfg.Format, s.cfg.Zone)
	s.wg.Add(2)
	go func() {
		defer s.wg.Done()
		defer close(s.pending)
		if err := s.commitAll(); err != nil {
			s.fail(err)
		}
	}()
	go func() {
		defer s.wg.Done()
		err := s.publishAll(resend)
		if err != nil && s.ctx.Err() == nil {
			s.fail(err)
		}
		for range s.pending { // what is not published now is sent again by the next owner
		}
	}()
}

// stopGrace bounds what a stop waits for: the commit and the sends that are under way. What they don't reach is done
// again by the next owner.
const stopGrace = 3 * time.Second

// stop drops the open batch, which is read again by the next owner, and waits for what is under way.
func (s *source) stop() {
	s.cancel()
	timer := time.AfterFunc(stopGrace, s.kill)
	defer timer.Stop()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopGrace + time.Second):
		// sarama holds a goroutine as long as it retries; it ends with its producer.
		s.cfg.Log.Warn("a partition did not stop in time", "partition", s.partition)
	}
	s.kill()
}

// add adds a record to the open batch. It waits while that is full, and returns early when the session ends: the record
// is then not stored, and is read again.
func (s *source) add(r *record) {
	for {
		s.mu.Lock()
		b := s.open
		if !s.isFull(b) {
			first := b.empty()
			b.add(r)
			full := s.isFull(b)
			s.mu.Unlock()
			if first {
				notify(s.filled)
			}
			if full {
				notify(s.full)
			}
			return
		}
		s.mu.Unlock()
		select {
		case <-s.taken:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *source) isFull(b *builder) bool {
	return b.len() >= s.cfg.BatchRows || b.bytes+b.rejectBytes >= s.cfg.BatchBytes || len(b.cells) >= maxCells
}

// maxCells bounds what a batch counts apart, so that the delta of a plaza stays well below a Kafka message's size.
const maxCells = 20_000

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take swaps the open batch for the spare one, or returns nil when there is nothing to store.
func (s *source) take() *builder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.empty() {
		return nil
	}
	b := s.open
	s.open, s.spare = s.spare, nil
	select {
	case <-s.full: // it was about the batch that is taken
	default:
	}
	notify(s.taken)
	return b
}

func (s *source) giveBack(b *builder) {
	b.reset()
	s.mu.Lock()
	s.spare = b
	s.mu.Unlock()
}

// markDelay is how long an acknowledged batch waits to be marked published together with the next commit.
const markDelay = 100 * time.Millisecond

// commitAll stores batches until the session ends.
func (s *source) commitAll() error {
	idle := time.NewTimer(markDelay)
	defer idle.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return s.markAcked()
		case <-idle.C:
			if err := s.markAcked(); err != nil {
				return err
			}
			idle.Reset(markDelay)
			continue
		case <-s.filled:
		}
		if !s.gather() {
			return s.markAcked()
		}
		b := s.take()
		if b == nil {
			continue
		}
		stored, err := s.storeBatch(b)
		if err != nil {
			return err
		}
		s.giveBack(b)
		s.mu.Lock()
		if !s.open.empty() {
			notify(s.filled)
		}
		s.mu.Unlock()
		idle.Reset(markDelay)
		select {
		case s.pending <- stored:
		case <-s.ctx.Done():
			return s.markAcked()
		}
	}
}

// gather waits until the open batch is full or its time is up, and reports whether the session goes on.
func (s *source) gather() bool {
	if s.cfg.BatchWait <= 0 {
		return s.ctx.Err() == nil
	}
	s.mu.Lock()
	full := s.isFull(s.open)
	s.mu.Unlock()
	if full {
		return s.ctx.Err() == nil
	}
	timer := time.NewTimer(s.cfg.BatchWait)
	defer timer.Stop()
	select {
	case <-s.full:
	case <-timer.C:
	case <-s.ctx.Done():
	}
	// Once the session has ended, add may have given up on a record and taken a later one: such a batch must not be stored.
	return s.ctx.Err() == nil
}

// storeBatch stores what a builder holds as one batch, however often the database goes away meanwhile.
func (s *source) storeBatch(b *builder) (storedDeltas, error) {
	token := s.cfg.NewToken()
	started := time.Now()
	outage := &outage{log: s.cfg.Log, partition: s.partition, pauses: s.cfg.backOff()}
	for {
		batch, deltas, undo := s.batch(b, token)
		acked := s.takeAcked()
		err := s.store.Commit(s.grace, batch, acked)
		if err != nil {
			s.returnAcked(acked)
		}
		var refused *toll.RefusedError
		if errors.As(err, &refused) {
			undo()
			b.refuse(refused.Rows)
			continue
		}
		if err != nil {
			err = s.settle(batch, err, outage)
		}
		switch {
		case err == nil:
			outage.over()
			s.cursor.Next, s.cursor.Token = batch.Next, batch.Token
			s.mark(batch.Next)
			s.stats.stored(s.partition, batch, time.Since(started))
			return storedDeltas{toll.BatchRef{First: batch.First, Token: batch.Token}, batch.Next, deltas, b.oldest}, nil
		case errors.Is(err, errNotStored):
			undo()
		default:
			return storedDeltas{}, err
		}
	}
}

// errNotStored says that a batch is known not to be stored and may be tried again.
var errNotStored = errors.New("the batch was not stored")

// settle finds out what became of a batch whose commit failed or was not answered: nil for stored after all,
// errNotStored for certainly not, and any other error for a session that must end.
//
// A batch keeps its token through all attempts. If an earlier one is still open on the server and commits late, it
// either comes before the next attempt, whose compare-and-set then fails and leads here again, or never: both attempts
// have the same contents, and only one can move the cursor.
func (s *source) settle(batch *toll.Batch, cause error, outage *outage) error {
	var permanent *toll.PermanentError
	if errors.As(cause, &permanent) {
		return cause
	}
	moved := errors.Is(cause, toll.ErrCursorMoved)
	if !moved {
		outage.tell(cause)
	}
	cursor, err := backoff.Retry(s.grace, func() (toll.Cursor, error) {
		if s.ctx.Err() != nil {
			return toll.Cursor{}, backoff.Permanent(s.ctx.Err())
		}
		c, err := s.store.Cursor(s.grace, s.partition)
		if errors.As(err, &permanent) {
			err = backoff.Permanent(err)
		}
		return c, err
	}, backoff.WithBackOff(s.cfg.backOff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	switch {
	case cursor.Token == batch.Token && cursor.Next == batch.Next:
		return nil
	case cursor.Token == batch.Expect && cursor.Next == batch.First && cursor.Epoch == batch.Epoch:
		if !moved {
			return s.pause(outage, errNotStored)
		}
		return errNotStored
	}
	return fmt.Errorf("partition %d: %w", s.partition, errFenced)
}

// outage is one time of trouble with the database, which may take many attempts and is told once.
type outage struct {
	log       *slog.Logger
	partition int32
	pauses    backoff.BackOff
	told      bool
}

func (o *outage) tell(cause error) {
	if !o.told {
		o.told = true
		o.log.Warn("MySQL failed; trying again until it works", "partition", o.partition, "error", Brief(cause))
	}
}

func (o *outage) over() {
	if o.told {
		o.log.Info("MySQL works again", "partition", o.partition)
	}
}

// pause waits before a batch is tried again, longer each time, so that a server which answers reads and refuses writes is
// not hammered.
func (s *source) pause(outage *outage, err error) error {
	select {
	case <-time.After(outage.pauses.NextBackOff()):
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// batch makes the batch of a builder, and links its deltas into the partition's chain; undo takes them out again.
func (s *source) batch(b *builder, token uint64) (batch *toll.Batch, deltas []toll.PlazaDelta, undo func()) {
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
		Rejects:   b.rejects,
		Retries:   b.retries,
		Deltas:    codecs.AppendPlazaDeltas(nil, deltas),
		Chain:     codecs.AppendChain(nil, s.chain),
	}, deltas, undo
}

// takeAcked takes the batches that are to be marked published. Marking late is sound (the searches beside the design
// cover it): an unmarked batch is sent again after a restart and skipped as a duplicate.
func (s *source) takeAcked() []toll.BatchRef {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	acked := s.acked
	s.acked = nil
	return acked
}

func (s *source) returnAcked(acked []toll.BatchRef) {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.acked = append(acked, s.acked...)
}

// markAcked marks what was acknowledged when no commit comes along to do it. A failure leaves it for later: an outage
// shows at the next batch.
func (s *source) markAcked() error {
	acked := s.takeAcked()
	if len(acked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.grace, 10*time.Second)
	defer cancel()
	err := s.store.MarkPublished(ctx, s.partition, s.cursor.Epoch, acked)
	if err == nil {
		return nil
	}
	s.returnAcked(acked)
	var permanent *toll.PermanentError
	if errors.As(err, &permanent) && s.ctx.Err() == nil {
		return err
	}
	s.cfg.Log.Debug("mark batches published", "partition", s.partition, "error", err)
	return nil
}

// publishAll sends the deltas of one batch after the other: those of the next only after all of the one before are
// acknowledged.
func (s *source) publishAll(resend []storedDeltas) error {
	epoch := s.cursor.Epoch // set before the committer started; it never changes within a session
	for _, b := range resend {
		if s.ctx.Err() != nil {
			return nil
		}
		if err := s.publishBatch(epoch, b); err != nil {
			return err
		}
	}
	for b := range s.pending {
		if s.ctx.Err() != nil {
			return nil
		}
		if err := s.publishBatch(epoch, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) publishBatch(epoch uint64, b storedDeltas) error {
	s.stats.publishing(s.partition, b)
	acks := make(chan error, len(b.deltas))
	for i := range b.deltas {
		d := &toll.Delta{Epoch: epoch, Partition: s.partition, First: b.ref.First, Next: b.next, PlazaDelta: b.deltas[i]}
		if err := s.publish(d, func(err error) { acks <- err }); err != nil {
			return s.publishError(b, err)
		}
	}
	for range b.deltas {
		select {
		case err := <-acks:
			if err != nil {
				return s.publishError(b, err)
			}
		case <-s.grace.Done():
			return s.publishError(b, s.grace.Err())
		}
	}
	s.ackMu.Lock()
	s.acked = append(s.acked, b.ref)
	s.ackMu.Unlock()
	return nil
}

func (s *source) publishError(b storedDeltas, err error) error {
	return fmt.Errorf("publish the deltas of partition %d up to offset %d: %w", s.partition, b.next, err)
}
