package sql

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// DeadLetter is a record that could not be a row.
type DeadLetter struct {
	Partition    int32
	Offset       int64
	Time         time.Time // of the record
	Kind         toll.RejectKind
	Reason       string
	SQLState     string       // where the database refused it, else empty
	Number       uint16       // of the database's error where it refused it, else 0
	RetryOf      *toll.Origin // of the dead letter that it was to repair; nil where it was no retry
	Payload      []byte       // as received, nil for a tombstone
	PayloadBytes int64        // more than Payload's length where it did not fit a packet
	Key          []byte       // its first 1024 bytes
	RejectedAt   time.Time
	Retried      bool // its repaired event was stored
}

// Origin returns where the record was read.
func (d *DeadLetter) Origin() toll.Origin {
	return toll.Origin{Partition: d.Partition, Offset: d.Offset}
}

// DeadLetterFilter selects dead letters. The zero filter selects all.
type DeadLetterFilter struct {
	Limit     int          // 0 for no limit
	After     *toll.Origin // those behind this one, in the order of partition and offset
	Partition *int32
	Kind      toll.RejectKind // empty for all
	Reason    string          // a part of the reason, in its case
	Retried   *bool
	// PayloadLimit is how many bytes of a payload are returned at most, 0 for all of them.
	PayloadLimit int
}

// where returns the filter's condition.
func (f *DeadLetterFilter) where() (condition string, args []any) {
	terms := []string{"d.topic_id = m.topic_id"}
	if f.After != nil {
		terms = append(terms, "(d.partition_id > ? OR d.partition_id = ? AND d.record_offset > ?)")
		args = append(args, f.After.Partition, f.After.Partition, f.After.Offset)
	}
	if f.Partition != nil {
		terms = append(terms, "d.partition_id = ?")
		args = append(args, *f.Partition)
	}
	if f.Kind != "" {
		terms = append(terms, "d.kind = ?")
		args = append(args, string(f.Kind))
	}
	if f.Reason != "" {
		terms = append(terms, "LOCATE(?, d.reason) > 0")
		args = append(args, f.Reason)
	}
	if f.Retried != nil && *f.Retried {
		terms = append(terms, "r.record_offset IS NOT NULL")
	} else if f.Retried != nil {
		terms = append(terms, "r.record_offset IS NULL")
	}
	return " WHERE " + strings.Join(terms, " AND "), args
}

const deadLetterTables = ` FROM toll_meta m JOIN toll_dead_letter d ON d.topic_id = m.topic_id
	LEFT JOIN toll_retry r ON r.topic_id = d.topic_id AND r.partition_id = d.partition_id
	AND r.record_offset = d.record_offset`

// DeadLetters returns the dead letters that a filter selects, ascending by partition and offset.
// Where these may be many, or their payloads large, use EachDeadLetter.
func (s *Store) DeadLetters(ctx context.Context, f DeadLetterFilter) ([]DeadLetter, error) {
	condition, args := f.where()
	letters, err := s.deadLetters(ctx, condition, args, f.Limit, f.PayloadLimit)
	return letters, s.db.Wrap("read the dead letters", err)
}

// Limits of what EachDeadLetter reads at once.
const (
	letterPage      = 100
	letterPageBytes = 4 << 20
)

// EachDeadLetter calls do with each dead letter that a filter selects, ascending by partition and
// offset. It reads page by page, so what it holds at a time is a few megabytes, or one payload
// where that is larger; and no statement waits for do.
func (s *Store) EachDeadLetter(ctx context.Context, f DeadLetterFilter,
	do func(*DeadLetter) error) error {
	left := f.Limit
	for {
		f.Limit = letterPage
		if left > 0 {
			f.Limit = min(f.Limit, left)
		}
		fit, more, err := s.lettersThatFit(ctx, &f)
		if err != nil {
			return s.db.Wrap("read the sizes of dead letters", err)
		}
		if fit == 0 {
			return nil
		}
		f.Limit = fit
		letters, err := s.DeadLetters(ctx, f)
		if err != nil {
			return err
		}
		for i := range letters {
			if err := do(&letters[i]); err != nil {
				return err
			}
		}
		if left -= len(letters); !more || len(letters) == 0 || left == 0 {
			return nil
		}
		last := letters[len(letters)-1].Origin()
		f.After = &last
	}
}

// lettersThatFit returns how many of a filter's next dead letters are read at once, and whether
// there may be more.
func (s *Store) lettersThatFit(ctx context.Context, f *DeadLetterFilter) (fit int, more bool,
	err error) {
	condition, args := f.where()
	var found int
	var size int64
	var bytes int64
	rows, err := s.db.QueryContext(ctx, `SELECT d.payload_bytes`+deadLetterTables+condition+
		` ORDER BY d.partition_id, d.record_offset LIMIT ?`, append(args, f.Limit)...)
	err = db.Each(rows, err, []any{&bytes}, func() error {
		if f.PayloadLimit > 0 {
			bytes = min(bytes, int64(f.PayloadLimit))
		}
		if size += bytes; found == 0 || size <= letterPageBytes {
			fit++
		}
		found++
		return nil
	})
	return fit, fit < found || found == f.Limit, err
}

// ErrNoDeadLetter means that no record of this origin was rejected.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (s *Store) DeadLetter(ctx context.Context, origin toll.Origin) (*DeadLetter, error) {
	letters, err := s.deadLetters(ctx, " WHERE d.partition_id = ? AND d.record_offset = ?",
		[]any{origin.Partition, origin.Offset}, 1, 0)
	if err == nil && len(letters) == 0 {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return nil, s.db.Wrap(fmt.Sprintf("read the dead letter %d:%d", origin.Partition, origin.Offset),
			err)
	}
	return &letters[0], nil
}

func (s *Store) deadLetters(ctx context.Context, condition string, args []any, limit,
	payloadLimit int) ([]DeadLetter, error) {
	payload := "d.payload"
	if payloadLimit > 0 && !s.db.Embedded(ctx) { // whose LEFT reads bytes as text
		payload = fmt.Sprintf("LEFT(d.payload, %d)", payloadLimit)
	}
	query := `SELECT d.partition_id, d.record_offset, d.record_time, d.kind, d.reason,
		d.sql_state, d.error_number, d.retry_partition, d.retry_offset,
		` + payload + `, d.payload_bytes, d.record_key, d.rejected_at, r.record_offset IS NOT NULL` +
		deadLetterTables + condition + ` ORDER BY d.partition_id, d.record_offset`
	if limit > 0 {
		query += " LIMIT ?"
		args = append(args, limit)
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var letters []DeadLetter
	for rows.Next() {
		var d DeadLetter
		var recorded, rejected string
		var retryPartition dbsql.Null[int32]
		var retryOffset dbsql.Null[int64]
		var payload dbsql.RawBytes // cut here: what is left of it must not hold all of it in memory
		if err := rows.Scan(&d.Partition, &d.Offset, &recorded, &d.Kind, &d.Reason, &d.SQLState,
			&d.Number,
			&retryPartition, &retryOffset, &payload, &d.PayloadBytes, &d.Key,
			&rejected, &d.Retried); err != nil {
			return nil, err
		}
		if payloadLimit > 0 {
			payload = payload[:min(len(payload), payloadLimit)]
		}
		d.Payload = bytes.Clone(payload)
		if retryPartition.Valid {
			d.RetryOf = &toll.Origin{Partition: retryPartition.V, Offset: retryOffset.V}
		}
		if d.Time, err = db.ParseTime(recorded); err != nil {
			return nil, err
		}
		if d.RejectedAt, err = db.ParseTime(rejected); err != nil {
			return nil, err
		}
		letters = append(letters, d)
	}
	return letters, rows.Err()
}

// recentRecords is of how many records of each partition RecentRejects returns the share.
const recentRecords = 1000

// RecentRejects returns how many of the last records of all partitions were rejected. Dead letters
// that were deleted for their age count as none.
func (s *Store) RecentRejects(ctx context.Context) (toll.RejectShare, error) {
	var share toll.RejectShare
	var records, rejected int64
	rows, err := s.db.QueryContext(ctx, `SELECT c.next_offset - c.start_offset,
		(SELECT COUNT(*) FROM toll_dead_letter d
		WHERE d.topic_id = c.topic_id AND d.partition_id = c.partition_id
		AND d.record_offset >= c.next_offset - ?)
		FROM toll_meta m JOIN toll_cursor c ON c.topic_id = m.topic_id`, recentRecords)
	err = db.Each(rows, err, []any{&records, &rejected}, func() error {
		share.Records += min(records, recentRecords)
		share.Rejected += rejected
		return nil
	})
	return share, s.db.Wrap("count the recent dead letters", err)
}

// CountDeadLetters returns how many dead letters a filter selects, its Limit aside.
func (s *Store) CountDeadLetters(ctx context.Context, f DeadLetterFilter) (int64, error) {
	condition, args := f.where()
	var n int64
	err := s.db.QueryRowContext(ctx, `SELECT COUNT(*)`+deadLetterTables+condition, args...).Scan(&n)
	return n, s.db.Wrap("count the dead letters", err)
}
