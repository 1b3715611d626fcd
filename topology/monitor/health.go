package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Names of the checks that say whether a processor is ready.
const (
	CheckTables = "tables" // tables and topics were found to be as they must be
	CheckMySQL  = "mysql"  // the database answered the last time that it was asked
	CheckKafka  = "kafka"  // so did the broker
	CheckGroup  = "group"  // the member has its partitions, or stands by without any
)

// checkNames are the checks in the order in which a start passes them.
var checkNames = []string{CheckTables, CheckMySQL, CheckKafka, CheckGroup}

// Check is the state of one check. Why is empty for passed. It holds no name, address or answer of
// a server: whoever reaches the address may read it, and the log says more.
type Check struct {
	Name string
	Why  string
}

// health is what a processor knows of its own state. The zero value has passed no check.
type health struct {
	now func() time.Time

	mu      sync.Mutex
	checks  map[string]checkState
	loops   map[int32]*loop // by partition
	failing time.Time       // since when a run is ending after a failure; zero for none

	// Of the closing of windows, which makes progress where what is submitted is stored, however
	// slowly:
	due     bool      // submissions wait, or are being stored
	since   time.Time // when it last made progress, or something became due
	calling time.Time // when the call to the database that is under way began; zero for none
	stored  bool      // something was stored since the process began
}

type checkState struct {
	why   string
	at    time.Time // when it was reported last
	since time.Time // when it was passed after it had failed; meaningless while it fails
}

// How long a check may go without a report, and a loop without turning.
const (
	// checkLimit is some times what a server that answers takes to be asked again: MySQL is asked
	// every quarter of a second, the broker every three.
	checkLimit = time.Minute
	// LoopLimit is twice the longest that a batch may wait for more records, and far above the pauses
	// between attempts.
	LoopLimit = 2 * time.Minute
	// endLimit is above what goka takes to end with a broker that does not answer: it waits up to a
	// minute for its changelog, and the emitters as long for theirs.
	endLimit = 5 * time.Minute
)

func newHealth(now func() time.Time) *health {
	h := &health{now: now, checks: map[string]checkState{}, loops: map[int32]*loop{}}
	h.checks[CheckTables] = checkState{why: "not checked yet"}
	h.checks[CheckGroup] = checkState{why: "no partitions are assigned yet"}
	return h
}

// Pass notes that a check is passed.
func (h *health) Pass(name string) { h.Fail(name, "") }

// Fail notes that a check fails, and why, in words that anyone may read.
func (h *health) Fail(name, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := checkState{why, h.now(), h.now()}
	if old, reported := h.checks[name]; reported && old.why == "" && c.at.Sub(old.at) <= checkLimit {
		c.since = old.since
	}
	h.checks[name] = c
}

// answersForLocked returns for how long a server has answered each call, 0 where it does not.
func (h *health) answersForLocked(name string) time.Duration {
	c, reported := h.checks[name]
	if !reported || c.why != "" || h.now().Sub(c.at) > checkLimit {
		return 0
	}
	return h.now().Sub(c.since)
}

// Checked notes what a first look at the servers, their tables and topics came to.
func (h *health) Checked(err error) {
	if err != nil {
		h.Fail(CheckTables, "tables and topics can't be checked yet; the log says why")
		return
	}
	for _, name := range []string{CheckTables, CheckMySQL, CheckKafka} {
		h.Pass(name)
	}
}

// Checks returns the state of all checks.
func (h *health) Checks() []Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	checks := make([]Check, len(checkNames))
	for i, name := range checkNames {
		c, reported := h.checks[name]
		switch silent := h.now().Sub(c.at); {
		case !reported:
			c.why = "not asked yet"
		case c.why == "" && (name == CheckMySQL || name == CheckKafka) && silent > checkLimit:
			c.why = fmt.Sprintf("no answer for %v", silent.Truncate(time.Second))
		}
		checks[i] = Check{name, c.why}
	}
	return checks
}

// Ready returns nil where the processor does its work, or could at once, and else an error that
// names the checks that fail.
func (h *health) Ready() error {
	var failed []string
	for _, c := range h.Checks() {
		if c.Why != "" {
			failed = append(failed, c.Name+": "+c.Why)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return errors.New(strings.Join(failed, "; "))
}

// loop is a loop that turns as long as the process is sound, whatever its servers do. It stands
// still only within a call to one of them.
type loop struct {
	turned atomic.Int64 // Unix nanoseconds
	calls  atomic.Int32 // calls to servers under way
}

// Healthy returns an error where only a new start helps: a loop is stalled although it waits for
// no server, or a run that failed does not end.
func (h *health) Healthy() error {
	stalled := h.ClosingStalled()
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	var still []string
	for partition, l := range h.loops {
		turned := time.Unix(0, l.turned.Load())
		if l.calls.Load() == 0 && now.Sub(turned) > LoopLimit {
			still = append(still, fmt.Sprintf("storing partition %d has stalled for %v", partition,
				now.Sub(turned).Truncate(time.Second)))
		}
	}
	slices.Sort(still)
	if stalled > stalledLimit {
		still = append(still,
			fmt.Sprintf("windows are due, and none was stored for %v", stalled.Truncate(time.Second)))
	}
	if !h.failing.IsZero() && now.Sub(h.failing) > endLimit {
		still = append(still,
			fmt.Sprintf("a run that failed does not end for %v", now.Sub(h.failing).Truncate(time.Second)))
	}
	if len(still) == 0 {
		return nil
	}
	return errors.New(strings.Join(still, "; "))
}

// watch begins to watch the loop that stores a partition's batches, until unwatch.
func (h *health) watch(partition int32) {
	l := new(loop)
	l.turned.Store(h.now().UnixNano())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loops[partition] = l
}

func (h *health) unwatch(partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.loops, partition)
}

func (h *health) loop(partition int32) *loop {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.loops[partition]; l != nil {
		return l
	}
	return new(loop) // it is not watched any more
}

// Turn notes that a partition's loop turns.
func (h *health) Turn(partition int32) { h.loop(partition).turned.Store(h.now().UnixNano()) }

// Call notes that a partition waits for a server, until the func that it returns is called.
func (h *health) Call(partition int32) (done func()) {
	l := h.loop(partition)
	l.calls.Add(1)
	return func() {
		l.turned.Store(h.now().UnixNano())
		l.calls.Add(-1)
	}
}

// RunFails notes that a run failed and is ending, and runEnded that it has ended.
func (h *health) RunFails() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing.IsZero() {
		h.failing = h.now()
	}
}

func (h *health) RunEnded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = time.Time{}
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

// WindowsDue notes whether windows are due that are not stored.
func (h *health) WindowsDue(due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if due && !h.due {
		h.since = h.now()
	}
	h.due = due
}

// StoringWindows notes that a transaction of results begins, until the func that it returns is
// called with whether it was stored.
func (h *health) StoringWindows() (done func(ok bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calling = h.now()
	return func(ok bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calling = time.Time{}
		if ok {
			h.since, h.stored = h.now(), true
		}
	}
}

// WatchClosing logs that the closing of windows makes no progress, and that it does again, until
// ctx ends. An outage of MySQL is logged by others.
func (s *Stats) WatchClosing(ctx context.Context, log *slog.Logger) {
	w := NewClosingWatch(s, log)
	for range wait.Every(ctx, stalledPoll) {
		w.Look()
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
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return time.Time{}, s.stored
}

// ClosingStalled returns for how long no windows were stored although some are due and both servers
// answer; 0 where all is well, and during an outage.
func (h *health) ClosingStalled() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := h.since
	if !h.due {
		since = h.calling
	}
	if since.IsZero() {
		return 0
	}
	return max(0, min(h.now().Sub(since), h.answersForLocked(CheckMySQL),
		h.answersForLocked(CheckKafka)))
}

// Outage logs that a server is unavailable: once, however many partitions notice and however often,
// and once more when all of them have found that it recovered. A nil Outage logs nothing.
type Outage struct {
	log           *slog.Logger
	failed, works string // the log lines

	mu    sync.Mutex
	down  map[int32]bool // the partitions for which it lasts
	since time.Time
}

// NewOutage returns an outage that has not begun, with the log lines for its begin and its end.
func NewOutage(log *slog.Logger, failed, works string) *Outage {
	return &Outage{log: log, failed: failed, works: works}
}

// AllPartitions stands for what is no matter of one partition.
const AllPartitions = -1

// Down notes that a call for a partition failed. A call that was cancelled says nothing of its
// server: whoever cancelled it knows why.
func (t *Outage) Down(partition int32, cause error) {
	if t == nil || errors.Is(cause, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.down) == 0 {
		t.down, t.since = map[int32]bool{}, time.Now()
		t.log.Warn(t.failed, "error", kafka.Brief(cause))
	}
	t.down[partition] = true
}

// Up notes that a call for a partition succeeded.
func (t *Outage) Up(partition int32) {
	if since, last := t.forget(partition); last {
		t.log.Info(t.works, "after", time.Since(since).Round(100*time.Millisecond))
	}
}

// Lasts reports whether the server is unavailable for some partition.
func (t *Outage) Lasts() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.down) > 0
}

// slowAnswer is how many seconds a server may let a partition wait until that is logged.
const slowAnswer = 10

// Await takes a server that lets a partition wait for slowAnswer for unavailable. The returned
// function is called once it answered, before Down or Up is called for the answer.
//
// The seconds are counted one by one, so that a process that was itself stopped does not report the
// server.
func (t *Outage) Await(partition int32) (answered func()) {
	if t == nil {
		return func() {}
	}
	var mu sync.Mutex
	seconds, over := 0, false
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(time.Second, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if seconds++; seconds < slowAnswer {
			timer.Reset(time.Second)
			return
		}
		t.Down(partition, fmt.Errorf("no answer for %v", slowAnswer*time.Second))
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// Leave forgets a partition that is not ours any more.
func (t *Outage) Leave(partition int32) { t.forget(partition) }

// forget forgets the outage of a partition, and reports whether it was the last one, and since
// when there was any.
func (t *Outage) forget(partition int32) (since time.Time, last bool) {
	if t == nil {
		return time.Time{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.down[partition] {
		return time.Time{}, false
	}
	delete(t.down, partition)
	return t.since, len(t.down) == 0
}
