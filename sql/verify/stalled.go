package verify

import (
	"context"
	dbsql "database/sql"
	"errors"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// dueMargin is how far the event time of all partitions is past a window's end before the window
// counts as due.
const dueMargin = 60 // minutes

// checkDue takes note of a window that lacks events: whether it should have them by now. Events on
// their way to the group table, and those that came after the window was stored, are another
// matter.
func (p *plazaWindows) checkDue(w toll.Window) {
	if p.v.in.Passed == 0 || int64(w.End)+dueMargin > int64(p.v.in.Passed) || w.End <= p.done ||
		len(p.flight.In(w)) > 0 {
		return
	}
	p.v.report.WindowsDue++
	if p.due.Start >= p.due.End || w.End < p.due.End {
		p.due = w
	}
}

// checkStalled reports windows that are due where a process has found that it stores none. Time
// alone proves nothing: in a replay, event time passes years within minutes, and where no process
// runs nothing closes.
func (v *verification) checkStalled(ctx context.Context, q db.Reader) error {
	if v.report.WindowsDue == 0 {
		return nil
	}
	var instance, stored string
	err := q.QueryRowContext(ctx, `SELECT instance, stalled_since FROM toll_process
		WHERE stalled_since IS NOT NULL ORDER BY stalled_since LIMIT 1`).Scan(&instance, &stored)
	if errors.Is(err, dbsql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	since, err := db.ParseTime(stored)
	if err != nil {
		return err
	}
	v.found.ofWindows(KindWindowStalled, v.report.WindowsDue,
		"%s not closed, the first of which ended at %s; the process %s has stored none since %s",
		text.Count(v.report.WindowsDue, "window was", "windows were"), v.windows.clock(v.windows.due.End),
		instance,
		since.Format("2006-01-02 15:04 MST"))
	return nil
}
