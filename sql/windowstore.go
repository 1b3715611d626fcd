package sql

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"fmt"
	"slices"
	"strings"

	"tollstream/toll"
)

// countedWindow is a window as it is handed over.
type countedWindow struct {
	toll.WindowCount
	epoch uint64
}

// storeWindows stores the windows that were handed over, and those that are to be counted from the outbox.
func (r *Results) storeWindows(ctx context.Context, tx *dbsql.Tx, closings []toll.Closing) error {
	handed := map[toll.WindowID]countedWindow{}
	take := func(n countedWindow) {
		if old, ok := handed[n.WindowID]; !ok || newer(&n, &old) {
			handed[n.WindowID] = n
		}
	}
	outbox := newRecount(r.cfg.Windows, r.s.cfg.Decode, r.topicID)
	for i := range closings {
		c := &closings[i]
		for _, n := range c.Windows {
			take(countedWindow{n, c.Epoch})
		}
		outbox.add(c, r.zoneOf(c.Plaza))
	}
	err := outbox.run(ctx, tx, func(counted []countedWindow) error {
		// A window is stored once a call, so what was handed over as well waits.
		counted = slices.DeleteFunc(counted, func(n countedWindow) bool {
			_, both := handed[n.WindowID]
			if both {
				take(n)
			}
			return both
		})
		return r.store(ctx, tx, counted)
	})
	if err != nil {
		return fmt.Errorf("count windows from the outbox: %w", err)
	}
	all := make([]countedWindow, 0, len(handed))
	for _, n := range handed {
		all = append(all, n)
	}
	return r.store(ctx, tx, all)
}

// newer reports whether of two counts of a window a is the one to store.
func newer(a, b *countedWindow) bool {
	had := toll.WindowResult{WindowCount: b.WindowCount, Epoch: b.epoch, Revision: 1}
	_, ok := toll.Revise(&had, a.epoch, &a.WindowCount)
	return ok
}

// store stores counts of different windows, as far as they are news.
func (r *Results) store(ctx context.Context, tx *dbsql.Tx, counts []countedWindow) error {
	// Whoever locks several rows locks them in this order.
	slices.SortFunc(counts, func(a, b countedWindow) int { return compareWindows(a.WindowID, b.WindowID) })
	for chunk := range slices.Chunk(counts, upsertRows) {
		if err := r.storeSome(ctx, tx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (r *Results) storeSome(ctx context.Context, tx *dbsql.Tx, counts []countedWindow) error {
	existing, err := r.lockWindows(ctx, tx, counts)
	if err != nil {
		return fmt.Errorf("read windows: %w", err)
	}
	var fresh, revised []toll.WindowResult
	for i := range counts {
		n := &counts[i]
		old := existing[n.WindowID]
		if old == nil {
			if w, ok := toll.Revise(nil, n.epoch, &n.WindowCount); ok {
				fresh = append(fresh, w)
			}
			continue
		}
		was := old.WindowResult
		was.TooLate = old.tooLateNow
		w, ok := toll.Revise(&was, n.epoch, &n.WindowCount)
		switch {
		case !ok:
		case !old.published:
			return ErrConflict // another process stored it just now, and has yet to publish it
		default:
			revised = append(revised, w)
		}
	}
	if err := r.writeWindows(ctx, tx, fresh, ""); err != nil {
		return fmt.Errorf("insert windows: %w", err)
	}
	// These rows are locked, so none of them is inserted.
	err = r.writeWindows(ctx, tx, revised, ` ON DUPLICATE KEY UPDATE end_minute = VALUES(end_minute), window_end = VALUES(window_end),
		whole = VALUES(whole), epoch = VALUES(epoch), revision = VALUES(revision), events = VALUES(events), late = VALUES(late),
		result_too_late = VALUES(result_too_late), by_type = VALUES(by_type), flow_per_hour = VALUES(flow_per_hour),
		reason = VALUES(reason), published = 0, stored_at = VALUES(stored_at)`)
	if err != nil {
		return fmt.Errorf("revise windows: %w", err)
	}
	return nil
}

// lockWindows reads the rows of some windows and locks them, and perhaps others.
func (r *Results) lockWindows(ctx context.Context, q reader, counts []countedWindow) (map[toll.WindowID]*windowRow, error) {
	ids := make([]toll.WindowID, len(counts))
	for i := range counts {
		ids[i] = counts[i].WindowID
	}
	where, args := amongWindows(ids)
	rows, err := readWindows(ctx, q, "WHERE "+r.s.many(where)+" ORDER BY toll_plaza_id, kind, start_minute FOR UPDATE", args...)
	if err != nil {
		return nil, err
	}
	found := make(map[toll.WindowID]*windowRow, len(rows))
	for i := range rows {
		found[rows[i].WindowID] = &rows[i]
	}
	return found, nil
}

// amongWindows returns a condition that the rows of some windows meet, and perhaps others of the same plazas.
func amongWindows(ids []toll.WindowID) (where string, args []any) {
	var plazas []int16
	var kinds []string
	var starts []toll.Minute
	for _, id := range ids {
		plazas, kinds, starts = append(plazas, id.Plaza), append(kinds, id.Kind), append(starts, id.Start)
	}
	plazas, kinds, starts = distinct(plazas), distinct(kinds), distinct(starts)
	where = "toll_plaza_id IN (" + placeholders(len(plazas)) + ") AND kind IN (" + placeholders(len(kinds)) +
		") AND start_minute IN (" + placeholders(len(starts)) + ")"
	return where, slices.Concat(anys(plazas), anys(kinds), anys(starts))
}

func distinct[T cmp.Ordered](values []T) []T {
	slices.Sort(values)
	return slices.Compact(values)
}

// writeWindows inserts results that are not published yet. What is to become of rows that exist is the tail's to say.
func (r *Results) writeWindows(ctx context.Context, tx *dbsql.Tx, results []toll.WindowResult, tail string) error {
	if len(results) == 0 {
		return nil
	}
	args := make([]any, 0, 15*len(results))
	for i := range results {
		w := &results[i]
		start, end := wallColumns(r.zone, toll.Window{Start: w.Start, End: w.End})
		args = append(args, w.Plaza, w.Kind, w.Start, w.End, start, end, w.Whole, w.Epoch, w.Revision, w.Events(), w.Late, w.TooLate,
			string(appendTypes(nil, w.Types)), toll.FlowPerHour(w.Events(), toll.Window{Start: w.Start, End: w.End}.Span()), string(w.Reason))
	}
	const tuple = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, 0, NOW(6))`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute, window_start, window_end,
		whole, epoch, revision, events, late, too_late, result_too_late, by_type, flow_per_hour, reason, published, stored_at)
		VALUES `+tuple+strings.Repeat(","+tuple, len(results)-1)+tail, args...)
	return err
}
