// Package retention deletes and compacts what is old, so that every invariant holds at any moment.
package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	dbsql "database/sql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// MinKeepWindows is the shortest time that windows are kept: what is usual at a plaza is learned
// from the windows of the weeks before, and verification looks at those of the last days.
const MinKeepWindows = (traffic.HistoryWeeks*7 + 4) * 24 * time.Hour

// KeepWindows returns how long windows of a kind are kept where those of a quarter of an hour or
// more are kept for keep: shorter ones, of which there are the most, a tenth of that, and days ten
// times as long, or for as long as a duration can say.
func KeepWindows(k *toll.WindowKind, keep time.Duration) time.Duration {
	switch {
	case k.Day && keep > math.MaxInt64/10:
		return math.MaxInt64
	case k.Day:
		return 10 * keep
	case k.Hop < toll.Quarter:
		return keep / 10
	}
	return keep
}

// Options sets what is old. 0 keeps everything.
type Options struct {
	// Clocks are what the clocks show. Ages are counted from the earliest of them, see
	// [toll.Clocks.Now].
	Clocks toll.Clocks
	// Windows are the kinds that are counted, KeepWindows how long their results are kept, see
	// [KeepWindows]; so long, too, the changes of congestion.
	Windows     []toll.WindowKind
	KeepWindows time.Duration
	// KeepDeadLetters is how long dead letters are kept.
	KeepDeadLetters time.Duration
}

// Retired is what was deleted.
type Retired struct{ Windows, Transitions, DeadLetters int64 }

// retireRows is how many rows one transaction deletes at most. It is a variable for tests.
var retireRows = int64(1000)

// Cleaner deletes what is old.
type Cleaner struct{ db *db.DB }

// NewCleaner returns a cleaner of a database.
func NewCleaner(db *db.DB) *Cleaner { return &Cleaner{db} }

// Retire deletes results that are older than they are kept for, and dead letters, in batches.
// What verification has to know of it is recorded in the same transaction, and only of what was
// deleted. It may be run at any time, by several at once too.
func (c *Cleaner) Retire(ctx context.Context, o Options) (Retired, error) {
	var done Retired
	now, known := o.Clocks.Now()
	if !known || o.KeepWindows < 0 || o.KeepDeadLetters < 0 {
		return done, errors.New("delete what is old: it is not known how late it is, or what is old")
	}
	c.db.Embedded(ctx)
	if o.KeepWindows > 0 {
		if err := c.retireWindows(ctx, now, o, &done); err != nil {
			return done, c.db.Wrap("delete old windows", err)
		}
		if err := c.retireTransitions(ctx, ago(now, o.KeepWindows), &done); err != nil {
			return done, c.db.Wrap("delete old changes of congestion", err)
		}
	}
	if o.KeepDeadLetters > 0 {
		if err := c.retireDeadLetters(ctx, now, o.KeepDeadLetters, &done); err != nil {
			return done, c.db.Wrap("delete old dead letters", err)
		}
	}
	return done, nil
}

// ago returns the minute that was some time before now. It is never after now.
func ago(now time.Time, keep time.Duration) toll.Minute {
	return tables.AddMinutes(toll.MinuteAt(now.Unix()), -int64(max(keep, 0)/time.Minute))
}

func (c *Cleaner) retireWindows(ctx context.Context, now time.Time, o Options,
	done *Retired) error {
	kinds, err := tables.StoredKinds(ctx, c.db)
	if err != nil {
		return err
	}
	before := map[string]toll.Minute{}
	for i := range o.Windows {
		k := &o.Windows[i]
		before[k.Name] = ago(now, KeepWindows(k, o.KeepWindows))
	}
	for _, plaza := range slices.Sorted(maps.Keys(kinds)) {
		for _, kind := range kinds[plaza] {
			b, counted := before[kind]
			for more := counted; more; {
				began := time.Now()
				n, err := c.retireSomeWindows(ctx, plaza, kind, b)
				if db.Conflict(err) || errors.Is(err, errRowsChanged) {
					break // another time
				}
				if err != nil {
					return err
				}
				done.Windows += n
				if more = n == retireRows; more {
					if err := db.Rest(ctx, time.Since(began)); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// oldWindows is the condition of the windows of a plaza and kind that are deleted: those that end
// at or before a minute. A revision that is not known to be published stays until it is.
const oldWindows = `toll_plaza_id = ? AND kind = ? AND start_minute < ? AND end_minute <= ?
	AND published = 1`

// retireSomeWindows deletes the first of those windows of a plaza and kind that end at or before a
// minute, and records up to where it did in the same transaction.
func (c *Cleaner) retireSomeWindows(ctx context.Context, plaza int16, kind string,
	before toll.Minute) (int64, error) {
	var some int
	err := c.db.QueryRowContext(ctx, `SELECT 1 FROM toll_window WHERE `+oldWindows+` LIMIT 1`,
		plaza, kind, before, before).Scan(&some)
	if errors.Is(err, dbsql.ErrNoRows) { // nearly always
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	tx, err := c.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	n, last, end, err := lockOldWindows(ctx, tx, plaza, kind, before)
	if err != nil || n == 0 {
		return 0, err
	}
	res, err := tx.ExecContext(ctx,
		`DELETE FROM toll_window WHERE `+oldWindows+` AND start_minute <= ?`,
		plaza, kind, before, before, last)
	if err != nil {
		return 0, err
	}
	if deleted, err := res.RowsAffected(); err != nil || deleted != n {
		return 0, errors.Join(errRowsChanged, err)
	}
	if err := tables.AddRetired(ctx, tx, tables.RetiredWindows+kind, end); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// lockOldWindows locks the first windows to delete, and returns how many they are, where the last
// of them starts, and where the last to end does.
func lockOldWindows(ctx context.Context, tx db.Reader, plaza int16, kind string,
	before toll.Minute) (n int64, last, end toll.Minute, err error) {
	end = math.MinInt32
	var e toll.Minute
	rows, err := tx.QueryContext(ctx, `SELECT start_minute, end_minute FROM toll_window WHERE `+
		oldWindows+`
		ORDER BY start_minute LIMIT ? FOR UPDATE`, plaza, kind, before, before, retireRows)
	err = db.Each(rows, err, []any{&last, &e}, func() error {
		n, end = n+1, max(end, e)
		return nil
	})
	return n, last, end, err
}

func (c *Cleaner) retireTransitions(ctx context.Context, before toll.Minute, done *Retired) error {
	for plaza := int64(toll.MinPlaza) - 1; ; {
		err := c.db.QueryRowContext(ctx, `SELECT toll_plaza_id FROM toll_transition
			WHERE toll_plaza_id > ? ORDER BY toll_plaza_id LIMIT 1`, plaza).Scan(&plaza)
		if errors.Is(err, dbsql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := c.deleteSome(ctx, `DELETE FROM toll_transition WHERE toll_plaza_id = ?
			AND detected_minute < ? AND published = 1 LIMIT ?`, plaza, before)
		done.Transitions += n
		if err != nil {
			return err
		}
		// What belongs to a transition goes with it, so that none is notified of twice.
		if _, err := c.deleteSome(ctx, `DELETE FROM toll_notification WHERE toll_plaza_id = ?
			AND detected_minute < ? AND outcome <> '' LIMIT ?`, plaza, before); err != nil {
			return err
		}
		if _, err := c.deleteSome(ctx, `DELETE FROM toll_incident_note WHERE toll_plaza_id = ?
			AND detected_minute < ? LIMIT ?`, plaza, before); err != nil {
			return err
		}
	}
}

// deleteSome runs a DELETE that ends in LIMIT ? until nothing is left to delete.
func (c *Cleaner) deleteSome(ctx context.Context, query string, args ...any) (int64, error) {
	args = append(slices.Clone(args), retireRows)
	for total := int64(0); ; {
		began := time.Now()
		res, err := c.db.ExecContext(ctx, query, args...)
		if db.Conflict(err) {
			return total, nil // another time
		}
		if err != nil {
			return total, err
		}
		n, err := res.RowsAffected()
		total += n
		if err != nil || n < retireRows {
			return total, err
		}
		if err := db.Rest(ctx, time.Since(began)); err != nil {
			return total, err
		}
	}
}

// retireDeadLetters deletes the oldest dead letters of each partition, which are the first by their
// offset.
func (c *Cleaner) retireDeadLetters(ctx context.Context, now time.Time, keep time.Duration,
	done *Retired) error {
	m, err := tables.ReadMeta(ctx, c.db)
	if err != nil {
		return err
	}
	cursors, err := tables.ReadCursors(ctx, c.db, m.TopicID)
	if err != nil {
		return err
	}
	for _, cursor := range cursors {
		for {
			began := time.Now()
			n, err := c.retireSomeLetters(ctx, m.TopicID, cursor.Partition, now, keep)
			if db.Conflict(err) {
				break // another time
			}
			if err != nil {
				return err
			}
			done.DeadLetters += n
			if n < retireRows {
				break
			}
			if err := db.Rest(ctx, time.Since(began)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cleaner) retireSomeLetters(ctx context.Context, topicID string, partition int32,
	now time.Time, keep time.Duration) (int64, error) {
	tx, err := c.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	n, last, err := oldLetters(ctx, tx, topicID, partition, now, keep)
	if err != nil || n == 0 {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM toll_dead_letter WHERE topic_id = ?
		AND partition_id = ? AND record_offset <= ?`, topicID, partition, last)
	if err != nil {
		return 0, err
	}
	if deleted, err := res.RowsAffected(); err != nil || deleted != n {
		return 0, errors.Join(fmt.Errorf("%d dead letters of partition %d deleted, not %d", deleted,
			partition, n), err)
	}
	// A repaired event of theirs that is sent again would be a row once more; it was as old as they
	// are.
	if _, err := tx.ExecContext(ctx, `DELETE FROM toll_retry WHERE topic_id = ? AND partition_id = ?
		AND record_offset <= ?`, topicID, partition, last); err != nil {
		return 0, err
	}
	if err := tables.AddPruned(ctx, tx, tables.PrunedLetters, int(partition),
		tables.RowCount{Rows: n}); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// oldLetters returns how many of a partition's first dead letters are older than they are kept for,
// up to as many as are deleted at a time, and the offset of the last of them. It locks them.
//
// A dead letter is as old as the younger of two times says: when it was rejected, by the server's
// clock of then, which may have been years behind, and its record's timestamp, unless that is in
// the future.
func oldLetters(ctx context.Context, tx db.Reader, topicID string, partition int32, now time.Time,
	keep time.Duration) (n, last int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT record_offset, rejected_at, record_time
		FROM toll_dead_letter
		WHERE topic_id = ? AND partition_id = ? ORDER BY record_offset LIMIT ? FOR UPDATE`, topicID,
		partition, retireRows)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var offset int64
		var rejected, recorded string
		if err := rows.Scan(&offset, &rejected, &recorded); err != nil {
			return 0, 0, err
		}
		at, err := db.ParseTime(rejected)
		if err != nil {
			return 0, 0, err
		}
		record, err := db.ParseTime(recorded)
		if err != nil {
			return 0, 0, err
		}
		if now.Sub(at) < keep || !record.After(now) && now.Sub(record) < keep {
			break
		}
		n, last = n+1, offset
	}
	return n, last, rows.Err()
}
