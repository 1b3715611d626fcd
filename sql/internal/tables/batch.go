// Package tables holds the rows of our tables as Go values, and reads them.
package tables

import (
	"context"
	"crypto/rand"
	dbsql "database/sql"
	"encoding/binary"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// CursorRow is a row of toll_cursor.
type CursorRow struct {
	Partition   int32
	Start, Next int64
	Token       uint64
	Epoch       uint64
	LogReplaced string
}

// BatchRow is a row of toll_batch. Its blob is valid until the next row is read.
type BatchRow struct {
	Partition                 int32
	First, Next               int64
	Token                     uint64
	Events, Rejected, Skipped int64
	Extra                     int64 // of the events: those beyond the first of their record
	Gone                      int64 // of the skipped
	Published                 bool
	Batches                   int64 // that were compacted into it
	Blob                      dbsql.RawBytes
}

// ReadCursors reads all cursors of a topic, ascending by partition.
func ReadCursors(ctx context.Context, q db.Reader, topicID string) ([]CursorRow, error) {
	var cursors []CursorRow
	var c CursorRow
	rows, err := q.QueryContext(ctx, `SELECT partition_id, start_offset, next_offset, token, epoch,
		log_replaced FROM toll_cursor
		WHERE topic_id = ? ORDER BY partition_id`, topicID)
	err = db.Each(rows, err,
		[]any{&c.Partition, &c.Start, &c.Next, &c.Token, &c.Epoch, &c.LogReplaced}, func() error {
			cursors = append(cursors, c)
			return nil
		})
	return cursors, err
}

// ReadBatches calls each with the batches of a partition from the one that begins at offset from,
// in order. It holds one batch at a time.
func ReadBatches(ctx context.Context, q db.Reader, topicID string, partition int32, from int64,
	each func(*BatchRow) error) error {
	row := BatchRow{Partition: partition}
	rows, err := q.QueryContext(ctx, `SELECT first_offset, next_offset, token, events, extra_events,
		rejected, skipped, gone, published, batches, deltas
		FROM toll_batch WHERE topic_id = ? AND partition_id = ? AND first_offset >= ?
		ORDER BY first_offset`, topicID, partition, from)
	return db.Each(rows, err, []any{&row.First, &row.Next, &row.Token, &row.Events, &row.Extra,
		&row.Rejected, &row.Skipped, &row.Gone, &row.Published, &row.Batches, &row.Blob}, func() error {
		return each(&row)
	})
}

func HighestEpoch(cursors []CursorRow) uint64 {
	var epoch uint64
	for _, c := range cursors {
		epoch = max(epoch, c.Epoch)
	}
	return epoch
}

// StoredPartitions returns the partitions that have a cursor or batches, ascending.
func StoredPartitions(ctx context.Context, q db.Reader, topicID string,
	cursors []CursorRow) ([]int32,
	error) {
	var partitions []int32
	for _, c := range cursors {
		partitions = append(partitions, c.Partition)
	}
	var partition int32
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT partition_id FROM toll_batch WHERE topic_id = ?`,
		topicID)
	err = db.Each(rows, err, []any{&partition}, func() error {
		partitions = append(partitions, partition)
		return nil
	})
	slices.Sort(partitions)
	return slices.Compact(partitions), err
}

// ReadMinutes calls each with the batches of a partition that have events in some minutes, and
// perhaps others. Of a batch it reads the offsets and the outbox.
func ReadMinutes(ctx context.Context, q db.Reader, topicID string, partition int32, w toll.Window,
	each func(*BatchRow) error) error {
	row := BatchRow{Partition: partition}
	rows, err := q.QueryContext(ctx, `SELECT first_offset, next_offset, deltas FROM toll_batch
		WHERE topic_id = ? AND partition_id = ? AND last_minute >= ? AND first_minute < ?`, topicID,
		partition, w.Start, w.End)
	return db.Each(rows, err, []any{&row.First, &row.Next, &row.Blob}, func() error {
		return each(&row)
	})
}

// MinuteColumns returns a batch's minutes as first_minute and last_minute hold them.
func MinuteColumns(w toll.Window) (first, last dbsql.Null[int64]) {
	if w.Start < w.End {
		first = dbsql.Null[int64]{V: int64(w.Start), Valid: true}
		last = dbsql.Null[int64]{V: int64(w.End) - 1, Valid: true}
	}
	return first, last
}

// LastRecordColumns returns the identity of the last record as toll_cursor holds it.
func LastRecordColumns(r toll.LastRecord) []any {
	if !r.Known {
		return []any{nil, nil, nil, nil}
	}
	var epoch any
	if r.LeaderEpoch >= 0 {
		epoch = r.LeaderEpoch
	}
	return []any{r.Offset, epoch, r.Timestamp, r.CRC}
}

// NewToken returns a random token that is not zero.
func NewToken() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails, by its documentation
		if t := binary.LittleEndian.Uint64(b[:]) >> 1; t != 0 {
			return t
		}
	}
}
