package results

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

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
