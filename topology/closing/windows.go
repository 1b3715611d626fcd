package closing

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Windows closes the windows of the plazas that this process counts, for the length of a run.
//
// A plaza's state says which windows are due once the stream's watermark has passed their end:
// after each delta, and for plazas that have gone quiet when [Windows.Watch] has all of them
// visited. What is due is submitted to one goroutine, which stores it and publishes what it made.
// Only then does the state take note, so after a crash something may be submitted again, which
// changes nothing (see toll.Revise), and nothing is ever left out. At most one submission of a
// plaza is under way, so a slow database makes them larger and not more. Where many plazas wait,
// the others' windows stay in their states until there is room.
type Windows struct {
	cfg      *Config
	results  Results
	publish  func(plaza int16, payload []byte, done func(error)) error
	fail     func(error)
	horizons horizons
	wake     chan struct{} // has a value once something waits
	// has a value once plazas were stored of which more is due, or there is room for others
	more chan struct{}

	mu      sync.Mutex
	zones   *toll.ZoneSet
	plazas  map[int16]*plazaWindows // of the session
	session int                     // counts sessions: a submission from before is not noted
	queue   queue
	under   int // submissions that wait, or are being stored
	unnoted int // plazas that are to note that a submission was stored
	visit   visit
	phase   phase
	// up to where windows close by the watermark first, by a horizon from after the stream's end
	end *toll.Minute
}

// phase is how far the stream is.
type phase int

const (
	phaseRunning phase = iota
	phaseEnding        // no events come any more: what is open closes too, once
	phaseClosed        // and the last visit found nothing that was open
)

// visit is what is known of a visit of all plazas, from when it begins until the next one does.
type visit struct {
	n       int           // counts visits
	took    time.Duration // the visit before, until this one ends
	crowded bool          // a plaza was passed over, as too much waited
	active  bool          // a plaza was passed over, as it had deltas since the visit before
	open    bool          // a plaza has yet to close all, or the stream has not ended
}

// costly reports whether visits take long.
func (v *visit) costly() bool { return v.took > costlyVisit }

// plazaWindows is where the closing of a plaza's windows stands.
type plazaWindows struct {
	epoch uint64
	stage stage
	drain drain
	more  bool          // what was submitted is not all that was due
	seen  int           // the visit since whose beginning the plaza had deltas
	until toll.Minute   // the state's Done once it has noted what was submitted
	again []toll.Window // minutes before until that changed since the submission
}

// stage is where a submission of a plaza stands.
type stage int

const (
	idle      stage = iota // nothing is submitted
	submitted              // it waits, or is being stored
	stored                 // the state has not noted that yet
)

// drain is how far a plaza has closed all its windows after the end of the stream.
type drain int

const (
	notDrained drain = iota
	draining         // all was submitted
	drained          // and stored; what comes later is for the next run to close
)

// New returns what closes windows by a configuration. publish sends a result and calls done once;
// fail ends the run.
func New(cfg *Config, results Results,
	publish func(plaza int16, payload []byte, done func(error)) error, fail func(error)) *Windows {
	w := &Windows{cfg: cfg, results: results, publish: publish, fail: fail,
		plazas: map[int16]*plazaWindows{}, wake: make(chan struct{}, 1), more: make(chan struct{}, 1),
		zones: cfg.Zones(), visit: visit{open: true}}
	w.noteDue() // nothing is left of the run before
	return w
}

// Reset forgets what a session that has ended had submitted. The states say what is due.
func (w *Windows) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.plazas)
	w.session++
	w.under -= len(w.queue.waiting)
	w.queue, w.unnoted = queue{}, 0
	w.noteDue()
}

// noteDue has the stats know whether anything is left that was submitted.
func (w *Windows) noteDue() {
	if w.cfg.Stats != nil {
		w.cfg.Stats.WindowsDue(w.under > 0)
	}
}

// Step looks at a plaza's state, after deltas were merged into it, or without any. It reports
// whether the state took note of something and is to be written.
func (w *Windows) Step(plaza int16, s *toll.State, merged ...*toll.Delta) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.plazas[plaza]
	fresh := p == nil
	if fresh || p.epoch != s.Epoch {
		if !fresh && p.stage == stored {
			w.unnoted--
		}
		p = &plazaWindows{epoch: s.Epoch}
		w.plazas[plaza] = p
	}
	if len(merged) > 0 {
		p.seen = w.visit.n
	}
	if p.stage != idle {
		for _, d := range merged {
			p.changed(d.Panes)
			p.changed(d.LateQuarter)
		}
	}
	if p.stage == stored {
		s.MarkStored(p.until, p.again)
		p.stage, p.more, p.again = idle, false, nil
		if p.drain == draining {
			p.drain = drained
		}
		w.unnoted--
		changed = true
	}
	if p.stage == submitted {
		w.noteOpen(p)
		return changed
	}
	h := w.horizons.of(plaza, s)
	if h == nil {
		if newest := w.horizons.newest(); newest == nil || s.Epoch >= newest.Epoch {
			w.noteOpen(p) // else it is not known yet whether all was merged
		}
	} else if w.queue.full() {
		w.visit.crowded = true
		w.noteOpen(p)
	} else {
		w.submit(plaza, s, p, h, fresh)
		return changed
	}
	if fresh {
		delete(w.plazas, plaza)
	}
	return changed
}

// submit submits what is due of a plaza by a horizon, if anything is.
func (w *Windows) submit(plaza int16, s *toll.State, p *plazaWindows, h *Horizon, fresh bool) {
	closer := toll.Closer{Kinds: w.cfg.Windows, Zone: w.zones.Of(plaza)}
	until, all := h.until, w.phase != phaseRunning && h.ending && p.drain != drained
	if all {
		if w.end == nil {
			w.end = &h.until
		}
		until = min(until, *w.end) // the watermark of events that come after the end moves on
	}
	var closing toll.Closing
	due := false
	if all && s.Done >= until {
		closing, due = closer.CloseAll(plaza, s)
		p.drain, p.until = draining, s.Done
	} else if closing, due = closer.Close(plaza, s, until, h.all); due {
		p.until, p.more = closing.Until, closing.Until < until
	}
	if !due && fresh {
		closing, due = toll.Closing{Plaza: plaza, Epoch: s.Epoch}, true // for what was left unpublished
		p.until = s.Done
	}
	if p.drain == draining && !due {
		p.drain = drained
	}
	w.noteOpen(p)
	if due {
		p.stage = submitted
		w.queue.add(submission{w.session, closing, closing.Weight(w.cfg.Windows)})
		w.under++
		w.noteDue()
		wait.Signal(w.wake)
	}
}

// noteOpen notes where a plaza that was looked at, or passed over, has yet to close all.
func (w *Windows) noteOpen(p *plazaWindows) {
	w.visit.open = w.visit.open || p == nil || p.drain != drained
}

// Wants reports whether a visit may do anything for a plaza. Else its state need not be read, which
// is most of what a visit costs. Where visits take long, a plaza that had deltas since the one
// before is passed over: it is likely to have more of them, and else the next visit is for it.
func (w *Windows) Wants(plaza int16) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.plazas[plaza]
	switch {
	case w.visit.costly() && p != nil && p.seen >= w.visit.n-1 && !p.more && w.phase == phaseRunning:
		w.visit.active = true
		return false
	case p != nil && p.stage == stored:
		return true // for the state to take note
	case p != nil && p.stage == submitted: // it is waited for
	case w.queue.full():
		w.visit.crowded = true
	default:
		return true
	}
	w.noteOpen(p)
	return false
}

// changed notes the minutes of panes that were merged while a submission is under way.
func (p *plazaWindows) changed(panes []toll.Pane) {
	for i := range panes {
		if m := panes[i].Start; m < p.until {
			p.again = toll.AddRange(p.again, toll.Window{Start: m, End: m + 1})
		}
	}
}

// wantsVisit reports whether there are plazas to visit that no delta may come for, and it would be
// of use.
func (w *Windows) wantsVisit() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unnoted > 0 || w.phase != phaseRunning || w.visit.active ||
		w.visit.crowded && w.queue.roomy()
}

// take takes submissions to be stored.
func (w *Windows) take() []submission {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.queue.take()
	if w.visit.crowded && w.queue.roomy() {
		wait.Signal(w.more)
	}
	if len(w.queue.waiting) > 0 {
		wait.Signal(w.wake)
	}
	return taken
}

// stored notes that submissions were stored and published.
func (w *Windows) stored(taken []submission) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.under -= len(taken)
	w.noteDue()
	for _, h := range taken {
		if h.session != w.session {
			continue
		}
		if p := w.plazas[h.closing.Plaza]; p != nil && p.stage == submitted &&
			p.epoch == h.closing.Epoch {
			p.stage = stored
			w.unnoted++
			if p.more {
				wait.Signal(w.more)
			}
		}
	}
}

// markDelay is how long results wait to be marked as published together with the next ones.
const markDelay = 100 * time.Millisecond

// Run stores and publishes what is submitted, until ctx ends.
func (w *Windows) Run(ctx context.Context) {
	var published []traffic.NoticeRef
	idle := time.NewTimer(markDelay)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			if len(published) == 0 {
				continue
			}
		case <-w.wake:
		}
		taken := w.take()
		var err error
		if published, err = w.store(ctx, taken, published); err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
		w.stored(taken)
		idle.Reset(markDelay)
	}
}

// store stores submissions, retrying while the database is unavailable, and publishes the results.
// It returns what is to be marked as published the next time.
func (w *Windows) store(ctx context.Context, taken []submission,
	published []traffic.NoticeRef) ([]traffic.NoticeRef, error) {
	closings := make([]toll.Closing, len(taken))
	for i := range taken {
		closings[i] = taken[i].closing
	}
	pauses := w.cfg.Backoff()
	logged := false
	for {
		notices, stored, err := w.results.Store(ctx, closings, published)
		if err == nil {
			published = nil
			if len(notices) > 0 {
				if err = w.send(ctx, notices); err == nil {
					for i := range notices {
						published = append(published, notices[i].Ref)
					}
				} else {
					err = kafka.Explain(fmt.Errorf("publish the results of windows: %w", err))
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case toll.IsPermanent(err):
			return nil, err
		case err == nil && stored:
			if logged {
				w.cfg.Log.Info("storing results of windows recovered")
			}
			return published, nil
		case err == nil:
			continue // those from before are published now
		}
		if !logged {
			logged = true
			w.cfg.Log.Warn("results of windows can't be stored; retrying with backoff", "error",
				kafka.Brief(err))
		}
		if err := wait.For(ctx, pauses.NextBackOff()); err != nil {
			return nil, err
		}
	}
}

// noticeBytes is what the usual result takes.
const noticeBytes = 384

// send publishes notices and waits until all are acknowledged.
func (w *Windows) send(ctx context.Context, notices []traffic.Notice) error {
	return kafka.SendAll(ctx, len(notices), func(i int, done func(error)) error {
		plaza := notices[i].Ref.Plaza
		payload, err := appendNotice(make([]byte, 0, noticeBytes), &notices[i],
			w.locationOf(plaza))
		if err != nil {
			return err
		}
		return w.publish(plaza, payload, done)
	})
}

func (w *Windows) locationOf(plaza int16) *time.Location {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.zones.Of(plaza).Location()
}

// beginVisit and endVisit stand around a visit of all plazas.
func (w *Windows) beginVisit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visit = visit{n: w.visit.n + 1, took: w.visit.took, open: w.phase == phaseRunning}
}

func (w *Windows) endVisit(complete bool, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visit.took = took
	w.visit.crowded = w.visit.crowded || !complete
	if w.phase != phaseRunning {
		w.phase = phaseEnding
		if complete && !w.visit.open {
			w.phase = phaseClosed
		}
	}
}

// End closes what is open too, each plaza's windows once.
func (w *Windows) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = max(w.phase, phaseEnding)
}

func (w *Windows) isEnding() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase != phaseRunning
}

// AllClosed reports whether the last visit found that all was closed since the stream ended.
func (w *Windows) AllClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase == phaseClosed
}
