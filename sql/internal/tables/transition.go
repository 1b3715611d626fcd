package tables

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll/traffic"
)

// ReadTransitions reads the rows of toll_transition that a condition, or an order, selects.
func ReadTransitions(ctx context.Context, q db.Reader, condition string,
	args ...any) ([]traffic.Transition, error) {
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, detected_minute, since_minute, from_state,
		to_state, why, measure, epoch
		FROM toll_transition `+condition, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []traffic.Transition
	for rows.Next() {
		var t traffic.Transition
		var from, to string
		var measure dbsql.RawBytes
		if err := rows.Scan(&t.Plaza, &t.Detected, &t.Since, &from, &to, &t.Why, &measure,
			&t.Epoch); err != nil {
			return nil, err
		}
		if err := t.From.UnmarshalText([]byte(from)); err != nil {
			return nil, err
		}
		if err := t.To.UnmarshalText([]byte(to)); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(measure, &t.Measure); err != nil {
			return nil, fmt.Errorf("plaza %d: read the measure of a transition: %w", t.Plaza, err)
		}
		all = append(all, t)
	}
	return all, rows.Err()
}
