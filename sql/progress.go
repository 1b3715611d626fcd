package sql

import (
	"context"
	"fmt"
)

// PartitionProgress is how far the database has come in one source partition.
type PartitionProgress struct {
	Partition   int32
	Start       int64 // where the partition began when it was first seen
	Next        int64 // first offset that is not stored yet
	Epoch       uint64
	Token       uint64
	Chain       []byte // per plaza the Next of its last batch, encoded
	Clock       []byte // the partition's event time, a toll.Clock, encoded; empty before the first event
	Unpublished int64  // batches whose deltas are not known to be published
}

// Progress returns how far the database has come, in one snapshot, ascending by partition. A partition that no process
// has seen yet is not among them.
func (s *Store) Progress(ctx context.Context) ([]PartitionProgress, error) {
	var all []PartitionProgress
	err := s.snapshot(ctx, func(q reader) error {
		rows, err := q.QueryContext(ctx, `SELECT c.partition_id, c.start_offset, c.next_offset, c.epoch, c.token, c.chain, c.clock
			FROM toll_cursor c, toll_meta m WHERE c.topic_id = m.topic_id ORDER BY c.partition_id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p PartitionProgress
			if err := rows.Scan(&p.Partition, &p.Start, &p.Next, &p.Epoch, &p.Token, &p.Chain, &p.Clock); err != nil {
				return err
			}
			all = append(all, p)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		first, err := firstUnpublished(ctx, q)
		for i := range all {
			all[i].Unpublished = first[all[i].Partition].batches
		}
		return err
	})
	return all, s.wrap("read the progress", err)
}

// unpublished is what is not known to be published of a partition.
type unpublished struct {
	first   int64 // offset of the first such batch
	batches int64
}

func firstUnpublished(ctx context.Context, q reader) (map[int32]unpublished, error) {
	rows, err := q.QueryContext(ctx, `SELECT b.partition_id, MIN(b.first_offset), COUNT(*)
		FROM toll_batch b, toll_meta m WHERE b.published = 0 AND b.topic_id = m.topic_id GROUP BY b.partition_id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[int32]unpublished{}
	for rows.Next() {
		var partition int32
		var u unpublished
		if err := rows.Scan(&partition, &u.first, &u.batches); err != nil {
			return nil, err
		}
		all[partition] = u
	}
	return all, rows.Err()
}

// Published returns, per source partition and plaza, the Next of the last batch with the plaza whose deltas are
// published, and those of all batches before it as well.
func (s *Store) Published(ctx context.Context) (map[int32]map[int16]int64, error) {
	published := map[int32]map[int16]int64{}
	err := s.snapshot(ctx, func(q reader) error {
		m, err := readMeta(ctx, q)
		if err != nil {
			return err
		}
		first, err := firstUnpublished(ctx, q)
		if err != nil {
			return err
		}
		partitions, err := storedPartitions(ctx, q, m.TopicID, nil)
		if err != nil {
			return err
		}
		for _, partition := range partitions {
			last := map[int16]int64{}
			published[partition] = last
			u, some := first[partition]
			err := readBatches(ctx, q, m.TopicID, partition, -1<<63, func(b *batchRow) error {
				if some && b.first >= u.first {
					return nil
				}
				deltas, err := s.cfg.Decode(b.blob)
				if err != nil {
					return fmt.Errorf("read the outbox of the batch at %d:%d: %w", partition, b.first, err)
				}
				for i := range deltas {
					last[deltas[i].Plaza] = deltas[i].End(b.next)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return published, s.wrap("read what is published", err)
}
