// Package maintenance keeps the tables of a database from growing without bound while a process
// stores events: it compacts the ledger of batches and deletes old results.
package maintenance

import (
	"maps"
	"sync"
	"time"

	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
)

// Step is a part of a round of maintenance. Its text is a label of metrics.
type Step string

// The steps.
const (
	Join   Step = "pack"   // rows of toll_batch are joined
	Rollup Step = "add_up" // old batches are rolled up
	Expire Step = "retire" // old windows, congestion changes and dead letters are deleted
)

// Outcome is how a step ended. Its text is a label of metrics.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "success" // also where nothing was due
	Blocked Outcome = "blocked" // old batches wait until a plaza has merged them
	Failed  Outcome = "failure"
)

// Run is a step and how it ended.
type Run struct {
	Step    Step
	Outcome Outcome
}

// Counts is what maintenance did since the process began. Every step, outcome and table is there
// from the start: a counter that appears with its first count has no rate then.
type Counts struct {
	Runs        map[Run]int64
	LastSuccess map[Step]time.Time // zero for never
	Deleted     map[string]int64   // rows by table; of toll_batch, less those that replaced them
	// Ahead is how far clocks are ahead of this machine's, as last read; 0 where another process
	// reads them.
	Ahead map[toll.ClockName]time.Duration
}

// Stats counts what maintenance does. Several goroutines may use it.
type Stats struct {
	mu     sync.Mutex
	counts Counts
}

// NewStats returns counts that are all 0.
func NewStats() *Stats {
	c := Counts{
		Runs: map[Run]int64{}, LastSuccess: map[Step]time.Time{},
		Deleted: map[string]int64{"toll_batch": 0, "toll_window": 0, "toll_transition": 0,
			"toll_dead_letter": 0},
		Ahead: map[toll.ClockName]time.Duration{toll.EventClock: 0, toll.RecordClock: 0,
			toll.ServerClock: 0},
	}
	for _, step := range []Step{Join, Rollup, Expire} {
		c.LastSuccess[step] = time.Time{}
		for _, outcome := range []Outcome{Done, Blocked, Failed} {
			c.Runs[Run{step, outcome}] = 0
		}
	}
	return &Stats{counts: c}
}

// Read returns a copy of the counts.
func (s *Stats) Read() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{Runs: maps.Clone(s.counts.Runs), LastSuccess: maps.Clone(s.counts.LastSuccess),
		Deleted: maps.Clone(s.counts.Deleted), Ahead: maps.Clone(s.counts.Ahead)}
}

// Ran counts a step that ended at a time of the wall clock.
func (s *Stats) Ran(step Step, outcome Outcome, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Runs[Run{step, outcome}]++
	if outcome == Done {
		s.counts.LastSuccess[step] = at
	}
}

// Compacted counts what a compaction did, whether or not it was completed.
func (s *Stats) Compacted(done retention.Compacted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Deleted["toll_batch"] += done.Before - done.After
}

// Retired counts what was deleted for its age, whether or not that was completed.
func (s *Stats) Retired(gone retention.Retired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Deleted["toll_window"] += gone.Windows
	s.counts.Deleted["toll_transition"] += gone.Transitions
	s.counts.Deleted["toll_dead_letter"] += gone.DeadLetters
}

// SetSkews notes how far the clocks are ahead; nil where another process reads them.
func (s *Stats) SetSkews(skews []toll.Skew) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for clock := range s.counts.Ahead {
		s.counts.Ahead[clock] = 0
	}
	for _, skew := range skews {
		s.counts.Ahead[skew.Clock] = skew.Ahead
	}
}
