package results

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Reader reads results.
type Reader struct{ db *db.DB }

// NewReader returns a reader of a database's results.
func NewReader(db *db.DB) *Reader { return &Reader{db} }

// StoredWindow is a window as toll_window has it.
type StoredWindow struct {
	toll.WindowResult
	// events that came too late to be counted, up to now; TooLate has those up to the revision
	TooLateNow int64
	Published  bool // whether the revision is known to be published
}

// Windows returns a plaza's windows: of each kind, ascending by its name, the newest first, as many
// as limit at most. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) Windows(ctx context.Context, plaza int16, limit int) ([]StoredWindow, error) {
	var all []StoredWindow
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		kinds, err := readKinds(ctx, q, plaza)
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			rows, err := tables.ReadWindows(ctx, q,
				`WHERE toll_plaza_id = ? AND kind = ? ORDER BY start_minute DESC LIMIT ?`, plaza, kind, limit)
			if err != nil {
				return err
			}
			for i := range rows {
				all = append(all, StoredWindow{rows[i].WindowResult, rows[i].TooLateNow, rows[i].Published})
			}
		}
		return nil
	})
	return all, r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza), err)
}

func readKinds(ctx context.Context, q db.Reader, plaza int16) ([]string, error) {
	rows, err := q.QueryContext(ctx,
		`SELECT DISTINCT kind FROM toll_window WHERE toll_plaza_id = ? ORDER BY kind`, plaza)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var kinds []string
	for rows.Next() {
		var kind string
		if err := rows.Scan(&kind); err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	return kinds, rows.Err()
}
