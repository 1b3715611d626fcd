package retention

import (
	"context"
	dbsql "database/sql"
	"time"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// repairRetired lowers what is recorded as deleted where that can't be: an earlier version believed
// event time, which may run years ahead, and recorded what it was about to delete. Such a mark
// hides from verification whatever is deleted later.
//
// A mark is wrong where even by the latest clock, and with the shortest time that windows may be
// kept for, nothing of it was old enough. It then becomes the end of the last window before the
// first one that is still there, and at most the time of the latest clock: what was deleted remains
// excused, and what came later is checked again.
func (c *Cleaner) repairRetired(ctx context.Context, o Options) error {
	retired, err := tables.ReadRetired(ctx, c.db)
	if err != nil {
		return err
	}
	latest := toll.MinuteAt(o.Clocks.Latest().Unix())
	if mark, some := retired[tables.RetiredRows]; some && mark > latest {
		if err := c.lowerRetired(ctx, tables.RetiredRows, mark, latest); err != nil {
			return err
		}
	}
	for i := range o.Windows {
		k := &o.Windows[i]
		what := tables.RetiredWindows + k.Name
		mark, some := retired[what]
		if !some || mark <= ago(o.Clocks.Latest(), KeepWindows(k, MinKeepWindows)) {
			continue
		}
		var first dbsql.Null[int64]
		if err := c.db.QueryRowContext(ctx, `SELECT MIN(end_minute) FROM toll_window
			WHERE kind = ? AND end_minute <= ? AND published = 1 AND revision > 0`, k.Name, mark).Scan(
			&first); err != nil {
			return err
		}
		lower := latest
		if first.Valid {
			lower = min(lower, tables.AddMinutes(toll.Minute(first.V), -1))
		}
		if lower >= mark {
			continue
		}
		if err := c.lowerRetired(ctx, what, mark, lower); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cleaner) lowerRetired(ctx context.Context, what string, from, to toll.Minute) error {
	_, err := c.db.ExecContext(ctx,
		`UPDATE toll_retired SET before_minute = ? WHERE what = ? AND before_minute = ?`, to, what, from)
	if err == nil {
		c.db.Logf("toll_retired had %s as deleted up to %s, which can't be; it is now %s", what,
			from.Time().Format(time.RFC3339), to.Time().Format(time.RFC3339))
	}
	return err
}
