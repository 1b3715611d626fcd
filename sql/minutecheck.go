package sql

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// checkMinutes compares the rows of livetolldata with the outbox, minute by minute, for the plazas
// that are looked at, and adds those rows up by plaza in the same scan. Rows without a time are in
// no minute.
//
// Of a plaza with rows from before it is not known which minutes those are of, so it can only have
// too few. Minutes from which rows were pruned can only have too many, and those that were added up
// are compared in one.
func (c *windowCheck) checkMinutes(ctx context.Context, q reader, scan *rowScan,
	baseline map[int]rowCount) error {
	err := scan.minutes(ctx, q, c.from, c.to, func(g *rowGroup) error {
		c.count(g)
		if g.plaza == nullPlaza || !g.timed {
			return nil
		}
		plaza, m := int16(g.plaza), g.minute
		c.rows.add(plaza, m, g.rows)
		if sum := c.stored.plazas[plaza][m]; sum != nil {
			sum.rows += g.rows
		} else if f := c.stored.folds[plaza]; f != nil && m < f.before {
			f.rows += g.rows
		} else if baseline[g.plaza].rows == 0 {
			c.minuteProblem(plaza, m, 0, g.rows)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.rows.finish()
	pruned := int64(math.MinInt64)
	before, some := c.retired[retiredRows]
	if some {
		pruned = int64(before)
	}
	for plaza := range c.stored.plazas {
		f := c.stored.folds[plaza]
		for _, sum := range c.stored.of(plaza) {
			want := sum.events()
			if f != nil && sum.start < f.before {
				f.rows += sum.rows
				f.events += want
			} else if sum.rows < want && int64(sum.start) > pruned || sum.rows > want &&
				baseline[int(plaza)].rows == 0 {
				c.minuteProblem(plaza, sum.start, want, sum.rows)
			}
		}
	}
	for _, plaza := range slices.Sorted(maps.Keys(c.stored.folds)) {
		if f := c.stored.folds[plaza]; f.rows < f.events && !some || f.rows > f.events &&
			baseline[int(plaza)].rows == 0 {
			c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: f.before}, f.events, f.rows,
				"minutes before "+c.clock(f.before)+": "+text.Count(f.rows, "row")+" in livetolldata, "+
					text.Number(f.events)+" stored")
		}
	}
	return nil
}

func (c *windowCheck) minuteProblem(plaza int16, m toll.Minute, want, got int64) {
	c.found.ofWindow(KindMinuteRows, toll.WindowID{Plaza: plaza, Start: m}, want, got,
		"minute "+c.clock(m)+": "+text.Count(got, "row")+" in livetolldata, "+text.Number(want)+" stored")
}

// count adds a group to its plaza's rows.
func (c *windowCheck) count(g *rowGroup) {
	total, counted := c.counts[g.plaza]
	total.exact = (total.exact || !counted) && g.exact
	total.rows += g.rows
	total.checksum += g.checksum
	c.counts[g.plaza] = total
}
