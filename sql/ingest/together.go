package ingest

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync/atomic"

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
	if _, err = conn.ExecContext(ctx, `COMMIT`); err == nil {
		w.keepRow(b.Rows.(*rows))
	}
	return true, err
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
