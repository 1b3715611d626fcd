package tables

import (
	"context"
	dbsql "database/sql"
	"fmt"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
)

// AcceptedLog records that a partition goes on in a log that is not the one that was stored before,
// since an operator decided so.
type AcceptedLog struct {
	Partition int32 `json:"partition"`
	// Next is the first offset that was not stored then. Below it the rows are of the log before.
	Next int64 `json:"next"`
	// From is the offset from which the logs differ by their leader epochs, nil where these don't
	// show it.
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

// String states what was left out, in one sentence.
func (a AcceptedLog) String() string {
	most := fmt.Sprintf(
		"at most %s below offset %s have no record in it, and at most %s of it are never stored",
		text.Count(a.MostRows, "row"), text.Number(a.Next), text.Count(a.MostRecords, "record"))
	if a.From == nil {
		return most
	}
	return fmt.Sprintf(
		"by its leader epochs it differs from offset %s on: then %s have no record in it, and %s of it "+
			"are never stored; %s",
		text.Number(*a.From), text.Count(*a.Rows, "row"), text.Count(*a.Records, "record"), most)
}

// ReadAcceptedLogs returns the logs that operators accepted, in the order in which they did.
func ReadAcceptedLogs(ctx context.Context, q db.Reader, topicID string) ([]AcceptedLog, error) {
	rows, err := q.QueryContext(ctx, `SELECT partition_id, accepted_at, next_offset, differs_from,
		rows_left, records_skipped, most_rows, most_records, why
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

// MaxReasonRunes is the length of the columns that hold reasons.
const MaxReasonRunes = 500
