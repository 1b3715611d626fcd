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

// maxNotices bounds the notices that are returned at a time. It is a variable for tests.
var maxNotices = 20_000

// markPublished notes what was published. A window that has been revised since stays unpublished.
//
// It is a transaction of its own, as it locks rows in their order: with the others that follow it would be out of order.
func (r *Results) markPublished(ctx context.Context, refs []toll.NoticeRef) error {
	if len(refs) == 0 {
		return nil
	}
	tx, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := r.markNotices(ctx, tx, refs); err != nil {
		return err
	}
	return tx.Commit()
}

func (r *Results) markNotices(ctx context.Context, tx *dbsql.Tx, refs []toll.NoticeRef) error {
	var windows, transitions []toll.NoticeRef
	for _, ref := range refs {
		if ref.Revision == 0 {
			transitions = append(transitions, ref)
		} else {
			windows = append(windows, ref)
		}
	}
	slices.SortFunc(windows, func(a, b toll.NoticeRef) int { return compareWindows(a.WindowID, b.WindowID) })
	for chunk := range slices.Chunk(windows, upsertRows) {
		var ids []toll.WindowID
		var these []any
		for _, ref := range chunk {
			ids = append(ids, ref.WindowID)
			these = append(these, ref.Plaza, ref.Kind, ref.Start, ref.Revision)
		}
		among, args := amongWindows(ids)
		if _, err := tx.ExecContext(ctx, `UPDATE toll_window SET published = 1 WHERE published = 0 AND `+
			r.s.many(among+` AND (toll_plaza_id, kind, start_minute, revision) IN ((?, ?, ?, ?)`+strings.Repeat(`, (?, ?, ?, ?)`, len(chunk)-1)+`)`),
			append(args, these...)...); err != nil {
			return fmt.Errorf("mark windows published: %w", err)
		}
	}
	slices.SortFunc(transitions, func(a, b toll.NoticeRef) int {
		return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), cmp.Compare(a.Number, b.Number))
	})
	for chunk := range slices.Chunk(transitions, upsertRows) {
		var these []string
		var args []any
		for _, ref := range chunk {
			these = append(these, "toll_plaza_id = ? AND detected_minute = ?")
			args = append(args, ref.Plaza, ref.Number)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE toll_transition SET published = 1 WHERE `+r.s.many(strings.Join(these, " OR ")), args...); err != nil {
			return fmt.Errorf("mark transitions published: %w", err)
		}
	}
	return nil
}

// unpublished returns the notices of some plazas, ascending, that are not known to be published, maxNotices at most. The
// number of a transition is the minute at which it was detected: a plaza has one of a minute at most.
func (r *Results) unpublished(ctx context.Context, q reader, plazas []int16) ([]toll.Notice, error) {
	var all []toll.Notice
	for chunk := range slices.Chunk(plazas, 500) {
		// Of many plazas servers would rather read all windows.
		condition := r.s.forceIndex("unpublished") + "WHERE published = 0 AND " + r.s.many("toll_plaza_id IN ("+placeholders(len(chunk))+")") + " ORDER BY toll_plaza_id, "
		args := append(anys(chunk), maxNotices)
		windows, err := readWindows(ctx, q, condition+"end_minute, kind, start_minute LIMIT ?", args...)
		if err != nil {
			return nil, fmt.Errorf("read the windows to publish: %w", err)
		}
		transitions, err := readTransitions(ctx, q, condition+"detected_minute LIMIT ?", args...)
		if err != nil {
			return nil, fmt.Errorf("read the transitions to publish: %w", err)
		}
		for i := range windows {
			w := &windows[i]
			all = append(all, toll.Notice{Ref: toll.NoticeRef{WindowID: w.WindowID, Revision: w.Revision}, Window: &w.WindowResult})
		}
		for i := range transitions {
			t := &transitions[i]
			if n := len(windows); n == maxNotices && t.Plaza >= windows[n-1].Plaza {
				break // its plaza may have windows left
			}
			all = append(all, toll.Notice{Ref: toll.NoticeRef{WindowID: toll.WindowID{Plaza: t.Plaza}, Number: int64(t.Detected)}, Transition: t})
		}
		if len(all) >= maxNotices {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b toll.Notice) int { return cmp.Compare(a.Ref.Plaza, b.Ref.Plaza) })
	return all[:min(len(all), maxNotices)], nil
}
