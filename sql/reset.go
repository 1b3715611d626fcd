package sql

import (
	"context"
	"errors"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

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
