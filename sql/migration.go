package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"tollstream/toll"
)

// migration brings the tables from the version before to version to. Each of its statements must be harmless when it is
// run again, or fail with one of the errors in alreadyDone: DDL can't be rolled back. So must fill, which follows them.
// New tables are not among the statements: Init creates what is missing.
type migration struct {
	to         int
	statements []string
	fill       func(ctx context.Context, s *Store) error // may be nil
}

// migrations are in ascending order. Version 1 is the first.
var migrations = []migration{
	{
		to: 2, // event time
		statements: []string{
			`ALTER TABLE toll_meta ADD COLUMN windows varchar(250) NOT NULL DEFAULT ''`,
			`ALTER TABLE toll_meta ADD COLUMN lateness_seconds int NOT NULL DEFAULT 0`,
			`ALTER TABLE toll_cursor ADD COLUMN clock blob NULL`,
			`ALTER TABLE toll_batch ADD COLUMN first_minute int NULL`,
			`ALTER TABLE toll_batch ADD COLUMN last_minute int NULL`,
			`CREATE INDEX minutes ON toll_batch (topic_id, partition_id, last_minute, first_minute)`,
		},
		fill: func(ctx context.Context, s *Store) error { return s.fillMinutes(ctx) },
	},
	{
		to: 3, // compaction
		statements: []string{
			`ALTER TABLE toll_batch ADD COLUMN batches int NOT NULL DEFAULT 1`,
			`ALTER TABLE toll_batch ADD COLUMN folded_minute int NULL`,
		},
	},
}

// alreadyDone are the numbers of errors by which a server says that a migration's step was made before.
var alreadyDone = []uint16{
	1050, // the table exists
	1060, // the column exists
	1061, // the index exists
	1091, // what is to be dropped does not
}

// migrate brings the tables from version from up to that of the last migration, and returns what it did.
func (s *Store) migrate(ctx context.Context, from int, all []migration) ([]string, error) {
	var done []string
	for _, m := range all {
		if m.to <= from {
			continue
		}
		for _, statement := range m.statements {
			if _, err := s.db.ExecContext(ctx, statement); err != nil && !slices.Contains(alreadyDone, number(err)) && !embeddedAlreadyDone(err) {
				return done, s.wrap(fmt.Sprintf("migrate the tables to version %d", m.to), err)
			}
		}
		if m.fill != nil {
			if err := m.fill(ctx, s); err != nil {
				return done, s.wrap(fmt.Sprintf("migrate the rows to version %d", m.to), err)
			}
		}
		if _, err := s.db.ExecContext(ctx, `UPDATE toll_meta SET schema_version = ? WHERE id = 1`, m.to); err != nil {
			return done, s.wrap("record the version of the tables", err)
		}
		done = append(done, fmt.Sprintf("migrated the tables from version %d to %d", from, m.to))
		from = m.to
	}
	return done, nil
}

// embeddedAlreadyDone does for the embedded server, whose errors have no number of their own, what alreadyDone does.
func embeddedAlreadyDone(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && my.Number == errUnknown &&
		(strings.Contains(my.Message, "already exists") || strings.HasPrefix(my.Message, "Duplicate"))
}

// fillMinutes notes of each batch that was stored before version 2 which minutes its events are of.
func (s *Store) fillMinutes(ctx context.Context) error {
	for after := (batchKey{first: math.MinInt64}); ; {
		minutes, last, err := s.minutesAfter(ctx, after)
		if err != nil || last == after {
			return err
		}
		if err := s.setMinutes(ctx, minutes); err != nil {
			return err
		}
		after = last
	}
}

// batchKey is the primary key of toll_batch.
type batchKey struct {
	topicID   string
	partition int32
	first     int64
}

// fillBatches is how many batches' outboxes are read at a time. It is a variable for tests.
var fillBatches = 200

// minutesAfter reads which minutes the events of some batches behind one are of, and returns the last of these batches.
// One whose outbox can't be read is left out: nothing can be counted from it anyway, and verify names it.
func (s *Store) minutesAfter(ctx context.Context, after batchKey) (minutes map[batchKey]toll.Window, last batchKey, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT topic_id, partition_id, first_offset, deltas FROM toll_batch
		WHERE last_minute IS NULL AND events > 0
		AND (topic_id > ? OR topic_id = ? AND (partition_id > ? OR partition_id = ? AND first_offset > ?))
		ORDER BY topic_id, partition_id, first_offset LIMIT ?`,
		after.topicID, after.topicID, after.partition, after.partition, after.first, fillBatches)
	if err != nil {
		return nil, after, err
	}
	defer rows.Close()
	minutes, last = map[batchKey]toll.Window{}, after
	for rows.Next() {
		var blob dbsql.RawBytes
		if err := rows.Scan(&last.topicID, &last.partition, &last.first, &blob); err != nil {
			return nil, after, err
		}
		if deltas, err := s.cfg.Decode(blob); err == nil {
			minutes[last] = minutesOf(deltas)
		}
	}
	return minutes, last, rows.Err()
}

func (s *Store) setMinutes(ctx context.Context, minutes map[batchKey]toll.Window) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for k, w := range minutes {
		first, last := minuteColumns(w)
		if _, err := tx.ExecContext(ctx, `UPDATE toll_batch SET first_minute = ?, last_minute = ?
			WHERE topic_id = ? AND partition_id = ? AND first_offset = ?`, first, last, k.topicID, k.partition, k.first); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// minutesOf returns the minutes from the first to behind the last event of a batch, as [toll.Batch] has them.
func minutesOf(deltas []toll.PlazaDelta) toll.Window {
	w := toll.Window{Start: math.MaxInt32, End: math.MinInt32}
	for i := range deltas {
		for _, panes := range [...][]toll.Pane{deltas[i].Panes, deltas[i].LateQuarter, deltas[i].TooLate} {
			if len(panes) > 0 {
				last := panes[len(panes)-1].Start
				w.Start = min(w.Start, panes[0].Start)
				w.End = max(w.End, last+1, last) // the last minute that there is has no next
			}
		}
	}
	return w
}

// minuteColumns returns a batch's minutes as first_minute and last_minute hold them.
func minuteColumns(w toll.Window) (first, last dbsql.Null[int64]) {
	if w.Start < w.End {
		first = dbsql.Null[int64]{V: int64(w.Start), Valid: true}
		last = dbsql.Null[int64]{V: int64(w.End) - 1, Valid: true}
	}
	return first, last
}
