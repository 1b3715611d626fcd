package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// maxNameRunes is the length of toll_plaza's name and road.
const maxNameRunes = 250

// SetPlazas records what the plazas file has, in place of what it had before. A plaza that has
// windows keeps its timezone, since they are aligned to it: another one is a [toll.PermanentError].
func (s *Store) SetPlazas(ctx context.Context, plazas []toll.Plaza) error {
	err := func() error {
		tx, err := s.db.BeginLocking(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		// The lock lets one process do this at a time.
		var database string
		if err := tx.QueryRowContext(ctx,
			`SELECT timezone FROM toll_meta WHERE id = 1 FOR UPDATE`).Scan(&database); err != nil {
			if errors.Is(err, dbsql.ErrNoRows) {
				return tables.NotSetUp(s.db, tables.ErrNoMeta)
			}
			return err
		}
		before, err := readPlazaFile(ctx, tx)
		if err != nil {
			return err
		}
		if err := s.checkTimezones(ctx, tx, database, before, plazas); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM toll_plaza`); err != nil {
			return err
		}
		for chunk := range slices.Chunk(plazas, tables.UpsertRows) {
			var args []any
			for _, p := range chunk {
				args = append(args, p.ID, db.CutRunes(p.Name, maxNameRunes), db.CutRunes(p.Road, maxNameRunes),
					p.PositionKm, p.Lanes, p.CapacityPerLane, p.Timezone)
			}
			const tuple = `(?, ?, ?, ?, ?, ?, ?)`
			if _, err := tx.ExecContext(ctx, `INSERT INTO toll_plaza (toll_plaza_id, name, road, position_km,
				lanes, capacity_per_lane, timezone)
				VALUES `+tuple+strings.Repeat(","+tuple, len(chunk)-1), args...); err != nil {
				return err
			}
		}
		return tx.Commit()
	}()
	return s.db.Wrap("record the plazas", err)
}

// checkTimezones returns a [toll.PermanentError] where a plaza with windows would get another
// timezone.
func (s *Store) checkTimezones(ctx context.Context, q db.Reader, database string, before,
	after []toll.Plaza) error {
	zones := func(plazas []toll.Plaza) map[int16]string {
		all := map[int16]string{}
		for _, p := range plazas {
			if p.Timezone != "" && p.Timezone != database {
				all[p.ID] = p.Timezone
			}
		}
		return all
	}
	old, now := zones(before), zones(after)
	var changed []string
	for _, plaza := range differing(old, now) {
		var windows int64
		if err := q.QueryRowContext(ctx,
			`SELECT COUNT(*) FROM (SELECT 1 FROM toll_window WHERE toll_plaza_id = ? LIMIT 1) w`,
			plaza).Scan(&windows); err != nil {
			return err
		}
		if windows > 0 {
			changed = append(changed,
				fmt.Sprintf("plaza %d to %s, not %s", plaza, orElse(old[plaza], database),
					orElse(now[plaza], database)))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if n := len(changed) - 3; n > 0 {
		changed = append(changed[:3], fmt.Sprintf("and %d more", n))
	}
	return toll.Permanent(
		"set the timezones back in the plazas file, or start over: tollstream reset --yes",
		"the windows in %s are aligned to other timezones: %s", s.db.Address, strings.Join(changed, "; "))
}

// differing returns the keys, ascending, whose values differ or are in one map only.
func differing(a, b map[int16]string) []int16 {
	var keys []int16
	for k, v := range a {
		if b[k] != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// ConfiguredPlazas returns what the plazas file has, as it was recorded last, ascending by plaza.
func (s *Store) ConfiguredPlazas(ctx context.Context) ([]toll.Plaza, error) {
	plazas, err := readPlazaFile(ctx, s.db)
	return plazas, s.db.Wrap("read the plazas", err)
}

// sampleRows bounds the rows that [Store.SampleCounts] reads, which takes some milliseconds.
const sampleRows = 10_000

// SampleCounts returns how many of some rows each plaza has.
func (s *Store) SampleCounts(ctx context.Context) (map[int16]int64, error) {
	counts := map[int16]int64{}
	rows, err := s.db.QueryContext(ctx, `SELECT toll_plaza_id, COUNT(*) FROM (SELECT toll_plaza_id
		FROM livetolldata LIMIT ?) AS sample WHERE toll_plaza_id IS NOT NULL
		GROUP BY toll_plaza_id`, sampleRows)
	if err != nil {
		return nil, s.db.Wrap("read some rows", err)
	}
	defer rows.Close()
	for rows.Next() {
		var plaza int16
		var n int64
		if err := rows.Scan(&plaza, &n); err != nil {
			return nil, s.db.Wrap("read some rows", err)
		}
		counts[plaza] = n
	}
	return counts, s.db.Wrap("read some rows", rows.Err())
}

func readPlazaFile(ctx context.Context, q db.Reader) ([]toll.Plaza, error) {
	var plazas []toll.Plaza
	var p toll.Plaza
	rows, err := q.QueryContext(ctx,
		`SELECT toll_plaza_id, name, road, position_km, lanes, capacity_per_lane, timezone FROM toll_plaza
			ORDER BY toll_plaza_id`)
	err = db.Each(rows, err,
		[]any{&p.ID, &p.Name, &p.Road, &p.PositionKm, &p.Lanes, &p.CapacityPerLane,
			&p.Timezone}, func() error {
			plazas = append(plazas, p)
			return nil
		})
	return plazas, err
}
