// Package ingest stores one partition of the topic of events: it gathers records into batches,
// commits them one after the other, and publishes what they mean per plaza.
package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
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
	Dependencies
	partition int32
	cfg       *Config

	ctx    context.Context // of the session: add gives up when it ends
	cancel context.CancelFunc
	grace  context.Context // of statements that a stop should let finish
	kill   context.CancelFunc
	wg     sync.WaitGroup

	room    chan struct{} // has a value for each bundle that is not added yet
	bundles chan bundle   // on their way through goka
	passed  chan bundle   // that goka has passed on
	// the last record of what was passed on to goka; the bundling goroutine's alone
	read toll.LastRecord

	mu     sync.Mutex
	open   *builder      // being filled by add, guarded by mu
	spare  *builder      // nil while it is being committed, guarded by mu
	filled chan struct{} // has a value once open holds something
	taken  chan struct{} // has a value once the committer took open
	full   chan struct{} // has a value once open is full
	clock  toll.Clock    // before the first batch
	// the record that is being added, guarded by mu
	taking kgo.Record
	held   bool // taking is not added yet, for want of its schema
	next   record
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
	Full()                    // says that a batch was full: more events wait
	Urge()                    // says that the partition has little room for more batches
}

// Dependencies are what a partition works with.
type Dependencies struct {
	Store Store
	// Publish sends deltas of one plaza, as they are encoded, all or none. done is called once, when
	// they are acknowledged or failed.
	Publish  func(plaza int16, deltas [][]byte, done func(error)) error
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
	damaged := func(what string, err error) error {
		return toll.Permanent(
			"the row of toll_cursor is damaged; restore the database, or run: tollstream reset --yes",
			"read the %s of partition %d: %w", what, cursor.Partition, err)
	}
	chain, err := wire.DecodeChain(cursor.Chain)
	if err != nil {
		return nil, damaged("chain", err)
	}
	clock, err := wire.DecodeClock(cursor.Clock)
	if err != nil {
		return nil, damaged("clock", err)
	}
	return &Partition{
		Dependencies: d, partition: cursor.Partition, cfg: cfg, cursor: cursor, chain: chain,
		clock: clock, epoch: cursor.Epoch, storedTo: cursor.Next, read: cursor.Last,
		late: tooLate{kinds: cfg.Windows, zones: cfg.Zones()},
	}, nil
}

// fail ends the run, unless the session has ended.
func (s *Partition) fail(err error) {
	if s.ctx.Err() == nil {
		s.Fail(err)
	}
}

// Number returns the number of the partition.
func (s *Partition) Number() int32 { return s.partition }

// Start starts the committer and the publisher, which first sends again what is not known to be
// published, from the offset unpublished on.
func (s *Partition) Start(parent context.Context, unpublished int64) {
	s.ctx, s.cancel = context.WithCancel(parent)
	s.grace, s.kill = context.WithCancel(context.WithoutCancel(parent))
	s.filled, s.taken, s.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	s.pending, s.toMark = make(chan Stored, pendingBatches), make(chan struct{}, 1)
	s.openQueues()
	s.open = newBuilder(s.Store.NewRows(), s.cfg)
	s.spare = newBuilder(s.Store.NewRows(), s.cfg)
	s.open.begin(&s.clock)
	if s.From > s.cursor.Next { // records are gone, which is stored even where none follows
		s.open.gone(s.From)
		wait.Signal(s.filled)
	}
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
		if err := s.publishAll(unpublished); err != nil {
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
	defer s.Database.Leave(s.partition)
	timer := time.AfterFunc(StopGrace, s.kill)
	defer timer.Stop()
	if !wait.AtMost(&s.wg, StopGrace+time.Second) {
		// sarama holds a goroutine as long as it retries; it ends with its producer.
		s.cfg.Log.Warn("a partition did not stop in time", "partition", s.partition)
	}
	s.kill()
}

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
				s.cfg.Log.Info("the schema registry is available again", "partition", s.partition)
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
