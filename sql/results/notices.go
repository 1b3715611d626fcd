package results

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// maxNotices bounds the notices that are returned at a time. It is a variable for tests.
var maxNotices = 20_000

// markPublished notes what was published. A window that has been revised since stays unpublished.
//
// It is a transaction of its own, as it locks rows in their order: with the others that follow it
// would be out of order.
func (r *Writer) markPublished(ctx context.Context, refs []traffic.NoticeRef) error {
	if len(refs) == 0 {
		return nil
	}
	if r.written.are(refs) {
		if marked, err := r.mark(ctx, refs, r.markWritten); marked || err != nil {
			return err
		}
	}
	_, err := r.mark(ctx, refs, r.markWindows)
	return err
}

// mark marks windows, in a given way, and transitions. It reports whether that way
// marked all of them; else nothing is marked.
func (r *Writer) mark(
	ctx context.Context, refs []traffic.NoticeRef,
	mark func(context.Context, *dbsql.Tx, []traffic.NoticeRef) (all bool, err error),
) (marked bool, err error) {
	tx, err := r.begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var windows, transitions []traffic.NoticeRef
	for _, ref := range refs {
		if ref.Revision == 0 {
			transitions = append(transitions, ref)
		} else {
			windows = append(windows, ref)
		}
	}
	if marked, err := mark(ctx, tx, windows); err != nil {
		return false, fmt.Errorf("mark windows published: %w", err)
	} else if !marked {
		return false, nil
	}
	if err := r.markTransitions(ctx, tx, transitions); err != nil {
		return false, fmt.Errorf("mark transitions published: %w", err)
	}
	return true, tx.Commit()
}

// are reports whether notices are those that the last call returned, if these were all that it
// wrote.
func (w *written) are(refs []traffic.NoticeRef) bool {
	return slices.EqualFunc(refs, w.notices, func(ref traffic.NoticeRef, n traffic.Notice) bool {
		return ref == n.Ref
	})
}

// markWritten marks the windows that the last call wrote. It finds them by the time at which they
// were stored, which costs the server a fraction of what their names do.
//
// It reports false where it found more or fewer. So it never marks a window that another process
// has stored in the same microsecond: for the count to be right, that process would have to have
// marked one of ours before, which was stored by then.
func (r *Writer) markWritten(
	ctx context.Context, tx *dbsql.Tx, windows []traffic.NoticeRef,
) (all bool, err error) {
	var plazas []int16
	for _, ref := range windows {
		plazas = append(plazas, ref.Plaza)
	}
	left := int64(len(windows))
	for chunk := range slices.Chunk(tables.Distinct(plazas), manyPlazas) {
		res, err := tx.ExecContext(ctx, `UPDATE toll_window `+r.db.ForceIndex("unpublished")+
			`SET published = 1 WHERE published = 0 AND stored_at = ? AND `+
			r.db.Many("toll_plaza_id IN ("+db.Placeholders(len(chunk))+")"),
			append([]any{r.inserter.At}, db.Anys(chunk)...)...)
		if err != nil {
			return false, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return false, err
		}
		left -= n
	}
	return left == 0, nil
}

// markWindows marks windows by their names. Those that have another revision by now stay as they
// are.
func (r *Writer) markWindows(
	ctx context.Context, tx *dbsql.Tx, windows []traffic.NoticeRef,
) (all bool, err error) {
	slices.SortFunc(windows, func(a, b traffic.NoticeRef) int {
		return tables.CompareWindows(a.WindowID, b.WindowID)
	})
	for chunk := range slices.Chunk(windows, tables.UpsertRows) {
		var ids []toll.WindowID
		var these []any
		for _, ref := range chunk {
			ids = append(ids, ref.WindowID)
			these = append(these, ref.Plaza, ref.Kind, ref.Start, ref.Revision)
		}
		among, args := tables.AmongWindows(ids)
		if _, err := tx.ExecContext(ctx, `UPDATE toll_window SET published = 1 WHERE published = 0 AND `+
			r.db.Many(among+` AND (toll_plaza_id, kind, start_minute, revision) IN ((?, ?, ?, ?)`+
				strings.Repeat(`, (?, ?, ?, ?)`, len(chunk)-1)+`)`),
			append(args, these...)...); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *Writer) markTransitions(ctx context.Context, tx *dbsql.Tx,
	transitions []traffic.NoticeRef) error {
	slices.SortFunc(transitions, func(a, b traffic.NoticeRef) int {
		return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), cmp.Compare(a.Number, b.Number))
	})
	for chunk := range slices.Chunk(transitions, tables.UpsertRows) {
		var these []string
		var args []any
		for _, ref := range chunk {
			these = append(these, "toll_plaza_id = ? AND detected_minute = ?")
			args = append(args, ref.Plaza, ref.Number)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE toll_transition SET published = 1 WHERE `+
			r.db.Many(strings.Join(these, " OR ")), args...); err != nil {
			return err
		}
	}
	return nil
}

// manyPlazas is how many plazas one statement names.
const manyPlazas = 500

// noticesOf returns the notices of what was written, given that no others of the plazas were left
// before, in the order of unpublished. They are valid until the next call of [Writer.Store].
func (r *Writer) noticesOf(ctx context.Context, q db.Reader, plazas []int16) ([]traffic.Notice,
	error) {
	w := &r.written
	if w.tooMany {
		return r.unpublished(ctx, q, plazas)
	}
	all := make([]traffic.Notice, 0, len(w.windows))
	for i := range w.windows {
		all = append(all, windowNotice(&w.windows[i]))
	}
	// One that was there before stayed as it was, so which are new is the database's to say.
	for chunk := range slices.Chunk(tables.Distinct(w.transitions), manyPlazas) {
		transitions, err := tables.ReadTransitions(ctx, q,
			r.db.ForceIndex("unpublished")+`WHERE published = 0 AND `+
				r.db.Many("toll_plaza_id IN ("+db.Placeholders(len(chunk))+")"), db.Anys(chunk)...)
		if err != nil {
			return nil, fmt.Errorf("read the transitions to publish: %w", err)
		}
		for i := range transitions {
			all = append(all, transitionNotice(&transitions[i]))
		}
	}
	if len(all) >= maxNotices {
		return r.unpublished(ctx, q, plazas)
	}
	slices.SortFunc(all, compareNotices)
	w.notices = all
	return all, nil
}

// compareNotices is the order in which notices are published.
func compareNotices(a, b traffic.Notice) int {
	if c := cmp.Compare(a.Ref.Plaza, b.Ref.Plaza); c != 0 {
		return c
	}
	if a.Window == nil || b.Window == nil {
		return cmp.Compare(a.Ref.Number, b.Ref.Number) // 0 for a window
	}
	return cmp.Or(cmp.Compare(a.Window.End, b.Window.End), cmp.Compare(a.Ref.Kind, b.Ref.Kind),
		cmp.Compare(a.Ref.Start, b.Ref.Start))
}

func windowNotice(w *toll.WindowResult) traffic.Notice {
	return traffic.Notice{Ref: traffic.NoticeRef{WindowID: w.WindowID, Revision: w.Revision},
		Window: w}
}

func transitionNotice(t *traffic.Transition) traffic.Notice {
	ref := traffic.NoticeRef{WindowID: toll.WindowID{Plaza: t.Plaza}, Number: int64(t.Detected)}
	return traffic.Notice{Ref: ref, Transition: t}
}

// unpublished returns the notices of some plazas, ascending, that are not known to be published,
// maxNotices at most. The number of a transition is the minute at which it was detected: a plaza
// has one of a minute at most.
func (r *Writer) unpublished(ctx context.Context, q db.Reader, plazas []int16) ([]traffic.Notice,
	error) {
	var all []traffic.Notice
	for chunk := range slices.Chunk(plazas, manyPlazas) {
		// Of many plazas servers would rather read all windows.
		condition := r.db.ForceIndex("unpublished") + "WHERE published = 0 AND " +
			r.db.Many("toll_plaza_id IN ("+db.Placeholders(len(chunk))+")") + " ORDER BY toll_plaza_id, "
		args := append(db.Anys(chunk), maxNotices)
		windows, err := tables.ReadWindows(ctx, q, condition+"end_minute, kind, start_minute LIMIT ?",
			args...)
		if err != nil {
			return nil, fmt.Errorf("read the windows to publish: %w", err)
		}
		transitions, err := tables.ReadTransitions(ctx, q, condition+"detected_minute LIMIT ?", args...)
		if err != nil {
			return nil, fmt.Errorf("read the transitions to publish: %w", err)
		}
		for i := range windows {
			all = append(all, windowNotice(&windows[i].WindowResult))
		}
		for i := range transitions {
			t := &transitions[i]
			if n := len(windows); n == maxNotices && t.Plaza >= windows[n-1].Plaza {
				break // its plaza may have windows left
			}
			all = append(all, transitionNotice(t))
		}
		if len(all) >= maxNotices {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b traffic.Notice) int {
		return cmp.Compare(a.Ref.Plaza, b.Ref.Plaza)
	})
	return all[:min(len(all), maxNotices)], nil
}
