package monitor

import (
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Arrivals are judged by slots of time: one counts once, however many events it brings. So what
// reports in bursts is no different from what reports evenly.
const (
	arrivalSlot = 10 * time.Second
	// arrivalSpan is how far back the share of slots reaches, about: a quarter of an hour.
	arrivalSpan = 90 // slots
	// arrivalsKnown is how many slots with events make the share known.
	arrivalsKnown = 5
)

// arrivals follows when events arrive at the topic, in wall time, whatever their event time is. It
// is safe for concurrent use.
type arrivals struct {
	now func() time.Time

	mu    sync.Mutex
	last  time.Time // zero for never
	slot  int64     // of last
	slots float64   // with events, the older ones weigh less
	span  float64   // all of them
	count int       // slots with events since the process began
	usual float64   // events an hour at this time of the week; 0 for not known
}

// note takes the time of an arrival, which is not later than now. What is older than the last one
// changes nothing.
func (a *arrivals) note(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); at.After(now) { // by a wrong clock
		at = now
	}
	if !at.After(a.last) {
		return
	}
	slot := at.UnixNano() / int64(arrivalSlot)
	if passed := float64(slot - a.slot); a.last.IsZero() {
		a.slots, a.span, a.count = 1, 1, 1
	} else if passed > 0 {
		fade := math.Exp(-passed / arrivalSpan)
		a.slots, a.span, a.count = a.slots*fade+1, a.span*fade+passed, a.count+1
	}
	a.last, a.slot = at, slot
}

// read returns when the last event arrived, zero for never, and the share of slots that had events
// before, 0 for not known.
func (a *arrivals) read() (last time.Time, share float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count < arrivalsKnown {
		return a.last, 0
	}
	return a.last, a.slots / a.span
}

// Arrived returns when the last event arrived at the topic, as far as it is known: zero for never.
// Before that, events arrived in a share of all slots of ten seconds; 0 for not known.
func (s *Stats) Arrived() (last time.Time, share float64) { return s.arrivals.read() }

// SetUsual notes how many events an hour are usual at this time of the week; 0 for not known.
func (s *Stats) SetUsual(perHour float64) {
	s.arrivals.mu.Lock()
	defer s.arrivals.mu.Unlock()
	s.arrivals.usual = perHour
}

// Silence returns for how long no event has arrived, where that is no chance: its probability is
// below 1 in 10,000 at the usual rate, or where that is not known at the rate before. Where neither
// is known, it is more than a quarter of an hour. Else it is 0. It says nothing of the process's
// own health.
func (s *Stats) Silence() time.Duration {
	last, share := s.arrivals.read()
	if last.IsZero() {
		return 0
	}
	s.arrivals.mu.Lock()
	usual := s.arrivals.usual
	s.arrivals.mu.Unlock()
	if usual > 0 {
		share = 1 - math.Exp(-usual*arrivalSlot.Hours())
	}
	age := s.arrivals.now().Sub(last)
	patience := 15 * time.Minute
	if share > 0 {
		patience = time.Duration(-math.Log(1e-4) / share * float64(arrivalSlot))
	}
	if age > patience {
		return age
	}
	return 0
}

// look notes an arrival where the end of a partition has moved since the last look. That is so
// whatever timestamps records bear: those of a replay may be as old as its events.
func (s *Stats) look(p *partitionStats) {
	end := p.known()
	if p.observed > 0 && end > p.observed {
		s.arrivals.note(s.arrivals.now())
	}
	p.observed = max(p.observed, end)
}

// rejectMinutes is over how many minutes the share of rejects is measured, the running one
// included.
const rejectMinutes = 5

// rejectWatch measures the share of the records of the last minutes that were rejected, and logs
// when it rises above the bound of [toll.RejectShare.High] and when it has fallen again. It is safe
// for concurrent use.
type rejectWatch struct {
	now func() time.Time

	mu         sync.Mutex
	log        *slog.Logger // nil for none
	minutes    [rejectMinutes]toll.RejectShare
	last       int64 // the minute of the newest entry, since 1970
	high       bool
	rejectedAt time.Time // when rows that MySQL rejects were logged last
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

// rejected logs rows that MySQL rejected, at most once a minute.
func (w *rejectWatch) rejected(partition int32, e *toll.RejectedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := &e.Rows[0]
	now := w.now()
	if w.log == nil || first.Kind != toll.RejectRefused || !w.rejectedAt.IsZero() &&
		now.Sub(w.rejectedAt) < time.Minute {
		return
	}
	w.rejectedAt = now
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

// Histogram counts values by upper bounds, which are part of their bucket. It is safe for
// concurrent use, and counting allocates nothing.
type Histogram struct {
	bounds  []float64       // ascending
	buckets []atomic.Uint64 // of each bound, and one for what is above all of them
	sum     atomic.Uint64   // the bits of a float64
}

func newHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts a value.
func (h *Histogram) Observe(v float64) {
	at, _ := slices.BinarySearch(h.bounds, v)
	h.buckets[at].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Distribution is a reading of a [Histogram].
type Distribution struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64 // per upper bound the values that are not above it
}

// Read returns what was counted. The sum may be ahead of the count by what is being counted at the
// moment.
func (h *Histogram) Read() Distribution {
	d := Distribution{Buckets: make(map[float64]uint64, len(h.bounds))}
	for i := range h.buckets {
		d.Count += h.buckets[i].Load()
		if i < len(h.bounds) {
			d.Buckets[h.bounds[i]] = d.Count
		}
	}
	d.Sum = math.Float64frombits(h.sum.Load())
	return d
}
