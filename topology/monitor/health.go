package monitor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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

	closing *closingStage // of windows
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
	h.closing = newClosingStage(now)
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

// answersFor returns for how long a server has answered each call, 0 where it does not.
func (h *health) answersFor(name string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, told := h.checks[name]
	if !told || c.why != "" || h.now().Sub(c.at) > checkLimit {
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
		c, told := h.checks[name]
		switch silent := h.now().Sub(c.at); {
		case !told:
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
