// Package ingest stores one partition of the topic of events: it gathers records into batches,
// commits them one after the other, and publishes what they mean per plaza.
package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
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
// Four goroutines work on it. Consume hands goka the records in bundles. The intake adds the
// bundles that goka has passed on to the open batch. The committer takes that whenever it is idle,
// so a batch is as large as the time that the one before it took to commit: small when there is
// little to do, up to the limit when there is a backlog. The publisher sends the deltas of the
// batches that are stored.
type Partition struct {
	Dependencies
	partition int32
	cfg       *Config

	ctx    context.Context // of the session: the intake gives up when it ends
	cancel context.CancelFunc
	grace  context.Context // of statements that a stop should let finish
	kill   context.CancelFunc
	wg     sync.WaitGroup

	room    chan struct{}   // has a value for each bundle that is not added yet
	bundles chan bundle     // on their way through goka
	passed  chan bundle     // that goka has passed on
	read    toll.LastRecord // the last record that goka was handed; Consume's alone

	mu     sync.Mutex
	open   *builder      // being filled by the intake, guarded by mu
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

	progress progress // of the committer and the publisher

	// The committer's alone.
	cursor  toll.Cursor
	chain   map[int16]int64
	late    tooLate
	took    time.Duration // of the last commit
	pending chan Stored
}

// Pacer sets when a partition stores and publishes, by what the other ones do and by how many
// plazas there are. It is the [Sender].
type Pacer interface {
	Wait() time.Duration      // until an event is to be stored
	Turn(ctx context.Context) // returns when deltas may be sent
	Full()                    // reports that a batch was full: more events wait
	Urge()                    // reports that the partition has little room for more batches
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
		clock: clock, epoch: cursor.Epoch, progress: newProgress(cursor.Next), read: cursor.Last,
		late: tooLate{kinds: cfg.Windows, zones: cfg.Zones()},
	}, nil
}

// fail ends the run, unless the session has ended.
func (p *Partition) fail(err error) {
	if p.ctx.Err() == nil {
		p.Fail(err)
	}
}

// Number returns the number of the partition.
func (p *Partition) Number() int32 { return p.partition }

// Start starts the committer and the publisher, which first sends again what is not known to be
// published, from the offset unpublished on.
func (p *Partition) Start(parent context.Context, unpublished int64) {
	p.ctx, p.cancel = context.WithCancel(parent)
	p.grace, p.kill = context.WithCancel(context.WithoutCancel(parent))
	p.filled, p.taken, p.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	p.pending = make(chan Stored, pendingBatches)
	p.openQueues()
	p.open = newBuilder(p.Store.NewRows(), p.cfg)
	p.spare = newBuilder(p.Store.NewRows(), p.cfg)
	p.open.begin(&p.clock)
	if p.From > p.cursor.Next { // records are gone, which is stored even where none follows
		p.open.gone(p.From)
		wait.Signal(p.filled)
	}
	p.progress.sentUpTo(unpublished)
	p.progress.caughtUp() // where nothing is left, before the first batch is stored
	p.wg.Go(p.intakeLoop)
	p.wg.Go(func() {
		defer close(p.pending)
		if err := p.commitAll(); err != nil {
			p.fail(err)
		}
	})
	p.wg.Go(func() {
		if err := p.publishAll(unpublished); err != nil {
			p.fail(err)
		}
		for range p.pending { // what is not published now is sent again by the next owner
		}
	})
}

// StopGrace bounds what a stop waits for: the commit and the sends that are under way. What they
// don't reach is done again by the next owner.
const StopGrace = 3 * time.Second

// Stop drops the open batch, which is read again by the next owner, and waits for what is under
// way.
func (p *Partition) Stop() {
	p.cancel()
	defer p.Database.Leave(p.partition)
	defer p.kill()
	defer time.AfterFunc(StopGrace, p.kill).Stop()
	p.wg.Wait()
}

// AddAll adds records to the open batch, as bundles of them are added.
func (p *Partition) AddAll(records fetch.Records) { p.addBundle(bundle{records: records}) }

// Steps drives a partition step by step, without its goroutines, for simulations.
type Steps struct {
	p       *Partition
	taken   *builder
	pending []Stored // to be published
}

// Steps returns the steps of a partition that has not started, with what is left to publish.
func (p *Partition) Steps(left ...toll.StoredBatch) (*Steps, error) {
	p.ctx, p.grace = context.Background(), context.Background()
	p.open, p.spare = newBuilder(p.Store.NewRows(), p.cfg), newBuilder(p.Store.NewRows(), p.cfg)
	p.open.begin(&p.clock)
	steps := &Steps{p: p}
	for i := range left {
		b, err := p.decode(&left[i])
		if err != nil {
			return nil, err
		}
		steps.pending = append(steps.pending, b)
	}
	return steps, nil
}

// Full reports whether the open batch has room for no further record.
func (s *Steps) Full() bool { return s.p.isFull(s.p.open) }

// Empty reports whether the open batch has no record.
func (s *Steps) Empty() bool { return s.p.open.empty() }

// Add adds a record to the open batch.
func (s *Steps) Add(r *kgo.Record) {
	s.p.AddAll(fetch.RecordsOf(r))
}

// Take closes the open batch and reports whether it holds anything; records that are added from
// then on belong to the next one.
func (s *Steps) Take() bool {
	s.taken = s.p.take()
	return s.taken != nil
}

// Store stores the batch that was taken.
func (s *Steps) Store() error {
	stored, err := s.p.storeBatch(s.taken)
	if err == nil {
		s.pending = append(s.pending, stored)
		s.p.giveBack(s.taken)
	}
	return err
}

// Pending returns how many batches are stored and not published.
func (s *Steps) Pending() int { return len(s.pending) }

// Publish publishes the next n batches together.
func (s *Steps) Publish(n int) error {
	next := s.pending[:n]
	s.pending = s.pending[n:]
	return s.p.publishBatches(next)
}

// MarkAcked marks as published what was acknowledged.
func (s *Steps) MarkAcked() error { return s.p.markAcked() }
