package ingest

import "context"

// SetLoadMode sets how rows are loaded.
func (w *Writer) SetLoadMode(m LoadMode) { w.loader.mode.Store(int32(m)) }

// Together reports whether the last attempt to send statements together failed, and whether the
// server refuses them.
func (w *Writer) Together() (failed, refused bool) {
	return w.multi.failed.Load(), w.multi.refused.Load()
}

// TakeAllTurns takes all turns near the server, and returns what ends each.
func (w *Writer) TakeAllTurns(ctx context.Context) (ends []func(), err error) {
	for range w.loader.turns.base {
		turn, err := w.loader.turns.take(ctx)
		if err != nil {
			return nil, err
		}
		ends = append(ends, turn.end)
	}
	return ends, nil
}

// TurnsTaken returns how many turns are taken.
func (w *Writer) TurnsTaken() int { return w.loader.turns.taken }

const InsertRows = insertRows
const PageBatches = pageBatches
const PageBytes = pageBytes

var NeverAboutRows = neverAboutRows
