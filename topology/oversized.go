package topology

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"tollstream/toll"
)

// Compression lets a batch of records that a broker takes, a megabyte, inflate to gigabytes. sarama is told to give up on one
// that inflates to more than maxInflated, and then gives up on all partitions that it fetched at the same time, again and again. So
// such a batch is passed by: it becomes one dead letter, with the batch as it was sent as its payload, and the session
// begins behind it.
//
//  1. sarama reports the error, which does not say where. The run ends, a moment later: what was read before it is stored by then, so that
//     each run comes nearer to it.
//  2. The next run looks at the batch at each cursor. Where there is a batch that inflates too far, its session stores the dead
//     letter first.
//  3. Where there is none, others before it were fetched together with it. Then the run fetches one batch at a time, until
//     it meets the one again, and 1 follows.

// maxInflated is the most that a batch may inflate to, in bytes. Producers gather a megabyte by default before they compress. It is
// this tight because records may be as small as 8 bytes, of which each takes some hundred in memory.
const maxInflated = 16 << 20

func init() { sarama.MaxDecompressedBatchSize = maxInflated }

// errOversized ends a run that has met a batch which inflates too far.
var errOversized = errors.New("a batch of records inflates to more than " + strconv.Itoa(maxInflated>>20) + " MiB")

// errLooking ends a run that could not look for such a batch.
var errLooking = errors.New("look for the batch that inflates too far")

// errNotMet ends a run that fetched one batch at a time and met none that inflates too far.
var errNotMet = errors.New("the batch that inflates too far was not met again")

// carefulFor bounds how long a run fetches one batch at a time: the batch that it looks for may have gone with the retention.
const carefulFor = 2 * time.Minute

// oversized is a batch of the topic of events that inflates too far: the offsets [first, next).
type oversized struct {
	first, next int64
	time        time.Time // of its first record
	batch       []byte    // as it is stored in Kafka
}

// oversizedGrace is how long a run that has met such a batch goes on, beyond the time that records wait for others: for them
// to reach the committer. A commit that is under way then is awaited.
const oversizedGrace = time.Second

// endOversized ends the run soon after it has met a batch that inflates too far.
func (r *run) endOversized(ctx context.Context) {
	select {
	case <-r.met:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(r.cfg.BatchWait + oversizedGrace):
		r.fail(errOversized)
	case <-ctx.Done():
	}
}

// findOversized looks at the batch at each partition's cursor.
func (r *run) findOversized(ctx context.Context) (map[int32]oversized, error) {
	cursors, err := r.store.Cursors(ctx)
	if err != nil {
		return nil, err
	}
	found := map[int32]oversized{}
	for _, c := range cursors {
		if int(c.Partition) >= len(r.sources.slots) {
			continue // refused when its source is opened
		}
		oldest, newest, err := r.bounds(c.Partition)
		if err != nil {
			return nil, err
		}
		from := max(c.Next, oldest)
		if from >= newest {
			continue
		}
		leader, err := r.client.Leader(r.cfg.Topic, c.Partition)
		if err != nil {
			return nil, err
		}
		if tooLarge, err := inflatesTooFar(leader, r.cfg.Topic, c.Partition, from); err != nil {
			return nil, err
		} else if !tooLarge {
			continue
		}
		o, err := r.rawBatch(ctx, leader.ID(), c.Partition, from)
		if err != nil {
			return nil, fmt.Errorf("read the batch at offset %d of partition %d of topic %s: %w", from, c.Partition, r.cfg.Topic, err)
		}
		o.first = from
		found[c.Partition] = o
	}
	return found, nil
}

// inflatesTooFar reports whether sarama gives up on the batch at an offset.
func inflatesTooFar(leader *sarama.Broker, topic string, partition int32, offset int64) (bool, error) {
	request := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: 1, MaxWaitTime: 100, Isolation: sarama.ReadCommitted, SessionEpoch: -1}
	request.AddBlock(topic, partition, offset, 1, -1) // of one byte brokers make one batch
	response, err := leader.Fetch(request)
	switch {
	case errors.Is(err, sarama.ErrDecompressedBatchTooLarge):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look at offset %d of partition %d of topic %s: %w", offset, partition, topic, err)
	}
	if block := response.GetBlock(topic, partition); block != nil && block.Err != sarama.ErrNoError {
		return false, fmt.Errorf("look at offset %d of partition %d of topic %s: %w", offset, partition, topic, block.Err)
	}
	return false, nil
}

// pass stores a batch that inflates too far as one dead letter and waits until that is done, so that the group's offset of
// the topic never runs ahead of the database.
func (s *source) pass(ctx context.Context, o oversized) error {
	s.mu.Lock()
	s.open.pass(&o)
	s.mu.Unlock()
	notify(s.filled)
	s.cfg.Log.Warn("a batch of records inflates too far to be read, and becomes one dead letter",
		"partition", s.partition, "first", o.first, "last", o.next-1, "bytes", len(o.batch))
	for {
		cursor, err := s.store.Cursor(ctx, s.partition)
		var permanent *toll.PermanentError
		switch {
		case err == nil && cursor.Next >= o.next:
			return nil
		case errors.As(err, &permanent):
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// pass adds a batch that can't be read as a reject. Its other offsets count as skipped.
func (b *builder) pass(o *oversized) {
	if b.empty() {
		b.oldest, b.began = o.time, time.Now()
	}
	b.next = o.next
	b.bytes += len(o.batch)
	err := toll.Malformed(toll.RejectOversized,
		"the offsets %d to %d inflate to more than %d MiB; the payload is the batch as it was sent",
		o.first, o.next-1, maxInflated>>20)
	b.reject(&record{offset: o.first, time: o.time, value: o.batch},
		toll.RefusedRow{Kind: toll.RejectKindOf(err), Reason: err.Error()})
}
