package results

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// writeTransitions inserts transitions that are not published yet. One that is there already stays
// as it is.
func (r *Writer) writeTransitions(ctx context.Context, tx *dbsql.Tx,
	all []traffic.Transition) error {
	if len(all) == 0 {
		return nil
	}
	args := make([]any, 0, 10*len(all))
	for i := range all {
		t := &all[i]
		r.written.transitions = append(r.written.transitions, t.Plaza)
		from, err := t.From.MarshalText()
		if err != nil {
			return err
		}
		to, err := t.To.MarshalText()
		if err != nil {
			return err
		}
		measure, err := json.Marshal(&t.Measure)
		if err != nil {
			return err
		}
		args = append(args, t.Plaza, t.Detected, t.Since, r.wall(t.Detected), r.wall(t.Since),
			string(from), string(to), t.Why, string(measure), t.Epoch)
	}
	const tuple = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NOW(6))`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_transition (toll_plaza_id, detected_minute,
		since_minute, detected, since, from_state, to_state,
		why, measure, epoch, published, stored_at)
		VALUES `+tuple+strings.Repeat(","+tuple, len(all)-1)+`
			ON DUPLICATE KEY UPDATE since_minute = since_minute`, args...)
	if err != nil || !r.cfg.Notify {
		return err
	}
	return notify(ctx, tx, all)
}

// notify puts the changes that begin, change or end an incident into the outbox of notifications.
// One that is there already, whether it was sent or not, stays as it is.
func notify(ctx context.Context, tx *dbsql.Tx, all []traffic.Transition) error {
	var args []any
	for i := range all {
		if t := &all[i]; !t.From.Calm() || !t.To.Calm() {
			args = append(args, t.Plaza, t.Detected)
		}
	}
	if len(args) == 0 {
		return nil
	}
	const tuple = `(?, ?, NOW(6), 0, NOW(6), '', '')`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_notification (toll_plaza_id, detected_minute,
		created_at, attempts, next_attempt, outcome, error)
		VALUES `+tuple+strings.Repeat(","+tuple, len(args)/2-1)+`
			ON DUPLICATE KEY UPDATE attempts = attempts`, args...)
	return err
}

// Transitions returns a plaza's changes of state, the newest first, as many as limit at most.
func (r *Reader) Transitions(ctx context.Context, plaza int16, limit int) ([]traffic.Transition,
	error) {
	all, err := tables.ReadTransitions(ctx, r.db,
		`WHERE toll_plaza_id = ? ORDER BY detected_minute DESC LIMIT ?`, plaza, limit)
	return all, r.db.Wrap(fmt.Sprintf("read the transitions of plaza %d", plaza), err)
}

// TransitionPage returns a plaza's changes of state that were detected in a stretch of time, the
// newest first, as many as limit at most.
func (r *Reader) TransitionPage(ctx context.Context, plaza int16, within toll.Window,
	limit int) ([]traffic.Transition, error) {
	all, err := tables.ReadTransitions(ctx, r.db, `WHERE toll_plaza_id = ? AND detected_minute >= ?
		AND detected_minute < ? ORDER BY detected_minute DESC LIMIT ?`, plaza, within.Start,
		within.End, limit)
	return all, r.db.Wrap(fmt.Sprintf("read the transitions of plaza %d", plaza), err)
}
