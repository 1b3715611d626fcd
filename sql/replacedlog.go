package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// LogCheck is how the log of a partition compares with what was stored of it, as someone found who
// can read it. With both texts empty it is the same.
type LogCheck struct {
	Replaced  string // why it is another one
	Unchecked string // why it can't be told
}

// AcceptedLog says that a partition goes on in a log that is not the one that was stored before,
// since an operator decided so.
type AcceptedLog struct {
	Partition int32 `json:"partition"`
	// Next is the first offset that was not stored then. Below it the rows are of the log before.
	Next int64 `json:"next"`
	// From is the offset from which the logs differ by their leader epochs, nil where these don't
	// tell.
	From *int64 `json:"from"`
	// Rows that have no record in the log any more, and Records of the log that are never stored, if
	// the logs differ from From on; nil where that is nil.
	Rows    *int64 `json:"rows"`
	Records *int64 `json:"records"`
	// MostRows and MostRecords are the same if all that the log held below Next is another's.
	MostRows    int64  `json:"most_rows"`
	MostRecords int64  `json:"most_records"`
	Why         string `json:"why"`
	AcceptedAt  string `json:"accepted_at,omitempty"` // UTC
}

// String says what was left out, in one sentence.
func (a AcceptedLog) String() string {
	most := fmt.Sprintf(
		"at most %s below offset %s have no record in it, and at most %s of it are never stored",
		text.Count(a.MostRows, "row"), text.Number(a.Next), text.Count(a.MostRecords, "record"))
	if a.From == nil {
		return most
	}
	return fmt.Sprintf(
		"by its leader epochs it differs from offset %s on: then %s have no record in it, and %s of it are never stored; %s",
		text.Number(*a.From), text.Count(*a.Rows, "row"), text.Count(*a.Records, "record"), most)
}

// RowsFrom returns how many rows were stored of the offsets from one on. exact is false where that
// is the most it can be, since a batch holds the offset and others below.
func (s *Store) RowsFrom(ctx context.Context, partition int32, from int64) (rows int64, exact bool,
	err error) {
	err = s.snapshot(ctx, func(q reader) error {
		rows, exact, err = rowsFrom(ctx, q, partition, from)
		return err
	})
	return rows, exact, s.wrap(fmt.Sprintf("count the rows of partition %d", partition), err)
}

func rowsFrom(ctx context.Context, q reader, partition int32, from int64) (rows int64, exact bool,
	err error) {
	var astride int64
	err = q.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(b.events), 0) AS SIGNED), CAST(COALESCE(SUM(b.first_offset < ? AND b.events > 0), 0) AS SIGNED)
		FROM toll_batch b JOIN toll_meta m ON b.topic_id = m.topic_id WHERE b.partition_id = ? AND b.next_offset > ?`,
		from, partition, from).Scan(&rows, &astride)
	return rows, astride == 0, err
}

// AcceptLog lets a partition go on in another log: what is at its last offset now counts as the
// last record that was consumed. It returns [toll.ErrCursorMoved] where the cursor is not as it was
// read.
func (s *Store) AcceptLog(ctx context.Context, c *toll.Cursor, last toll.LastRecord,
	a AcceptedLog) error {
	m, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("accept the log", err)
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, `UPDATE toll_cursor SET last_offset = ?, last_leader_epoch = ?, last_timestamp = ?, last_crc = ?,
		log_replaced = '', updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?`,
		append(lastRecordColumns(last), m.TopicID, c.Partition, c.Next, c.Token, c.Epoch)...)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != 1 {
			return toll.ErrCursorMoved
		}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO toll_accepted_log
			(topic_id, partition_id, accepted_at, next_offset, differs_from, rows_left, records_skipped, most_rows, most_records, why)
			VALUES (?, ?, UTC_TIMESTAMP(6), ?, ?, ?, ?, ?, ?, ?)`,
			m.TopicID, a.Partition, a.Next, a.From, a.Rows, a.Records, a.MostRows, a.MostRecords,
			cutRunes(a.Why, maxReasonRunes))
	}
	if err == nil {
		err = tx.Commit()
	}
	return s.wrap(fmt.Sprintf("accept the log of partition %d", c.Partition), err)
}

// readAcceptedLogs returns the logs that operators accepted, in the order in which they did.
func readAcceptedLogs(ctx context.Context, q reader, topicID string) ([]AcceptedLog, error) {
	rows, err := q.QueryContext(ctx, `SELECT partition_id, accepted_at, next_offset, differs_from, rows_left, records_skipped, most_rows, most_records, why
		FROM toll_accepted_log WHERE topic_id = ? ORDER BY accepted_at, partition_id`, topicID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []AcceptedLog
	for rows.Next() {
		var a AcceptedLog
		var from, left, records dbsql.Null[int64]
		if err := rows.Scan(&a.Partition, &a.AcceptedAt, &a.Next, &from, &left, &records, &a.MostRows,
			&a.MostRecords, &a.Why); err != nil {
			return nil, err
		}
		if from.Valid {
			a.From, a.Rows, a.Records = &from.V, &left.V, &records.V
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

// checkLog reports a log that is not the one that was stored.
func (v *verification) checkLog(c *cursorRow, r *PartitionReport) {
	found, checked := v.in.Logs[c.partition]
	why := c.logReplaced
	if why == "" {
		why = found.Replaced
	}
	switch {
	case why != "":
		r.Log = LogReplaced
		v.found.ofPartition(KindLogReplaced, c.partition, 0, 0,
			"the log was replaced, or lost its end: %s", why)
	case checked && found.Unchecked == "":
		r.Log = LogSame
	case checked:
		r.Log = LogUnchecked
		v.report.Notes = append(v.report.Notes,
			fmt.Sprintf(
				"partition %d: it was not checked whether the log is still the one that was stored: %s",
				c.partition, found.Unchecked))
	}
}

// The outcomes of comparing a partition's log, as a report has them.
const (
	LogSame      = "same"
	LogReplaced  = "replaced"
	LogUnchecked = "unchecked"
)
