package emitter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/topology/kafka"
)

const (
	// maxBatchBytes bounds the records of one batch, uncompressed. It lies well below the 1 MiB that
	// brokers take by default.
	maxBatchBytes = 512 << 10
	// maxBufferedBytes bounds what is on its way. Beyond it emitting waits.
	maxBufferedBytes = 8 << 20
	// batchLinger is how long a record waits for company.
	batchLinger = 10 * time.Millisecond
	// awayAfter is how long brokers must be out of reach before it is worth a word.
	awayAfter = time.Second
	// slowAfter is how long a broker may think before it is worth a word: a change of leaders passes
	// unmentioned.
	slowAfter = 3 * time.Second
	// unknownTopicRetries is how often a topic may be unknown, as while its creation spreads, before
	// it counts as gone: a quarter of a minute.
	unknownTopicRetries = 15
)

// errGivenUp is what a flush ends with that was not acknowledged in time. Its records may or may
// not be in the topic.
var errGivenUp = errors.New("not acknowledged in time")

// errSlow is what OnAway hears of a broker that takes connections and doesn't answer.
var errSlow = errors.New("no answer")

// eventProducer is the goka.Producer under the emitter: idempotent, and in order per partition.
// Records are sent again until the broker answers, however long that takes. Payloads are copied, so
// callers may use theirs again.
//
// Emitting gathers records, and a goroutine sends them: so events are made on one processor and
// batches on another. Records are allocated by the thousand, and what becomes of them is counted:
// their promise to goka is kept from the start, as goka only waits for it at its end, after a
// flush.
type eventProducer struct {
	cfg     Config
	cl      *kgo.Client
	headers []kgo.RecordHeader
	ctx     context.Context // of the records; ends with the client
	stopped func()          // ends the goroutines and the client, once
	done    func(*kgo.Record, error)
	promise *goka.Promise

	// Of the goroutine that emits.
	emitted atomic.Int64
	keys    map[string][]byte
	records []kgo.Record // not used yet
	arena   []byte       // of their values
	taken   int64        // bytes not yet in buffered

	pendingMu sync.Mutex
	pending   []*kgo.Record // not sent yet
	wake      chan struct{} // has a value once something is pending
	sending   sync.Mutex    // held while what was pending is sent, so that it stays in order
	spare     []*kgo.Record // guarded by sending

	broken      atomic.Pointer[error] // why nothing can be sent any more
	unreachable atomic.Pointer[error] // why the last connection failed
	buffered    atomic.Int64          // bytes, behind by a step on either side

	mu       sync.Mutex
	firstErr error
	freed    chan struct{} // closed and replaced whenever there is room again, or never will be

	// Of the goroutine that kgo calls with answers. Apart from those above, as two processors that
	// write the same cache line wait for each other.
	acknowledged atomic.Int64
	failed       atomic.Int64
	answers      int64 // bytes still in buffered
}

const (
	chunkRecords = 1024
	chunkBytes   = 64 << 10
	// bufferedStep is how many bytes are counted at a time.
	bufferedStep = 32 << 10
)

// newEventProducer returns a producer that outlives the end of ctx: what was emitted by then may
// still be sent.
func newEventProducer(ctx context.Context, cfg Config, batchBytes int) (*eventProducer, error) {
	p := &eventProducer{cfg: cfg, keys: map[string][]byte{}, freed: make(chan struct{}),
		wake: make(chan struct{}, 1)}
	p.done = p.answered
	promise, finish := goka.NewPromiseWithFinisher()
	p.promise = promise
	finish(nil, nil)
	if cfg.Format == codecs.JSON || cfg.Format == codecs.Protobuf {
		p.headers = []kgo.RecordHeader{{Key: codecs.ContentTypeHeader,
			Value: []byte(cfg.Format.ContentType())}}
	}
	var err error
	p.cl, err = kgo.NewClient(append(cfg.Cluster.Options("emitter"),
		kgo.DefaultProduceTopic(cfg.Topic),
		kgo.RecordPartitioner(kafka.Partitioner()),
		// the records of one plaza and second are small and few
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(batchLinger), kgo.ProducerBatchMaxBytes(int32(batchBytes)),
		kgo.MaxBufferedRecords(1<<30), // waitForRoom bounds their bytes
		kgo.UnknownTopicRetries(unknownTopicRetries),
		kgo.StopProducerOnDataLossDetected(),
		kgo.WithHooks(connectHook{p}))...)
	if err != nil {
		return nil, fmt.Errorf("make the producer of topic %s: %w", cfg.Topic, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.ctx = ctx
	var running sync.WaitGroup
	running.Go(func() { p.watch(ctx) })
	running.Go(func() { p.run(ctx) })
	p.stopped = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		p.cl.Close()
	})
	return p, nil
}

// connectHook notes whether brokers can be reached.
type connectHook struct{ p *eventProducer }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h connectHook) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		h.p.unreachable.Store(nil)
		return
	}
	h.p.unreachable.Store(&err)
}

// Emit implements goka.Producer.
func (p *eventProducer) Emit(_ string, key string, value []byte) *goka.Promise {
	return p.add(key, value, p.headers)
}

// EmitWithHeaders implements goka.Producer.
func (p *eventProducer) EmitWithHeaders(_ string, key string, value []byte,
	headers goka.Headers) *goka.Promise {
	var all []kgo.RecordHeader
	for k, v := range headers {
		all = append(all, kgo.RecordHeader{Key: k, Value: v})
	}
	return p.add(key, value, all)
}

func (p *eventProducer) add(key string, value []byte, headers []kgo.RecordHeader) *goka.Promise {
	p.emitted.Add(1)
	if len(p.records) == 0 {
		p.records = make([]kgo.Record, chunkRecords)
	}
	record := &p.records[0]
	p.records = p.records[1:]
	record.Key, record.Headers = p.key(key), headers
	if value != nil {
		if len(p.arena)+len(value) > cap(p.arena) {
			p.arena = make([]byte, 0, max(chunkBytes, len(value)))
		}
		start := len(p.arena)
		p.arena = append(p.arena, value...)
		record.Value = p.arena[start:len(p.arena):len(p.arena)]
	}
	if p.taken += sizeOf(record); p.taken >= bufferedStep {
		p.buffered.Add(p.taken)
		p.taken = 0
	}
	p.pendingMu.Lock()
	p.pending = append(p.pending, record)
	first := len(p.pending) == 1
	p.pendingMu.Unlock()
	if first {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return p.promise
}

// run sends what is pending until ctx ends.
func (p *eventProducer) run(ctx context.Context) {
	for {
		select {
		case <-p.wake:
			p.send()
		case <-ctx.Done():
			return
		}
	}
}

// send passes on to the client what is pending. The client has room: see waitForRoom.
func (p *eventProducer) send() {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.pendingMu.Lock()
	records := p.pending
	p.pending = p.spare[:0]
	p.pendingMu.Unlock()
	for _, r := range records {
		p.cl.Produce(p.ctx, r, p.done)
	}
	clear(records)
	p.spare = records
}

func sizeOf(r *kgo.Record) int64 {
	const overhead = 24 // the most that lengths, timestamp and offset take
	size := overhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += overhead + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return int64(size)
}

// key returns the bytes of a key. Keys are few, so they are kept.
func (p *eventProducer) key(key string) []byte {
	if key == "" {
		return nil
	}
	b, ok := p.keys[key]
	if !ok {
		const usual = 1 << 16 // all plazas
		if len(p.keys) >= usual {
			clear(p.keys)
		}
		b = []byte(key)
		p.keys[key] = b
	}
	return b
}

// answered notes what became of a record. kgo calls it one record at a time.
func (p *eventProducer) answered(r *kgo.Record, err error) {
	switch {
	case err == nil:
		p.acknowledged.Add(1)
	case errors.Is(err, kgo.ErrClientClosed), p.ctx.Err() != nil:
	default:
		p.failed.Add(1)
		p.fails(r, err)
	}
	if p.answers += sizeOf(r); p.answers < bufferedStep {
		return
	}
	size := p.answers
	p.answers = 0
	if left := p.buffered.Add(-size); left < maxBufferedBytes && left+size >= maxBufferedBytes {
		p.mu.Lock()
		p.freeLocked()
		p.mu.Unlock()
	}
}

func (p *eventProducer) freeLocked() {
	close(p.freed)
	p.freed = make(chan struct{})
}

// fails notes a failure: of one record, or of everything that follows.
func (p *eventProducer) fails(r *kgo.Record, err error) {
	final := true
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		err = missingTopic(p.cfg.Topic)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err,
		kerr.InvalidTimestamp):
		final = false
		err = fmt.Errorf("send to topic %s: %w", p.cfg.Topic, kafka.Coded(err))
	default:
		err = kafka.Explain(fmt.Errorf("send to partition %d of topic %s: %w", r.Partition, p.cfg.Topic,
			err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.firstErr = cmp.Or(p.firstErr, err)
	if final {
		p.broken.CompareAndSwap(nil, &err)
		p.freeLocked()
	}
}

func (p *eventProducer) stats() Stats {
	// Emitted last, so that it is never less than the others.
	s := Stats{Acknowledged: p.acknowledged.Load(), Failed: p.failed.Load()}
	s.Emitted = p.emitted.Load()
	return s
}

// waitForRoom waits while too much is on its way. It fails once nothing can be sent any more.
func (p *eventProducer) waitForRoom(ctx context.Context) error {
	for {
		if broken := p.broken.Load(); broken != nil {
			return *broken
		}
		if p.buffered.Load() < maxBufferedBytes {
			return nil
		}
		p.mu.Lock()
		freed := p.freed
		p.mu.Unlock()
		if p.broken.Load() != nil || p.buffered.Load() < maxBufferedBytes {
			continue
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush waits until nothing is on its way, and returns the first failure.
func (p *eventProducer) flush(ctx context.Context) error {
	p.send()
	if err := p.cl.Flush(ctx); err != nil {
		s := p.stats()
		return fmt.Errorf("%d of %d events: %w", s.Emitted-s.Acknowledged-s.Failed, s.Emitted, errGivenUp)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.firstErr
}

// stop gives up what is left.
func (p *eventProducer) stop() { p.stopped() }

// Close implements goka.Producer.
func (p *eventProducer) Close() error {
	p.stop()
	return nil
}

// watch reports when brokers can't be reached or don't answer, and when they take records again.
func (p *eventProducer) watch(ctx context.Context) {
	reported, acknowledged, moved := false, int64(0), time.Now()
	for range wait.Every(ctx, awayAfter/4) {
		if s := p.stats(); s.Acknowledged != acknowledged ||
			s.Acknowledged+s.Failed == s.Emitted {
			acknowledged, moved = s.Acknowledged, time.Now()
			if reported && p.cfg.OnBack != nil {
				p.cfg.OnBack()
			}
			reported = false
			continue
		}
		waiting, err := time.Since(moved), errSlow
		if unreachable := p.unreachable.Load(); unreachable != nil && waiting > awayAfter {
			err = *unreachable
		} else if waiting <= slowAfter {
			continue
		}
		if !reported && p.cfg.OnAway != nil {
			p.cfg.OnAway(err)
		}
		reported = true
	}
}
