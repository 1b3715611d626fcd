package ingest

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// Bounds of a page of the outbox. A page that holds a single batch may be larger.
const (
	pageBatches = 128
	pageBytes   = 4 << 20
)

// Outbox returns the batches of a partition that end above an offset, in order and as many as fit a
// page, with the cursor's epoch in the same snapshot; with unpublished those alone that are not
// known to be published. The next page is that above the Next of the last batch.
func (w *Writer) Outbox(ctx context.Context, partition int32, above int64,
	unpublished bool) (toll.OutboxPage, error) {
	var page toll.OutboxPage
	err := w.db.Snapshot(ctx, func(q db.Reader) error {
		cursor, err := w.readCursor(ctx, q, partition)
		if err != nil {
			return err
		}
		page = toll.OutboxPage{Epoch: cursor.Epoch}
		// Batches don't overlap, so none that ends above the offset begins before the last that begins at
		// or below it. That lets the primary key find it.
		from := int64(0)
		err = q.QueryRowContext(ctx, `SELECT COALESCE(MAX(first_offset), 0) FROM toll_batch
			WHERE topic_id = ? AND partition_id = ? AND first_offset <= ?`, w.topicID, partition,
			above).Scan(&from)
		if err != nil {
			return err
		}
		query := `SELECT first_offset, next_offset, token, events, deltas FROM toll_batch
			WHERE topic_id = ? AND partition_id = ? AND first_offset >= ? AND next_offset > ?`
		if unpublished {
			query += ` AND published = 0`
		}
		rows, err := q.QueryContext(ctx, query+` ORDER BY first_offset LIMIT ?`, w.topicID, partition,
			from, above, pageBatches+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for size := 0; rows.Next(); {
			if len(page.Batches) == pageBatches || size >= pageBytes {
				page.More = true
				return nil
			}
			b := toll.StoredBatch{Partition: partition}
			if err := rows.Scan(&b.First, &b.Next, &b.Token, &b.Events, &b.Deltas); err != nil {
				return err
			}
			size += len(b.Deltas)
			page.Batches = append(page.Batches, b)
		}
		return rows.Err()
	})
	return page, w.db.Wrap(fmt.Sprintf("read the outbox of partition %d above offset %d", partition,
		above), err)
}
