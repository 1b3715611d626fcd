package ingest

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// insertRetries admits each repaired dead letter once.
func (w *Writer) insertRetries(ctx context.Context, tx *dbsql.Tx, b *toll.Batch) error {
	var again []toll.RejectedRow
	for _, r := range b.Retries {
		_, err := tx.ExecContext(ctx, `INSERT INTO toll_retry
			(topic_id, partition_id, record_offset, stored_partition, stored_offset) VALUES (?, ?, ?, ?, ?)`,
			w.topicID, r.Of.Partition, r.Of.Offset, b.Partition, r.Offset)
		if db.Number(err) == db.ErrDuplicateKey {
			again = append(again, toll.RejectedRow{Row: r.Row, Rejection: toll.Rejection{
				Kind:   toll.RejectRetried,
				Reason: fmt.Sprintf("the dead letter %d:%d was already retried", r.Of.Partition, r.Of.Offset)}})
		} else if err != nil {
			return err
		}
	}
	if len(again) > 0 {
		return &toll.RejectedError{Rows: again}
	}
	return nil
}

// maxKeyBytes is how much of a record's key a dead letter holds.
const maxKeyBytes = 1024

// Limits of statements.
const (
	lettersAtOnce = 500
	lettersBytes  = 4 << 20
	letterBytes   = 512 // at most, of a dead letter's columns of a fixed size, as text
)

func (w *Writer) insertDeadLetters(ctx context.Context, tx *dbsql.Tx, b *toll.Batch) error {
	if len(b.Rejects) == 0 {
		return nil
	}
	packet, err := w.maxPacket(ctx, tx)
	if err != nil {
		return err
	}
	const head = `INSERT INTO toll_dead_letter
		(topic_id, partition_id, record_offset, record_time, kind, reason, sql_state, error_number,
		retry_partition, retry_offset, payload, payload_bytes, record_key, rejected_at) VALUES `
	const tuple = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NOW(6))`
	for rest := b.Rejects; len(rest) > 0; {
		var args []any
		size, n := len(head), 0
		for ; n < min(len(rest), lettersAtOnce); n++ {
			r := &rest[n]
			payload, key := r.Payload, r.Key[:min(len(r.Key), maxKeyBytes)]
			if most := (packet - db.PacketReserve) / 2; len(payload) > most { // each byte may need an escape
				payload = payload[:most]
			}
			reason := db.CutRunes(r.Reason, tables.MaxReasonRunes)
			letter := letterBytes + db.EscapedLen(payload) + db.EscapedLen(key) +
				db.EscapedLen([]byte(reason))
			if n > 0 && size+letter > min(packet-1<<10, lettersBytes) {
				break
			}
			size += letter
			var retryPartition, retryOffset any // NULL
			if of := r.RetryOf; of != nil {
				retryPartition, retryOffset = of.Partition, of.Offset
			}
			args = append(args, w.topicID, b.Partition, r.Offset, recordTime(r.Time), string(r.Kind),
				reason, r.SQLState, r.Number, retryPartition, retryOffset, payload, len(r.Payload), key)
		}
		query := head + tuple + strings.Repeat(","+tuple, n-1)
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("insert dead letters: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}

// recordTime writes a record's time as a DATETIME. A producer may send any time, so what no
// DATETIME holds is cut to the first or last that does.
func recordTime(t time.Time) string {
	t = t.UTC()
	if t.Year() < 1000 {
		t = time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC)
	} else if t.Year() > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.Format("2006-01-02 15:04:05.000")
}
