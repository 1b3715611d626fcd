package retention

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// CompactOptions sets how far a partition's batches may be compacted.
type CompactOptions struct {
	// States are the plazas' states as the group table's topic has them, which were read before.
	// Without them nothing is rolled up.
	States map[int16]*toll.State
	// Before is the minute before which minutes are rolled up: windows that hold an earlier one are
	// stored for good.
	Before toll.Minute
	// Now is what ages are counted from: the earlier of the server's clock and the process's. Event
	// time does not count here: a replay of old events would never be compacted, and nothing that
	// can't be counted again is lost by compacting early.
	Now time.Time
	// Keep is how long a batch is kept as it is, so that a state which fell behind it can be sent what
	// it lacks. What exceeds KeepBytes of a partition's outboxes is rolled up earlier, but never what
	// is younger than [Limits].MinKeep.
	Keep      time.Duration
	KeepBytes int64
}

// Compactor compacts the batches of one topic.
type Compactor struct {
	Limits  Limits
	db      *db.DB
	topicID string
	decode  func([]byte) ([]toll.PlazaDelta, error)
	encode  func([]toll.PlazaDelta) []byte
}

// NewCompactor returns what compacts the batches of the topic that has this id, by functions that
// read and write an outbox.
func NewCompactor(db *db.DB, topicID string, decode func([]byte) ([]toll.PlazaDelta, error),
	encode func([]toll.PlazaDelta) []byte) *Compactor {
	return &Compactor{Limits: DefaultLimits(), db: db, topicID: topicID, decode: decode,
		encode: encode}
}

// Limits bound what a compaction does.
type Limits struct {
	// JoinAfter is how old batches are that are put into one row: no reader that goes on where it
	// ended before is that far behind, and the last batches of each partition stay as the protocol
	// knows them.
	JoinAfter time.Duration
	// MinKeep is the age below which batches are never rolled up.
	MinKeep time.Duration
	// JoinRows is the fewest rows that are worth joining, JoinBytes about how large a joined row's
	// outbox gets: small enough that a row which grows round by round costs little to write again.
	JoinRows  int
	JoinBytes int64
	// FoldBytes is how large the outbox of a row gets that others were added to.
	FoldBytes int64
	// RunRows bounds the rows that one transaction replaces, PageRows those whose figures are held.
	RunRows, PageRows int
}

// DefaultLimits returns the limits of a new compactor.
func DefaultLimits() Limits {
	return Limits{JoinAfter: time.Minute, MinKeep: 10 * time.Minute, JoinRows: 16,
		JoinBytes: 256 << 10,
		FoldBytes: 4 << 20, RunRows: 1000, PageRows: 4000}
}

// joinSpan is how much time the batches of a joined row are apart at most, as a share of Keep.
const joinSpan = 8

// Compacted is what a compaction did.
type Compacted struct {
	Before, After int64 // rows of toll_batch that were replaced, and by how many
	// transactions that put batches into one row as they were, and that added them up
	Joined, RolledUp int64
	// Blocked is why nothing more was rolled up; empty where all was that is due.
	Blocked string
}

// Compact makes a partition's old batches take fewer rows and bytes. It does so in two steps, each
// a small transaction that replaces neighbouring rows of toll_batch by one:
//
// A join puts published batches into one row, each delta as it is with its own Next. Nothing is
// lost by it.
//
// A rollup, once they are older than Keep and every plaza has merged them, leaves one delta per
// plaza, from the first batch's Prev to the last one's Next, and of the minutes before Before only
// their sum. What is lost: a state that falls back to an offset in between, which takes a write to
// the group table that comes hours late, can't be sent the rest; verify names it, and a rebuild
// repairs it. And windows that hold a minute before Before can't be counted again.
//
// The sums stay what they are, so every invariant holds at any moment, and a rebuild sends
// compacted rows as it sends others. The last batch of a partition stays as it is. Rows are
// replaced only if they are as they were read and published, so neither a zombie, nor a rebuild,
// nor another compaction at the same time is in the way of each other.
func (c *Compactor) Compact(ctx context.Context, partition int32, o CompactOptions) (Compacted,
	error) {
	var done Compacted
	c.db.Embedded(ctx) // for what follows, see many
	err := (&compaction{Compactor: c, partition: partition, o: o, done: &done}).run(ctx)
	return done, c.db.Wrap(fmt.Sprintf("compact the batches of partition %d", partition), err)
}

type compaction struct {
	*Compactor
	partition int32
	o         CompactOptions
	done      *Compacted
	cursor    tables.CursorRow
	packet    int   // bytes that the server takes in one
	limit     int64 // bytes of a row's outbox that others are added to
}

// batchFigures are a row of toll_batch without its outbox.
type batchFigures struct {
	first, next int64
	token       uint64
	published   bool
	batches     int64
	bytes       int64
	stored      time.Time
	minutes     toll.Window // from the first to behind the last event; empty for none
	folded      toll.Minute // minutes before it were rolled up
	isFolded    bool
}

func (c *compaction) run(ctx context.Context) error {
	cursors, err := tables.ReadCursors(ctx, c.db, c.topicID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(cursors, func(r tables.CursorRow) bool { return r.Partition == c.partition })
	if i < 0 {
		return nil
	}
	c.cursor = cursors[i]
	if c.packet, err = c.db.MaxPacket(ctx, c.db); err != nil {
		return err
	}
	c.limit = min(c.Limits.FoldBytes, int64(c.packet/4)) // what is added to that may be as large
	if err := c.joinRows(ctx); err != nil || c.o.States == nil {
		return err
	}
	return c.fold(ctx)
}

// rows reads the figures of some rows from the one that begins at an offset on. more reports that
// others follow.
func (c *compaction) rows(ctx context.Context, from int64) (rows []batchFigures, more bool,
	err error) {
	rs, err := c.db.QueryContext(ctx, `SELECT first_offset, next_offset, token, published, batches,
		LENGTH(deltas), stored_at, first_minute, last_minute, folded_minute FROM toll_batch
		WHERE topic_id = ? AND partition_id = ? AND first_offset >= ? ORDER BY first_offset LIMIT ?`,
		c.topicID, c.partition, from, c.Limits.PageRows)
	if err != nil {
		return nil, false, err
	}
	defer rs.Close()
	for rs.Next() {
		var r batchFigures
		var stored string
		var first, last, folded dbsql.Null[int64]
		if err := rs.Scan(&r.first, &r.next, &r.token, &r.published, &r.batches, &r.bytes, &stored,
			&first, &last, &folded); err != nil {
			return nil, false, err
		}
		if r.stored, err = db.ParseTime(stored); err != nil {
			return nil, false, err
		}
		if first.Valid && last.Valid {
			r.minutes = toll.Window{Start: toll.Minute(first.V),
				End: tables.AddMinutes(toll.Minute(last.V), 1)}
		}
		r.folded, r.isFolded = toll.Minute(folded.V), folded.Valid
		rows = append(rows, r)
	}
	return rows, len(rows) == c.Limits.PageRows, rs.Err()
}

// last reports whether a row is the partition's last batch, or may be.
func (c *compaction) last(r *batchFigures) bool {
	return r.token == c.cursor.Token || r.next >= c.cursor.Next
}

// joinRows puts batches into one row, as they are.
func (c *compaction) joinRows(ctx context.Context) error {
	from := int64(math.MinInt64)
	for {
		rows, more, err := c.rows(ctx, from)
		if err != nil {
			return err
		}
		var run []batchFigures
		var bytes int64
		flush := func() error {
			rows := run
			run, bytes = nil, 0
			if len(rows) < c.Limits.JoinRows {
				return nil
			}
			sum, err := c.replace(ctx, rows, false)
			if sum != nil {
				c.done.Joined++
			}
			return err
		}
		for i := range rows {
			r := &rows[i]
			if !r.published || r.isFolded || c.last(r) || c.o.Now.Sub(r.stored) < c.Limits.JoinAfter ||
				r.bytes >= c.Limits.JoinBytes {
				if err := flush(); err != nil {
					return err
				}
				continue
			}
			// Where they don't go together, those before it are joined, or the first of them is left out.
			for len(run) > 0 &&
				(bytes+r.bytes > c.Limits.JoinBytes || len(run) >= c.Limits.RunRows ||
					r.stored.Sub(run[0].stored) > max(c.o.Keep/joinSpan, time.Minute)) {
				if len(run) >= c.Limits.JoinRows {
					if err := flush(); err != nil {
						return err
					}
					break
				}
				bytes -= run[0].bytes
				run = run[1:]
			}
			run = append(run, *r)
			bytes += r.bytes
		}
		if !more {
			return flush()
		}
		if len(run) > 0 && run[0].first > rows[0].first {
			from = run[0].first // it may go on behind the page
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		from = rows[len(rows)-1].first + 1
	}
}

// fold adds batches up, from the partition's first one on.
func (c *compaction) fold(ctx context.Context) error {
	var behind int64 // bytes of the outboxes behind the row that is looked at
	if err := c.db.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(LENGTH(deltas)), 0) AS SIGNED)
		FROM toll_batch
		WHERE topic_id = ? AND partition_id = ? AND folded_minute IS NULL`, c.topicID, c.partition).Scan(
		&behind); err != nil {
		return err
	}
	f := &folding{compaction: c}
	from := int64(math.MinInt64)
	for {
		rows, more, err := c.rows(ctx, from)
		if err != nil {
			return err
		}
		for i := range rows {
			r := &rows[i]
			if c.last(r) {
				more = false
				break
			}
			if i+1 == len(rows) {
				break // it is the first of the next page
			}
			if !r.isFolded {
				behind -= r.bytes
			}
			// What a row holds was stored before the row behind it.
			age := c.o.Now.Sub(rows[i+1].stored)
			old := age >= c.o.Keep || age >= c.Limits.MinKeep && behind > c.o.KeepBytes
			if !r.published || !old && !r.isFolded {
				more = false
				break
			}
			if err := f.add(ctx, *r); err != nil {
				return err
			}
			if f.done.Blocked != "" {
				return nil
			}
		}
		if !more {
			return f.flush(ctx)
		}
		from = rows[len(rows)-1].first
	}
}

// folding gathers neighbouring rows that are to be rolled up.
type folding struct {
	*compaction
	run   []batchFigures
	bytes int64
	due   bool // whether one of them calls for it
}

// add adds a row, and adds those before it up where they are enough.
func (f *folding) add(ctx context.Context, r batchFigures) error {
	// A row that is full stays alone until its minutes are old enough.
	if len(f.run) > 0 && (f.bytes >= f.limit || len(f.run) >= f.Limits.RunRows) {
		if err := f.flush(ctx); err != nil || f.done.Blocked != "" {
			return err
		}
	}
	f.run = append(f.run, r)
	f.bytes += r.bytes
	f.due = f.due || !r.isFolded || r.folded < f.o.Before && r.minutes.Start < f.o.Before &&
		r.minutes.End > r.folded
	return nil
}

// flush adds the rows up that were gathered. What it makes of them is the first of the next ones,
// where it is small.
func (f *folding) flush(ctx context.Context) error {
	run, due := f.run, f.due
	f.run, f.bytes, f.due = nil, 0, false
	if !due || len(run) == 1 && run[0].isFolded && run[0].folded >= f.o.Before {
		return nil
	}
	sum, err := f.replace(ctx, run, true)
	if err != nil || sum == nil {
		return err
	}
	f.done.RolledUp++
	if f.done.Blocked == "" && sum.bytes < f.limit {
		f.run, f.bytes = []batchFigures{*sum}, sum.bytes
	}
	return nil
}

// unmerged returns which plaza has not merged its delta; nothing where all have.
func (c *compaction) unmerged(deltas []toll.PlazaDelta, next int64) string {
	for i := range deltas {
		d := &deltas[i]
		s := c.o.States[d.Plaza]
		switch end := d.End(next); {
		case s == nil:
			return fmt.Sprintf("the group table lacks plaza %d", d.Plaza)
		case s.Epoch != c.cursor.Epoch:
			return fmt.Sprintf("the group table has plaza %d as of epoch %d, the database is of %d", d.Plaza,
				s.Epoch, c.cursor.Epoch)
		case s.MergedIn(c.partition) < end:
			return fmt.Sprintf("plaza %d has merged up to offset %s of partition %d, and not %s", d.Plaza,
				text.Number(s.MergedIn(c.partition)), c.partition, text.Number(end))
		}
	}
	return ""
}

// errRowsChanged means that rows are not as they were read. They are looked at again in the next
// round.
var errRowsChanged = errors.New("the batches were changed meanwhile")

// replace replaces neighbouring rows by one, in which batches are as they are, or rolled up. Those
// that some plaza has not merged are not rolled up, nor are those behind them. It returns the
// figures of the new row, nil where there is none.
func (c *compaction) replace(ctx context.Context, run []batchFigures, rollup bool) (*batchFigures,
	error) {
	began := time.Now()
	sum, err := c.replaceOnce(ctx, run, rollup)
	switch {
	case errors.Is(err, errRowsChanged), db.Conflict(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return sum, db.Rest(ctx, time.Since(began))
}

func (c *compaction) replaceOnce(ctx context.Context, run []batchFigures,
	rollup bool) (*batchFigures, error) {
	// READ COMMITTED locks the rows and not the gaps between them, where nobody inserts but next to
	// which others do.
	tx, err := c.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	j, err := c.join(ctx, tx, run, rollup)
	if err != nil || j.rows < 1 || j.rows == 1 && !(rollup && (!j.isFolded || j.folded < c.o.Before)) {
		return nil, err
	}
	sum := run[0]
	sum.next, sum.batches, sum.minutes = j.next, j.batches, j.minutes
	deltas := j.deltas
	var folded dbsql.Null[int64]
	if rollup {
		deltas = toll.FoldDeltas(deltas, c.o.Before)
		sum.folded, sum.isFolded = max(c.o.Before, j.folded), true
		folded = dbsql.Null[int64]{V: int64(sum.folded), Valid: true}
	}
	blob := c.encode(deltas)
	sum.bytes, sum.token = int64(len(blob)), tables.NewToken()
	if db.EscapedLen(blob)+db.PacketReserve > c.packet {
		return nil, nil // it stays several rows
	}
	firstMinute, lastMinute := tables.MinuteColumns(sum.minutes)
	if j.rows > 1 {
		res, err := tx.ExecContext(ctx,
			`DELETE FROM toll_batch WHERE topic_id = ? AND partition_id = ? AND first_offset > ?
				AND first_offset < ?`,
			c.topicID, c.partition, sum.first, sum.next)
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n != int64(j.rows-1) {
			return nil, errors.Join(errRowsChanged, err)
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE toll_batch SET next_offset = ?, token = ?, events = ?,
		extra_events = ?, rejected = ?, skipped = ?, gone = ?, deltas = ?, first_minute = ?,
		last_minute = ?, batches = ?, folded_minute = ?
		WHERE topic_id = ? AND partition_id = ? AND first_offset = ?`,
		sum.next, sum.token, j.events, j.extra, j.rejected, j.skipped, j.gone, blob, firstMinute,
		lastMinute, sum.batches, folded, c.topicID, c.partition, sum.first); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	c.done.Before += int64(j.rows)
	c.done.After++
	return &sum, nil
}

// joined is what neighbouring rows hold.
type joined struct {
	rows                      int
	next                      int64
	batches                   int64
	events, rejected, skipped int64
	extra                     int64 // of the events
	gone                      int64 // of the skipped
	minutes                   toll.Window
	folded                    toll.Minute // of the rows among them that were rolled up
	isFolded                  bool        // the last row was
	deltas                    []toll.PlazaDelta
}

// join reads and locks rows, and checks that they are as they were.
func (c *compaction) join(ctx context.Context, tx db.Reader, run []batchFigures,
	rollup bool) (*joined,
	error) {
	rs, err := tx.QueryContext(ctx, `SELECT first_offset, next_offset, token, published, events,
		extra_events, rejected, skipped, gone, batches, deltas FROM toll_batch
		WHERE topic_id = ? AND partition_id = ? AND first_offset >= ? AND first_offset <= ?
		ORDER BY first_offset FOR UPDATE`,
		c.topicID, c.partition, run[0].first, run[len(run)-1].first)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	j := &joined{folded: math.MinInt32}
	seen := 0
	var before int64 // where the row before ends
	stop := false
	var ends []int64 // of each row
	var parts [][]toll.PlazaDelta
	for rs.Next() {
		if seen >= len(run) {
			return nil, errRowsChanged
		}
		r := &run[seen]
		seen++
		var first, next, events, extra, rejected, skipped, gone, batches int64
		var token uint64
		var published bool
		var blob dbsql.RawBytes
		if err := rs.Scan(&first, &next, &token, &published, &events, &extra, &rejected, &skipped,
			&gone, &batches, &blob); err != nil {
			return nil, err
		}
		if first != r.first || next != r.next || token != r.token || !published || seen > 1 &&
			first != before {
			return nil, errRowsChanged
		}
		before = next
		if stop {
			continue
		}
		deltas, err := c.decode(blob)
		if err != nil {
			return nil, fmt.Errorf("read the outbox of the batch at %d:%d: %w", c.partition, first, err)
		}
		if rollup {
			if why := c.unmerged(deltas, next); why != "" {
				c.done.Blocked, stop = why, true
				continue
			}
		}
		if j.rows == 0 {
			j.minutes = r.minutes
		} else if r.minutes.Start < r.minutes.End {
			if j.minutes.Start >= j.minutes.End {
				j.minutes = r.minutes
			}
			j.minutes = toll.Window{Start: min(j.minutes.Start, r.minutes.Start),
				End: max(j.minutes.End, r.minutes.End)}
		}
		if j.isFolded = r.isFolded; r.isFolded {
			j.folded = max(j.folded, r.folded)
		}
		j.rows++
		j.next = next
		j.batches += batches
		j.events += events
		j.extra += extra
		j.rejected += rejected
		j.skipped += skipped
		j.gone += gone
		parts, ends = append(parts, deltas), append(ends, next)
	}
	if err := rs.Err(); err != nil {
		return nil, err
	}
	if seen != len(run) {
		return nil, errRowsChanged
	}
	j.deltas = toll.JoinDeltas(parts, ends)
	return j, nil
}
