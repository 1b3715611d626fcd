package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// upkeepStep is a part of a round of upkeep.
type upkeepStep string

const (
	packStep   upkeepStep = "pack"   // rows of toll_batch are put together
	addUpStep  upkeepStep = "add_up" // old batches are added up
	retireStep upkeepStep = "retire" // old windows, changes of congestion and dead letters are deleted
)

var upkeepSteps = []upkeepStep{packStep, addUpStep, retireStep}

// upkeepOutcome is what became of a step.
type upkeepOutcome string

const (
	upkeepDone    upkeepOutcome = "success" // also where nothing was due
	upkeepBlocked upkeepOutcome = "blocked" // old batches wait until a plaza has merged them
	upkeepFailed  upkeepOutcome = "failure"
)

var upkeepOutcomes = []upkeepOutcome{upkeepDone, upkeepBlocked, upkeepFailed}

// The tables that upkeep deletes rows of.
const (
	batchTable      = "toll_batch" // less the rows that compaction puts in their place
	windowTable     = "toll_window"
	transitionTable = "toll_transition"
	deadLetterTable = "toll_dead_letter"
)

// upkeepStats counts what upkeep did since the process began. Several goroutines may use it.
type upkeepStats struct {
	mu      sync.Mutex
	runs    map[upkeepStep]map[upkeepOutcome]int64
	success map[upkeepStep]time.Time // of the last one; zero for never
	deleted map[string]int64         // rows, by table
	// of the clocks, as they were read last; 0 where another process reads them
	ahead map[toll.ClockName]time.Duration
}

// newUpkeepStats returns counts that are all there from the start: a counter that appears with its
// first count has no rate then.
func newUpkeepStats() *upkeepStats {
	s := &upkeepStats{
		runs: map[upkeepStep]map[upkeepOutcome]int64{}, success: map[upkeepStep]time.Time{},
		deleted: map[string]int64{batchTable: 0, windowTable: 0, transitionTable: 0, deadLetterTable: 0},
		ahead:   map[toll.ClockName]time.Duration{},
	}
	for _, step := range upkeepSteps {
		s.runs[step] = map[upkeepOutcome]int64{}
		s.success[step] = time.Time{}
		for _, outcome := range upkeepOutcomes {
			s.runs[step][outcome] = 0
		}
	}
	return s
}

// ran counts a step that ended at a time of the wall clock.
func (s *upkeepStats) ran(step upkeepStep, outcome upkeepOutcome, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[step][outcome]++
	if outcome == upkeepDone {
		s.success[step] = at
	}
}

// compacted counts what a compaction did, whether or not it came to its end.
func (s *upkeepStats) compacted(done sql.Compacted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[batchTable] += done.Before - done.After
}

// retired counts what was deleted for its age, whether or not that came to its end.
func (s *upkeepStats) retired(gone sql.Retired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[windowTable] += gone.Windows
	s.deleted[transitionTable] += gone.Transitions
	s.deleted[deadLetterTable] += gone.DeadLetters
}

// setSkews notes how far the clocks are ahead.
func (s *upkeepStats) setSkews(skews []toll.Skew) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.ahead)
	for _, skew := range skews {
		s.ahead[skew.Clock] = skew.Ahead
	}
}

// collect shows the counts.
func (s *upkeepStats) collect(ch chan<- prometheus.Metric) {
	for _, m := range s.metrics() {
		ch <- m
	}
}

func (s *upkeepStats) metrics() (all []prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for step, outcomes := range s.runs {
		for outcome, n := range outcomes {
			all = append(all, prometheus.MustNewConstMetric(upkeepRunsMetric, prometheus.CounterValue,
				float64(n), string(step), string(outcome)))
		}
	}
	for step, at := range s.success {
		seconds := 0.
		if !at.IsZero() {
			seconds = unixSeconds(at)
		}
		all = append(all, prometheus.MustNewConstMetric(upkeepSuccessMetric, prometheus.GaugeValue,
			seconds, string(step)))
	}
	for table, rows := range s.deleted {
		all = append(all, prometheus.MustNewConstMetric(upkeepDeletedMetric, prometheus.CounterValue,
			float64(rows), table))
	}
	for _, clock := range [...]toll.ClockName{toll.EventClock, toll.RecordClock, toll.ServerClock} {
		all = append(all, prometheus.MustNewConstMetric(clockAheadMetric, prometheus.GaugeValue,
			s.ahead[clock].Seconds(), string(clock)))
	}
	return all
}
