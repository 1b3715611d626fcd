package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Read reads the committed records of a partition from an offset up to another, and returns where to
// go on: at that offset or behind it, or, with an error, where it stopped. Each record is valid until
// each returns.
func (c *Client) Read(ctx context.Context, partition int32, from, to int64, each func(*kgo.Record)) (next int64, err error) {
	next = from
	for err == nil && next < to {
		err = c.ask(ctx, partition, func(l leader) kmsg.Request {
			return c.fetchRequest(idleWait, responseBytes, 1, fetchPartition(partition, next, l.epoch, responseBytes))
		}, func(response kmsg.Response) error {
			r, ok := response.(*kmsg.FetchResponse)
			if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
				return errOddAnswer
			}
			p := &r.Topics[0].Partitions[0]
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
			fetched, end := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				Offset: next, IsolationLevel: kgo.ReadCommitted(), Topic: c.topic, Partition: partition,
			}, p, c.decompressor, nil)
			for _, record := range fetched.Records {
				each(record)
			}
			next = end // also behind batches that compaction emptied
			return fetched.Err
		})
	}
	if err != nil {
		err = fmt.Errorf("read partition %d of topic %s from offset %d: %w", partition, c.topic, next, err)
	}
	return next, err
}
