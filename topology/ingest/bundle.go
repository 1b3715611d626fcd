package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// goka spends several times as much on a message (two selects, a context, its statistics) as the
// ingest does on an event. So it is handed the records of the topic of events in bundles: one
// message stands for all records of a partition that have arrived, and its callback takes them from
// the [Partition].
//
// goka's own consumer fetches none of them. Its claim is paused, and the records come from a
// [fetch.Fetcher], which knows their leader epochs.
const (
	bundleRecords = 256     // at most in one
	bundleBytes   = 1 << 20 // about so much of values at most, one record apart
	bundleQueue   = 8       // bundles of a partition that may be on their way
)

// bundleMark is the value of a message that stands for a bundle. goka drops messages without one.
var bundleMark = []byte("bundle")

// errBundle says that goka passed on another message than the next one.
var errBundle = errors.New(
	"the records of a partition came in another order than they were taken in")

// bundle is what one message of goka's stands for: records, or a batch that can't be read.
type bundle struct {
	records   fetch.Records
	oversized *oversized
	last      int64 // offset of the last record
}

// Claim is the claim that goka sees of a partition of the topic of events.
type Claim struct {
	sarama.ConsumerGroupClaim
	messages chan *sarama.ConsumerMessage
}

// NewClaim returns a claim that takes bundles in place of the messages of another one.
func NewClaim(claim sarama.ConsumerGroupClaim) *Claim {
	return &Claim{claim, make(chan *sarama.ConsumerMessage, bundleQueue)}
}

// Messages implements sarama.ConsumerGroupClaim.
func (c *Claim) Messages() <-chan *sarama.ConsumerMessage { return c.messages }

// chunks is where a partition's records come from. It is a [fetch.Partition].
type chunks interface {
	Want()
	Next(ctx context.Context) (fetch.Chunk, error)
}

// Consume hands goka the chunks of a partition in bundles, by a claim, until ctx ends. An error
// fails the partition: the log is another one, or it can't be read.
func (p *Partition) Consume(ctx context.Context, in chunks, claim *Claim) {
	defer close(claim.messages) // which ends the session, so after the run has the error
	if err := p.bundle(ctx, in, claim.messages); err != nil {
		p.fail(err)
	}
}

// bundle hands goka the chunks of a partition in bundles, until ctx ends.
func (p *Partition) bundle(ctx context.Context, in chunks,
	marks chan<- *sarama.ConsumerMessage) error {
	for {
		c, err := in.Next(ctx)
		if err != nil {
			return nil // the session ends
		}
		switch {
		case errors.Is(c.Err, kerr.OffsetOutOfRange):
			// Retention passed the offset, or the log lost its end. The next session's Setup decides.
			return fmt.Errorf("partition %d of topic %s no longer holds the offset to go on at", p.partition,
				p.cfg.Topic)
		case c.Err != nil:
			return kafka.Explain(c.Err)
		case c.Oversized != nil:
			err = p.bundleOversized(ctx, &c, marks)
		default:
			err = p.bundleRecords(ctx, &c, in, marks)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// bundleRecords hands goka a chunk of records. Before the first one whose leader epoch is not that
// of the one before, and before all where the broker may be another one, the log is compared with
// what was taken of it.
func (p *Partition) bundleRecords(ctx context.Context, c *fetch.Chunk, in chunks,
	marks chan<- *sarama.ConsumerMessage) error {
	unsure := c.Unsure
	for rest := c.Records; rest.Len() > 0; {
		epoch := rest.LeaderEpoch()
		if unsure || epoch != p.read.LeaderEpoch {
			if err := p.compareLog(ctx); err != nil || ctx.Err() != nil {
				return err
			}
			unsure = false
		}
		if rest.Len() <= bundleQueue*bundleRecords {
			in.Want()
		}
		records, last, err := rest.Cut(bundleRecords, bundleBytes)
		if err != nil {
			return p.unreadable(err)
		}
		if !p.handToGoka(ctx, bundle{records: records, last: last.Offset}, marks, last.Timestamp) {
			return nil
		}
		if rest.Len() == 0 || rest.LeaderEpoch() != epoch {
			p.read = fetch.Identify(&last)
		}
	}
	return nil
}

func (p *Partition) unreadable(err error) error {
	return fmt.Errorf("read partition %d of topic %s: %w", p.partition, p.cfg.Topic, err)
}

func (p *Partition) openQueues() {
	p.room, p.bundles, p.passed = make(chan struct{}, bundleQueue), make(chan bundle,
		bundleQueue), make(chan bundle, bundleQueue)
}

// handToGoka hands goka a bundle once there is room, and reports whether the session goes on. goka
// has one goroutine for a partition of all topics: were it to wait for room, nothing would be
// merged and no window closed meanwhile.
func (p *Partition) handToGoka(ctx context.Context, b bundle, marks chan<- *sarama.ConsumerMessage,
	at time.Time) bool {
	mark := &sarama.ConsumerMessage{Topic: p.cfg.Topic, Partition: p.partition, Offset: b.last,
		Timestamp: at, Value: bundleMark}
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	p.bundles <- b // which has room, as all queues of bundles do from here on
	select {
	case marks <- mark:
		return true
	case <-ctx.Done():
		return false
	}
}

// Passed queues the next bundle for the intake, now that goka has passed it on: the one with this
// last offset. It does not wait. Where the next bundle is another one, the error ends the session,
// which begins again at the cursor.
func (p *Partition) Passed(offset int64) error {
	select {
	case b := <-p.bundles:
		if b.last == offset {
			p.passed <- b
			return nil
		}
	default:
	}
	return errBundle
}

// read takes what the ingest needs from a record.
func (r *record) read(m *kgo.Record) {
	*r = record{offset: m.Offset, time: m.Timestamp, key: m.Key, value: m.Value,
		leaderEpoch: m.LeaderEpoch}
	for i := range m.Headers {
		switch h := &m.Headers[i]; h.Key {
		case codecs.ContentTypeHeader:
			r.contentType = string(h.Value)
		case RetryHeader:
			r.retryOf = string(h.Value)
		}
	}
}

// Compression lets a batch of records that a broker takes, a megabyte, inflate to gigabytes. A
// batch that inflates to more than [fetch.MaxInflated] is not read: it becomes one dead letter,
// with the batch as it was sent as its payload, in its place among the records.
//
// sarama has the same bound for what it reads itself, the loop and the group table.

func init() { sarama.MaxDecompressedBatchSize = fetch.MaxInflated }

// oversized is a batch of the topic of events that inflates too far: the offsets [first, next).
type oversized struct {
	first, next int64
	time        time.Time // of its first record
	batch       []byte    // as it is stored in Kafka
}

// bundleOversized hands goka a batch that can't be read.
func (p *Partition) bundleOversized(ctx context.Context, c *fetch.Chunk,
	marks chan<- *sarama.ConsumerMessage) error {
	if c.Unsure {
		if err := p.compareLog(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	o := oversized{first: c.First, next: c.Next, time: c.Time, batch: c.Oversized}
	p.cfg.Log.Warn("a batch of records inflates too far to be read, and becomes one dead letter",
		"partition", p.partition, "first", o.first, "last", o.next-1, "bytes", len(o.batch))
	p.handToGoka(ctx, bundle{oversized: &o, last: o.next - 1}, marks, o.time)
	return nil
}

// addOversized adds a batch that can't be read as a reject. Its other offsets count as skipped.
func (b *builder) addOversized(o *oversized) {
	if b.len() == 0 {
		b.oldest, b.began = o.time, time.Now()
	}
	b.next = o.next
	b.bytes += len(o.batch)
	err := toll.Malformed(toll.RejectOversized,
		"the offsets %d to %d inflate to more than %d MiB; the payload is the batch as it was sent",
		o.first, o.next-1, fetch.MaxInflated>>20)
	b.reject(&record{offset: o.first, time: o.time, value: o.batch},
		toll.Rejection{Kind: toll.RejectKindOf(err), Reason: err.Error()})
}
