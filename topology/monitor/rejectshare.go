package monitor

import (
	"log/slog"
	"sync"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// rejectMinutes is over how many minutes the share of rejects is measured, the running one
// included.
const rejectMinutes = 5

// rejectWatch measures the share of the records of the last minutes that were rejected, and logs
// when it rises above the bound of [toll.RejectShare.High] and when it has fallen again. It is safe
// for concurrent use.
type rejectWatch struct {
	now func() time.Time

	mu        sync.Mutex
	log       *slog.Logger // nil for none
	minutes   [rejectMinutes]toll.RejectShare
	last      int64 // the minute of the newest entry, since 1970
	high      bool
	refusedAt time.Time // when refused rows were logged last
}

// stored adds the records of a batch that was stored, and its rejects.
func (w *rejectWatch) stored(records int, rejects []toll.Reject) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advanceLocked()
	m := &w.minutes[w.last%rejectMinutes]
	m.Records += int64(records)
	m.Rejected += int64(len(rejects))
	var last *toll.Reject
	if len(rejects) > 0 {
		last = &rejects[len(rejects)-1]
	}
	w.checkLocked(last)
}

// share returns the share of the last minutes. It has to be asked from time to time, so that it is
// noticed that the share has fallen where no record comes any more.
func (w *rejectWatch) share() toll.RejectShare {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advanceLocked()
	return w.checkLocked(nil)
}

// refused logs rows that the database refused, at most once a minute.
func (w *rejectWatch) refused(partition int32, e *toll.RefusedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := &e.Rows[0]
	now := w.now()
	if w.log == nil || first.Kind != toll.RejectRefused || !w.refusedAt.IsZero() &&
		now.Sub(w.refusedAt) < time.Minute {
		return
	}
	w.refusedAt = now
	w.log.Warn("MySQL refuses rows; they become dead letters", "partition", partition, "rows",
		len(e.Rows),
		"error", first.Number, "sqlstate", first.SQLState, "reason", first.Reason)
}

// advanceLocked forgets the minutes that are over.
func (w *rejectWatch) advanceLocked() {
	minute := w.now().Unix() / 60
	if minute <= w.last { // the clock may have been set back
		return
	}
	for m := max(w.last+1, minute-rejectMinutes+1); m <= minute; m++ {
		w.minutes[m%rejectMinutes] = toll.RejectShare{}
	}
	w.last = minute
}

// checkLocked returns the share, and logs where it passed the bound; last is the newest reject, nil
// for none.
func (w *rejectWatch) checkLocked(last *toll.Reject) toll.RejectShare {
	var sum toll.RejectShare
	for _, m := range w.minutes {
		sum.Records += m.Records
		sum.Rejected += m.Rejected
	}
	if high := sum.High(); high != w.high {
		w.high = high
		if w.log == nil {
			return sum
		}
		attrs := []any{"rejected", sum.Rejected, "of", sum.Records, "minutes", rejectMinutes}
		if !high {
			w.log.Info("few records are rejected again", attrs...)
			return sum
		}
		if last != nil {
			attrs = append(attrs, "kind", string(last.Kind), "reason", last.Reason)
		}
		w.log.Warn("many records are rejected; tollstream dead-letters lists them", attrs...)
	}
	return sum
}
