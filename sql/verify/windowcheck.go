package verify

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
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
	stored, flight *tables.PaneSums

	retired  map[string]toll.Minute  // see ReadRetired
	baseline map[int]tables.RowCount // rows from before, by plaza
	rows     rowCheck                // of windows that the outbox no longer holds

	due toll.Window // the first that is due and lacks events

	found  problems                // which the verification lists behind its own
	counts map[int]tables.RowCount // of livetolldata by plaza, where it is deep
}

// newWindowCheck returns nil for nothing to check.
func newWindowCheck(v *verification, zone *toll.Zone) *windowCheck {
	c := &windowCheck{v: v, deep: v.in.Deep, zone: zone, from: math.MinInt16, to: math.MaxInt16 + 1,
		ends:   toll.Window{Start: math.MinInt32, End: math.MaxInt32},
		span:   toll.Window{Start: math.MinInt32, End: math.MaxInt32},
		stored: tables.NewPaneSums(), flight: tables.NewPaneSums(), counts: map[int]tables.RowCount{}}
	c.rows.c = c
	if c.deep {
		return c
	}
	newest, found := v.newestDone(zone)
	if !found || len(v.in.Windows) == 0 {
		return nil
	}
	c.ends = toll.Window{Start: tables.AddMinutes(newest, -verifyBack),
		End: tables.AddMinutes(newest, verifyAhead)}
	c.span = toll.Window{Start: tables.AddMinutes(c.ends.Start, -verifyMargin),
		End: tables.AddMinutes(c.ends.End, verifyMargin)}
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
func (c *windowCheck) add(b *tables.BatchRow, deltas []toll.PlazaDelta) {
	want := func(m toll.Minute) bool { return m >= c.span.Start && (m < c.span.End || c.deep) }
	for i := range deltas {
		d := &deltas[i]
		if int(d.Plaza) < c.from || int(d.Plaza) >= c.to {
			continue
		}
		c.stored.Add(d, want)
		if d.End(b.Next) > c.v.ledger.mergedIn(entryKey{b.Partition, d.Plaza}) {
			c.flight.Add(d, want)
		}
	}
	for c.stored.N+c.flight.N > maxVerifyPanes && len(c.stored.Plazas) > 1 {
		plazas := slices.Sorted(maps.Keys(c.stored.Plazas))
		upper := plazas[(len(plazas)+1)/2:]
		c.to = int(upper[0])
		for _, plaza := range upper {
			c.stored.Drop(plaza)
			c.flight.Drop(plaza)
		}
	}
}

// run checks all plazas, those that were left out so far by reading the outbox again.
func (c *windowCheck) run(ctx context.Context, q db.Reader, scan *rowscan.Scan, topicID string,
	baseline map[int]tables.RowCount) error {
	c.baseline = baseline
	kinds, err := tables.StoredKinds(ctx, q)
	if err != nil {
		return err
	}
	if c.retired, err = tables.ReadRetired(ctx, q); err != nil {
		return err
	}
	for _, k := range c.v.in.Windows {
		if before, some := c.retired[tables.RetiredWindows+k.Name]; some && before > c.ends.Start {
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
		c.stored, c.flight = tables.NewPaneSums(), tables.NewPaneSums()
		for _, partition := range c.v.ledger.partitions {
			if err := c.gather(ctx, q, topicID, partition); err != nil {
				return err
			}
		}
	}
}

// gather adds a partition's batches again. One that can't be read is a problem already.
func (c *windowCheck) gather(ctx context.Context, q db.Reader, topicID string,
	partition int32) error {
	each := func(b *tables.BatchRow) error {
		if deltas, err := c.v.decode(b.Blob); err == nil {
			c.add(b, deltas)
		}
		return nil
	}
	if c.deep {
		return tables.ReadBatches(ctx, q, topicID, partition, math.MinInt64, each)
	}
	return tables.ReadMinutes(ctx, q, topicID, partition, c.span, each)
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
func (c *windowCheck) checkWindows(ctx context.Context, q db.Reader,
	kinds map[int16][]string) error {
	c.v.report.MinutesFolded = c.v.report.MinutesFolded || len(c.stored.Folds) > 0 && !c.deep
	if len(c.v.in.Windows) == 0 {
		return nil
	}
	plazas := slices.Collect(maps.Keys(c.stored.Plazas))
	for plaza := range kinds {
		if int(plaza) >= c.from && int(plaza) < c.to {
			plazas = append(plazas, plaza)
		}
	}
	slices.Sort(plazas)
	plazas = slices.Compact(plazas)
	var types tables.TypesReader
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
