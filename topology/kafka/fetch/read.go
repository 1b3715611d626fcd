package fetch

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Read reads the committed records of a partition from an offset up to another, and returns where
// to go on: at that offset or behind it, or, with an error, where it stopped. Each record is valid
// until each returns.
func (c *Client) Read(ctx context.Context, partition int32, from, to int64,
	each func(*kgo.Record)) (next int64, err error) {
	for next = from; next < to; {
		records, end, err := c.ReadSome(ctx, partition, next)
		if err != nil {
			return next, fmt.Errorf("read partition %d of topic %s from offset %d: %w", partition, c.topic,
				next, err)
		}
		for _, record := range records {
			each(record)
		}
		next = end // also behind batches that compaction emptied
	}
	return next, nil
}
