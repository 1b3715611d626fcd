package kafka

import (
	"sync"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

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
