package results

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// maxRecountPanes bounds the minutes of all plazas that a recount holds at a time: some 30 MB. It
// is a variable for tests.
var maxRecountPanes = 100_000

// Each span of a recount begins with recountSpan minutes at a time. The steps then grow up to
// maxRecountSpan, which is more minutes than there are, and so small that doubling it can't
// overflow.
const (
	recountSpan    = 1440
	maxRecountSpan = 1 << 33
)

// recount counts windows from the outbox, all plazas' in one pass.
type recount struct {
	kinds   []toll.WindowKind
	decode  func([]byte) ([]toll.PlazaDelta, error)
	topicID string
	plazas  map[int16]*plazaRecount
	panes   *tables.PaneSums
}

// plazaRecount is what is to be counted of one plaza.
type plazaRecount struct {
	plaza  int16
	zone   *toll.Zone
	epoch  uint64
	reason toll.CloseReason
	from   toll.Minute // windows that end by then closed before
	until  toll.Minute
	// windows that have a minute in these are to be counted if they end at or before until
	ranges []toll.Window
	spans  []toll.Window // the minutes of these windows; both are ascending and don't touch
}

func newRecount(kinds []toll.WindowKind, decode func([]byte) ([]toll.PlazaDelta, error),
	topicID string) *recount {
	return &recount{kinds: kinds, decode: decode, topicID: topicID, plazas: map[int16]*plazaRecount{},
		panes: tables.NewPaneSums()}
}

// add takes note of a closing's minutes.
func (c *recount) add(closing *toll.Closing, zone *toll.Zone) {
	if len(closing.Recount) == 0 {
		return
	}
	p := c.plazas[closing.Plaza]
	if p == nil {
		p = &plazaRecount{plaza: closing.Plaza, zone: zone, from: closing.From, until: math.MinInt32}
		c.plazas[closing.Plaza] = p
	}
	p.epoch, p.reason, p.until = max(p.epoch, closing.Epoch), closing.Reason, max(p.until,
		closing.Until)
	p.ranges = tables.JoinWindows(append(p.ranges, closing.Recount...))
	p.spans = p.spans[:0]
	for _, w := range p.ranges {
		p.spans = append(p.spans,
			widen(c.kinds, zone, toll.Window{Start: w.Start, End: min(w.End, p.until)}))
	}
	p.spans = tables.JoinWindows(p.spans)
}

// widen returns the minutes of all windows that have a minute in w.
func widen(kinds []toll.WindowKind, zone *toll.Zone, w toll.Window) toll.Window {
	if w.Start >= w.End {
		return toll.Window{}
	}
	wide := w
	for i := range kinds {
		for _, c := range kinds[i].Covering(zone, w.Start, nil) {
			wide.Start = min(wide.Start, c.Start)
		}
		for _, c := range kinds[i].Covering(zone, w.End-1, nil) {
			wide.End = max(wide.End, c.End)
		}
	}
	return wide
}

// run counts the windows and calls store with some at a time, each window once.
//
// The minutes are read stretch by stretch. A stretch that holds too much is halved and read again,
// one that holds little is followed by a longer one: centuries without events take a few reads, and
// a busy day fits the memory.
func (c *recount) run(ctx context.Context, q db.Reader, store func([]countedWindow) error) error {
	if len(c.plazas) == 0 {
		return nil
	}
	cursors, err := tables.ReadCursors(ctx, q, c.topicID)
	if err != nil {
		return err
	}
	var spans []toll.Window
	for _, p := range c.plazas {
		spans = append(spans, p.spans...)
	}
	for _, span := range tables.JoinWindows(spans) {
		length := int64(recountSpan)
		for from := int64(span.Start); from < int64(span.End); {
			w := toll.Window{Start: toll.Minute(from), End: toll.Minute(min(from+length, int64(span.End)))}
			before := c.panes.N
			err := c.gather(ctx, q, cursors, w)
			if errors.Is(err, errTooMany) {
				for plaza := range c.plazas {
					c.panes.Keep(plaza, func(m toll.Minute) bool { return m < w.Start })
				}
				length = (int64(w.End) - from) / 2
				continue
			}
			if err != nil {
				return err
			}
			if n := c.panes.N - before; n == 0 || n < maxRecountPanes/4 {
				length = min(2*length, maxRecountSpan)
			}
			if err := c.emit(w, w.End == span.End, store); err != nil {
				return err
			}
			from = int64(w.End)
		}
	}
	return nil
}

// errTooMany says that a stretch of several minutes holds more of them than are to be held at a
// time.
var errTooMany = errors.New("too many minutes")

// gather adds up what the partitions hold of a stretch of minutes, as far as it is wanted.
func (c *recount) gather(ctx context.Context, q db.Reader, cursors []tables.CursorRow,
	w toll.Window) error {
	before := c.panes.N
	for _, cursor := range cursors {
		err := tables.ReadMinutes(ctx, q, c.topicID, cursor.Partition, w, func(b *tables.BatchRow) error {
			deltas, err := c.decode(b.Blob)
			if err != nil {
				return fmt.Errorf("read the outbox of the batch at %d:%d: %w", b.Partition, b.First, err)
			}
			for i := range deltas {
				if p := c.plazas[deltas[i].Plaza]; p != nil {
					c.panes.Add(&deltas[i], func(m toll.Minute) bool {
						return m >= w.Start && m < w.End && toll.InRanges(p.spans, toll.Window{Start: m, End: m + 1})
					})
				}
			}
			if c.panes.N-before > maxRecountPanes && int64(w.End)-int64(w.Start) > 1 {
				return errTooMany
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emitWindows is how many windows are passed on at a time.
const emitWindows = 1000

// emit passes on the windows whose last minute is in a stretch, or all that are left where it is
// the last stretch of its span, and drops the minutes that no other window needs.
func (c *recount) emit(stretch toll.Window, last bool, store func([]countedWindow) error) error {
	var counted []countedWindow
	for _, plaza := range slices.Sorted(maps.Keys(c.plazas)) {
		p := c.plazas[plaza]
		list := c.panes.Of(plaza)
		needed := stretch.End
		for i := range c.kinds {
			k := &c.kinds[i]
			for _, w := range list.Windows(k, p.zone) {
				if w.End <= stretch.Start || !toll.InRanges(p.ranges, w) {
					continue // counted already, or not asked for
				}
				if w.End > stretch.End && !last {
					needed = min(needed, w.Start)
					continue
				}
				if n, ok := p.count(k, w, list, c.panes.FoldedBefore(plaza)); ok {
					counted = append(counted, n)
				}
				if len(counted) >= emitWindows {
					if err := store(counted); err != nil {
						return err
					}
					counted = counted[:0]
				}
			}
		}
		c.panes.Keep(plaza, func(m toll.Minute) bool { return m >= needed && !last })
	}
	if len(counted) == 0 {
		return nil
	}
	return store(counted)
}

// count counts a window. It reports false for one that holds nothing, has not closed, or can't be
// counted any more: that one stays as it is stored.
func (p *plazaRecount) count(k *toll.WindowKind, w toll.Window, list tables.PaneList,
	folded toll.Minute) (countedWindow, bool) {
	if w.Start < folded {
		return countedWindow{}, false
	}
	end := k.StepEnd(p.zone, w, p.until)
	if end <= w.Start {
		return countedWindow{}, false
	}
	n := countedWindow{epoch: p.epoch, WindowCount: toll.WindowCount{
		WindowID: toll.WindowID{Plaza: p.plaza, Kind: k.Name, Start: w.Start}, End: end,
		Whole: end == w.End, Reason: p.reason,
	}}
	n.again = closedBefore(k, &n.WindowCount, p.from)
	n.Types, n.Late = list.In(toll.Window{Start: w.Start, End: end}).Count(k.OfQuarters())
	return n, len(n.Types) > 0
}

// readLostPanes reads from the outbox the minutes of closings whose congestion the state can't tell
// any more.
func (r *Writer) readLostPanes(ctx context.Context, q db.Reader, closings []toll.Closing) error {
	wanted := map[int16]toll.Window{}
	var spans []toll.Window
	for i := range closings {
		if c := &closings[i]; c.PanesLost && c.From < c.Until {
			w := toll.Window{Start: tables.AddMinutes(c.From, -toll.MeasureSpan), End: c.Until}
			wanted[c.Plaza] = w
			spans = append(spans, w)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	cursors, err := tables.ReadCursors(ctx, q, r.topicID)
	if err != nil {
		return err
	}
	sums := tables.NewPaneSums()
	for _, span := range tables.JoinWindows(spans) {
		for _, cursor := range cursors {
			err := tables.ReadMinutes(ctx, q, r.topicID, cursor.Partition, span,
				func(b *tables.BatchRow) error {
					deltas, err := r.cfg.Decode(b.Blob)
					if err != nil {
						return fmt.Errorf("read the outbox of the batch at %d:%d: %w", b.Partition, b.First, err)
					}
					for i := range deltas {
						w := wanted[deltas[i].Plaza]
						from, to := max(w.Start, span.Start), min(w.End, span.End)
						sums.Add(&deltas[i], func(m toll.Minute) bool { return m >= from && m < to })
					}
					return nil
				})
			if err != nil {
				return err
			}
		}
	}
	for i := range closings {
		c := &closings[i]
		if !c.PanesLost || c.From >= c.Until {
			continue
		}
		c.Panes = nil // those of an attempt before
		for _, sum := range sums.Of(c.Plaza) {
			if len(sum.Types) > 0 {
				c.Panes = append(c.Panes, toll.Pane{Start: sum.Start, Types: sum.Types, Late: sum.Late})
			}
		}
	}
	return nil
}
