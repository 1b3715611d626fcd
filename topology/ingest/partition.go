// Package ingest stores one partition of the topic of events: it gathers records into batches,
// commits them one after the other, and publishes what they mean per plaza.
package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

// errFenced ends a session whose partition is written by another owner.
var errFenced = errors.New("another process moved the cursor")

// ErrMarksLost ends a session whose database has forgotten what was published. The next one sends
// it again.
var ErrMarksLost = errors.New(
	"the database has forgotten that batches were published: it was restored, or is another one")

// ErrOtherEpoch ends a session of an epoch that is over. The next one sends everything again.
var ErrOtherEpoch = errors.New(
	"the database was rebuilt, or is another one: its epoch is not the one that this session " +
		"began with")

// Partition owns one partition of the topic of events for the length of a session: it gathers
// records into batches, stores them one after the other, and publishes what they mean per plaza.
//
// Three goroutines work on it. One adds the bundles that goka passes on. The committer takes what
// has been gathered whenever it is idle, so a batch is as large as the time that the one before it
// took to commit: small when there is little to do, up to the limit when there is a backlog. The
// publisher sends the deltas of the batches that are stored.
type Partition struct {
	partition int32
	cfg       *Config
	store     Store
	// publish sends deltas of one plaza, all or none. done is called once, when they are acknowledged
	// or failed.
	publish  func(deltas []*toll.Delta, done func(error)) error
	pace     Pacer
	mark     func(offset int64) // shows progress to the consumer group, for lag displays
	stats    *monitor.Stats
	fail     func(error)     // ends the session
	database *monitor.Outage // tells of the store's outages; nil for nobody

	ctx    context.Context // of the session: add gives up when it ends
	cancel context.CancelFunc
	grace  context.Context // of statements that a stop should let finish
	kill   context.CancelFunc
	wg     sync.WaitGroup

	room     chan struct{} // has a value for each bundle that is not added yet
	bundles  chan bundle   // on their way through goka
	passed   chan bundle   // that goka has passed on
	log      LogChecker    // of the topic of events
	topic    func() error  // returns an error unless it is the topic that was stored
	from     int64         // offset to read on from
	connects int64         // LogChecker.Connects from before the log was compared
	// the last record of what was passed on to goka; the bundling goroutine's alone
	read toll.LastRecord

	mu     sync.Mutex
	open   *builder      // being filled by add, guarded by mu
	spare  *builder      // nil while it is being committed, guarded by mu
	filled chan struct{} // has a value once open holds something
	taken  chan struct{} // has a value once the committer took open
	full   chan struct{} // has a value once open is full
	clock  toll.Clock    // before the first batch
	next   record        // that is being added, guarded by mu
	// replaced says why the log is not the one that was consumed, once that is known; guarded by mu.
	// Nothing is taken in from then on, and the committer records it.
	replaced string
	epoch    uint64 // of the session

	handMu    sync.Mutex
	storedTo  int64 // Next of the last batch that is stored
	following bool  // the publisher takes batches from the committer
	followed  int64 // where it began to: it has sent all before

	// The committer's alone.
	cursor  toll.Cursor
	chain   map[int16]int64
	late    tooLate
	took    time.Duration // of the last commit
	pending chan Stored

	toMark   chan struct{} // has a value once a batch is acknowledged
	ackMu    sync.Mutex
	acked    []toll.BatchRef // acknowledged by the broker and not marked published yet
	unmarked int             // of them, those that are being marked among them
	sentTo   int64           // Next of the last batch that is acknowledged
}

// Pacer says when a source stores and publishes, as its fellows and the plazas ask for. It is the
// [Sender].
type Pacer interface {
	Wait() time.Duration      // until an event is to be stored
	Turn(ctx context.Context) // returns when deltas may be sent
	Urge()                    // says that the partition has no room for more batches
}

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

// Dependencies are what a partition works with.
type Dependencies struct {
	Store Store
	// Publish sends deltas of one plaza, all or none. done is called once, when they are acknowledged
	// or failed.
	Publish  func(deltas []*toll.Delta, done func(error)) error
	Pace     Pacer
	Mark     func(offset int64) // shows progress to the consumer group, for lag displays
	Stats    *monitor.Stats
	Fail     func(error)     // ends the run; not called once the session has ended
	Database *monitor.Outage // of the store; nil for none
	Log      LogChecker      // of the topic of events
	Topic    func() error    // returns an error unless it is the topic that was stored
	From     int64           // offset to read on from
	Connects int64           // LogChecker.Connects from before the log was compared
}

// New returns a partition that goes on at a cursor and has not started.
func New(cfg *Config, d Dependencies, cursor toll.Cursor) (*Partition, error) {
	s := &Partition{
		partition: cursor.Partition, cfg: cfg, store: d.Store, publish: d.Publish, pace: d.Pace,
		mark: d.Mark, stats: d.Stats, database: d.Database, log: d.Log, topic: d.Topic,
		connects: d.Connects, from: d.From,
	}
	s.fail = func(err error) {
		if s.ctx.Err() == nil {
			d.Fail(err)
		}
	}
	return s, s.init(cursor)
}

// Number returns the number of the partition.
func (s *Partition) Number() int32 { return s.partition }

// Position returns where to fetch from, as [fetch.Fetcher.Add] takes it.
func (s *Partition) Position() (from, connects int64) { return s.from, s.connects }

func (s *Partition) init(cursor toll.Cursor) error {
	chain, err := wire.DecodeChain(cursor.Chain)
	if err != nil {
		return toll.Permanent(
			"the row of toll_cursor is damaged; restore the database, or run: tollstream reset --yes",
			"read the chain of partition %d: %w", s.partition, err)
	}
	clock, err := wire.DecodeClock(cursor.Clock)
	if err != nil {
		return toll.Permanent(
			"the row of toll_cursor is damaged; restore the database, or run: tollstream reset --yes",
			"read the clock of partition %d: %w", s.partition, err)
	}
	s.cursor, s.chain, s.clock, s.epoch, s.storedTo = cursor, chain, clock, cursor.Epoch, cursor.Next
	s.read = cursor.Last
	s.late = tooLate{kinds: s.cfg.Windows, zones: toll.NewZoneSet(s.cfg.Zone, s.cfg.PlazaZones)}
	return nil
}

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

// Start starts the committer and the publisher, which first sends again what is not known to be
// published, from the offset unpublished on.
func (s *Partition) Start(parent context.Context, unpublished int64) {
	s.ctx, s.cancel = context.WithCancel(parent)
	s.grace, s.kill = context.WithCancel(context.WithoutCancel(parent))
	s.filled, s.taken, s.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	s.pending, s.toMark = make(chan Stored, pendingBatches), make(chan struct{}, 1)
	s.openQueues()
	s.open = newBuilder(s.store.NewRows(), s.cfg)
	s.spare = newBuilder(s.store.NewRows(), s.cfg)
	s.open.begin(&s.clock)
	s.caughtUp(unpublished) // where nothing is left, before the first batch is stored
	s.wg.Go(s.addPassed)
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
		err := s.publishAll(unpublished)
		if err != nil && s.ctx.Err() == nil {
			s.fail(err)
		}
		for range s.pending { // what is not published now is sent again by the next owner
		}
	}()
}

// StopGrace bounds what a stop waits for: the commit and the sends that are under way. What they
// don't reach is done again by the next owner.
const StopGrace = 3 * time.Second

// Stop drops the open batch, which is read again by the next owner, and waits for what is under
// way.
func (s *Partition) Stop() {
	s.cancel()
	defer s.database.Leave(s.partition)
	timer := time.AfterFunc(StopGrace, s.kill)
	defer timer.Stop()
	if !WaitAtMost(&s.wg, StopGrace+time.Second) {
		// sarama holds a goroutine as long as it retries; it ends with its producer.
		s.cfg.Log.Warn("a partition did not stop in time", "partition", s.partition)
	}
	s.kill()
}

// AddAll adds records to the open batch. It waits while that is full, and returns early when the
// session ends: what is left is then not stored, and is read again.
func (s *Partition) AddAll(records []*kgo.Record) {
	for {
		s.mu.Lock()
		b := s.open
		first, full, left := b.empty(), s.isFull(b), len(records)
		for !full && len(records) > 0 {
			s.next.read(records[0])
			b.add(&s.next)
			records = records[1:]
			full = s.isFull(b)
		}
		first = first && !b.empty()
		if len(records) < left {
			b.added(&s.next)
		}
		s.mu.Unlock()
		if first {
			notify(s.filled)
		}
		if full {
			notify(s.full)
		}
		if len(records) == 0 {
			return
		}
		select {
		case <-s.taken:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Partition) isFull(b *builder) bool {
	return b.len() >= s.cfg.BatchRows || b.bytes+b.rejectBytes >= s.cfg.BatchBytes ||
		len(b.cells) >= maxCells
}

// maxCells bounds what a batch counts apart, so that the delta of a plaza stays well below a Kafka
// message's size.
const maxCells = 20_000

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

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
	notify(s.taken)
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
		s.stats.Turn(s.partition)
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
		case <-s.toMark:
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
			return RefuseLog(s.ctx, s.cfg, s.store, s.database, &s.cursor, replaced)
		}
		if !s.gather() {
			return s.markAcked()
		}
		b := s.take()
		if b == nil {
			continue
		}
		s.stats.Taken(b.len())
		b.taken = time.Now()
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
		marking = true
		if !s.handOn(stored) {
			continue
		}
		if len(s.pending) == cap(s.pending) {
			s.pace.Urge()
		}
		select {
		case s.pending <- stored:
		case <-s.ctx.Done():
			return s.markAcked()
		}
	}
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
	wait := s.pace.Wait()
	left := wait - wait/lingerShare - min(s.took, wait/2) - time.Since(began)
	return max(left, min(wait, shortestWait))
}

// storeBatch stores what a builder holds as one batch, however often the database goes away
// meanwhile.
func (s *Partition) storeBatch(b *builder) (Stored, error) {
	token := s.cfg.NewToken()
	started := time.Now()
	pauses := s.cfg.Backoff()
	for attempts := 1; ; attempts++ {
		batch, deltas, undo := s.batch(b, token)
		acked := s.takeAcked()
		answered := s.database.Await(s.partition)
		err := s.store.Commit(s.grace, batch, acked)
		answered()
		if err != nil {
			s.returnAcked(acked)
		} else {
			s.marked(len(acked))
		}
		var refused *toll.RefusedError
		if errors.As(err, &refused) {
			undo()
			s.stats.Refused(s.partition, refused)
			b.refuse(refused.Rows)
			s.rebase(b)
			continue
		}
		if err != nil {
			err = s.resolve(batch, err, pauses)
		}
		switch {
		case err == nil:
			s.database.Up(s.partition)
			s.cursor.Next, s.cursor.Token, s.cursor.Last = batch.Next, batch.Token, batch.Last
			s.mark(batch.Next)
			s.took = time.Since(started)
			s.stats.Stored(s.partition, batch, deltas, s.took)
			return Stored{
				Ref: toll.BatchRef{First: batch.First, Token: batch.Token}, Next: batch.Next, Deltas: deltas,
				oldest: b.oldest,
				trace: monitor.BatchTrace{Rejected: len(batch.Rejects), Attempts: attempts, Began: b.began,
					Taken: b.taken, Stored: time.Now()},
			}, nil
		case errors.Is(err, errNotStored):
			undo()
		default:
			s.stats.NotStored(monitor.BatchTrace{
				Partition: s.partition, First: batch.First, Next: b.next, Events: len(b.records),
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
		s.database.Down(s.partition, cause)
	}
	cursor, err := backoff.Retry(s.grace, func() (toll.Cursor, error) {
		if s.ctx.Err() != nil {
			return toll.Cursor{}, backoff.Permanent(s.ctx.Err())
		}
		c, err := s.store.Cursor(s.grace, s.partition)
		if toll.IsPermanent(err) {
			err = backoff.Permanent(err)
		}
		return c, err
	}, backoff.WithBackOff(s.cfg.Backoff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	switch {
	case cursor.Token == batch.Token && cursor.Next == batch.Next:
		return nil
	case cursor.LogReplaced != "":
		return LogReplaced(cursor.LogReplaced)
	case cursor.Token == batch.Expect && cursor.Next == batch.First && cursor.Epoch == batch.Epoch:
		if !moved {
			return s.pause(pauses, errNotStored)
		}
		return errNotStored
	case cursor.Epoch != batch.Epoch:
		return fmt.Errorf("partition %d: %w", s.partition, ErrOtherEpoch)
	}
	return fmt.Errorf("partition %d: %w", s.partition, errFenced)
}

// pause waits before a batch is tried again, longer each time, so that a server which answers reads
// and refuses writes is not hammered.
func (s *Partition) pause(pauses backoff.BackOff, err error) error {
	select {
	case <-time.After(pauses.NextBackOff()):
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
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
		Rejects:   b.rejects,
		Retries:   b.retries,
		Deltas:    wire.AppendPlazaDeltas(nil, deltas),
		Chain:     wire.AppendChain(nil, s.chain),
		Clock:     wire.AppendClock(nil, &b.clock),
		Gone:      max(0, s.from-s.cursor.Next),
		Last:      b.identity(s.cursor.Last),
		Minutes:   b.minutes(),
		TooLate:   s.late.of(deltas),
	}, deltas, undo
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

// WaitAtMost waits for a group for some time, and reports whether it ended.
func WaitAtMost(wg *sync.WaitGroup, most time.Duration) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}
