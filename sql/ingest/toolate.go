package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// addTooLate counts events that came too late for windows that they belong to. A window that has no
// row yet gets one of revision 0, which is no result: toll_window's too_late is then always what
// the outbox holds.
func (w *Writer) addTooLate(ctx context.Context, tx db.Statements,
	counts []toll.TooLateCount) error {
	if len(counts) == 0 {
		return nil
	}
	zone, err := w.databaseZone(ctx, tx)
	if err != nil {
		return err
	}
	// Whoever locks several rows locks them in this order.
	counts = slices.SortedFunc(slices.Values(counts), func(a, b toll.TooLateCount) int {
		return tables.CompareWindows(a.WindowID, b.WindowID)
	})
	for chunk := range slices.Chunk(counts, tables.UpsertRows) {
		args := make([]any, 0, 7*len(chunk))
		for _, c := range chunk {
			start, end := tables.WallColumns(zone, toll.Window{Start: c.Start, End: c.End})
			args = append(args, c.Plaza, c.Kind, c.Start, c.End, start, end, c.Events)
		}
		const tuple = `(?, ?, ?, ?, ?, ?, 1, 0, 0, 0, 0, ?, 0, '{}', 0, '', 1, NOW(6))`
		if _, err := tx.ExecContext(ctx, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute,
			end_minute, window_start, window_end, whole, epoch, revision, events, late, too_late,
			result_too_late, by_type, flow_per_hour, reason, published, stored_at)
			VALUES `+tuple+strings.Repeat(","+tuple, len(chunk)-1)+`
			ON DUPLICATE KEY UPDATE too_late = too_late + VALUES(too_late)`, args...); err != nil {
			return fmt.Errorf("count events that came too late: %w", err)
		}
	}
	return nil
}

// databaseZone returns the timezone of livetolldata's wall clock, for the caller alone.
func (w *Writer) databaseZone(ctx context.Context, q db.Queryer) (*toll.Zone, error) {
	loc := w.zone.Load()
	if loc == nil {
		m, err := tables.ReadMeta(ctx, q)
		if err != nil {
			return nil, err
		}
		if loc, err = m.Location(); err != nil {
			return nil, err
		}
		w.zone.Store(loc)
	}
	return toll.NewZone(loc), nil
}
