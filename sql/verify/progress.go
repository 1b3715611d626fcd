package verify

import (
	"context"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
)

// PartitionProgress is how far the database has come in one source partition.
type PartitionProgress struct {
	Partition int32
	Start     int64 // where the partition began when it was first seen
	Next      int64 // first offset that is not stored yet
	Epoch     uint64
	Token     uint64
	Chain     []byte // per plaza the Next of its last batch, encoded
	// the partition's event time, a toll.Clock, encoded; empty before the first event
	Clock       []byte
	Unpublished int64 // batches whose deltas are not known to be published
}

// Progress returns how far the database has come, in one snapshot, ascending by partition. A
// partition that no process has seen yet is not among them.
func (s *Verifier) Progress(ctx context.Context) ([]PartitionProgress, error) {
	var all []PartitionProgress
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		rows, err := q.QueryContext(ctx, `SELECT c.partition_id, c.start_offset, c.next_offset, c.epoch,
			c.token, c.chain, c.clock
			FROM toll_cursor c, toll_meta m WHERE c.topic_id = m.topic_id ORDER BY c.partition_id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p PartitionProgress
			if err := rows.Scan(&p.Partition, &p.Start, &p.Next, &p.Epoch, &p.Token, &p.Chain,
				&p.Clock); err != nil {
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
	return all, s.db.Wrap("read the progress", err)
}

// unpublished is what is not known to be published of a partition.
type unpublished struct {
	first   int64 // offset of the first such batch
	batches int64
}

func firstUnpublished(ctx context.Context, q db.Reader) (map[int32]unpublished, error) {
	rows, err := q.QueryContext(ctx, `SELECT b.partition_id, MIN(b.first_offset), COUNT(*)
		FROM toll_batch b, toll_meta m WHERE b.published = 0 AND b.topic_id = m.topic_id
		GROUP BY b.partition_id`)
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

// Published is how far the batches' deltas are published.
type Published struct {
	Epoch uint64          // the highest of the cursors
	Next  map[int32]int64 // per source partition the first offset that is not published, or not stored
}

// Published returns how far the deltas are known to be published.
func (s *Verifier) Published(ctx context.Context) (*Published, error) {
	p := &Published{Next: map[int32]int64{}}
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return err
		}
		first, err := firstUnpublished(ctx, q)
		if err != nil {
			return err
		}
		cursors, err := tables.ReadCursors(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		p.Epoch = tables.HighestEpoch(cursors)
		for _, c := range cursors {
			p.Next[c.Partition] = c.Next
			if u, some := first[c.Partition]; some {
				p.Next[c.Partition] = u.first
			}
		}
		return nil
	})
	return p, s.db.Wrap("read what is published", err)
}
