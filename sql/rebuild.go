package sql

import (
	"context"
	dbsql "database/sql"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
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
	tx, err := s.db.BeginTx(ctx, nil)
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
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}
