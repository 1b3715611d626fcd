package sql

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// How far around the last minute up to which windows were delivered a verification looks that is
// not deep. It covers all that can still change, and bounds what it costs.
const (
	verifyBack  = 2 * 1440 // minutes
	verifyAhead = 1440     // what the end of a run closed
	// verifyMargin is more than a window's length, for the minutes of windows that end near.
	verifyMargin = 27 * 60
)

// verifyPlazas is of how many plazas windows are read by one query.
const verifyPlazas = 64

// maxVerifyPanes bounds the minutes of all plazas that a verification holds at a time: some 60 MB.
// It is a variable for tests.
var maxVerifyPanes = 250_000

// windowCheck compares toll_window with the outbox, and where it is deep livetolldata's minutes as
// well: some plazas at a time, as many as fit the memory.
type windowCheck struct {
	v    *verification
	deep bool
	zone *toll.Zone  // the database's
	ends toll.Window // windows that end behind Start and at or before End are checked
	span toll.Window // minutes that are looked at

	from, to int // plazas [from, to) are looked at
	// minutes by all batches, and by those that the plaza's state has not merged
	stored, flight *paneSums

	retired  map[string]toll.Minute // see readRetired
	baseline map[int]rowCount       // rows from before, by plaza
	rows     rowCheck               // of windows that the outbox no longer tells

	due toll.Window // the first that is due and lacks events

	found  problems         // which the verification lists behind its own
	counts map[int]rowCount // of livetolldata by plaza, where it is deep
}

// newWindowCheck returns nil for nothing to check.
func newWindowCheck(v *verification, zone *toll.Zone) *windowCheck {
	c := &windowCheck{v: v, deep: v.in.Deep, zone: zone, from: math.MinInt16, to: math.MaxInt16 + 1,
		ends:   toll.Window{Start: math.MinInt32, End: math.MaxInt32},
		span:   toll.Window{Start: math.MinInt32, End: math.MaxInt32},
		stored: newPaneSums(), flight: newPaneSums(), counts: map[int]rowCount{}}
	c.rows.c = c
	if c.deep {
		return c
	}
	newest, found := v.newestDone(zone)
	if !found || len(v.in.Windows) == 0 {
		return nil
	}
	c.ends = toll.Window{Start: addMinutes(newest, -verifyBack), End: addMinutes(newest, verifyAhead)}
	c.span = toll.Window{Start: addMinutes(c.ends.Start, -verifyMargin),
		End: addMinutes(c.ends.End, verifyMargin)}
	return c
}

// newestDone returns the last minute up to which a plaza's windows were delivered, or how far the
// stream has come where none were. It reports false where there are no events.
func (v *verification) newestDone(zone *toll.Zone) (toll.Minute, bool) {
	newest := toll.Minute(math.MinInt32)
	for _, s := range v.in.States {
		newest = max(newest, s.Done)
	}
	if newest > math.MinInt32 {
		return newest, true
	}
	return toll.StreamTime(v.in.States, zone)
}

// add adds a batch's deltas.
func (c *windowCheck) add(b *batchRow, deltas []toll.PlazaDelta) {
	want := func(m toll.Minute) bool { return m >= c.span.Start && (m < c.span.End || c.deep) }
	for i := range deltas {
		d := &deltas[i]
		if int(d.Plaza) < c.from || int(d.Plaza) >= c.to {
			continue
		}
		c.stored.add(d, want)
		if d.End(b.next) > c.v.book.mergedIn(accountKey{b.partition, d.Plaza}) {
			c.flight.add(d, want)
		}
	}
	for c.stored.n+c.flight.n > maxVerifyPanes && len(c.stored.plazas) > 1 {
		plazas := slices.Sorted(maps.Keys(c.stored.plazas))
		upper := plazas[(len(plazas)+1)/2:]
		c.to = int(upper[0])
		for _, plaza := range upper {
			c.stored.drop(plaza)
			c.flight.drop(plaza)
		}
	}
}

// run checks all plazas, those that were left out so far by reading the outbox again.
func (c *windowCheck) run(ctx context.Context, q reader, scan *rowScan, topicID string,
	baseline map[int]rowCount) error {
	c.baseline = baseline
	kinds, err := storedKinds(ctx, q)
	if err != nil {
		return err
	}
	if c.retired, err = readRetired(ctx, q); err != nil {
		return err
	}
	for _, k := range c.v.in.Windows {
		if before, some := c.retired[retiredWindows+k.Name]; some && before > c.ends.Start {
			if c.v.report.RetiredUntil == nil {
				c.v.report.RetiredUntil = map[string]time.Time{}
			}
			c.v.report.RetiredUntil[k.Name] = before.Time()
		}
	}
	for {
		if err := c.checkWindows(ctx, q, kinds); err != nil {
			return err
		}
		if c.deep {
			if err := c.checkMinutes(ctx, q, scan, baseline); err != nil {
				return err
			}
		}
		if c.to > math.MaxInt16 {
			return nil
		}
		c.from, c.to = c.to, math.MaxInt16+1
		c.stored, c.flight = newPaneSums(), newPaneSums()
		for _, partition := range c.v.book.partitions {
			if err := c.gather(ctx, q, topicID, partition); err != nil {
				return err
			}
		}
	}
}

// gather adds a partition's batches again. One that can't be read is a problem already.
func (c *windowCheck) gather(ctx context.Context, q reader, topicID string, partition int32) error {
	each := func(b *batchRow) error {
		if deltas, err := c.v.decode(b.blob); err == nil {
			c.add(b, deltas)
		}
		return nil
	}
	if c.deep {
		return readBatches(ctx, q, topicID, partition, math.MinInt64, each)
	}
	return readMinutes(ctx, q, topicID, partition, c.span, each)
}

// clock writes a minute as the database's clock shows it.
func (c *windowCheck) clock(m toll.Minute) string {
	return c.zone.Wall(m.Time()).Format("2006-01-02 15:04")
}

// checked reports whether a window that ends at a minute is to be checked.
func (c *windowCheck) checked(end toll.Minute) bool {
	return end > c.ends.Start && end <= c.ends.End
}

// checkWindows checks the windows of the plazas that are looked at.
func (c *windowCheck) checkWindows(ctx context.Context, q reader, kinds map[int16][]string) error {
	c.v.report.MinutesFolded = c.v.report.MinutesFolded || len(c.stored.folds) > 0 && !c.deep
	if len(c.v.in.Windows) == 0 {
		return nil
	}
	plazas := slices.Collect(maps.Keys(c.stored.plazas))
	for plaza := range kinds {
		if int(plaza) >= c.from && int(plaza) < c.to {
			plazas = append(plazas, plaza)
		}
	}
	slices.Sort(plazas)
	plazas = slices.Compact(plazas)
	var types typesReader
	for some := range slices.Chunk(plazas, verifyPlazas) {
		if err := c.checkRows(ctx, q, &types, some); err != nil {
			return err
		}
	}
	for _, plaza := range plazas {
		for _, kind := range kinds[plaza] {
			if slices.ContainsFunc(c.v.in.Windows, func(k toll.WindowKind) bool { return k.Name == kind }) {
				continue
			}
			var n int64
			if err := q.QueryRowContext(ctx,
				`SELECT COUNT(*) FROM toll_window WHERE toll_plaza_id = ? AND kind = ?`, plaza,
				kind).Scan(&n); err != nil {
				return err
			}
			c.found.ofPlaza(KindWindowExtra, int(plaza), 0, n,
				"toll_window holds %s of the kind %s, which is not counted", text.Count(n, "row"), kind)
		}
	}
	return nil
}
