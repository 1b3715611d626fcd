package ingest

import (
	"context"
	"time"

	"github.com/IBM/sarama"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

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

// bundleOversized passes on a batch that can't be read.
func (s *Partition) bundleOversized(ctx context.Context, c *fetch.Chunk,
	marks chan<- *sarama.ConsumerMessage) error {
	if c.Unsure {
		if err := s.compareLog(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	o := oversized{first: c.First, next: c.Next, time: c.Time, batch: c.Oversized}
	s.cfg.Log.Warn("a batch of records inflates too far to be read, and becomes one dead letter",
		"partition", s.partition, "first", o.first, "last", o.next-1, "bytes", len(o.batch))
	s.pass(ctx, bundle{oversized: &o, last: o.next - 1}, marks, o.time)
	return nil
}

// addOversized adds a batch that can't be read to the open batch. It waits while that is full, and
// returns early when the session ends.
func (s *Partition) addOversized(o *oversized) {
	for {
		s.mu.Lock()
		b := s.open
		full, first := s.isFull(b), b.empty()
		if !full {
			b.addOversized(o)
			full = s.isFull(b)
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
		notify(s.full)
		select {
		case <-s.taken:
		case <-s.ctx.Done():
			return
		}
	}
}

// addOversized adds a batch that can't be read as a reject. Its other offsets count as skipped.
func (b *builder) addOversized(o *oversized) {
	if b.empty() {
		b.oldest, b.began = o.time, time.Now()
	}
	b.next = o.next
	b.bytes += len(o.batch)
	err := toll.Malformed(toll.RejectOversized,
		"the offsets %d to %d inflate to more than %d MiB; the payload is the batch as it was sent",
		o.first, o.next-1, fetch.MaxInflated>>20)
	b.reject(&record{offset: o.first, time: o.time, value: o.batch},
		toll.RefusedRow{Kind: toll.RejectKindOf(err), Reason: err.Error()})
}
