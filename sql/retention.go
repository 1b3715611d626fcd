package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	dbsql "database/sql"

	"tollstream/toll"
)

// MinKeepWindows is the shortest time that windows are kept: what is usual at a plaza is learned from the windows of the
// weeks before, and verification looks at those of the last days.
const MinKeepWindows = (toll.HistoryWeeks*7 + 4) * 24 * time.Hour

// KeepWindows returns how long windows of a kind are kept where those of a quarter of an hour or more are kept for keep:
// shorter ones, of which there are the most, a tenth of that, and days ten times as long.
func KeepWindows(k *toll.WindowKind, keep time.Duration) time.Duration {
	switch {
	case k.Day:
		return 10 * keep
	case k.Hop < toll.Quarter:
		return keep / 10
	}
	return keep
}

// RetentionOptions say what is old. 0 keeps for ever.
type RetentionOptions struct {
	// Now is the minute up to which windows have closed, by the stream's watermark.
	Now toll.Minute
	// Windows are the kinds that are counted, KeepWindows how long their results are kept, see [KeepWindows]; so long, too,
	// the changes of congestion.
	Windows     []toll.WindowKind
	KeepWindows time.Duration
	// KeepDeadLetters is how long dead letters are kept, by the server's clock.
	KeepDeadLetters time.Duration
}

// Retired is what was deleted.
type Retired struct{ Windows, Transitions, DeadLetters int64 }

// retireRows is how many rows one transaction deletes at most. It is a variable for tests.
var retireRows = int64(1000)

// Retire deletes results that are older than they are kept for, and dead letters, some at a time. What verification has
// to know of it is recorded before, or in the same transaction. It may be run at any time, by several at once too.
func (s *Store) Retire(ctx context.Context, o RetentionOptions) (Retired, error) {
	var done Retired
	s.embedded(ctx)
	if o.KeepWindows > 0 {
		if err := s.retireWindows(ctx, o, &done); err != nil {
			return done, s.wrap("delete old windows", err)
		}
		if err := s.retireTransitions(ctx, o, &done); err != nil {
			return done, s.wrap("delete old changes of congestion", err)
		}
	}
	if o.KeepDeadLetters > 0 {
		if err := s.retireDeadLetters(ctx, o.KeepDeadLetters, &done); err != nil {
			return done, s.wrap("delete old dead letters", err)
		}
	}
	return done, nil
}

func (s *Store) retireWindows(ctx context.Context, o RetentionOptions, done *Retired) error {
	before := map[string]toll.Minute{}
	for i := range o.Windows {
		k := &o.Windows[i]
		before[k.Name] = addMinutes(o.Now, -int64(KeepWindows(k, o.KeepWindows)/time.Minute))
		if err := s.retire(ctx, retiredWindows+k.Name, before[k.Name]); err != nil {
			return err
		}
	}
	kinds, err := storedKinds(ctx, s.db)
	if err != nil {
		return err
	}
	for plaza, names := range kinds {
		for _, kind := range names {
			b, counted := before[kind]
			if !counted {
				continue
			}
			// A revision that is not known to be published stays until it is.
			n, err := s.deleteSome(ctx, `DELETE FROM toll_window WHERE toll_plaza_id = ? AND kind = ? AND start_minute < ?
				AND end_minute <= ? AND published = 1 LIMIT ?`, plaza, kind, b, b)
			done.Windows += n
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) retireTransitions(ctx context.Context, o RetentionOptions, done *Retired) error {
	before := addMinutes(o.Now, -int64(o.KeepWindows/time.Minute))
	for plaza := int64(toll.MinPlaza) - 1; ; {
		err := s.db.QueryRowContext(ctx, `SELECT toll_plaza_id FROM toll_transition WHERE toll_plaza_id > ? ORDER BY toll_plaza_id LIMIT 1`, plaza).Scan(&plaza)
		if errors.Is(err, dbsql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := s.deleteSome(ctx, `DELETE FROM toll_transition WHERE toll_plaza_id = ? AND detected_minute < ? AND published = 1 LIMIT ?`, plaza, before)
		done.Transitions += n
		if err != nil {
			return err
		}
	}
}

// deleteSome runs a DELETE that ends in LIMIT ? until nothing is left to delete.
func (s *Store) deleteSome(ctx context.Context, query string, args ...any) (int64, error) {
	args = append(slices.Clone(args), retireRows)
	for total := int64(0); ; {
		began := time.Now()
		res, err := s.db.ExecContext(ctx, query, args...)
		if n := number(err); n == errDeadlock || n == errLockWait {
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
		if err := rest(ctx, time.Since(began)); err != nil {
			return total, err
		}
	}
}

// rest waits for as long as something took, at most a second: what is urgent comes first.
func rest(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(took, time.Second)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retireDeadLetters deletes the oldest dead letters of each partition, which are the first by their offset.
func (s *Store) retireDeadLetters(ctx context.Context, keep time.Duration, done *Retired) error {
	m, err := readMeta(ctx, s.db)
	if err != nil {
		return err
	}
	cursors, err := readCursors(ctx, s.db, m.TopicID)
	if err != nil {
		return err
	}
	for _, c := range cursors {
		for {
			began := time.Now()
			n, err := s.retireSomeLetters(ctx, m.TopicID, c.partition, keep)
			if e := number(err); e == errDeadlock || e == errLockWait {
				break // another time
			}
			if err != nil {
				return err
			}
			done.DeadLetters += n
			if n < retireRows {
				break
			}
			if err := rest(ctx, time.Since(began)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) retireSomeLetters(ctx context.Context, topicID string, partition int32, keep time.Duration) (int64, error) {
	tx, err := s.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	n, last, err := oldLetters(ctx, tx, topicID, partition, keep)
	if err != nil || n == 0 {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM toll_dead_letter WHERE topic_id = ? AND partition_id = ? AND record_offset <= ?`, topicID, partition, last)
	if err != nil {
		return 0, err
	}
	if deleted, err := res.RowsAffected(); err != nil || deleted != n {
		return 0, errors.Join(fmt.Errorf("%d dead letters of partition %d deleted, not %d", deleted, partition, n), err)
	}
	// A repaired event of theirs that is sent again would be a row once more; it was as old as they are.
	if _, err := tx.ExecContext(ctx, `DELETE FROM toll_retry WHERE topic_id = ? AND partition_id = ? AND record_offset <= ?`, topicID, partition, last); err != nil {
		return 0, err
	}
	if err := addPruned(ctx, tx, prunedLetters, int(partition), rowCount{rows: n}); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// oldLetters returns how many of a partition's first dead letters are older than they are kept for, up to as many as are
// deleted at a time, and the offset of the last of them. It locks them.
func oldLetters(ctx context.Context, tx reader, topicID string, partition int32, keep time.Duration) (n, last int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT record_offset, rejected_at, NOW(6) FROM toll_dead_letter
		WHERE topic_id = ? AND partition_id = ? ORDER BY record_offset LIMIT ? FOR UPDATE`, topicID, partition, retireRows)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var offset int64
		var rejected, now string
		if err := rows.Scan(&offset, &rejected, &now); err != nil {
			return 0, 0, err
		}
		at, err := parseTime(rejected)
		if err != nil {
			return 0, 0, err
		}
		t, err := parseTime(now)
		if err != nil {
			return 0, 0, err
		}
		if t.Sub(at) < keep {
			break
		}
		n, last = n+1, offset
	}
	return n, last, rows.Err()
}
