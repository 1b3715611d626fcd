// Package kafka reaches a cluster: it asks about topics and groups and changes them, and sends
// records. Package fetch, below it, reads partitions.
package kafka

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of a [Producer].
const (
	// deliveryTimeout is how long a record is sent again before it counts as failed. An election of
	// leaders passes within it. It is below the time in which no other member may take over, so
	// that nothing is sent for long after that.
	deliveryTimeout = time.Minute
	// bufferedBytes bounds what is on its way. Beyond it emitting waits.
	bufferedBytes = 16 << 20
	// batchBytes is what brokers take by default, of records that are not compressed.
	batchBytes = 1 << 20
)

// Producer is a [goka.Producer] whose records are in the log once and in the order of emission, per
// partition, once they are acknowledged. A record that fails makes those of its partition fail that
// are on their way behind it.
//
// It may be shared: what is emitted to several topics goes to a broker in one request.
type Producer struct {
	cl    *kgo.Client
	ctx   context.Context // of the records; ends with the client
	close func()
}

// NewProducer returns a producer that connects when it is used first. It outlives the end of ctx:
// what was emitted by then may still be sent. linger is how long a record waits for others to be
// sent with.
func NewProducer(ctx context.Context, linger time.Duration, options ...kgo.Opt) (*Producer, error) {
	cl, err := kgo.NewClient(append(options,
		kgo.RecordPartitioner(Partitioner()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.WithCompressor(&compressor{}),
		kgo.MaxBufferedRecords(bufferedBytes), kgo.MaxBufferedBytes(bufferedBytes),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		// Without it a record that was sent once could not fail before its broker answers, however
		// long that takes. What failed is not sent again under its number: the run ends.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.StopProducerOnDataLossDetected(),
		kgo.MetadataMinAge(metadataMinAge),
	)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &Producer{cl, ctx, sync.OnceFunc(func() {
		cl.Close()
		cancel()
	})}, nil
}

// compressor writes LZ4 in small blocks. kgo's own has blocks of 4 MiB, of which every client that
// sends and every one that reads takes one or two at a time.
type compressor struct{ writers sync.Pool }

// Compress implements [kgo.Compressor].
func (c *compressor) Compress(dst *bytes.Buffer, src []byte,
	_ ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	w, ok := c.writers.Get().(*lz4.Writer)
	if !ok {
		w = lz4.NewWriter(nil)
		if w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)) != nil {
			return src, kgo.CodecNone
		}
	}
	defer c.writers.Put(w)
	w.Reset(dst)
	if _, err := w.Write(src); err != nil {
		return nil, kgo.CodecError
	}
	if w.Close() != nil {
		return nil, kgo.CodecError
	}
	return dst.Bytes(), kgo.CodecLz4
}

// metadataMinAge is how soon leaders are asked for again: an election takes less than kgo's
// default.
const metadataMinAge = 250 * time.Millisecond

// Emit implements goka.Producer.
func (p *Producer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (p *Producer) EmitWithHeaders(topic, key string, value []byte,
	headers goka.Headers) *goka.Promise {
	record := &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	for k, v := range headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: k, Value: v})
	}
	promise, finish := goka.NewPromiseWithFinisher()
	p.cl.Produce(p.ctx, record, func(r *kgo.Record, err error) {
		if err != nil {
			finish(nil, fmt.Errorf("send to topic %s: %w", topic, Coded(err)))
			return
		}
		finish(&sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Offset: r.Offset}, nil)
	})
	return promise
}

// Close gives up what is not acknowledged within a time. It may be called more than once.
func (p *Producer) Close(most time.Duration) {
	ctx, cancel := context.WithTimeout(p.ctx, most)
	defer cancel()
	_ = p.cl.Flush(ctx) // what fails shows in its promise
	p.close()
}

// Shared returns the producer for one of several users, whose Close leaves it open.
func (p *Producer) Shared() goka.Producer { return sharedProducer{p} }

type sharedProducer struct{ *Producer }

// Close implements goka.Producer.
func (sharedProducer) Close() error { return nil }

// SendAll sends n messages, by send, and waits until all are acknowledged.
func SendAll(ctx context.Context, n int, send func(i int, done func(error)) error) error {
	acks := make(chan error, n)
	for i := range n {
		if err := send(i, func(err error) { acks <- err }); err != nil {
			return err
		}
	}
	for range n {
		select {
		case err := <-acks:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Partitioner places records as goka and sarama's hash partitioners do, and those without a key in
// turn.
func Partitioner() kgo.Partitioner {
	var turn atomic.Uint32
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, partitions int) int {
			if len(r.Key) == 0 {
				return int(turn.Add(1) % uint32(partitions))
			}
			return int(PartitionOf(r.Key, int32(partitions)))
		}
	})
}

// PartitionOf places a key as goka and sarama.NewCustomHashPartitioner do.
func PartitionOf[K string | []byte](key K, partitions int32) int32 {
	const offset, prime = 2166136261, 16777619 // FNV-1a as in Hasher, which would be allocated
	h := uint32(offset)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * prime
	}
	p := int32(h) % partitions
	return max(p, -p)
}

// OrderedProducer is a [goka.Producer] that resolves its promises in the order of emission, per
// partition, and after one failure fails all later ones of that partition.
//
// A client may give up on one message and go on with the next, and goka marks the highest offset
// whose promise is kept: without this, a message whose plaza state never reached the changelog
// would be marked as done by its successor.
type OrderedProducer struct {
	goka.Producer
	partitions int32

	mu     sync.Mutex
	queues map[queueKey]*promiseQueue
}

type queueKey struct {
	topic     string
	partition int32
}

// NewOrderedProducer puts the promises of a producer of topics with so many partitions in order.
func NewOrderedProducer(p goka.Producer, partitions int) *OrderedProducer {
	return &OrderedProducer{
		Producer:   p,
		partitions: int32(max(partitions, 1)),
		queues:     map[queueKey]*promiseQueue{},
	}
}

// Emit implements goka.Producer.
func (p *OrderedProducer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (p *OrderedProducer) EmitWithHeaders(topic, key string, value []byte,
	headers goka.Headers) *goka.Promise {
	q := p.queue(queueKey{topic, PartitionOf(key, p.partitions)})
	promise, entry := q.push()
	p.Producer.EmitWithHeaders(topic, key, value,
		headers).ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		q.resolve(entry, msg, err)
	})
	return promise
}

func (p *OrderedProducer) queue(key queueKey) *promiseQueue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[key]
	if q == nil {
		q = new(promiseQueue)
		p.queues[key] = q
	}
	return q
}

// promiseQueue holds the promises of one partition that are not resolved yet, oldest first.
type promiseQueue struct {
	mu      sync.Mutex
	entries []*promiseEntry
	failed  error // the first failure
}

type promiseEntry struct {
	finish goka.PromiseFinisher
	done   bool
	msg    *sarama.ProducerMessage
	err    error
}

func (q *promiseQueue) push() (*goka.Promise, *promiseEntry) {
	promise, finish := goka.NewPromiseWithFinisher()
	entry := &promiseEntry{finish: finish}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, entry)
	return promise, entry
}

func (q *promiseQueue) resolve(entry *promiseEntry, msg *sarama.ProducerMessage, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	entry.done, entry.msg, entry.err = true, msg, err
	for len(q.entries) > 0 && q.entries[0].done {
		e := q.entries[0]
		q.entries[0] = nil
		q.entries = q.entries[1:]
		if e.err != nil && q.failed == nil {
			q.failed = e.err
		}
		if q.failed != nil {
			e.finish(nil, q.failed)
			continue
		}
		e.finish(e.msg, nil)
	}
}
