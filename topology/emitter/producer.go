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
// Records are gathered in chunks, which saves an allocation, a callback and a promise each.
type eventProducer struct {
	cfg     Config
	cl      *kgo.Client
	headers []kgo.RecordHeader
	ctx     context.Context // of the records; ends with the client
	stopped func()          // ends the watch and the client, once

	buffered     atomic.Int64 // bytes
	emitted      atomic.Int64
	acknowledged atomic.Int64
	failed       atomic.Int64
	broken       atomic.Pointer[error] // why nothing can be sent any more
	unreachable  atomic.Pointer[error] // why the last connection failed

	mu       sync.Mutex
	keys     map[string][]byte
	chunk    *emitChunk
	firstErr error
	freed    chan struct{} // closed and replaced whenever there is room again, or never will be
}

// emitChunk is records that share their memory and a promise.
type emitChunk struct {
	records []kgo.Record
	arena   []byte       // of their values
	open    atomic.Int32 // records without an answer, and one while more may be added
	promise *goka.Promise
	finish  goka.PromiseFinisher
	done    func(*kgo.Record, error)
}

const (
	chunkRecords = 1024
	chunkBytes   = 64 << 10
)

// newEventProducer returns a producer that outlives the end of ctx: what was emitted by then may
// still be sent.
func newEventProducer(ctx context.Context, cfg Config, batchBytes int) (*eventProducer, error) {
	p := &eventProducer{cfg: cfg, keys: map[string][]byte{}, freed: make(chan struct{})}
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
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(ctx) })
	p.stopped = sync.OnceFunc(func() {
		cancel()
		watch.Wait()
		p.cl.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sealLocked()
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
	p.mu.Lock()
	if p.chunk == nil || len(p.chunk.records) == cap(p.chunk.records) ||
		len(p.chunk.arena)+len(value) > cap(p.chunk.arena) {
		p.sealLocked()
		p.chunk = p.newChunk(len(value))
	}
	c := p.chunk
	c.records = append(c.records, kgo.Record{Key: p.keyLocked(key), Headers: headers})
	record := &c.records[len(c.records)-1]
	if value != nil {
		start := len(c.arena)
		c.arena = append(c.arena, value...)
		record.Value = c.arena[start:len(c.arena):len(c.arena)]
	}
	c.open.Add(1)
	p.mu.Unlock()
	p.buffered.Add(sizeOf(record))
	p.cl.Produce(p.ctx, record, c.done)
	return c.promise
}

func sizeOf(r *kgo.Record) int64 {
	const overhead = 24 // the most that lengths, timestamp and offset take
	size := overhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += overhead + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return int64(size)
}

// keyLocked returns the bytes of a key. Keys are few, so they are kept.
func (p *eventProducer) keyLocked(key string) []byte {
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

func (p *eventProducer) newChunk(size int) *emitChunk {
	c := &emitChunk{records: make([]kgo.Record, 0, chunkRecords),
		arena: make([]byte, 0, max(chunkBytes, size))}
	c.promise, c.finish = goka.NewPromiseWithFinisher()
	c.open.Store(1)
	c.done = func(r *kgo.Record, err error) { p.answered(c, r, err) }
	return c
}

// sealLocked ends the open chunk.
func (p *eventProducer) sealLocked() {
	if p.chunk != nil {
		p.chunk.release()
		p.chunk = nil
	}
}

func (c *emitChunk) release() {
	if c.open.Add(-1) == 0 {
		c.finish(nil, nil) // what failed is counted
	}
}

// answered notes what became of a record.
func (p *eventProducer) answered(c *emitChunk, r *kgo.Record, err error) {
	switch {
	case err == nil:
		p.acknowledged.Add(1)
	case errors.Is(err, kgo.ErrClientClosed), p.ctx.Err() != nil:
	default:
		p.failed.Add(1)
		p.fails(r, err)
	}
	size := sizeOf(r)
	if left := p.buffered.Add(-size); left < maxBufferedBytes && left+size >= maxBufferedBytes {
		p.mu.Lock()
		p.freeLocked()
		p.mu.Unlock()
	}
	c.release()
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
	ticker := time.NewTicker(awayAfter / 4)
	defer ticker.Stop()
	reported, acknowledged, moved := false, int64(0), time.Now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if n := p.acknowledged.Load(); n != acknowledged || p.buffered.Load() == 0 {
			acknowledged, moved = n, time.Now()
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
