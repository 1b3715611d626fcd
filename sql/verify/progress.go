package verify

import (
	"context"
	dbsql "database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// PartitionProgress is how far the database has come in one source partition.
type PartitionProgress struct {
	Partition int32
	Start     int64 // where the partition began when it was first seen
	Next      int64 // first offset that is not stored yet
	Epoch     uint64
	Token     uint64
	Chain     []byte // per plaza the Next of its last batch, encoded
	// the partition's event time, a toll.Clock, encoded; empty before the first event
	Clock       []byte
	Unpublished int64 // batches whose deltas are not known to be published
}

// Progress returns how far the database has come, in one snapshot, ascending by partition. A
// partition that no process has seen yet is not among them.
func (s *Verifier) Progress(ctx context.Context) ([]PartitionProgress, error) {
	var all []PartitionProgress
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		rows, err := q.QueryContext(ctx, `SELECT c.partition_id, c.start_offset, c.next_offset, c.epoch,
			c.token, c.chain, c.clock
			FROM toll_cursor c, toll_meta m WHERE c.topic_id = m.topic_id ORDER BY c.partition_id`)
		var p PartitionProgress
		if err := db.Each(rows, err, []any{&p.Partition, &p.Start, &p.Next, &p.Epoch, &p.Token, &p.Chain,
			&p.Clock}, func() error {
			all = append(all, p)
			return nil
		}); err != nil {
			return err
		}
		first, err := firstUnpublished(ctx, q)
		for i := range all {
			all[i].Unpublished = first[all[i].Partition].batches
		}
		return err
	})
	return all, s.db.Wrap("read the progress", err)
}

// unpublished is what is not known to be published of a partition.
type unpublished struct {
	first   int64 // offset of the first such batch
	batches int64
}

func firstUnpublished(ctx context.Context, q db.Reader) (map[int32]unpublished, error) {
	all := map[int32]unpublished{}
	var partition int32
	var u unpublished
	rows, err := q.QueryContext(ctx, `SELECT b.partition_id, MIN(b.first_offset), COUNT(*)
		FROM toll_batch b, toll_meta m WHERE b.published = 0 AND b.topic_id = m.topic_id
		GROUP BY b.partition_id`)
	err = db.Each(rows, err, []any{&partition, &u.first, &u.batches}, func() error {
		all[partition] = u
		return nil
	})
	return all, err
}

// Published is how far the batches' deltas are published.
type Published struct {
	Epoch uint64          // the highest of the cursors
	Next  map[int32]int64 // per source partition the first offset that is not published, or not stored
}

// Published returns how far the deltas are known to be published.
func (s *Verifier) Published(ctx context.Context) (*Published, error) {
	p := &Published{Next: map[int32]int64{}}
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return err
		}
		first, err := firstUnpublished(ctx, q)
		if err != nil {
			return err
		}
		cursors, err := tables.ReadCursors(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		p.Epoch = tables.HighestEpoch(cursors)
		for _, c := range cursors {
			p.Next[c.Partition] = c.Next
			if u, some := first[c.Partition]; some {
				p.Next[c.Partition] = u.first
			}
		}
		return nil
	})
	return p, s.db.Wrap("read what is published", err)
}

// snapshotTries is how often two snapshots are taken until both are of one moment. Between them
// some other transaction commits now and then.
const snapshotTries = 20

// errOtherMoment means that two snapshots are not of the same moment.
var errOtherMoment = errors.New("the snapshots differ")

// snapshots is like snapshot, with a second snapshot of the same moment, on a connection of its
// own, to read livetolldata from meanwhile. Where there is none, rows is q.
//
// That they are of the same moment, as far as the rows are concerned, is read from them: whatever
// of ours adds or deletes rows writes a cursor, or what was pruned, in the same transaction.
func snapshots(ctx context.Context, pool *db.DB, read func(q, rows db.Reader) error) error {
	if !pool.Embedded(ctx) {
		for range snapshotTries {
			err := pool.Snapshot(ctx, func(q db.Reader) error {
				return pool.Snapshot(ctx, func(rows db.Reader) error {
					if err := sameMoment(ctx, q, rows); err != nil {
						return err
					}
					return read(q, rows)
				})
			})
			if !errors.Is(err, errOtherMoment) {
				return err
			}
		}
	}
	return pool.Snapshot(ctx, func(q db.Reader) error { return read(q, q) })
}

// sameMoment returns errOtherMoment where two snapshots differ in what is written with the rows of
// livetolldata.
func sameMoment(ctx context.Context, q, rows db.Reader) error {
	one, err := readMoment(ctx, q)
	if err != nil {
		return err
	}
	other, err := readMoment(ctx, rows)
	if err != nil {
		return err
	}
	if one.meta != other.meta || !slices.Equal(one.cursors, other.cursors) ||
		!maps.Equal(one.baseline, other.baseline) || !maps.Equal(one.pruned, other.pruned) {
		return errOtherMoment
	}
	return nil
}

// moment is what is written in the transactions that write livetolldata.
type moment struct {
	meta             tables.Meta
	cursors          []tables.CursorRow
	baseline, pruned map[int]tables.RowCount
}

func readMoment(ctx context.Context, q db.Reader) (m moment, err error) {
	if m.meta, err = tables.ReadMeta(ctx, q); err != nil {
		return m, err
	}
	if m.cursors, err = tables.ReadCursors(ctx, q, m.meta.TopicID); err != nil {
		return m, err
	}
	if m.baseline, err = tables.ReadBaseline(ctx, q); err != nil {
		return m, err
	}
	m.pruned, err = tables.ReadPruned(ctx, q, tables.PrunedRows)
	return m, err
}

// dueMargin is how far the event time of all partitions is past a window's end before the window
// counts as due.
const dueMargin = 60 // minutes

// checkDue takes note of a window that lacks events: whether it should have them by now. Events on
// their way to the group table, and those that came after the window was stored, are another
// matter.
func (p *plazaWindows) checkDue(w toll.Window) {
	if p.v.in.Passed == 0 || int64(w.End)+dueMargin > int64(p.v.in.Passed) || w.End <= p.done ||
		len(p.flight.In(w)) > 0 {
		return
	}
	p.v.report.WindowsDue++
	if p.due.Start >= p.due.End || w.End < p.due.End {
		p.due = w
	}
}

// checkStalled reports windows that are due where a process has found that it stores none. Time
// alone proves nothing: in a replay, event time passes years within minutes, and where no process
// runs nothing closes.
func (v *verification) checkStalled(ctx context.Context, q db.Reader) error {
	if v.report.WindowsDue == 0 {
		return nil
	}
	var instance, stored string
	err := q.QueryRowContext(ctx, `SELECT instance, stalled_since FROM toll_process
		WHERE stalled_since IS NOT NULL ORDER BY stalled_since LIMIT 1`).Scan(&instance, &stored)
	if errors.Is(err, dbsql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	since, err := db.ParseTime(stored)
	if err != nil {
		return err
	}
	v.found.ofWindows(KindWindowStalled, v.report.WindowsDue,
		"%s not closed, the first of which ended at %s; the process %s has stored none since %s",
		text.Count(v.report.WindowsDue, "window was", "windows were"), v.windows.clock(v.windows.due.End),
		instance,
		since.Format("2006-01-02 15:04 MST"))
	return nil
}
