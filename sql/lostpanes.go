package sql

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/toll"
)

// readLostPanes reads from the outbox the minutes of closings whose congestion the state can't tell
// any more.
func (r *Results) readLostPanes(ctx context.Context, q reader, closings []toll.Closing) error {
	wanted := map[int16]toll.Window{}
	var spans []toll.Window
	for i := range closings {
		if c := &closings[i]; c.PanesLost && c.From < c.Until {
			w := toll.Window{Start: addMinutes(c.From, -toll.MeasureSpan), End: c.Until}
			wanted[c.Plaza] = w
			spans = append(spans, w)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	cursors, err := readCursors(ctx, q, r.topicID)
	if err != nil {
		return err
	}
	sums := newPaneSums()
	for _, span := range joinWindows(spans) {
		for _, cursor := range cursors {
			err := readMinutes(ctx, q, r.topicID, cursor.partition, span, func(b *batchRow) error {
				deltas, err := r.cfg.Decode(b.blob)
				if err != nil {
					return fmt.Errorf("read the outbox of the batch at %d:%d: %w", b.partition, b.first, err)
				}
				for i := range deltas {
					w := wanted[deltas[i].Plaza]
					from, to := max(w.Start, span.Start), min(w.End, span.End)
					sums.add(&deltas[i], func(m toll.Minute) bool { return m >= from && m < to })
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
		for _, sum := range sums.of(c.Plaza) {
			if len(sum.types) > 0 {
				c.Panes = append(c.Panes, toll.Pane{Start: sum.start, Types: sum.types, Late: sum.late})
			}
		}
	}
	return nil
}
