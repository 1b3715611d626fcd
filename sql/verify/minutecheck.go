package verify

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// checkMinutes compares the rows of livetolldata with the outbox, minute by minute, for the plazas
// that are looked at, and adds those rows up by plaza in the same scan. Rows without a time are in
// no minute.
//
// Of a plaza with rows from before it is not known which minutes those are of, so it can only have
// too few. Minutes from which rows were pruned can only have too many, and those that were rolled
// up are compared in one.
func (c *windowCheck) checkMinutes(ctx context.Context, q db.Reader, scan *rowscan.Scan,
	baseline map[int]tables.RowCount) error {
	err := scan.Minutes(ctx, q, c.from, c.to, func(g *rowscan.Group) error {
		c.count(g)
		if g.Plaza == tables.NullPlaza || !g.Timed {
			return nil
		}
		plaza, m := int16(g.Plaza), g.Minute
		c.rows.add(plaza, m, g.Rows)
		if sum := c.stored.Plazas[plaza][m]; sum != nil {
			sum.Rows += g.Rows
		} else if f := c.stored.Folds[plaza]; f != nil && m < f.Before {
			f.Rows += g.Rows
		} else if baseline[g.Plaza].Rows == 0 {
			c.minuteProblem(plaza, m, 0, g.Rows)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.rows.finish()
	pruned := int64(math.MinInt64)
	before, some := c.retired[tables.RetiredRows]
	if some {
		pruned = int64(before)
	}
	for plaza := range c.stored.Plazas {
		f := c.stored.Folds[plaza]
		for _, sum := range c.stored.Of(plaza) {
			want := sum.Events()
			if f != nil && sum.Start < f.Before {
				f.Rows += sum.Rows
				f.Events += want
			} else if sum.Rows < want && int64(sum.Start) > pruned || sum.Rows > want &&
				baseline[int(plaza)].Rows == 0 {
				c.minuteProblem(plaza, sum.Start, want, sum.Rows)
			}
		}
	}
	for _, plaza := range slices.Sorted(maps.Keys(c.stored.Folds)) {
		if f := c.stored.Folds[plaza]; f.Rows < f.Events && !some || f.Rows > f.Events &&
			baseline[int(plaza)].Rows == 0 {
			c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: f.Before}, f.Events, f.Rows,
				"minutes before "+c.clock(f.Before)+": "+text.Count(f.Rows, "row")+" in livetolldata, "+
					text.Number(f.Events)+" stored")
		}
	}
	return nil
}

func (c *windowCheck) minuteProblem(plaza int16, m toll.Minute, want, got int64) {
	c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: m}, want, got,
		"minute "+c.clock(m)+": "+text.Count(got, "row")+" in livetolldata, "+text.Number(want)+" stored")
}

// count adds a group to its plaza's rows.
func (c *windowCheck) count(g *rowscan.Group) {
	total, counted := c.counts[g.Plaza]
	total.Exact = (total.Exact || !counted) && g.Exact
	total.Rows += g.Rows
	total.Checksum += g.Checksum
	c.counts[g.Plaza] = total
}
