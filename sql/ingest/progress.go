package ingest

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Load returns, in one snapshot, a partition's cursor and what of its outbox is not known to be
// published. A partition that has no cursor gets one that starts at the offset earliest; where that
// is negative it is [toll.ErrNoCursor] instead.
func (w *Writer) Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor,
	toll.Unpublished, error) {
	cursor, unpublished, err := w.load(ctx, partition)
	if errors.Is(err, dbsql.ErrNoRows) {
		if earliest < 0 {
			return toll.Cursor{}, toll.Unpublished{}, toll.ErrNoCursor
		}
		if err = w.createCursor(ctx, partition, earliest); err == nil {
			cursor, unpublished, err = w.load(ctx, partition)
		}
	}
	if err != nil {
		return toll.Cursor{}, toll.Unpublished{}, w.db.Wrap(fmt.Sprintf("read the cursor of partition %d",
			partition), err)
	}
	return cursor, unpublished, nil
}

func (w *Writer) load(ctx context.Context, partition int32) (toll.Cursor, toll.Unpublished, error) {
	tx, err := w.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelRepeatableRead})
	if err != nil {
		return toll.Cursor{}, toll.Unpublished{}, err
	}
	defer tx.Rollback()
	// The cursor comes first: it is the read that opens the snapshot. Were the batches read before it,
	// one that another owner stores in between would be behind the cursor and yet not among them.
	cursor, err := w.readCursor(ctx, tx, partition)
	if err != nil {
		return toll.Cursor{}, toll.Unpublished{}, err
	}
	u := toll.Unpublished{}
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(first_offset), ?), COUNT(*),
		CAST(COALESCE(SUM(events), 0) AS SIGNED) FROM toll_batch
		WHERE published = 0 AND topic_id = ? AND partition_id = ?`, cursor.Next, w.topicID,
		partition).Scan(&u.First, &u.Batches, &u.Events)
	return cursor, u, err
}

// Cursor returns a partition's cursor as it is now. Where there is none it is a zero Cursor, which
// equals no batch's.
func (w *Writer) Cursor(ctx context.Context, partition int32) (toll.Cursor, error) {
	c, err := w.readCursor(ctx, w.db, partition)
	if errors.Is(err, dbsql.ErrNoRows) {
		return toll.Cursor{Partition: partition}, nil
	}
	return c, w.db.Wrap(fmt.Sprintf("read the cursor of partition %d", partition), err)
}

func (w *Writer) readCursor(ctx context.Context, q db.Queryer, partition int32) (toll.Cursor,
	error) {
	var row cursorRow
	err := q.QueryRowContext(ctx, `SELECT `+cursorColumns+` FROM toll_cursor
		WHERE topic_id = ? AND partition_id = ?`, w.topicID, partition).Scan(row.values()...)
	return row.cursor(), err
}

// cursorColumns are the columns of a cursorRow.
const cursorColumns = `partition_id, next_offset, token, epoch, chain, clock, last_offset,
	last_leader_epoch, last_timestamp, last_crc, log_replaced`

// cursorRow is a row of toll_cursor as it is read.
type cursorRow struct {
	toll.Cursor
	offset, timestamp dbsql.Null[int64]
	leaderEpoch       dbsql.Null[int32]
	crc               dbsql.Null[uint32]
}

// values are what the columns are scanned into.
func (r *cursorRow) values() []any {
	return []any{&r.Partition, &r.Next, &r.Token, &r.Epoch, &r.Chain, &r.Clock, &r.offset,
		&r.leaderEpoch, &r.timestamp, &r.crc, &r.LogReplaced}
}

func (r *cursorRow) cursor() toll.Cursor {
	c := r.Cursor
	if r.offset.Valid && r.crc.Valid {
		c.Last = toll.LastRecord{Known: true, Offset: r.offset.V, LeaderEpoch: -1,
			Timestamp: r.timestamp.V, CRC: r.crc.V}
		if r.leaderEpoch.Valid {
			c.Last.LeaderEpoch = r.leaderEpoch.V
		}
	}
	return c
}

// Cursors returns the cursors of all partitions that have one, in one snapshot, ascending by
// partition.
func (w *Writer) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	var cursors []toll.Cursor
	var row cursorRow
	// One statement is one snapshot.
	rows, err := w.db.QueryContext(ctx, `SELECT `+cursorColumns+` FROM toll_cursor
		WHERE topic_id = ? ORDER BY partition_id`, w.topicID)
	err = db.Each(rows, err, row.values(), func() error {
		cursors = append(cursors, row.cursor())
		return nil
	})
	if err != nil {
		return nil, w.db.Wrap("read the cursors", err)
	}
	return cursors, nil
}

// createCursor records where a partition begins. All partitions share one epoch: that of the
// cursors that there are, else the time at which the database was set up, in milliseconds, which is
// above that of any database before it.
//
// The lock on toll_meta keeps a rebuild out between the look at the epoch and the insert: a cursor
// of an older epoch than the others' would have all its deltas dropped.
func (w *Writer) createCursor(ctx context.Context, partition int32, earliest int64) error {
	lock := w.db.ShareLock(ctx)
	tx, err := w.db.BeginLocking(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var created string
	if err := tx.QueryRowContext(ctx,
		`SELECT created_at FROM toll_meta WHERE id = 1 `+lock).Scan(&created); err != nil {
		return err
	}
	var epoch dbsql.Null[uint64]
	if err := tx.QueryRowContext(ctx, `SELECT MAX(epoch) FROM toll_cursor`).Scan(&epoch); err != nil {
		return err
	}
	if !epoch.Valid {
		t, err := db.ParseTime(created)
		if err != nil {
			return fmt.Errorf("read toll_meta.created_at: %w", err)
		}
		epoch.V = uint64(t.UnixMilli())
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO toll_cursor
		(topic_id, partition_id, start_offset, next_offset, token, epoch, chain, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, NOW(6))`, w.topicID, partition, earliest, earliest,
		tables.NewToken(), epoch.V, []byte{})
	if db.Number(err) == db.ErrDuplicateKey {
		return nil // another owner was first
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// MarkLogReplaced records why the log of a partition is not the one that was consumed, where the
// cursor is as it was read. From then on no batch of the partition is stored. It returns
// [toll.ErrCursorMoved] where the cursor has moved.
func (w *Writer) MarkLogReplaced(ctx context.Context, c *toll.Cursor, why string) error {
	err := orMoved(w.db.ExecContext(ctx, `UPDATE toll_cursor SET log_replaced = ?, updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?`,
		db.CutRunes(why, tables.MaxReasonRunes), w.topicID, c.Partition, c.Next, c.Token, c.Epoch))
	if errors.Is(err, toll.ErrCursorMoved) {
		return err
	}
	return w.db.Wrap(fmt.Sprintf("record that the log of partition %d was replaced", c.Partition), err)
}

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

// MarkPublished records that the deltas of batches are acknowledged by the broker. Batches that are
// not there any more in this form, and all of them where the epoch has changed, are left alone.
func (w *Writer) MarkPublished(ctx context.Context, partition int32, epoch uint64,
	batches []toll.BatchRef) error {
	err := func() error {
		tx, err := w.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		var now uint64
		err = tx.QueryRowContext(ctx,
			`SELECT epoch FROM toll_cursor WHERE topic_id = ? AND partition_id = ? FOR UPDATE`,
			w.topicID, partition).Scan(&now)
		if err != nil || now != epoch {
			return err
		}
		if err := w.markPublished(ctx, tx, partition, batches); err != nil {
			return err
		}
		return tx.Commit()
	}()
	return w.db.Wrap(fmt.Sprintf("mark batches of partition %d published", partition), err)
}

func (w *Writer) markPublished(ctx context.Context, tx *dbsql.Tx, partition int32,
	batches []toll.BatchRef) error {
	for _, b := range batches {
		if _, err := tx.ExecContext(ctx, updatePublished, w.topicID, partition, b.First,
			b.Token); err != nil {
			return err
		}
	}
	return nil
}
