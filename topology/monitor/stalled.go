package monitor

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// closingStage knows whether the closing of windows makes progress: whether what is submitted is
// stored, however slowly. It outlives runs, and is safe for concurrent use.
type closingStage struct {
	now func() time.Time

	mu      sync.Mutex
	due     bool      // hand-overs wait, or are being stored
	since   time.Time // when it last made progress, or something became due
	calling time.Time // when the call to the database that is under way began; zero for none
	stored  bool      // something was stored since the process began
}

// How long the closing of windows may take to get on.
const (
	// StalledAfter is when a closing that makes no progress is reported. It is far above what a
	// transaction of results takes, which holds some ten thousand windows: minutes where they have to
	// be counted from the outbox.
	StalledAfter = 5 * time.Minute
	// stalledLimit is when a new start is the better chance.
	stalledLimit = 2 * StalledAfter
	stalledPoll  = 5 * time.Second
)

func newClosingStage(now func() time.Time) *closingStage { return &closingStage{now: now} }

// handed notes whether anything is left that was submitted.
func (s *closingStage) handed(due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if due && !s.due {
		s.since = s.now()
	}
	s.due = due
}

// Call notes that results are being stored, until the func that it returns is called with whether
// they were.
func (s *closingStage) call() (done func(ok bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calling = s.now()
	return func(ok bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calling = time.Time{}
		if ok {
			s.since, s.stored = s.now(), true
		}
	}
}

// stalled returns for how long nothing was stored although something is due, 0 for not at all.
func (s *closingStage) stalled() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.since
	switch {
	case !s.due && s.calling.IsZero():
		return 0
	case !s.due:
		since = s.calling
	}
	return max(s.now().Sub(since), 0)
}

// hasStored reports whether anything was stored since the process began.
func (s *closingStage) hasStored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// WindowsDue notes whether windows are due that are not stored.
func (h *health) WindowsDue(due bool) { h.closing.handed(due) }

// StoringWindows notes that a transaction of results begins, until the func that it returns is
// called with whether it was stored.
func (h *health) StoringWindows() (done func(ok bool)) { return h.closing.call() }

// WatchClosing logs that the closing of windows makes no progress, and that it does again, until
// ctx ends. An outage of MySQL is logged by others.
func (s *Stats) WatchClosing(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(stalledPoll)
	defer ticker.Stop()
	w := NewClosingWatch(s, log)
	for {
		select {
		case <-ticker.C:
			w.Look()
		case <-ctx.Done():
			return
		}
	}
}

// ClosingWatch is what was logged of the closing of windows.
type ClosingWatch struct {
	stats  *Stats
	log    *slog.Logger
	logged bool
}

// NewClosingWatch returns a watch that has logged nothing; see [Stats.WatchClosing].
func NewClosingWatch(s *Stats, log *slog.Logger) *ClosingWatch {
	return &ClosingWatch{stats: s, log: log}
}

// Look logs what has changed.
func (w *ClosingWatch) Look() {
	stalled := w.stats.ClosingStalled()
	is := stalled > StalledAfter
	if is == w.logged {
		return
	}
	if w.logged = is; is {
		w.log.Warn("windows are due, and none is stored", "for",
			stalled.Truncate(time.Second).String(),
			"hint",
			"look at MySQL's transactions and locks; if a process keeps a core busy, start it again")
	} else {
		w.log.Info("windows are stored again")
	}
}

// StalledSince returns since when windows are due and none is stored, zero where they are stored.
// It is not known before this process has stored any, while it has no reason to complain.
func (s *Stats) StalledSince(now time.Time) (since time.Time, known bool) {
	if stalled := s.ClosingStalled(); stalled > StalledAfter {
		return now.Add(-stalled), true
	}
	return time.Time{}, s.closing.hasStored()
}

// ClosingStalled returns for how long no windows were stored although some are due and both servers
// answer; 0 where all is well, and during an outage.
func (h *health) ClosingStalled() time.Duration {
	return min(h.closing.stalled(), h.answersFor(CheckMySQL), h.answersFor(CheckKafka))
}
