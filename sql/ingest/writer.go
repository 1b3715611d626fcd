// Package ingest stores batches exactly once.
//
// A batch, its dead letters and its outbox are stored in one transaction that first moves the
// cursor of its source partition by compare-and-set; what can't move the cursor writes nothing.
package ingest

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Writer stores the batches of one topic. It is safe for concurrent use by the owners of different
// partitions.
type Writer struct {
	db         *db.DB
	configured LoadMode
	topicID    string
	loader     loader
	multi      multiStatement
	zone       atomic.Pointer[time.Location] // the database's, nil until asked
	packet     atomic.Int64                  // the server's max_allowed_packet in bytes, 0 until asked
	lastRow    atomic.Pointer[[]byte]        // text of a row that was stored; nil before the first

	checkTables func(context.Context, db.Reader) error
}

// NewWriter returns a writer for the topic that has this id, which loads rows in a way. checkTables
// returns a [toll.PermanentError] where the tables were altered.
func NewWriter(db *db.DB, topicID string, load LoadMode,
	checkTables func(context.Context, db.Reader) error) *Writer {
	w := &Writer{db: db, topicID: topicID, configured: load, checkTables: checkTables}
	w.loader.mode.Store(int32(load))
	w.loader.turns = newTurns()
	return w
}

// NewRows returns an empty buffer of rows, in the form that Commit loads.
func (w *Writer) NewRows() toll.Rows { return new(rows) }

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
	c := toll.Cursor{Partition: partition}
	err := scanCursor(q.QueryRowContext(ctx, `SELECT `+cursorColumns+` FROM toll_cursor
		WHERE topic_id = ? AND partition_id = ?`, w.topicID, partition), &c)
	return c, err
}

// cursorColumns are what scanCursor reads.
const cursorColumns = `partition_id, next_offset, token, epoch, chain, clock, last_offset,
	last_leader_epoch, last_timestamp, last_crc, log_replaced`

func scanCursor(row interface{ Scan(...any) error }, c *toll.Cursor) error {
	var offset, timestamp dbsql.Null[int64]
	var epoch dbsql.Null[int32]
	var crc dbsql.Null[uint32]
	err := row.Scan(&c.Partition, &c.Next, &c.Token, &c.Epoch, &c.Chain, &c.Clock, &offset, &epoch,
		&timestamp, &crc, &c.LogReplaced)
	c.Last = lastRecord(offset, epoch, timestamp, crc)
	return err
}

// lastRecord reads the identity of the last record as toll_cursor holds it.
func lastRecord(offset dbsql.Null[int64], epoch dbsql.Null[int32], timestamp dbsql.Null[int64],
	crc dbsql.Null[uint32]) toll.LastRecord {
	if !offset.Valid || !crc.Valid {
		return toll.LastRecord{}
	}
	r := toll.LastRecord{Known: true, Offset: offset.V, LeaderEpoch: -1, Timestamp: timestamp.V,
		CRC: crc.V}
	if epoch.Valid {
		r.LeaderEpoch = epoch.V
	}
	return r
}

// Cursors returns the cursors of all partitions that have one, in one snapshot, ascending by
// partition.
func (w *Writer) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	cursors, err := w.readAllCursors(ctx)
	return cursors, w.db.Wrap("read the cursors", err)
}

func (w *Writer) readAllCursors(ctx context.Context) ([]toll.Cursor, error) {
	// One statement is one snapshot.
	rows, err := w.db.QueryContext(ctx, `SELECT `+cursorColumns+` FROM toll_cursor
		WHERE topic_id = ? ORDER BY partition_id`, w.topicID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var cursors []toll.Cursor
	for rows.Next() {
		var c toll.Cursor
		if err := scanCursor(rows, &c); err != nil {
			return nil, err
		}
		cursors = append(cursors, c)
	}
	return cursors, rows.Err()
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
		t, err := time.Parse("2006-01-02 15:04:05.999999", created)
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

// Commit stores a batch in one transaction: it moves the cursor, inserts the rows, the dead letters
// and the outbox, and marks earlier batches as published.
//
// It returns [toll.ErrCursorMoved] where the cursor is not as the batch expects, and a
// [toll.RefusedError] where rows of the batch can't be stored for what they hold; in both cases
// nothing is stored. After any other error that is not a [toll.PermanentError] the batch may or may
// not be stored: the cursor's token shows it.
func (w *Writer) Commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error {
	err := w.commitInTurn(ctx, b, published)
	if errors.Is(err, errLoadRefused) {
		if err := w.fallBack(); err != nil {
			return err
		}
		err = w.commit(ctx, b, published, w.insert)
	}
	if w.mindsRows(ctx, err) {
		if refused := w.refused(ctx, b); refused != nil {
			return w.db.Wrap("find the rows that MySQL refuses", refused)
		}
		// It takes every row, so it minded how they came.
		if err = w.commit(ctx, b, published, w.insert); w.mindsRows(ctx, err) {
			return toll.Permanent("see the error, and what was changed at livetolldata",
				"store the offsets %d to %d of partition %d: MySQL at %s takes each row, and refuses them "+
					"together: %w",
				b.First, b.Next-1, b.Partition, w.db.Address, err)
		}
	}
	var refused *toll.RefusedError
	if err == nil || errors.Is(err, toll.ErrCursorMoved) || errors.As(err, &refused) {
		return err
	}
	if n := db.Number(err); n == db.ErrPacketTooLarge || errors.Is(err, mysql.ErrPktTooLarge) {
		w.packet.Store(0) // it was made smaller: ask again
	}
	if my := w.atFault(ctx, err); my != nil {
		// A start explains a table that was altered better than MySQL does.
		if altered := w.checkTables(ctx, w.db); toll.IsPermanent(altered) {
			return altered
		}
		if string(my.SQLState[:2]) == "22" || my.Number == db.ErrUnknown {
			return toll.Permanent("this is a defect of tollstream: please report it with this line",
				"store the offsets %d to %d of partition %d: MySQL at %s refuses what belongs to the batch: %w",
				b.First, b.Next-1, b.Partition, w.db.Address, err)
		}
	}
	return w.db.Wrap(fmt.Sprintf("store the offsets %d to %d of partition %d", b.First, b.Next-1,
		b.Partition), err)
}

// mindsRows reports whether MySQL did not take the rows of a commit as they are, for what may be in
// them.
func (w *Writer) mindsRows(ctx context.Context, err error) bool {
	if errors.Is(err, errLoadInexact) {
		return true
	}
	var minds rowsError
	return errors.As(err, &minds) && w.atFault(ctx, err) != nil && !toll.IsPermanent(w.db.Explain(err))
}

// commitInTurn commits a batch, by LOAD DATA where the server takes it. A batch with rows to load
// waits for its turn without a transaction.
func (w *Writer) commitInTurn(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error {
	if b.Rows.Len() == 0 || !w.useLocal(ctx) {
		return w.commit(ctx, b, published, w.insert)
	}
	t, err := w.loader.turns.take(ctx)
	if err != nil {
		return err
	}
	defer t.end()
	if !w.fitsTogether(ctx, b, published) {
		return w.commitApart(ctx, b, published, t)
	}
	sent, err := w.commitTogether(ctx, b, published, t)
	if err == nil || sent || errors.Is(err, toll.ErrCursorMoved) {
		return err
	}
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		if transient(my) && my.Number != db.ErrUnknown {
			w.multi.failed.Store(true)
			return err
		}
	} else if !errors.Is(err, errLoadInexact) {
		w.multi.failed.Store(true)
		return err
	}
	// Which statement is refused, and why, is found one by one.
	apart := w.commitApart(ctx, b, published, t)
	if apart == nil {
		w.multi.refused.Store(true)
		w.db.Logf("storing batches statement by statement from now on, since several at once fail: %v",
			err)
	}
	return apart
}

// commitApart commits a batch whose turn it is, statement by statement.
func (w *Writer) commitApart(ctx context.Context, b *toll.Batch, published []toll.BatchRef,
	t *turn) error {
	err := w.commit(ctx, b, published, func(ctx context.Context, tx *dbsql.Tx, r *rows) error {
		defer t.end()
		return w.loader.load(ctx, tx, r, t)
	})
	if err == nil {
		w.multi.failed.Store(false)
	}
	return err
}

// commit commits a batch; load stores its rows within the transaction.
func (w *Writer) commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef,
	load func(context.Context, *dbsql.Tx, *rows) error) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := w.checkSizes(ctx, tx, b); err != nil {
		return err
	}
	// The cursor is moved first: its row lock makes any other owner wait here, and then fail, before
	// it wrote a row.
	if err := w.moveCursor(ctx, tx, b); err != nil {
		return err
	}
	r := b.Rows.(*rows)
	if r.Len() > 0 {
		if err := load(ctx, tx, r); err != nil {
			return err
		}
	}
	if err := w.insertRetries(ctx, tx, b); err != nil {
		return err
	}
	if err := w.insertDeadLetters(ctx, tx, b); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insertBatch, w.batchColumns(b)...); err != nil {
		return err
	}
	if err := w.markPublished(ctx, tx, b.Partition, published); err != nil {
		return err
	}
	// Owners of other partitions and the results write to these rows too, so their locks are the last
	// to be taken.
	if err := w.addTooLate(ctx, tx, b.TooLate); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.keepRow(r)
	return nil
}

// keepRow keeps a row that was stored.
func (w *Writer) keepRow(r *rows) {
	if r.Len() > 0 {
		last := bytes.Clone(r.line(r.Len() - 1))
		w.lastRow.Store(&last)
	}
}

// The statements of a batch's transaction, of which each has its arguments.
const (
	updateCursor = `UPDATE toll_cursor SET next_offset = ?, token = ?, chain = ?, clock = ?,
		last_offset = ?, last_leader_epoch = ?, last_timestamp = ?, last_crc = ?, updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?
		AND log_replaced = ''`
	insertBatch = `INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset, token,
		events, extra_events, rejected, skipped, gone, published, deltas, stored_at, first_minute,
		last_minute) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, NOW(6), ?, ?)`
	updatePublished = `UPDATE toll_batch SET published = 1
		WHERE topic_id = ? AND partition_id = ? AND first_offset = ? AND token = ?`
)

func (w *Writer) cursorColumns(b *toll.Batch) []any {
	args := append([]any{b.Next, b.Token, b.Chain, b.Clock}, tables.LastRecordColumns(b.Last)...)
	return append(args, w.topicID, b.Partition, b.First, b.Expect, b.Epoch)
}

func (w *Writer) batchColumns(b *toll.Batch) []any {
	firstMinute, lastMinute := tables.MinuteColumns(b.Minutes)
	return []any{w.topicID, b.Partition, b.First, b.Next, b.Token, b.Rows.Len(), b.Extra,
		len(b.Rejects), b.Skipped(), b.Gone, b.Deltas, firstMinute, lastMinute}
}

// moveCursor moves a partition's cursor behind a batch, by compare-and-set.
func (w *Writer) moveCursor(ctx context.Context, tx *dbsql.Tx, b *toll.Batch) error {
	res, err := tx.ExecContext(ctx, updateCursor, w.cursorColumns(b)...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return toll.ErrCursorMoved
	}
	return nil
}

// MarkLogReplaced records why the log of a partition is not the one that was consumed, where the
// cursor is as it was read. From then on no batch of the partition is stored. It returns
// [toll.ErrCursorMoved] where the cursor has moved.
func (w *Writer) MarkLogReplaced(ctx context.Context, c *toll.Cursor, why string) error {
	res, err := w.db.ExecContext(ctx, `UPDATE toll_cursor SET log_replaced = ?, updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?`,
		db.CutRunes(why, tables.MaxReasonRunes), w.topicID, c.Partition, c.Next, c.Token, c.Epoch)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != 1 {
			return toll.ErrCursorMoved
		}
	}
	return w.db.Wrap(fmt.Sprintf("record that the log of partition %d was replaced", c.Partition), err)
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

// insertRetries admits each repaired dead letter once.
func (w *Writer) insertRetries(ctx context.Context, tx *dbsql.Tx, b *toll.Batch) error {
	var again []toll.RefusedRow
	for _, r := range b.Retries {
		_, err := tx.ExecContext(ctx, `INSERT INTO toll_retry
			(topic_id, partition_id, record_offset, stored_partition, stored_offset) VALUES (?, ?, ?, ?, ?)`,
			w.topicID, r.Of.Partition, r.Of.Offset, b.Partition, r.Offset)
		if db.Number(err) == db.ErrDuplicateKey {
			again = append(again, toll.RefusedRow{
				Row: r.Row, Kind: toll.RejectRetried,
				Reason: fmt.Sprintf("the dead letter %d:%d was already retried", r.Of.Partition, r.Of.Offset),
			})
			continue
		}
		if err != nil {
			return err
		}
	}
	if len(again) > 0 {
		return &toll.RefusedError{Rows: again}
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
			var retryPartition dbsql.Null[int32]
			var retryOffset dbsql.Null[int64]
			if of := r.RetryOf; of != nil {
				retryPartition = dbsql.Null[int32]{V: of.Partition, Valid: true}
				retryOffset = dbsql.Null[int64]{V: of.Offset, Valid: true}
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

// checkSizes returns a [toll.PermanentError] where what a batch holds in addition to its rows is
// larger than the server takes: it would be tried again without end. The driver sends parameters
// apart where a statement is too large with their escapes.
func (w *Writer) checkSizes(ctx context.Context, q db.Queryer, b *toll.Batch) error {
	largest, what := len(b.Deltas), "the outbox of a batch"
	if len(b.Chain) > largest {
		largest, what = len(b.Chain), "the chain of a partition's plazas"
	}
	if largest+db.PacketReserve <= db.MinPacket {
		return nil
	}
	packet, err := w.maxPacket(ctx, q)
	if err == nil && largest+db.PacketReserve > packet {
		err = toll.Permanent(fmt.Sprintf("raise %s on the server to %d or more",
			w.db.PacketSetting(), 4*largest),
			"store the offsets %d to %d of partition %d: %s has %d bytes, and MySQL at %s takes %d in "+
				"one packet",
			b.First, b.Next-1, b.Partition, what, largest, w.db.Address, packet)
	}
	return err
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

// MaxPacket returns the server's max_allowed_packet in bytes.
func (w *Writer) maxPacket(ctx context.Context, q db.Queryer) (int, error) {
	if p := w.packet.Load(); p != 0 {
		return int(p), nil
	}
	p, err := w.db.MaxPacket(ctx, q)
	w.packet.Store(int64(p))
	return p, err
}
