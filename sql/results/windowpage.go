package results

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// WindowPosition is where a window is among those of a plaza: descending by start, then ascending
// by kind.
type WindowPosition struct {
	Start toll.Minute
	Kind  string
}

// WindowPage returns a plaza's windows of some kinds that begin in a stretch of time, descending by
// start and then ascending by kind: those behind a position, or the first where it is nil, as many
// as limit at most. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) WindowPage(ctx context.Context, plaza int16, kinds []string, within toll.Window,
	before *WindowPosition, limit int) ([]StoredWindow, error) {
	var all []StoredWindow
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		all = nil
		for _, kind := range kinds { // each read stops at the limit, by the primary key
			end := int64(within.End)
			if before != nil && kind <= before.Kind {
				end = min(end, int64(before.Start))
			} else if before != nil {
				end = min(end, int64(before.Start)+1)
			}
			rows, err := tables.ReadWindows(ctx, q, `WHERE toll_plaza_id = ? AND kind = ?
				AND start_minute >= ? AND start_minute < ? ORDER BY start_minute DESC LIMIT ?`,
				plaza, kind, within.Start, end, limit)
			if err != nil {
				return err
			}
			all = appendStored(all, rows)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b StoredWindow) int {
		return cmp.Or(cmp.Compare(b.Start, a.Start), cmp.Compare(a.Kind, b.Kind))
	})
	return all[:min(len(all), limit)], r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza),
		err)
}

// WindowsBetween returns a plaza's windows of a kind that begin in a stretch of time, ascending by
// start. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) WindowsBetween(ctx context.Context, plaza int16, kind string,
	w toll.Window) ([]StoredWindow, error) {
	rows, err := tables.ReadWindows(ctx, r.db,
		`WHERE toll_plaza_id = ? AND kind = ? AND start_minute >= ? AND start_minute < ?
			ORDER BY start_minute`,
		plaza, kind, w.Start, w.End)
	return appendStored(nil, rows), r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza), err)
}

// RetiredBefore returns up to which minute old windows of a kind were deleted: of those that end at
// or before it, some may be missing that had events.
func (r *Reader) RetiredBefore(ctx context.Context, kind string) (toll.Minute, error) {
	retired, err := tables.ReadRetired(ctx, r.db)
	before, ok := retired[tables.RetiredWindows+kind]
	if !ok {
		before = math.MinInt32
	}
	return before, r.db.Wrap("read which windows were deleted", err)
}

func appendStored(all []StoredWindow, rows []tables.WindowRow) []StoredWindow {
	for i := range rows {
		all = append(all, StoredWindow{rows[i].WindowResult, rows[i].TooLateNow, rows[i].Published})
	}
	return all
}

// UsualDay returns what is usual at a plaza on a date, as [toll.WallTime.Day] counts days: learned
// from its windows of a kind, which must be of a quarter of an hour, on the same weekday of the
// weeks before. It is nil where nothing is known.
func (r *Reader) UsualDay(ctx context.Context, plaza int16, kind string, zone *toll.Zone,
	day int64) (*traffic.UsualDay, error) {
	h := history{kind: kind}
	var usual *traffic.UsualDay
	err := r.db.Snapshot(ctx, func(q db.Reader) (err error) {
		usual, err = h.read(ctx, q, plaza, zone, day)
		return err
	})
	return usual, r.db.Wrap(fmt.Sprintf("read what is usual at plaza %d", plaza), err)
}
