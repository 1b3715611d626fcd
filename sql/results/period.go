package results

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// PlazaPeriod is what has closed at a plaza in a period.
type PlazaPeriod struct {
	Plaza int16
	// the beginning of its first window that is stored, of any time; nil where there is none
	First   *toll.Minute
	Windows []StoredWindow // ascending by start
}

// ReadBetween reads a plaza's windows of a kind that begin in a stretch of time, ascending.
type ReadBetween func(plaza int16, kind string, w toll.Window) ([]StoredWindow, error)

// EachPlaza reads the windows of a kind that begin in a period, plaza by plaza in ascending order,
// all in one snapshot. Plazas are those that have such a window at any time, and those of the
// plazas file. within returns the period of a plaza; each may read more in the same snapshot.
func (r *Reader) EachPlaza(ctx context.Context, kind string, within func(plaza int16) toll.Window,
	each func(p *PlazaPeriod, read ReadBetween) error) error {
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		plazas, err := periodPlazas(ctx, q, kind)
		if err != nil {
			return err
		}
		read := func(plaza int16, kind string, w toll.Window) ([]StoredWindow, error) {
			rows, err := tables.ReadWindows(ctx, q, `WHERE toll_plaza_id = ? AND kind = ?
				AND start_minute >= ? AND start_minute < ? ORDER BY start_minute`,
				plaza, kind, w.Start, w.End)
			return appendStored(nil, rows), err
		}
		for _, plaza := range plazas {
			p := PlazaPeriod{Plaza: plaza}
			var first dbsql.Null[int32]
			if err := q.QueryRowContext(ctx, `SELECT MIN(start_minute) FROM toll_window
				WHERE toll_plaza_id = ? AND kind = ?`, plaza, kind).Scan(&first); err != nil {
				return err
			}
			if first.Valid {
				p.First = new(toll.Minute(first.V))
			}
			if p.Windows, err = read(plaza, kind, within(plaza)); err != nil {
				return err
			}
			if err := each(&p, read); err != nil {
				return err
			}
		}
		return nil
	})
	return r.db.Wrap(fmt.Sprintf("read the windows of %s", kind), err)
}

// periodPlazas returns the plazas that have windows of a kind, and those of the plazas file.
func periodPlazas(ctx context.Context, q db.Reader, kind string) ([]int16, error) {
	stored, err := tables.StoredKinds(ctx, q)
	if err != nil {
		return nil, err
	}
	known := map[int16]bool{}
	for plaza, kinds := range stored {
		if slices.Contains(kinds, kind) {
			known[plaza] = true
		}
	}
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id FROM toll_plaza`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var plaza int16
		if err := rows.Scan(&plaza); err != nil {
			return nil, err
		}
		known[plaza] = true
	}
	return slices.Sorted(maps.Keys(known)), rows.Err()
}
