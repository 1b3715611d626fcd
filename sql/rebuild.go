package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Rebuild is what a rebuild does, or is about to do.
type Rebuild struct {
	Epoch      uint64 `json:"epoch"`     // of the cursors before; 0 where there are none
	NewEpoch   uint64 `json:"new_epoch"` // 0 where it was not done
	Partitions int    `json:"partitions"`
	Batches    int64  `json:"batches"`     // of the outbox, all of which are published again
	Events     int64  `json:"events"`      // of them
	OutboxSize int64  `json:"outbox_size"` // bytes of their deltas
}

// PlanRebuild returns what a rebuild would do now.
func (s *Store) PlanRebuild(ctx context.Context, id Identity) (Rebuild, error) {
	if _, err := s.Check(ctx, id); err != nil {
		return Rebuild{}, err
	}
	var r Rebuild
	err := s.db.Snapshot(ctx, func(q db.Reader) error { return r.read(ctx, q, id.TopicID) })
	return r, s.db.Wrap("read the outbox", err)
}

func (r *Rebuild) read(ctx context.Context, q db.Reader, topicID string) error {
	var epoch dbsql.Null[uint64]
	if err := q.QueryRowContext(ctx, `SELECT MAX(epoch), COUNT(*) FROM toll_cursor`).Scan(&epoch,
		&r.Partitions); err != nil {
		return err
	}
	r.Epoch = epoch.V
	return q.QueryRowContext(ctx, `SELECT COUNT(*), CAST(COALESCE(SUM(events), 0) AS SIGNED),
		CAST(COALESCE(SUM(LENGTH(deltas)), 0) AS SIGNED)
		FROM toll_batch WHERE topic_id = ?`, topicID).Scan(&r.Batches, &r.Events, &r.OutboxSize)
}

// Rebuild rebuilds the group table from the outbox: in one transaction over all partitions
// it raises the epoch above every one that there was, and marks all batches as not published. The
// owners of the partitions, those that run and those that start later, find the epoch changed and
// publish everything again; states of an older epoch count as empty. above is the highest epoch
// that is known from elsewhere, from the group table above all.
//
// Rows, windows and congestion stay as they are. It may be run at any time and as often as one
// likes. After an error that is no [toll.PermanentError] it may be done or not; running it again is
// right either way.
func (s *Store) Rebuild(ctx context.Context, id Identity, above uint64, now time.Time) (Rebuild,
	error) {
	if _, err := s.Check(ctx, id); err != nil {
		return Rebuild{}, err
	}
	const attempts = 10 // of which each may wait for a lock for 5 s
	for try := 1; ; try++ {
		r, err := s.rebuild(ctx, id, above, now)
		if db.Conflict(err) && try < attempts {
			continue
		}
		return r, s.db.Wrap("raise the epoch", err)
	}
}

func (s *Store) rebuild(ctx context.Context, id Identity, above uint64, now time.Time) (Rebuild,
	error) {
	var r Rebuild
	tx, err := s.db.BeginLocking(ctx)
	if err != nil {
		return r, err
	}
	defer tx.Rollback()
	if err := r.raise(ctx, tx, id.TopicID, above, now); err != nil {
		return r, err
	}
	return r, tx.Commit()
}

// raise raises the epoch and marks all batches as not published, within a transaction that has
// locked nothing yet.
func (r *Rebuild) raise(
	ctx context.Context, tx *dbsql.Tx, topicID string, above uint64, now time.Time,
) error {
	// toll_meta goes first: its lock keeps out new cursors, other rebuilds, and the results of windows
	// that were counted in an epoch that is over by the time they are stored. Then come the cursors,
	// as in every transaction.
	var one int
	if err := tx.QueryRowContext(ctx,
		`SELECT id FROM toll_meta WHERE id = 1 FOR UPDATE`).Scan(&one); err != nil {
		return err
	}
	if err := lockCursors(ctx, tx); err != nil {
		return err
	}
	if err := r.read(ctx, tx, topicID); err != nil {
		return err
	}
	r.NewEpoch = max(uint64(now.UnixMilli()), r.Epoch, above) + 1
	if r.Partitions == 0 {
		// New cursors take their epoch from created_at then.
		created := time.UnixMilli(int64(r.NewEpoch)).UTC().Format("2006-01-02 15:04:05.000000")
		if _, err := tx.ExecContext(ctx, `UPDATE toll_meta SET created_at = ? WHERE id = 1`,
			created); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE toll_cursor SET epoch = ?`, r.NewEpoch); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`UPDATE toll_batch SET published = 0 WHERE published <> 0`); err != nil {
		return err
	}
	return nil
}

// lockCursors locks the cursors of all partitions: batches that are being stored are complete by
// then, and later ones find the epoch changed.
func lockCursors(ctx context.Context, tx *dbsql.Tx) error {
	rows, err := tx.QueryContext(ctx,
		`SELECT partition_id FROM toll_cursor ORDER BY topic_id, partition_id FOR UPDATE`)
	var partition int32
	return db.Each(rows, err, []any{&partition}, func() error { return nil })
}

// LogRange is what the topic holds of a partition: records from Start on, of which those from Other
// on, where that is not negative, are not the ones that were stored at these offsets.
type LogRange struct {
	Start int64
	Other int64
}

// Unreplayable returns how many rows of livetolldata a replay of the topic would not bring back,
// since the topic does not hold their records any more. logs are the partitions of the topic by
// number; none for a topic that was recreated, or is gone. exact is false where that is the
// most there can be: a row of toll_batch holds the first offset of the log and others below, or
// rows were pruned, or a log was replaced.
func (s *Store) Unreplayable(ctx context.Context, logs map[int32]LogRange) (rows int64, exact bool,
	err error) {
	exact = true
	err = s.db.Snapshot(ctx, func(q db.Reader) error {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return err
		}
		if m.Resetting != tables.NotResetting {
			return nil // it was allowed, and has begun
		}
		accepted, err := tables.ReadAcceptedLogs(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		cursors, err := tables.ReadCursors(ctx, q, m.TopicID)
		if err != nil {
			return err
		}
		partitions, err := tables.StoredPartitions(ctx, q, m.TopicID, cursors)
		if err != nil {
			return err
		}
		var all int64
		for _, p := range partitions {
			log, found := logs[p]
			if !found {
				log = LogRange{Start: 1<<63 - 1, Other: -1}
			}
			other, until := log.Other, int64(1<<63-1)
			if other < 0 {
				until = -1 // nothing
			}
			for _, a := range accepted {
				if a.Partition != p {
					continue
				}
				from := log.Start
				if a.From != nil {
					from = *a.From
				}
				if until < 0 {
					other, until = from, a.Next
				} else {
					other, until = min(other, from), max(until, a.Next)
				}
			}
			var lost, stored, astride int64
			if err := q.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(events), 0) AS SIGNED),
				CAST(COALESCE(SUM(CASE WHEN first_offset < ? OR next_offset > ?
				AND first_offset < ? THEN events ELSE 0 END), 0) AS SIGNED),
				CAST(COALESCE(SUM(CASE WHEN first_offset < ? AND next_offset > ?
				AND events > 0 THEN 1 ELSE 0 END), 0) AS SIGNED)
				FROM toll_batch WHERE topic_id = ? AND partition_id = ?`,
				log.Start, other, until, log.Start, log.Start, m.TopicID, p).Scan(&stored, &lost,
				&astride); err != nil {
				return err
			}
			all += stored
			rows += lost
			exact = exact && astride == 0 && until < 0
		}
		var pruned int64
		if err := q.QueryRowContext(ctx,
			`SELECT CAST(COALESCE(SUM(pruned), 0) AS SIGNED) FROM toll_pruned WHERE what = 'rows'`).Scan(
			&pruned); err != nil {
			return err
		}
		if rows > 0 && pruned > 0 {
			exact, rows = false, min(rows, all-pruned)
		}
		return nil
	})
	return rows, exact, s.db.Wrap("count the rows that a replay would not bring back", err)
}

// UnreplayableText states how many rows a replay would not bring back.
func UnreplayableText(rows int64, exact bool) string {
	most := ""
	if !exact {
		most = "at most "
	}
	return fmt.Sprintf("%s%s of %s can't be replayed, since the topic no longer holds their records",
		most, text.Count(rows, "row"), tables.EventTable)
}

// RowsFrom returns how many rows were stored of the offsets from one on. exact is false where that
// is the most it can be, since a batch holds the offset and others below.
func (s *Store) RowsFrom(ctx context.Context, partition int32, from int64) (rows int64, exact bool,
	err error) {
	err = s.db.Snapshot(ctx, func(q db.Reader) error {
		rows, exact, err = rowsFrom(ctx, q, partition, from)
		return err
	})
	return rows, exact, s.db.Wrap(fmt.Sprintf("count the rows of partition %d", partition), err)
}

func rowsFrom(ctx context.Context, q db.Reader, partition int32, from int64) (rows int64,
	exact bool,
	err error) {
	var astride int64
	err = q.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(b.events), 0) AS SIGNED),
		CAST(COALESCE(SUM(b.first_offset < ? AND b.events > 0), 0) AS SIGNED)
		FROM toll_batch b JOIN toll_meta m ON b.topic_id = m.topic_id WHERE b.partition_id = ?
		AND b.next_offset > ?`,
		from, partition, from).Scan(&rows, &astride)
	return rows, astride == 0, err
}

// AcceptLog lets a partition go on in another log: what is at its last offset now counts as the
// last record that was consumed. It returns [toll.ErrCursorMoved] where the cursor is not as it was
// read.
func (s *Store) AcceptLog(ctx context.Context, c *toll.Cursor, last toll.LastRecord,
	a tables.AcceptedLog) error {
	m, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.db.Wrap("accept the log", err)
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, `UPDATE toll_cursor SET last_offset = ?, last_leader_epoch = ?,
		last_timestamp = ?, last_crc = ?,
		log_replaced = '', updated_at = NOW(6)
		WHERE topic_id = ? AND partition_id = ? AND next_offset = ? AND token = ? AND epoch = ?`,
		append(tables.LastRecordColumns(last), m.TopicID, c.Partition, c.Next, c.Token, c.Epoch)...)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != 1 {
			return toll.ErrCursorMoved
		}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO toll_accepted_log
			(topic_id, partition_id, accepted_at, next_offset, differs_from, rows_left, records_skipped,
			most_rows, most_records, why)
			VALUES (?, ?, UTC_TIMESTAMP(6), ?, ?, ?, ?, ?, ?, ?)`,
			m.TopicID, a.Partition, a.Next, a.From, a.Rows, a.Records, a.MostRows, a.MostRecords,
			db.CutRunes(a.Why, tables.MaxReasonRunes))
	}
	if err == nil {
		err = tx.Commit()
	}
	return s.db.Wrap(fmt.Sprintf("accept the log of partition %d", c.Partition), err)
}

// ResetOptions sets what a reset empties.
type ResetOptions struct {
	// AllRows also deletes the rows of livetolldata that tollstream did not store, and forgets the
	// baseline.
	AllRows bool
}

// Reset empties livetolldata and all that was derived from the topic, for a replay from the start.
// The database goes on to serve the same group, topic and timezone; the topic's id becomes id's.
// The next process records the windows and plazas again. No process may run meanwhile.
//
// livetolldata has no key, so the rows from before tollstream can't be distinguished from those
// that it stored: where there are any, Reset refuses with a [toll.PermanentError] unless they may
// go as well (AllRows).
//
// TRUNCATE can't be rolled back, so a reset first marks the database, which makes [Store.Check]
// refuse it, and takes the mark away last. Whatever interrupts it in between, the same reset run
// again completes it.
//
// It returns what it did, a sentence each.
func (s *Store) Reset(ctx context.Context, id Identity, o ResetOptions) ([]string, error) {
	m, err := s.Meta(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.CheckVersion(s.db); err != nil {
		return nil, err
	}
	if err := s.checkIdentity(m,
		Identity{Group: id.Group, Topic: id.Topic, Timezone: id.Timezone}); err != nil {
		return nil, err
	}
	state := tables.ResettingOurs
	if o.AllRows {
		state = tables.ResettingAllRows
	}
	if m.Resetting > state {
		return nil, toll.Permanent("run again: "+m.Resetting.Command(),
			"a reset of %s was interrupted; it may have deleted rows from before", s.db.Address)
	}
	if m.Resetting == tables.NotResetting && !o.AllRows {
		if err := s.checkOnlyOurs(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE toll_meta SET resetting = ? WHERE id = 1`,
		int(state)); err != nil {
		return nil, s.db.Wrap("mark the database as being reset", err)
	}
	// The cursors go first: a batch that is still being stored needs its cursor, so it either is
	// complete by now, and its rows go with the others below, or stores nothing.
	names := []string{"toll_cursor", "toll_batch", "toll_dead_letter", "toll_retry",
		"toll_window", "toll_congestion", "toll_transition", "toll_plaza", "toll_pruned", "toll_retired",
		"toll_accepted_log", "toll_process", "toll_incident_note", "toll_notification"}
	if o.AllRows {
		names = append(names, "toll_baseline")
	}
	var done []string
	for _, t := range append(names, tables.EventTable) {
		if err := s.empty(ctx, t); err != nil {
			return done, s.db.Wrap("empty table "+t, err)
		}
		done = append(done, "emptied table "+t)
	}
	// New cursors take their epoch from created_at. A later one makes the states of plazas that are
	// left anywhere, in Kafka or in a process that was paused, count as empty.
	if _, err := s.db.ExecContext(ctx, `UPDATE toll_meta SET resetting = 0, topic_id = ?,
		created_at = NOW(6), windows = '', lateness_seconds = 0
		WHERE id = 1`, id.TopicID); err != nil {
		return done, s.db.Wrap("record the end of the reset", err)
	}
	if id.TopicID != "" && id.TopicID != m.TopicID {
		done = append(done, "recorded the topic's id "+id.TopicID)
	}
	return done, nil
}

// empty deletes all rows of a table. TRUNCATE takes the same time however many there are, but needs
// the right to drop.
func (s *Store) empty(ctx context.Context, table string) error {
	_, err := s.db.ExecContext(ctx, "TRUNCATE TABLE "+table)
	if db.Number(err) == db.ErrTableDenied {
		_, err = s.db.ExecContext(ctx, "DELETE FROM "+table)
	}
	return err
}

// checkOnlyOurs returns a [toll.PermanentError] where livetolldata holds rows that tollstream did
// not store.
func (s *Store) checkOnlyOurs(ctx context.Context) error {
	var before, rows, stored, pruned int64
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		return errors.Join(
			q.QueryRowContext(ctx,
				`SELECT CAST(COALESCE(SUM(events), 0) AS SIGNED) FROM toll_baseline`).Scan(&before),
			q.QueryRowContext(ctx,
				`SELECT CAST(COALESCE(SUM(events), 0) AS SIGNED) FROM toll_batch`).Scan(&stored),
			q.QueryRowContext(ctx,
				`SELECT CAST(COALESCE(SUM(pruned), 0) AS SIGNED) FROM toll_pruned WHERE what = 'rows'`).Scan(
				&pruned),
			q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+tables.EventTable).Scan(&rows))
	})
	if err != nil {
		return s.db.Wrap("count the rows", err)
	}
	stored -= pruned
	const hint = "to empty the whole table, run: tollstream reset --yes --all-rows"
	switch {
	case before > 0:
		return toll.Permanent(hint,
			"%s holds %s from before tollstream, which can't be distinguished from the %s that it stored",
			tables.EventTable, text.Count(before, "row"), text.Number(stored))
	case rows > stored:
		return toll.Permanent(hint,
			"%s holds %s that tollstream did not store, and they can't be distinguished from the %s that "+
				"it stored",
			tables.EventTable, text.Count(rows-stored, "row"), text.Number(stored))
	}
	return nil
}
