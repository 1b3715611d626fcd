package sql

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"tollstream/toll"
)

// DeadLetter is a record that could not be a row.
type DeadLetter struct {
	Partition    int32
	Offset       int64
	Time         time.Time // of the record
	Reason       string
	SQLState     string // where the database refused it, else empty
	Payload      []byte // as received, nil for a tombstone
	PayloadBytes int64  // more than Payload's length where it did not fit a packet
	Key          []byte // its first 1024 bytes
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
	Reason    string // a part of the reason, in its case
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
	LEFT JOIN toll_retry r ON r.topic_id = d.topic_id AND r.partition_id = d.partition_id AND r.record_offset = d.record_offset`

// DeadLetters returns the dead letters that a filter selects, ascending by partition and offset. Page through many of
// them by Limit and After.
func (s *Store) DeadLetters(ctx context.Context, f DeadLetterFilter) ([]DeadLetter, error) {
	condition, args := f.where()
	letters, err := s.deadLetters(ctx, condition, args, f.Limit, f.PayloadLimit)
	return letters, s.wrap("read the dead letters", err)
}

// ErrNoDeadLetter says that no record of this origin was rejected.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (s *Store) DeadLetter(ctx context.Context, origin toll.Origin) (*DeadLetter, error) {
	letters, err := s.deadLetters(ctx, " WHERE d.partition_id = ? AND d.record_offset = ?", []any{origin.Partition, origin.Offset}, 1, 0)
	if err == nil && len(letters) == 0 {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return nil, s.wrap(fmt.Sprintf("read the dead letter %d:%d", origin.Partition, origin.Offset), err)
	}
	return &letters[0], nil
}

func (s *Store) deadLetters(ctx context.Context, condition string, args []any, limit, payloadLimit int) ([]DeadLetter, error) {
	query := `SELECT d.partition_id, d.record_offset, d.record_time, d.reason, d.sql_state, d.payload, d.payload_bytes, d.record_key,
		d.rejected_at, r.record_offset IS NOT NULL` + deadLetterTables + condition + ` ORDER BY d.partition_id, d.record_offset`
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
		var payload dbsql.RawBytes // cut here: what is left of it must not hold all of it in memory
		if err := rows.Scan(&d.Partition, &d.Offset, &recorded, &d.Reason, &d.SQLState, &payload, &d.PayloadBytes, &d.Key,
			&rejected, &d.Retried); err != nil {
			return nil, err
		}
		if payloadLimit > 0 {
			payload = payload[:min(len(payload), payloadLimit)]
		}
		d.Payload = bytes.Clone(payload)
		if d.Time, err = parseTime(recorded); err != nil {
			return nil, err
		}
		if d.RejectedAt, err = parseTime(rejected); err != nil {
			return nil, err
		}
		letters = append(letters, d)
	}
	return letters, rows.Err()
}

// CountDeadLetters returns how many dead letters a filter selects, its Limit aside.
func (s *Store) CountDeadLetters(ctx context.Context, f DeadLetterFilter) (int64, error) {
	condition, args := f.where()
	var n int64
	err := s.db.QueryRowContext(ctx, `SELECT COUNT(*)`+deadLetterTables+condition, args...).Scan(&n)
	return n, s.wrap("count the dead letters", err)
}
