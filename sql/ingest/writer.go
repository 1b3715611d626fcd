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
	"slices"
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

// maxPacket returns the server's max_allowed_packet in bytes.
func (w *Writer) maxPacket(ctx context.Context, q db.Queryer) (int, error) {
	if p := w.packet.Load(); p != 0 {
		return int(p), nil
	}
	p, err := w.db.MaxPacket(ctx, q)
	w.packet.Store(int64(p))
	return p, err
}

// databaseZone returns the timezone of livetolldata's wall clock, for the caller alone.
func (w *Writer) databaseZone(ctx context.Context, q db.Queryer) (*toll.Zone, error) {
	loc := w.zone.Load()
	if loc == nil {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return nil, err
		}
		if loc, err = m.Location(); err != nil {
			return nil, err
		}
		w.zone.Store(loc)
	}
	return toll.NewZone(loc), nil
}

// Commit stores a batch in one transaction: it moves the cursor, inserts the rows, the dead letters
// and the outbox, and marks earlier batches as published.
//
// Rows go by LOAD DATA where useLocal allows it: all statements together (commitTogether) where
// fitsTogether allows it, and one by one (commitApart) where it does not or the server refuses one
// of them. Batches without rows, and all where LOAD DATA is refused, go by INSERT (commit). Where
// the error may then be about the rows, findRejected looks for them; if MySQL takes every row,
// INSERT is tried once more.
//
// It returns [toll.ErrCursorMoved] where the cursor is not as the batch expects, and a
// [toll.RejectedError] where rows of the batch are rejected; in both cases nothing is stored. After
// any other error that is not a [toll.PermanentError] the batch may or may not be stored: the
// cursor's token shows it.
func (w *Writer) Commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error {
	err := w.commitInTurn(ctx, b, published)
	if errors.Is(err, errLoadRefused) {
		if err := w.fallBack(); err != nil {
			return err
		}
		err = w.commit(ctx, b, published, w.insert)
	}
	if w.mayBeAboutRows(ctx, err) {
		if rejected := w.findRejected(ctx, b); rejected != nil {
			return w.db.Wrap("find the rows that MySQL refuses", rejected)
		}
		// It takes every row, so it minded how they came.
		if err = w.commit(ctx, b, published, w.insert); w.mayBeAboutRows(ctx, err) {
			return toll.Permanent("see the error, and what was changed at livetolldata",
				"store the offsets %d to %d of partition %d: MySQL at %s takes each row, and refuses them "+
					"together: %w",
				b.First, b.Next-1, b.Partition, w.db.Address, err)
		}
	}
	var rejected *toll.RejectedError
	if err == nil || errors.Is(err, toll.ErrCursorMoved) || errors.As(err, &rejected) {
		return err
	}
	if n := db.Number(err); n == db.ErrPacketTooLarge || errors.Is(err, mysql.ErrPktTooLarge) {
		w.packet.Store(0) // it was made smaller: ask again
	}
	if my := w.rowError(ctx, err); my != nil {
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
	my, answered := errors.AsType[*mysql.MySQLError](err)
	if answered && neverAboutRows(my) && my.Number != db.ErrUnknown ||
		!answered && !errors.Is(err, errLoadInexact) {
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
	if err = tx.Commit(); err == nil {
		w.keepRow(r)
	}
	return err
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
	return orMoved(tx.ExecContext(ctx, updateCursor, w.cursorColumns(b)...))
}

// orMoved returns [toll.ErrCursorMoved] unless a statement changed the cursor that it names.
func orMoved(res dbsql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		return toll.ErrCursorMoved
	}
	return err
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

// addTooLate counts events that came too late for windows that they belong to. A window that has no
// row yet gets one of revision 0, which is no result: toll_window's too_late is then always what
// the outbox holds.
func (w *Writer) addTooLate(ctx context.Context, tx db.Statements,
	counts []toll.TooLateCount) error {
	if len(counts) == 0 {
		return nil
	}
	zone, err := w.databaseZone(ctx, tx)
	if err != nil {
		return err
	}
	// Whoever locks several rows locks them in this order.
	counts = slices.SortedFunc(slices.Values(counts), func(a, b toll.TooLateCount) int {
		return tables.CompareWindows(a.WindowID, b.WindowID)
	})
	for chunk := range slices.Chunk(counts, tables.UpsertRows) {
		args := make([]any, 0, 7*len(chunk))
		for _, c := range chunk {
			start, end := tables.WallColumns(zone, toll.Window{Start: c.Start, End: c.End})
			args = append(args, c.Plaza, c.Kind, c.Start, c.End, start, end, c.Events)
		}
		const tuple = `(?, ?, ?, ?, ?, ?, 1, 0, 0, 0, 0, ?, 0, '{}', 0, '', 1, NOW(6))`
		if _, err := tx.ExecContext(ctx, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute,
			end_minute, window_start, window_end, whole, epoch, revision, events, late, too_late,
			result_too_late, by_type, flow_per_hour, reason, published, stored_at)
			VALUES `+tuple+strings.Repeat(","+tuple, len(chunk)-1)+`
			ON DUPLICATE KEY UPDATE too_late = too_late + VALUES(too_late)`, args...); err != nil {
			return fmt.Errorf("count events that came too late: %w", err)
		}
	}
	return nil
}
