package sql

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// RowsFrom returns how many rows were stored of the offsets from one on. exact is false where that
// is the most it can be, since a batch holds the offset and others below.
func (s *Store) RowsFrom(ctx context.Context, partition int32, from int64) (rows int64, exact bool,
	err error) {
	err = s.db.Snapshot(ctx, func(q db.Reader) error {
		rows, exact, err = rowsFrom(ctx, q, partition, from)
		return err
	})
	return rows, exact, s.db.Wrap(fmt.Sprintf("count the rows of partition %d", partition), err)
}

func rowsFrom(ctx context.Context, q db.Reader, partition int32, from int64) (rows int64,
	exact bool,
	err error) {
	var astride int64
	err = q.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(b.events), 0) AS SIGNED),
		CAST(COALESCE(SUM(b.first_offset < ? AND b.events > 0), 0) AS SIGNED)
		FROM toll_batch b JOIN toll_meta m ON b.topic_id = m.topic_id WHERE b.partition_id = ?
		AND b.next_offset > ?`,
		from, partition, from).Scan(&rows, &astride)
	return rows, astride == 0, err
}

// AcceptLog lets a partition go on in another log: what is at its last offset now counts as the
// last record that was consumed. It returns [toll.ErrCursorMoved] where the cursor is not as it was
// read.
func (s *Store) AcceptLog(ctx context.Context, c *toll.Cursor, last toll.LastRecord,
	a tables.AcceptedLog) error {
	m, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.db.Wrap("accept the log", err)
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, `UPDATE toll_cursor SET last_offset = ?, last_leader_epoch = ?,
		last_timestamp = ?, last_crc = ?,
		log_replaced = '', updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?`,
		append(tables.LastRecordColumns(last), m.TopicID, c.Partition, c.Next, c.Token, c.Epoch)...)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != 1 {
			return toll.ErrCursorMoved
		}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO toll_accepted_log
			(topic_id, partition_id, accepted_at, next_offset, differs_from, rows_left, records_skipped,
			most_rows, most_records, why)
			VALUES (?, ?, UTC_TIMESTAMP(6), ?, ?, ?, ?, ?, ?, ?)`,
			m.TopicID, a.Partition, a.Next, a.From, a.Rows, a.Records, a.MostRows, a.MostRecords,
			db.CutRunes(a.Why, tables.MaxReasonRunes))
	}
	if err == nil {
		err = tx.Commit()
	}
	return s.db.Wrap(fmt.Sprintf("accept the log of partition %d", c.Partition), err)
}
