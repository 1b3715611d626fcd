package topology

import (
	"context"
	"errors"

	"github.com/IBM/sarama"

	"tollstream/codecs"
)

// goka spends several times as much on a message (two selects, a context, its statistics) as the ingest does on an event. So
// it is handed the records of the topic of events in bundles: one message stands for all records of a partition that have
// arrived, and its callback takes them from the partition's source.
const (
	bundleRecords = 256     // at most in one, as many as sarama queues
	bundleBytes   = 1 << 20 // about so much of values at most, one record apart
	bundleQueue   = 4       // bundles of a partition that may wait
)

// bundleMark is the value of a message that stands for a bundle. goka drops messages without one.
var bundleMark = []byte("bundle")

// errBundle says that goka passed on another message than the next one.
var errBundle = errors.New("the records of a partition came in another order than they were taken in")

// bundledClaim is the claim that goka sees of a partition of the topic of events.
type bundledClaim struct {
	sarama.ConsumerGroupClaim
	messages chan *sarama.ConsumerMessage
}

// Messages implements sarama.ConsumerGroupClaim.
func (c *bundledClaim) Messages() <-chan *sarama.ConsumerMessage { return c.messages }

// bundle gathers the records of a claim until that ends, or ctx does.
func (s *source) bundle(ctx context.Context, claim *bundledClaim) {
	defer close(claim.messages)
	in := claim.ConsumerGroupClaim.Messages()
	for {
		var first *sarama.ConsumerMessage
		select {
		case first = <-in:
		case <-ctx.Done():
		}
		if first == nil {
			return
		}
		records := append(make([]*sarama.ConsumerMessage, 0, min(bundleRecords, 1+len(in))), first)
	gather:
		for size := len(first.Value); len(records) < bundleRecords && size < bundleBytes; {
			select {
			case m, ok := <-in:
				if !ok {
					break gather
				}
				records = append(records, m)
				size += len(m.Value)
			default:
				break gather
			}
		}
		last := records[len(records)-1]
		mark := &sarama.ConsumerMessage{Topic: last.Topic, Partition: last.Partition, Offset: last.Offset, Timestamp: last.Timestamp, Value: bundleMark}
		select {
		case s.bundles <- records:
		case <-ctx.Done():
			return
		}
		select {
		case claim.messages <- mark:
		case <-ctx.Done():
			return
		}
	}
}

// addBundle adds the records of the next bundle, whose last one has an offset.
func (s *source) addBundle(offset int64) error {
	var records []*sarama.ConsumerMessage
	select {
	case records = <-s.bundles:
	default:
	}
	if len(records) == 0 || records[len(records)-1].Offset != offset {
		return errBundle
	}
	s.addAll(records)
	return nil
}

// read takes what the ingest needs from a record.
func (r *record) read(m *sarama.ConsumerMessage) {
	*r = record{offset: m.Offset, time: m.Timestamp, key: m.Key, value: m.Value, leaderEpoch: -1}
	for _, h := range m.Headers {
		switch string(h.Key) {
		case codecs.ContentTypeHeader:
			r.contentType = string(h.Value)
		case RetryHeader:
			r.retryOf = string(h.Value)
		}
	}
}
