package ingest

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// A batch's transaction is some eight statements, each of which takes a round trip, and LOAD DATA
// two. Those up to COMMIT go to the server as one text: it runs them one after the other, stops at
// the first that fails, and answers all at once. So a batch takes three round trips: the
// statements, the rows that the server then asks for, and COMMIT, which is sent once the answers
// are as they must be.
//
// The text is safe: all values are arguments, which the driver puts in as literals with escapes for
// the session's sql_mode, as it does for single statements. Connections that take several
// statements are used for nothing else.

// multiStatement is what is known of sending a batch's statements together.
type multiStatement struct {
	refused atomic.Bool // the server stores apart what it does not store together
	// failed records that the last attempt failed for a reason that may pass. The next goes statement
	// by statement: what is between us and the server may not get along with this way.
	failed atomic.Bool
}

// fitsTogether reports whether a batch's statements may be sent together. What is rare, and long,
// goes apart. So does all on TiDB, whose ROW_COUNT() does not count what LOAD DATA loads.
func (w *Writer) fitsTogether(ctx context.Context, b *toll.Batch, published []toll.BatchRef) bool {
	if w.multi.refused.Load() || w.multi.failed.Load() || w.db.Embedded(ctx) || w.db.TiDB(ctx) ||
		len(b.Rejects) > 0 || len(b.Retries) > 0 {
		return false
	}
	packet, err := w.maxPacket(ctx, w.db)
	blobs := 2 * (len(b.Deltas) + len(b.Chain) + len(b.Clock)) // each byte may need an escape
	return err == nil && blobs+2*len(updatePublished)*len(published)+db.PacketReserve <= packet
}

// commitTogether commits a batch whose turn it is. sent reports whether COMMIT was sent: before
// that nothing is stored.
func (w *Writer) commitTogether(
	ctx context.Context, b *toll.Batch, published []toll.BatchRef, t *turn,
) (sent bool, err error) {
	conn, err := w.db.Multi.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer func() {
		if err == nil {
			return
		}
		if _, failed := conn.ExecContext(ctx, `ROLLBACK`); failed != nil {
			// the server rolls back when it is closed
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	if err := w.storeTogether(ctx, conn, b, published, t); err != nil {
		return false, err
	}
	t.end()
	if err := w.addTooLate(ctx, conn, b.TooLate); err != nil {
		return false, err
	}
	if _, err := conn.ExecContext(ctx, `COMMIT`); err != nil {
		return true, err
	}
	w.keepRow(b.Rows.(*rows))
	return true, nil
}

// storeTogether begins a transaction and stores in it all but what came too late.
func (w *Writer) storeTogether(
	ctx context.Context, conn *dbsql.Conn, b *toll.Batch, published []toll.BatchRef, t *turn,
) error {
	load, loaded := w.loader.loadStatement(b.Rows.(*rows), t)
	defer loaded()
	text := []string{`START TRANSACTION`, updateCursor, `SELECT ROW_COUNT()`,
		load, `SELECT ROW_COUNT(), @@warning_count`, insertBatch}
	args := append(w.cursorColumns(b), w.batchColumns(b)...)
	for _, p := range published {
		text = append(text, updatePublished)
		args = append(args, w.topicID, b.Partition, p.First, p.Token)
	}
	t.begin()
	answers, err := conn.QueryContext(ctx, strings.Join(text, "; "), args...)
	if err != nil {
		return err
	}
	defer answers.Close()
	var moved, rows, warnings int64
	err = scanAnswer(answers, &moved)
	if err == nil && moved != 1 {
		return toll.ErrCursorMoved // whatever became of the statements behind it
	}
	if err == nil && !answers.NextResultSet() {
		err = cmp.Or(answers.Err(), errNoAnswer)
	}
	if err == nil {
		err = scanAnswer(answers, &rows, &warnings)
	}
	if err != nil {
		return err
	}
	for answers.NextResultSet() {
	}
	if err := answers.Err(); err != nil {
		return err
	}
	t.loaded()
	if rows != int64(b.Rows.Len()) || warnings != 0 {
		return errLoadInexact
	}
	return nil
}

// errNoAnswer means that the server answered less than it was asked.
var errNoAnswer = errors.New("the server did not answer all statements")

// scanAnswer reads a result of one row.
func scanAnswer(answers *dbsql.Rows, values ...any) error {
	if !answers.Next() {
		return cmp.Or(answers.Err(), errNoAnswer)
	}
	return answers.Scan(values...)
}

// turns bounds how many LOAD DATA statements of a writer run at the same time.
//
// Near the server it is one on few cores. They stand in each other's way: on two cores four
// connections load a fifth fewer rows per second than one. What else belongs to a transaction, its
// commit above all, goes on in parallel with the rows of the next one. It is not so for INSERT.
//
// Far from the server a statement is on its way for longer than the server works on it. Then as
// many are under way as keep the server working.
type turns struct {
	base int // near the server

	mu        sync.Mutex
	taken     int
	waiting   []chan struct{} // closed when it is their turn, in this order
	roundTrip time.Duration   // the shortest of late, 0 before the first
	work      time.Duration   // the server's on one statement, on average; 0 before the first
}

// maxLoads is how many times as many statements are under way far from the server. They bound the
// memory that it needs.
const maxLoads = 16

func newTurns() *turns { return &turns{base: max(1, runtime.GOMAXPROCS(0)/2)} }

// turn is that of one batch. Its methods are called in this order: begin and asked, with the rows
// to be loaded, loaded, and end, which may be called at any time, and again.
type turn struct {
	of            *turns
	began, asking time.Time
	end           func()
}

// begin notes that the statement is sent.
func (t *turn) begin() { t.began = time.Now() }

// asked notes that the server asks for the rows, a round trip after the statement was sent.
func (t *turn) asked() { t.asking = time.Now() }

// loaded notes that the server has answered.
func (t *turn) loaded() { t.of.measured(t.asking.Sub(t.began), time.Since(t.asking)) }

// take waits for a turn.
func (t *turns) take(ctx context.Context) (*turn, error) {
	t.mu.Lock()
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	t.admit()
	t.mu.Unlock()
	select {
	case <-mine:
		return &turn{of: t, end: sync.OnceFunc(t.release)}, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else { // it came just now
		t.taken--
		t.admit()
	}
	return nil, context.Cause(ctx)
}

func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	t.admit()
}

// admit gives turns to those who wait, as many as there are. The caller holds the lock.
func (t *turns) admit() {
	for len(t.waiting) > 0 && t.taken < t.limit() {
		close(t.waiting[0])
		t.waiting = t.waiting[1:]
		t.taken++
	}
}

// limit returns how many turns there are. A statement is under way for two round trips and the
// server's work. The caller holds the lock.
func (t *turns) limit() int {
	if t.work <= 0 {
		return t.base
	}
	n := float64(t.base) * float64(t.work+2*t.roundTrip) / float64(t.work)
	return min(int(math.Round(n)), t.base*maxLoads)
}

// measured notes how long it took until the server asked for a statement's rows, and from then
// until it answered. The first is a round trip and some work, perhaps the wait for a lock, and so
// the shortest counts; it grows again slowly, since the way may become longer.
func (t *turns) measured(untilAsked, untilAnswered time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.roundTrip == 0 || untilAsked < t.roundTrip {
		t.roundTrip = untilAsked
	} else {
		t.roundTrip += (untilAsked - t.roundTrip) / 64
	}
	work := max(untilAnswered-t.roundTrip, time.Microsecond)
	if t.work == 0 {
		t.work = work
	} else {
		t.work += (work - t.work) / 8
	}
	t.admit()
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
