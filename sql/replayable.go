package sql

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
)

// LogRange is what the topic holds of a partition: records from Start on, of which those from Other
// on, where that is not negative, are not the ones that were stored at these offsets.
type LogRange struct {
	Start int64
	Other int64
}

// Unreplayable returns how many rows of livetolldata a replay of the topic would not bring back,
// since the topic does not hold their records any more. logs are the partitions of the topic by
// number; none for a topic that was created again, or is gone. exact is false where that is the
// most there can be: a row of toll_batch holds the first offset of the log and others below, or
// rows were pruned, or a log was replaced.
func (s *Store) Unreplayable(ctx context.Context, logs map[int32]LogRange) (rows int64, exact bool,
	err error) {
	exact = true
	err = s.db.Snapshot(ctx, func(q db.Reader) error {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return err
		}
		if m.Resetting != tables.NotResetting {
			return nil // it was allowed, and has begun
		}
		accepted, err := tables.ReadAcceptedLogs(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		cursors, err := tables.ReadCursors(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		partitions, err := tables.StoredPartitions(ctx, q, m.TopicID, cursors)
		if err != nil {
			return err
		}
		var all int64
		for _, p := range partitions {
			log, found := logs[p]
			if !found {
				log = LogRange{Start: 1<<63 - 1, Other: -1}
			}
			other, until := log.Other, int64(1<<63-1)
			if other < 0 {
				until = -1 // nothing
			}
			for _, a := range accepted {
				if a.Partition != p {
					continue
				}
				from := log.Start
				if a.From != nil {
					from = *a.From
				}
				if until < 0 {
					other, until = from, a.Next
				} else {
					other, until = min(other, from), max(until, a.Next)
				}
			}
			var lost, stored, astride int64
			if err := q.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(events), 0) AS SIGNED),
				CAST(COALESCE(SUM(CASE WHEN first_offset < ? OR next_offset > ?
				AND first_offset < ? THEN events ELSE 0 END), 0) AS SIGNED),
				CAST(COALESCE(SUM(CASE WHEN first_offset < ? AND next_offset > ?
				AND events > 0 THEN 1 ELSE 0 END), 0) AS SIGNED)
				FROM toll_batch WHERE topic_id = ? AND partition_id = ?`,
				log.Start, other, until, log.Start, log.Start, m.TopicID, p).Scan(&stored, &lost,
				&astride); err != nil {
				return err
			}
			all += stored
			rows += lost
			exact = exact && astride == 0 && until < 0
		}
		var pruned int64
		if err := q.QueryRowContext(ctx,
			`SELECT CAST(COALESCE(SUM(pruned), 0) AS SIGNED) FROM toll_pruned WHERE what = 'rows'`).Scan(
			&pruned); err != nil {
			return err
		}
		if rows > 0 && pruned > 0 {
			exact, rows = false, min(rows, all-pruned)
		}
		return nil
	})
	return rows, exact, s.db.Wrap("count the rows that a replay would not bring back", err)
}

// UnreplayableText states how many rows a replay would not bring back.
func UnreplayableText(rows int64, exact bool) string {
	most := ""
	if !exact {
		most = "at most "
	}
	return fmt.Sprintf("%s%s of %s can't be replayed, since the topic no longer holds their records",
		most, text.Count(rows, "row"), tables.EventTable)
}
