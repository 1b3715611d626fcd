package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/topology/reconcile"
)

// The simulation of the protocol runs the code that makes it up (partitions with their committers
// and publishers, sessions, the aggregate, the ordered producer, reconcile, the codecs) in a world
// that a seed decides about: every call to a server waits until it is its turn, and may fail, be
// answered late or never. Two hosts take over from each other whether or not the other has noticed;
// each may crash at any step; messages of the dead arrive late; the database is restored, and
// rebuilt. After every step the invariants hold, and when the faults are over everything comes
// right.
//
// Where the world deviates from real servers:
//
//   - A transaction happens at one moment: when it commits, or when the server gets to it after its
//     answer was given up.
//   - goka is played: it delivers a partition's deltas in order, writes the local store before the
//     changelog, and marks a delta once all that its callback emitted is acknowledged. A delta
//     whose callback emitted nothing is marked at once.
//   - The epoch is watched by a loop of the simulation, the part of closing.Windows.Watch that does
//     it.
//   - Of windows there are none; see stream in closing.

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// simEvents are the plazas of the events of each partition, in the order of their offsets. Every
// other record holds a second event, of the plaza of the record before.
type simEvents [][]int16

// vehicleOf is the vehicle of a record's first event: two bits for each record, of which its second
// event has the other, so that a sum of them tells the events that it holds.
func (e simEvents) vehicleOf(partition, offset int) int32 {
	for p := range partition {
		offset += len(e[p])
	}
	return 1 << (2 * offset)
}

// simEvent is an event of a record.
type simEvent struct {
	plaza   int16
	vehicle int32
}

// of returns the events of a record.
func (e simEvents) of(partition, offset int) []simEvent {
	vehicle := e.vehicleOf(partition, offset)
	events := []simEvent{{e[partition][offset], vehicle}}
	if offset%2 == 0 && offset > 0 {
		events = append(events, simEvent{e[partition][offset-1], 2 * vehicle})
	}
	return events
}

// below returns the sum of a plaza's events of a partition below an offset.
func (e simEvents) below(plaza int16, partition int32, next int64) (sum uint64) {
	for offset := range min(next, int64(len(e[partition]))) {
		for _, event := range e.of(int(partition), int(offset)) {
			if event.plaza == plaza {
				sum += uint64(event.vehicle)
			}
		}
	}
	return sum
}

// simWorld is all that outlives a process: the servers, and the local stores of the hosts.
type simWorld struct {
	rng    *rand.Rand
	events simEvents
	mutant *mutation // nil for the protocol as it is
	kind   simKind
	rows   []int // of the batches of the first processes; drawn for the others

	mu      sync.Mutex // of pending, from the goroutines under test
	pending []*simOp

	db       simDatabase
	backups  []simDatabase
	restored bool    // and not rebuilt since
	doubt    []simTx // given up by those who sent them, and perhaps still open

	loop, table simTopic
	sent        []*simMessage        // on their way to a broker, per producer in order
	offsets     map[string]simOffset // of the group, by topic and partition

	hosts      [2]*simHost
	lives      int
	generation int
	token      uint64

	faults    int            // that are left to be injected
	often     map[string]int // how often kinds of things happen, which differs from seed to seed
	trace     []string
	violation string
}

// simKind says what may happen in a world.
type simKind int

const (
	simAll      simKind = iota
	simCalm             // nothing that only reconcile mends, and there is none
	simRestores         // above all the database is restored, with few events
)

// simOffset is a group's offset.
type simOffset struct {
	offset   int64
	metadata string
}

// simDatabase is the database.
type simDatabase struct {
	created uint64        // epoch of the first cursor
	cursors []toll.Cursor // by partition; Token 0 for none
	batches []simtest.Batch
	rows    []simRow
}

// simRow is a row of the table of events.
type simRow struct {
	partition int32
	vehicle   int32
}

func (d *simDatabase) clone() simDatabase {
	return simDatabase{d.created, slices.Clone(d.cursors), slices.Clone(d.batches),
		slices.Clone(d.rows)}
}

func (d *simDatabase) epoch() uint64 {
	epoch := d.created
	for _, c := range d.cursors {
		epoch = max(epoch, c.Epoch)
	}
	return epoch
}

// simTx is a batch's transaction.
type simTx struct {
	batch     toll.Batch
	rows      []simRow
	published []toll.BatchRef
}

// commit stores a batch.
func (w *simWorld) commit(tx *simTx) error {
	b := &tx.batch
	c := &w.db.cursors[b.Partition]
	token, epoch := c.Token == b.Expect || w.mutates("token not compared"), c.Epoch == b.Epoch ||
		w.mutates("epoch not compared")
	if w.mutates("cursor not compared") {
		token, epoch, c.Next = true, true, b.First
	}
	if c.Next != b.First || !token || !epoch {
		return toll.ErrCursorMoved
	}
	c.Next, c.Token, c.Chain, c.Clock, c.Last = b.Next, b.Token, b.Chain, b.Clock, b.Last
	w.db.rows = append(w.db.rows, tx.rows...)
	w.db.batches = append(w.db.batches, simtest.Batch{StoredBatch: toll.StoredBatch{
		Partition: b.Partition, First: b.First, Next: b.Next, Token: b.Token, Events: int64(len(tx.rows)),
		Deltas: b.Deltas,
	}})
	w.markPublished(b.Partition, tx.published)
	return nil
}

func (w *simWorld) markPublished(partition int32, refs []toll.BatchRef) {
	for i := range w.db.batches {
		b := &w.db.batches[i]
		for _, ref := range refs {
			if b.Partition == partition && b.First == ref.First &&
				(b.Token == ref.Token || w.mutates("published marked without the token")) {
				b.Published = true
			}
		}
	}
}

func (w *simWorld) unpublished(partition int32) toll.Unpublished {
	u := toll.Unpublished{First: -1}
	for _, b := range w.db.batches {
		if b.Partition == partition && !b.Published {
			if u.First < 0 {
				u.First = b.First
			}
			u.Batches++
			u.Events += b.Events
		}
	}
	return u
}

// rebuild is Store.Rebuild of sql. It takes longer than the clock's step.
func (w *simWorld) rebuild() {
	time.Sleep(2 * time.Millisecond)
	epoch := w.db.epoch()
	for _, s := range w.newest() {
		epoch = max(epoch, s.Epoch)
	}
	for _, o := range w.offsets {
		epoch = max(epoch, kafka.ParseEpochMetadata(o.metadata))
	}
	epoch = max(epoch, uint64(time.Now().UnixMilli())) + 1
	if !w.mutates("rebuild leaves the epoch") &&
		!slices.ContainsFunc(w.db.cursors, func(c toll.Cursor) bool {
			return c.Token != 0
		}) {
		w.db.created = epoch
	}
	for i := range w.db.cursors {
		if w.db.cursors[i].Token != 0 && !w.mutates("rebuild leaves the epoch") {
			w.db.cursors[i].Epoch = epoch
		}
	}
	for i := range w.db.batches {
		if !w.mutates("rebuild leaves batches published") {
			w.db.batches[i].Published = false
		}
	}
	w.restored = false
}

// simTopic is a topic; a partition is a list of records, those below its low watermark deleted.
type simTopic struct {
	id         int
	partitions []simPartition
}

type simPartition struct {
	low     int64
	records []simRecord
}

type simRecord struct {
	key   string
	value []byte
}

func (p *simPartition) end() int64 { return int64(len(p.records)) }

func newSimTopic(id, partitions int) simTopic {
	return simTopic{id, make([]simPartition, partitions)}
}

// newest returns the newest state of each plaza in the group table.
func (w *simWorld) newest() map[string]*toll.State {
	states := map[string]*toll.State{}
	for i := range w.table.partitions {
		for _, r := range w.table.partitions[i].records {
			states[r.key] = must(wire.StateCodec{}.Decode(r.value)).(*toll.State)
		}
	}
	return states
}

// simMessage is on its way to a broker.
type simMessage struct {
	from      *simLife
	producer  string
	topic     *simTopic
	topicID   int
	partition int32
	simRecord
	finish goka.PromiseFinisher
	landed bool
	offset int64
	step   int   // in which it was sent
	source int32 // partition of the delta
}

// simProducer is a producer of a process.
type simProducer struct {
	life  *simLife
	name  string
	topic *simTopic
}

// Emit implements goka.Producer.
func (p *simProducer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (p *simProducer) EmitWithHeaders(_, key string, value []byte, _ goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	if p.life.dead.Load() {
		return promise // which no one keeps
	}
	w := p.life.w
	m := &simMessage{from: p.life, producer: p.name, topic: p.topic, topicID: p.topic.id,
		partition: kafka.PartitionOf(key, int32(len(p.topic.partitions))), simRecord: simRecord{key,
			slices.Clone(value)}, finish: finish}
	if p.name == "deltas" {
		m.source = must(wire.DecodeDeltas(value))[0].Partition
	}
	w.mu.Lock()
	m.step = len(w.trace)
	w.sent = append(w.sent, m)
	w.mu.Unlock()
	if p.name == "deltas" && w.mutates("acknowledged before it is sent") {
		finish(&sarama.ProducerMessage{}, nil)
		m.finish = nil
	}
	return promise
}

// Close implements goka.Producer.
func (p *simProducer) Close() error { return nil }

// simOp is a call that waits for its turn.
type simOp struct {
	life     *simLife
	name     string
	outcomes []simOutcome
	done     chan struct{}
}

// simOutcome is a way in which a call may end.
type simOutcome struct {
	name  string
	fault bool // happens only while faults are injected
	do    func()
}

var errDead = errors.New("the process is dead")

// call lets a call wait for its turn. It reports false where the caller's process is dead or its
// context ends before: then given is called, unless it is nil, and nothing else happens.
func (w *simWorld) call(ctx context.Context, life *simLife, name string, given func(),
	outcomes ...simOutcome) bool {
	op := &simOp{life, name, outcomes, make(chan struct{})}
	w.mu.Lock()
	w.pending = append(w.pending, op)
	w.mu.Unlock()
	select {
	case <-op.done:
		return true
	case <-life.killed:
	case <-ctx.Done():
	}
	w.mu.Lock()
	if i := slices.Index(w.pending, op); i >= 0 {
		w.pending = slices.Delete(w.pending, i, i+1)
	}
	w.mu.Unlock()
	if given != nil && !life.dead.Load() {
		given()
	}
	return false
}

// simStore is the database as a part of a process sees it.
type simStore struct {
	life *simLife
	who  string // calls it, where several do
}

func (s simStore) err(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errDead
}

func lost(err *error) simOutcome {
	return simOutcome{"fails", true, func() { *err = simtest.ErrLost }}
}

func (s simStore) NewRows() toll.Rows { return new(simtest.Rows) }

func (s simStore) Load(ctx context.Context, partition int32, earliest int64) (c toll.Cursor,
	u toll.Unpublished, err error) {
	w := s.life.w
	read := func() {
		if c = w.db.cursors[partition]; c.Token != 0 {
			if u = w.unpublished(partition); u.First < 0 {
				u.First = c.Next
			}
		}
	}
	if w.mutates("cursor read after the outbox") {
		if !w.call(ctx, s.life, s.who+fmt.Sprintf("read what is unpublished of %d", partition), nil,
			simOutcome{"", false, func() { u = w.unpublished(partition) }}) {
			return c, u, s.err(ctx)
		}
		read = func() {
			c = w.db.cursors[partition]
			if u.First < 0 {
				u.First = c.Next
			}
		}
	}
	create := func() {
		if cursor := &w.db.cursors[partition]; cursor.Token == 0 && earliest >= 0 {
			w.token++
			*cursor = toll.Cursor{Partition: partition, Next: earliest, Token: w.token, Epoch: w.db.epoch()}
		}
		read()
		if c.Token == 0 {
			err = errors.New("no cursor")
		}
	}
	if !w.call(ctx, s.life, s.who+fmt.Sprintf("load %d", partition), nil,
		simOutcome{"", false, create}, lost(&err)) {
		return c, u, s.err(ctx)
	}
	return c, u, err
}

func (s simStore) Cursor(ctx context.Context, partition int32) (c toll.Cursor, err error) {
	w := s.life.w
	if !w.call(ctx, s.life, s.who+fmt.Sprintf("cursor %d", partition), nil,
		simOutcome{"", false, func() { c = w.db.cursors[partition] }}, lost(&err)) {
		return c, s.err(ctx)
	}
	return c, err
}

func (s simStore) Cursors(ctx context.Context) (cursors []toll.Cursor, err error) {
	w := s.life.w
	if !w.call(ctx, s.life, s.who+"cursors", nil, simOutcome{"", false, func() {
		cursors = slices.DeleteFunc(slices.Clone(w.db.cursors), func(c toll.Cursor) bool {
			return c.Token == 0
		})
	}}, lost(&err)) {
		return nil, s.err(ctx)
	}
	return cursors, err
}

func (s simStore) MarkLogReplaced(context.Context, *toll.Cursor, string) error {
	return errors.New("the log is never replaced")
}

func (s simStore) Outbox(ctx context.Context, partition int32, above int64,
	unpublished bool) (page toll.OutboxPage, err error) {
	w := s.life.w
	read := func() {
		page = toll.OutboxPage{Epoch: w.db.cursors[partition].Epoch}
		for _, b := range w.db.batches {
			switch {
			case b.Partition != partition || b.Next <= above || unpublished && b.Published:
			case len(page.Batches) == 2:
				page.More = true
			default:
				page.Batches = append(page.Batches, b.StoredBatch)
			}
		}
	}
	if !w.call(ctx, s.life, s.who+fmt.Sprintf("outbox of %d above %d, unpublished %v", partition,
		above, unpublished), nil, simOutcome{"", false, read}, lost(&err)) {
		return page, s.err(ctx)
	}
	return page, err
}

func (s simStore) Commit(ctx context.Context, b *toll.Batch,
	published []toll.BatchRef) (err error) {
	w := s.life.w
	tx := simTx{*b, nil, slices.Clone(published)}
	for _, e := range b.Rows.(*simtest.Rows).Events {
		tx.rows = append(tx.rows, simRow{b.Partition, e.Vehicle})
	}
	open := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.doubt = append(w.doubt, tx)
	}
	if !w.call(ctx, s.life, s.who+fmt.Sprintf("commit %d [%d, %d)", b.Partition, b.First, b.Next),
		open,
		simOutcome{"", false, func() { err = w.commit(&tx) }},
		simOutcome{"done, the answer is lost", true, func() { _, err = w.commit(&tx), simtest.ErrLost }},
		simOutcome{"the answer is lost, the transaction open", true,
			func() { open(); err = simtest.ErrLost }},
		lost(&err)) {
		return s.err(ctx)
	}
	return err
}

func (s simStore) MarkPublished(ctx context.Context, partition int32, epoch uint64,
	refs []toll.BatchRef) (err error) {
	w := s.life.w
	refs = slices.Clone(refs)
	mark := func() {
		if w.db.cursors[partition].Epoch == epoch || w.mutates("published marked in another epoch") {
			w.markPublished(partition, refs)
		}
	}
	if !w.call(ctx, s.life, s.who+fmt.Sprintf("mark published %d", partition), nil,
		simOutcome{"", false, mark}, lost(&err)) {
		return s.err(ctx)
	}
	return err
}

// simHost is a machine with a local store.
type simHost struct {
	name    string
	local   map[string][]byte
	seen    []int64 // of the changelog, by partition
	tableID int     // of the topic that the local store is a copy of
	life    *simLife
}

// simLife is a process, from its start to its end.
type simLife struct {
	w      *simWorld
	host   *simHost
	name   string
	run    *run
	pace   int // how often it is its turn, compared with others
	killed chan struct{}
	dead   atomic.Bool
	ended  atomic.Bool // with what run.failure says

	ctx        context.Context // of the session
	generation int
	claims     []int32
	running    atomic.Bool // the session is set up
	mu         sync.Mutex
	marks      map[string]simOffset // the session's
	read       map[int32]int64      // next record of the topic of events
	feed       map[int32]chan [2]int64
	feeding    map[int32]bool
	next       map[int32]int64 // of the loop
	table      goka.Producer
}

// sarama's and goka's interfaces and ours, as far as they are used.
type (
	simBrokers struct {
		brokers
		life *simLife
	}
	simSession struct {
		sarama.ConsumerGroupSession
		life *simLife
	}
)

const simTopicName = "toll"

func (b simBrokers) Offsets(_ context.Context, _ string, at kafka.At,
	partitions ...int32) (map[int32]int64, error) {
	offsets := map[int32]int64{}
	for _, p := range partitions {
		if at != kafka.Oldest {
			offsets[p] = int64(len(b.life.w.events[p]))
		}
	}
	return offsets, nil
}

// simLog is the log of the topic of events, which stays what it is: internal/model/logend is about
// others.
type simLog struct{}

func (simLog) Connects() int64 { return 0 }

func (simLog) CheckLog(context.Context, int32, int64, toll.LastRecord) (fetch.Finding, error) {
	return fetch.Finding{}, nil
}

func (b simBrokers) Topic(context.Context, string) (kafka.Topic, bool, error) {
	return kafka.Topic{Name: simTopicName, Partitions: len(b.life.w.events)}, true, nil
}

func (b simBrokers) Committed(_ context.Context, _, topic string,
	partitions ...int32) (map[int32]kafka.Committed, error) {
	committed := map[int32]kafka.Committed{}
	b.life.w.mu.Lock()
	defer b.life.w.mu.Unlock()
	for _, p := range partitions {
		o, ok := b.life.w.offsets[offsetKey(topic, p)]
		if !ok || b.life.w.mutates("a restored database is not noticed") {
			continue
		}
		if b.life.w.mutates("the group's offsets carry no epoch") {
			o.metadata = ""
		}
		committed[p] = kafka.Committed{Offset: o.offset, Metadata: o.metadata}
	}
	return committed, nil
}

func offsetKey(topic string, partition int32) string { return fmt.Sprint(topic, " ", partition) }

func (s simSession) Context() context.Context { return s.life.ctx }
func (s simSession) Claims() map[string][]int32 {
	return map[string][]int32{simTopicName: s.life.claims}
}
func (s simSession) MarkOffset(topic string, partition int32, offset int64, metadata string) {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	key := offsetKey(topic, partition)
	if o, ok := s.life.marks[key]; !ok || offset > o.offset {
		s.life.marks[key] = simOffset{offset, metadata}
	}
}
func (s simSession) ResetOffset(topic string, partition int32, offset int64, metadata string) {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	key := offsetKey(topic, partition)
	if o, ok := s.life.marks[key]; ok && offset <= o.offset {
		s.life.marks[key] = simOffset{offset, metadata}
	}
	s.life.read[partition] = offset
	s.life.w.mu.Lock()
	defer s.life.w.mu.Unlock()
	if o, ok := s.life.w.offsets[key]; ok && s.life.w.mutates("goes on at the group's offset") {
		s.life.read[partition] = o.offset
	}
}

// simChangelog implements changelog.
type simChangelog struct{ life *simLife }

func (c simChangelog) PartitionOf(plaza int16) int32 {
	return kafka.PartitionOf(fmt.Sprint(plaza), int32(len(c.life.w.loop.partitions)))
}

func (c simChangelog) Consumed(ctx context.Context) (consumed []int32, err error) {
	w := c.life.w
	ends := map[int32]int64{}
	if !w.call(ctx, c.life, "ends of the loop", nil, simOutcome{"", false, func() {
		for _, p := range c.life.claims {
			ends[p] = w.loop.partitions[p].end()
		}
	}}) {
		return nil, simStore{life: c.life}.err(ctx)
	}
	if !w.call(ctx, c.life, "what is consumed of the loop", nil, simOutcome{"", false, func() {
		for _, p := range c.life.claims {
			if w.offsets[offsetKey("loop", p)].offset >= ends[p] || w.loop.partitions[p].low >= ends[p] {
				consumed = append(consumed, p)
			}
		}
	}}) {
		return nil, simStore{life: c.life}.err(ctx)
	}
	return consumed, nil
}

func (c simChangelog) Progress(ctx context.Context) (states map[int16]reconcile.Progress,
	err error) {
	w := c.life.w
	states = map[int16]reconcile.Progress{}
	if !w.call(ctx, c.life, "the changelog", nil, simOutcome{"", false, func() {
		for _, p := range c.life.claims {
			for _, r := range w.table.partitions[p].records {
				var plaza int16
				_ = must(fmt.Sscan(r.key, &plaza))
				epoch, merged, err := wire.DecodeProgress(r.value)
				must(0, err)
				states[plaza] = reconcile.Progress{Epoch: epoch, Merged: merged}
				if w.mutates("a restored database is not noticed") && epoch > w.db.epoch() {
					delete(states, plaza)
				}
				for _, m := range merged {
					if w.mutates("a restored database is not noticed") && m.Next > w.db.cursors[m.Partition].Next {
						delete(states, plaza)
					}
				}
			}
		}
	}}) {
		return nil, simStore{life: c.life}.err(ctx)
	}
	return states, nil
}

type gokaContext = goka.Context // which has a method of that name

// simContext is what goka gives to a callback.
type simContext struct {
	gokaContext
	life      *simLife
	key       string
	partition int32
	offset    int64

	emits, dones int
	done         bool
	err          error
}

func (c *simContext) Context() context.Context { return c.life.ctx }
func (c *simContext) Key() string              { return c.key }
func (c *simContext) Partition() int32         { return c.partition }
func (c *simContext) Offset() int64            { return c.offset }
func (c *simContext) Timestamp() time.Time     { return time.Unix(1_700_000_000, 0) }
func (c *simContext) Headers() goka.Headers    { return nil }

func (c *simContext) Value() any {
	b := c.life.host.local[c.key]
	if b == nil {
		return nil
	}
	return must(wire.StateCodec{}.Decode(b))
}

func (c *simContext) SetValue(value any, _ ...goka.ContextOption) {
	b := must(wire.StateCodec{}.Encode(value))
	host := c.life.host
	if c.life.w.mutates("no value set for a duplicate") && string(b) == string(host.local[c.key]) {
		return
	}
	host.local[c.key] = b
	c.emits++
	c.life.table.EmitWithHeaders("table", c.key, b,
		nil).ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		if err == nil && !c.life.dead.Load() {
			host.seen[c.partition] = max(host.seen[c.partition], msg.Offset+1)
		}
		c.emitDone(err)
	})
}

func (c *simContext) DeferCommit() func(error) {
	if c.life.w.mutates("no value set for a duplicate") {
		return func(error) {}
	}
	c.emits++
	return c.emitDone
}

func (c *simContext) emitDone(err error) {
	c.dones++
	c.finish(err)
}

func (c *simContext) finish(err error) {
	if err != nil {
		c.err = err
	}
	switch {
	case !c.done || c.emits > c.dones:
	case c.err != nil:
		c.life.run.fail(fmt.Errorf("could not commit: %w", c.err))
	default:
		simSession{life: c.life}.MarkOffset("loop", c.partition, c.offset+1, "")
	}
}

// start starts a process on a host.
func (w *simWorld) start(host *simHost, claims []int32) {
	w.generation++
	w.lives++
	life := &simLife{w: w, host: host, name: fmt.Sprint(host.name, w.lives),
		pace: pick(w.rng, 1, 1, 4, 20), killed: make(chan struct{}), generation: w.generation,
		claims: claims,
		marks:  map[string]simOffset{}, read: map[int32]int64{}, feed: map[int32]chan [2]int64{},
		feeding: map[int32]bool{}, next: map[int32]int64{}}
	host.life = life
	cfg := DefaultConfig()
	cfg.Topic, cfg.Group = simTopicName, "group"
	cfg.BatchRows, cfg.Latency = pick(w.rng, 1, 1, 2, 3), 0
	if len(w.rows) > 0 {
		cfg.BatchRows, w.rows = w.rows[0], w.rows[1:]
	}
	cfg.Backoff = func() backoff.BackOff { // not drawn at random
		b := backoff.NewExponentialBackOff()
		b.InitialInterval, b.MaxInterval, b.RandomizationFactor = 100*time.Millisecond, 5*time.Second, 0
		return b
	}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.NewToken = func() uint64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.token++
		return w.token
	}
	ctx, cancel := context.WithCancel(context.Background())
	life.ctx = ctx
	life.run = &run{cfg: &cfg, store: simStore{life: life},
		stats: monitor.NewStats(), cancel: cancel,
		brokers: simBrokers{life: life}, log: simLog{}}
	life.run.windows = closing.New(cfg.closing(), nil, nil, nil)
	life.run.partitions.slots = newSlots(len(w.events))
	producer := &simProducer{life, "deltas", &w.loop}
	life.run.producer = producer
	life.run.deltas = ingest.NewSender(life.run.emitDeltas, 0, 0)
	life.table = &simProducer{life, "table", &w.table}
	if !w.mutates("marks after a failed emit") {
		life.table = kafka.NewOrderedProducer(life.table, len(w.events))
	}
	go life.main()
}

// main is the life of a process: Processor.runOnce and sessionHandler, as far as there is no goka.
func (l *simLife) main() {
	defer func() { l.ended.Store(true) }()
	r, w := l.run, l.w
	var sender sync.WaitGroup
	sender.Go(func() { r.deltas.Run(l.ctx, l.ctx) })
	defer sender.Wait()
	err := r.openPartitions(simSession{life: l})
	if err != nil {
		r.fail(err)
	} else if w.call(l.ctx, l, "recover", nil, simOutcome{"", false, l.recover}) {
		var parallel sync.WaitGroup
		for _, p := range l.claims {
			feed := make(chan [2]int64)
			l.feed[p] = feed
			parallel.Go(func() { l.consume(p, feed) })
		}
		if !w.mutates("owners don't look at the epoch") {
			parallel.Go(l.watchEpoch)
		}
		if w.kind != simCalm && !w.mutates("no reconcile") {
			rec := &reconcile.Reconciler{Interval: r.cfg.Reconcile, Logger: r.cfg.Log,
				Store: simStore{l, "reconcile: "}, PublishedTo: r.partitions.publishedTo,
				Log: simChangelog{l}, Publish: r.deltas.Send, Stats: r.stats}
			parallel.Go(func() { rec.Run(l.ctx, r.fail) })
		}
		l.running.Store(true)
		<-l.ctx.Done()
		l.running.Store(false)
		parallel.Wait()
		l.drain()
	}
	r.cancel()
	r.closePartitions()
}

// drain waits until the changelog has what was written, as goka does for a minute when a session
// ends.
func (l *simLife) drain() {
	for until := time.Now().Add(time.Minute); time.Now().Before(until) &&
		!l.dead.Load(); time.Sleep(10 * time.Millisecond) {
		l.w.mu.Lock()
		left := slices.ContainsFunc(l.w.sent, func(m *simMessage) bool {
			return m.from == l && m.producer == "table"
		})
		l.w.mu.Unlock()
		if !left {
			return
		}
	}
}

// recover brings the local store up to date with the changelog, as goka does before a partition is
// consumed.
func (l *simLife) recover() {
	h, w := l.host, l.w
	if h.tableID != w.table.id {
		h.local, h.seen, h.tableID = map[string][]byte{}, make([]int64, len(w.events)), w.table.id
	}
	for _, p := range l.claims {
		table := &w.table.partitions[p]
		for ; h.seen[p] < table.end(); h.seen[p]++ {
			r := table.records[h.seen[p]]
			h.local[r.key] = r.value
		}
		h.seen[p] = min(h.seen[p], table.end())
		l.next[p] = w.offsets[offsetKey("loop", p)].offset
	}
}

// consume hands records of the topic of events to their partition, as ingest does.
func (l *simLife) consume(partition int32, feed chan [2]int64) {
	for {
		select {
		case bundle := <-feed:
			var records []*kgo.Record
			for offset := bundle[0]; offset < bundle[1]; offset++ {
				var value []byte
				for _, e := range l.w.events.of(int(partition), int(offset)) {
					value = fmt.Appendf(value, "Thu Feb 10 10:00:%02d 2022,%d,car,%d\n", offset, e.vehicle,
						e.plaza)
				}
				records = append(records, &kgo.Record{Offset: offset, Timestamp: time.Unix(1_700_000_000, 0),
					Value: value})
			}
			if p := l.run.partitions.get(partition); p != nil {
				p.AddAll(fetch.RecordsOf(records...))
			}
			l.mu.Lock()
			l.feeding[partition] = false
			l.mu.Unlock()
		case <-l.ctx.Done():
			return
		}
	}
}

// watchEpoch is what closing.Windows.Watch does about epochs.
func (l *simLife) watchEpoch() {
	for {
		progress := l.run.partitions.progress()
		if cursors, err := (simStore{l, "watch: "}).Cursors(l.ctx); err == nil {
			h := must(closing.HorizonOf(l.run.cfg.closing(), cursors, len(l.w.events),
				func(map[int32]int64) (map[int32]bool, error) {
					return nil, nil
				}))
			if err := checkProgress(progress, h.Epoch, h.Next); err != nil {
				l.run.fail(err)
				return
			}
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-l.ctx.Done():
			return
		}
	}
}

// commitOffsets commits what a session has marked.
func (w *simWorld) commitOffsets(l *simLife) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.offsets, l.marks)
}

// crash ends a process at once: nothing that it does from here on has an effect.
func (l *simLife) crash() {
	l.dead.Store(true)
	close(l.killed)
	l.run.cancel()
	l.host.life = nil
}

// mutates reports whether a rule is broken, or one that is named in its place.
func (w *simWorld) mutates(breach string) bool {
	return w.mutant != nil && w.mutant.breach == breach
}

// simAction is something that can happen next.
type simAction struct {
	name   string
	weight int
	do     func()
}

// actions returns what can happen, in an order that depends on nothing but the world.
func (w *simWorld) actions(faults bool) []simAction {
	var all []simAction
	add := func(weight int, do func(), format string, args ...any) {
		if faults {
			weight *= w.oftenness(format)
		}
		all = append(all, simAction{fmt.Sprintf(format, args...), weight, do})
	}
	fault := func(weight int, do func(), format string, args ...any) {
		if faults && w.faults > 0 {
			add(weight, func() { w.faults--; do() }, format, args...)
		}
	}
	w.mu.Lock()
	ops := slices.Clone(w.pending)
	// Who was woken by time in the same step sent in no particular order.
	slices.SortStableFunc(w.sent, func(a, b *simMessage) int {
		return cmp.Or(cmp.Compare(a.step, b.step), strings.Compare(a.from.name, b.from.name),
			strings.Compare(a.producer, b.producer), cmp.Compare(a.source, b.source))
	})
	sent := slices.Clone(w.sent)
	w.mu.Unlock()
	slices.SortStableFunc(ops, func(a, b *simOp) int {
		return strings.Compare(a.life.name+a.name, b.life.name+b.name)
	})
	for _, op := range ops {
		for _, o := range op.outcomes {
			do := func() { w.finish(op, o.do) }
			if o.fault && w.kind == simRestores {
				continue
			}
			if o.fault {
				fault(1, do, "%s: %s: %s", op.life.name, op.name, o.name)
			} else {
				add(5*op.life.pace, do, "%s: %s", op.life.name, op.name)
			}
		}
	}
	w.addMessages(sent, add, fault)
	w.mu.Lock()
	slices.SortStableFunc(w.doubt, func(a, b simTx) int {
		return cmp.Or(cmp.Compare(a.batch.Partition, b.batch.Partition),
			cmp.Compare(a.batch.First, b.batch.First), cmp.Compare(a.batch.Next, b.batch.Next))
	})
	doubt := slices.Clone(w.doubt)
	w.mu.Unlock()
	for i := range doubt {
		tx := &doubt[i]
		what := fmt.Sprintf("%d [%d, %d)", tx.batch.Partition, tx.batch.First, tx.batch.Next)
		take := func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.doubt = slices.Delete(w.doubt, i, i+1)
		}
		add(4, func() { take(); _ = w.commit(tx) }, "the server ends the open transaction of %s", what)
		add(8, take, "the server drops the open transaction of %s", what)
	}
	current := 0 // generation
	for _, h := range w.hosts {
		if h.life != nil && h.life.running.Load() {
			current = max(current, h.life.generation)
		}
	}
	for _, h := range w.hosts {
		l := h.life
		if l == nil {
			continue
		}
		if l.ended.Load() {
			add(10, func() {
				if l.generation == w.generation {
					w.commitOffsets(l)
				}
				h.life = nil
			}, "%s is gone: %v", l.name, l.run.failure())
			continue
		}
		fault(2, l.crash, "%s crashes", l.name)
		if faults {
			add(1, l.run.cancel, "%s stops", l.name)
		}
		if !l.running.Load() {
			continue
		}
		w.addDeliveries(l, add)
		if l.generation == w.generation {
			add(1, func() { w.commitOffsets(l) }, "%s commits the group's offsets", l.name)
		}
	}
	if faults || w.idle() {
		w.addStarts(add)
	}
	w.addDisasters(add, fault)
	for _, d := range []time.Duration{40 * time.Millisecond, 150 * time.Millisecond, time.Second,
		16 * time.Second} {
		add(1, func() { time.Sleep(d) }, "%v pass", d)
	}
	return all
}

// finish lets a call that waited return.
func (w *simWorld) finish(op *simOp, do func()) {
	w.mu.Lock()
	i := slices.Index(w.pending, op)
	if i >= 0 {
		w.pending = slices.Delete(w.pending, i, i+1)
	}
	w.mu.Unlock()
	if i >= 0 {
		do()
		close(op.done)
	}
}

// oftenness returns how often a kind of thing happens with this seed, 1 for usual.
func (w *simWorld) oftenness(kind string) int {
	n, ok := w.often[kind]
	if !ok {
		n = pick(w.rng, 1, 1, 1, 3, 10)
		w.often[kind] = n
	}
	return n
}

type addAction func(weight int, do func(), format string, args ...any)

// addMessages adds what can become of messages on their way: those of a producer to a partition
// arrive in order, and are acknowledged in order. One may be given up while those behind it go on.
func (w *simWorld) addMessages(sent []*simMessage, add, fault addAction) {
	type queue struct {
		from      *simLife
		producer  string
		partition int32
	}
	waits, unacked := map[queue]bool{}, map[queue]bool{}
	drop := func(m *simMessage) {
		w.mu.Lock()
		w.sent = slices.Delete(w.sent, slices.Index(w.sent, m), slices.Index(w.sent, m)+1)
		w.mu.Unlock()
	}
	finish := func(m *simMessage, err error) {
		drop(m)
		if m.finish != nil && !m.from.dead.Load() {
			if err != nil {
				m.finish(nil, err)
				return
			}
			m.finish(&sarama.ProducerMessage{Partition: m.partition, Offset: m.offset}, nil)
		}
	}
	for _, m := range sent {
		q := queue{m.from, m.producer, m.partition}
		what := fmt.Sprintf("%s's message to %s %d of plaza %s", m.from.name, m.producer, m.partition,
			m.key)
		land := func() {
			p := &m.topic.partitions[m.partition]
			m.landed, m.offset = true, p.end()
			p.records = append(p.records, m.simRecord)
		}
		switch {
		case m.topicID != m.topic.id:
			add(10, func() { finish(m, errors.New("the topic is gone")) }, "%s fails: the topic is gone",
				what)
		case (m.from.dead.Load() || m.from.ended.Load()) && !m.landed && w.kind == simCalm &&
			m.producer == "table":
			add(10, func() { drop(m) }, "%s, which is gone, never arrives", what)
		case m.from.dead.Load() && !m.landed:
			add(2, func() { land(); drop(m) }, "%s, which is dead, arrives", what)
			add(8, func() { drop(m) }, "%s, which is dead, never arrives", what)
		case m.from.dead.Load():
			add(10, func() { drop(m) }, "%s is acknowledged to no one", what)
		case !m.landed && !waits[q]:
			add(3*m.from.pace, land, "%s arrives", what)
			fault(1, func() { finish(m, simtest.ErrLost) }, "%s is given up", what)
			fault(1, func() { land(); finish(m, simtest.ErrLost) }, "%s arrives, and is given up", what)
		case m.landed && !unacked[q]:
			add(3*m.from.pace, func() { finish(m, nil) }, "%s is acknowledged", what)
		}
		waits[q] = waits[q] || !m.landed
		unacked[q] = true
	}
}

// addDeliveries adds the records and deltas that a process can be given.
func (w *simWorld) addDeliveries(l *simLife, add addAction) {
	for _, p := range l.claims {
		l.mu.Lock()
		next, feeding := l.read[p], l.feeding[p]
		l.mu.Unlock()
		if next < int64(len(w.events[p])) && !feeding {
			for n := int64(1); n <= min(3, int64(len(w.events[p]))-next); n++ {
				add(l.pace, func() {
					l.mu.Lock()
					l.feeding[p] = true
					l.read[p] = next + n
					l.mu.Unlock()
					l.feed[p] <- [2]int64{next, next + n}
				}, "%s reads the records [%d, %d) of %d", l.name, next, next+n, p)
			}
		}
		loop := &w.loop.partitions[p]
		if next := max(l.next[p], loop.low); next < loop.end() {
			add(5*l.pace, func() {
				r := loop.records[next]
				l.next[p] = next + 1
				deltas := must(wire.DeltasCodec{}.Decode(r.value)).([]*toll.Delta)
				w.distort(l, deltas)
				ctx := &simContext{life: l, key: r.key, partition: p, offset: next}
				l.run.aggregate(ctx, deltas)
				ctx.done = true
				ctx.finish(nil)
			}, "%s merges delta %d of %d", l.name, next, p)
		}
	}
}

// distort breaks a rule of the aggregate.
func (w *simWorld) distort(l *simLife, deltas []*toll.Delta) {
	state := toll.NewState(0)
	if b := l.host.local[fmt.Sprint(deltas[0].Plaza)]; b != nil {
		state = must(wire.StateCodec{}.Decode(b)).(*toll.State)
	}
	for _, d := range deltas {
		merged := state.MergedIn(d.Partition)
		switch {
		case w.mutates("prev not checked"):
			if d.Epoch > state.Epoch {
				merged = 0
			}
			d.Prev = merged
		case w.mutates("duplicates merged") && d.Epoch == state.Epoch && d.Next <= merged:
			d.Next, d.Prev = merged+1, merged
		case w.mutates("older epochs merged"):
			d.Epoch = max(d.Epoch, state.Epoch)
		case w.mutates("a newer epoch does not clear") && d.Epoch > state.Epoch && state.Epoch > 0:
			d.Epoch = state.Epoch
		}
		state.Merge(d)
	}
}

// idle reports whether no process runs.
func (w *simWorld) idle() bool {
	return w.hosts[0].life == nil && w.hosts[1].life == nil
}

// addStarts adds processes that start and take all partitions, or share them. Who owned them before
// may not have noticed.
func (w *simWorld) addStarts(add addAction) {
	for i, h := range w.hosts {
		if h.life != nil {
			continue
		}
		other := w.hosts[1-i].life
		all := make([]int32, len(w.events))
		for p := range all {
			all[p] = int32(p)
		}
		weight := 1
		if w.kind == simCalm && other != nil {
			continue
		}
		if other == nil {
			weight = 20
		}
		add(weight, func() { w.start(h, all) }, "%s starts", h.name)
		if len(all) > 1 && other != nil && len(other.claims) > 1 {
			// A rebalance: the other one goes on with fewer partitions, in a session of its own.
			add(weight, func() { w.start(h, all[:1]) }, "%s starts with partition 0", h.name)
		}
	}
}

// addDisasters adds what happens to the servers' data.
func (w *simWorld) addDisasters(add, fault addAction) {
	for _, h := range w.hosts {
		if h.life == nil && w.kind != simRestores {
			fault(1, func() { h.tableID = -1 }, "%s loses its local store", h.name)
		}
	}
	fault(1, w.rebuild, "rebuild")
	if w.kind == simCalm {
		return
	}
	if len(w.backups) < 4 {
		add(2, func() { w.backups = append(w.backups, w.db.clone()) }, "a backup is made")
	}
	for i := range w.backups {
		weight := 1
		if w.kind == simRestores {
			weight = 6 / len(w.backups)
		}
		fault(weight, func() {
			w.db, w.restored = w.backups[i].clone(), true
			w.mu.Lock()
			defer w.mu.Unlock()
			w.doubt = nil
		}, "backup %d is restored", i)
	}
	if w.kind == simRestores {
		return
	}
	for p := range w.loop.partitions {
		if loop := &w.loop.partitions[p]; loop.low < loop.end() {
			fault(1, func() { loop.low = loop.end() }, "retention empties the loop's partition %d", p)
		}
	}
	fault(1, func() { w.table = newSimTopic(w.table.id+1, len(w.events)) },
		"the group table's topic is recreated")
}

// step lets one thing happen.
func (w *simWorld) step(faults bool) {
	synctest.Wait()
	all := w.actions(faults)
	total := 0
	for _, a := range all {
		total += a.weight
	}
	at := w.rng.IntN(total)
	for _, a := range all {
		if at -= a.weight; at < 0 {
			w.trace = append(w.trace, a.name)
			a.do()
			break
		}
	}
	synctest.Wait()
	w.check()
}

// check checks the invariants that hold at any moment.
func (w *simWorld) check() {
	if w.violation != "" {
		return
	}
	seen := map[simRow]int{}
	for _, r := range w.db.rows {
		seen[r]++
	}
	rows := 0
	for p, c := range w.db.cursors {
		for offset := range c.Next {
			for _, e := range w.events.of(p, int(offset)) {
				if n := seen[simRow{int32(p), e.vehicle}]; n != 1 {
					w.violation = fmt.Sprintf("event %d:%d of plaza %d has %d rows", p, offset, e.plaza, n)
					return
				}
				rows++
			}
		}
		next, chain := int64(0), map[int16]int64{}
		for _, b := range w.db.batches {
			if b.Partition != int32(p) {
				continue
			}
			if b.First != next {
				w.violation = fmt.Sprintf("partition %d: a batch begins at %d, want %d", p, b.First, next)
				return
			}
			next = b.Next
			for _, d := range must(wire.DecodePlazaDeltas(b.Deltas)) {
				if d.Prev != chain[d.Plaza] {
					w.violation = fmt.Sprintf("partition %d: plaza %d's delta of [%d, %d) follows on %d, want %d",
						p, d.Plaza, b.First, b.Next, d.Prev, chain[d.Plaza])
					return
				}
				chain[d.Plaza] = b.Next
			}
		}
	}
	if rows != len(w.db.rows) {
		w.violation = fmt.Sprintf("%d rows, %d of them below the cursors", len(w.db.rows), rows)
		return
	}
	for key, s := range w.newest() {
		var plaza int16
		_ = must(fmt.Sscan(key, &plaza))
		want := uint64(0)
		for _, m := range s.Merged {
			want += w.events.below(plaza, m.Partition, m.Next)
		}
		if s.Checksum != want {
			w.violation = fmt.Sprintf("plaza %s counts %b, and of what it has merged, %v, it is %b", key,
				s.Checksum, s.Merged, want)
			return
		}
		if w.restored || s.Epoch < w.db.epoch() && !w.mutates("readers count older epochs") {
			continue
		}
		if s.Epoch > w.db.epoch() {
			w.violation = fmt.Sprintf("plaza %s is of epoch %d, the database of %d", key, s.Epoch,
				w.db.epoch())
			return
		}
		for _, m := range s.Merged {
			if m.Next > w.db.cursors[m.Partition].Next {
				w.violation = fmt.Sprintf("plaza %s has merged partition %d up to %d, and only %d are stored",
					key, m.Partition, m.Next, w.db.cursors[m.Partition].Next)
				return
			}
		}
	}
}

// complete returns what is missing, "" for nothing.
func (w *simWorld) complete() string {
	states := w.newest()
	total := map[int16]uint64{}
	for p := range w.events {
		if next := w.db.cursors[p].Next; next < int64(len(w.events[p])) {
			return fmt.Sprintf("partition %d is stored up to %d of %d", p, next, len(w.events[p]))
		}
		if u := w.unpublished(int32(p)); u.Batches > 0 {
			return fmt.Sprintf("%d batches of partition %d are not published", u.Batches, p)
		}
		for _, plaza := range w.events[p] {
			total[plaza] = 0
		}
	}
	for plaza := range total {
		for p := range w.events {
			total[plaza] += w.events.below(plaza, int32(p), 99)
		}
		s := states[fmt.Sprint(plaza)]
		switch {
		case s == nil:
			return fmt.Sprintf("plaza %d has no state", plaza)
		case s.Epoch < w.db.epoch() && !w.mutates("readers count older epochs"):
			return fmt.Sprintf("plaza %d is of the old epoch %d", plaza, s.Epoch)
		case s.Checksum != total[plaza]:
			return fmt.Sprintf("plaza %d counts %b of %b", plaza, s.Checksum, total[plaza])
		}
	}
	return ""
}

// finishUp ends the faults, and lets things go on until all is right. What an operator is told to
// do, he does.
func (w *simWorld) finishUp() {
	for i := range w.hosts {
		if l := w.hosts[i].life; l != nil && l.generation != w.generation {
			l.run.cancel() // it notices in the end that it is not a member any more
		}
	}
	const patience = 4000
	var missing string
	for range patience {
		a, b := w.hosts[0].life, w.hosts[1].life
		for _, l := range []*simLife{a, b} {
			if l != nil && (a == nil || b == nil) && len(l.claims) < len(w.events) {
				l.run.cancel() // it is given the partitions of the one that is gone
			}
		}
		if w.violation != "" {
			return
		}
		if missing = w.complete(); missing == "" {
			return
		}
		for _, h := range w.hosts {
			var permanent *toll.PermanentError
			if l := h.life; l != nil && l.ended.Load() && errors.As(l.run.failure(), &permanent) {
				if !strings.Contains(permanent.Hint, "tollstream rebuild --yes") {
					w.violation = fmt.Sprintf("%s ends with: %v", l.name, permanent)
					return
				}
				w.trace = append(w.trace, fmt.Sprintf("%s refuses: %v; rebuild", l.name, permanent))
				w.rebuild()
				h.life = nil
			}
		}
		w.step(false)
	}
	w.violation = "it does not come right: " + missing
}

// close ends all processes.
func (w *simWorld) close() {
	for _, h := range w.hosts {
		if h.life != nil {
			h.life.crash()
		}
	}
	time.Sleep(time.Hour) // whatever waits gives up
}

// follow lets named things happen, one after the other. Those that begin with a question mark
// happen where they can.
func (w *simWorld) follow(t *testing.T, script []string) {
	w.faults = len(script)
	for _, line := range script {
		synctest.Wait()
		name, optional := strings.CutPrefix(line, "?")
		all := w.actions(true)
		i := slices.IndexFunc(all, func(a simAction) bool { return a.name == name })
		if i < 0 && optional {
			continue
		}
		if i < 0 {
			t.Errorf("%q can't happen after %q, only:", name, w.trace)
			for _, a := range all {
				t.Log(a.name)
			}
			return
		}
		w.trace = append(w.trace, name)
		all[i].do()
		synctest.Wait()
		if w.check(); w.violation != "" {
			return
		}
	}
}

// simulate plays one seed, or a script, and returns the world as it was when a rule was violated or
// all had come right.
func simulate(t *testing.T, seed uint64, kind simKind, s *simScript, mutant *mutation) *simWorld {
	var w *simWorld
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 12))
		w = &simWorld{rng: rng, mutant: mutant, kind: kind, often: map[string]int{},
			offsets: map[string]simOffset{}, faults: rng.IntN(12)}
		partitions, most, plazas := 1+rng.IntN(2), 6, 3
		if kind == simRestores {
			partitions, most, plazas = 1, 4, 2
		}
		for range partitions {
			events := make([]int16, 1+rng.IntN(most))
			for i := range events {
				events[i] = 1 + int16(rng.IntN(plazas))
			}
			w.events = append(w.events, events)
		}
		if s != nil {
			w.events, w.rows = simEvents{s.events}, s.rows
		}
		w.db.created = 1
		w.db.cursors = make([]toll.Cursor, len(w.events))
		w.loop, w.table = newSimTopic(1, len(w.events)), newSimTopic(1, len(w.events))
		for i := range w.hosts {
			w.hosts[i] = &simHost{name: string(rune('A' + i)), tableID: -1}
		}
		if s != nil {
			w.follow(t, s.lines)
		}
		for steps := rng.IntN(400); steps > 0 && w.violation == "" && s == nil; steps-- {
			w.step(true)
		}
		if w.violation == "" {
			w.trace = append(w.trace, "the faults are over")
			w.finishUp()
		}
		w.close()
	})
	return w
}
