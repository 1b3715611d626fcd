// Package maintenance keeps the tables of a database from growing without bound while a process
// stores events: it compacts the ledger of batches and deletes old results.
package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// Retention is how long data that is derived from events is kept, and how often maintenance runs.
// A time of 0 keeps all.
type Retention struct {
	Batches, Minutes     time.Duration
	Windows, DeadLetters time.Duration
	Every                time.Duration // between two rounds
}

const day = 24 * time.Hour

// Least values of a [Retention], other than 0.
const (
	MinBatches     = 10 * time.Minute
	MinDeadLetters = 30 * day
)

// DefaultRetention returns the retention of a process that is not configured otherwise.
func DefaultRetention() Retention {
	return Retention{Batches: 2 * time.Hour, Minutes: toll.MinKeptMinutes, Windows: 400 * day,
		DeadLetters: 400 * day, Every: time.Minute}
}

const (
	// keptBytes is how many bytes of a partition's outboxes are kept as they are, whatever their age.
	keptBytes = 64 << 20
	// Old batches are rolled up after so many rounds at the latest, and old results deleted after so
	// many. Joining bounds the rows: a partition may write fifty a second.
	rollupEvery = 10
	expireEvery = 60
	// tableTimeout bounds the reading of the group table.
	tableTimeout = time.Minute
)

// Config is what a [Maintainer] works with.
type Config struct {
	Topology topology.Config // of the processor
	Retention
	Store  *sql.Store
	Writer *ingest.Writer
	Stats  *Stats
}

// Maintainer compacts and deletes what is old, in parallel with a processor.
type Maintainer struct {
	cfg       Config
	log       *slog.Logger
	compactor *retention.Compactor
	marks     *topology.WatermarkReader

	warned string // why nothing can be rolled up, or what failed
	skewed string // what was wrong with the clocks the last time
}

// New returns a maintainer that does nothing yet. Close it in the end.
func New(cfg Config) *Maintainer {
	t := &cfg.Topology
	return &Maintainer{cfg: cfg, log: t.Log, compactor: cfg.Store.Compactor(t.TopicID),
		marks: topology.NewWatermarkReader(t.Cluster, t.Topic)}
}

// Close ends the connection to Kafka.
func (m *Maintainer) Close() error { return m.marks.Close() }

// rollupRounds returns after how many rounds batches are rolled up that are kept for a time: after
// a tenth of it, so that no more is kept than a tenth too much. Each time the group table is read
// whole, so it is not done more often than necessary.
func rollupRounds(keep time.Duration) int {
	return int(min(max(keep/10/time.Minute, 1), rollupEvery))
}

// Run works until ctx ends.
func (m *Maintainer) Run(ctx context.Context) {
	rollup := rollupRounds(m.cfg.Batches)
	round := 1
	for range wait.Every(ctx, m.cfg.Every) {
		if !m.owner() {
			m.cfg.Stats.SetSkews(nil) // another process reads the clocks
			round = 1
			continue
		}
		err := m.Round(ctx, round%rollup == 0, round%expireEvery == 0)
		if err != nil && ctx.Err() == nil {
			m.failed(err)
		}
		round++
	}
}

// owner reports whether this process is the one of the group that does maintenance: the one with
// the first partition of the topic. That two are it for a moment does no harm: each step is a small
// transaction that checks whether it is valid.
func (m *Maintainer) owner() bool {
	_, owned := m.cfg.Topology.Stats.Read().ByPartition[0]
	return owned
}

// failed reports a failure. An outage is reported by others; a permanent error once.
func (m *Maintainer) failed(err error) {
	if permanent, ok := errors.AsType[*toll.PermanentError](err); ok {
		m.warnOnce("old rows can't be compacted or deleted", kafka.Brief(err), "hint",
			permanent.Hint)
		return
	}
	m.log.Debug("compact or delete old rows", "error", err)
}

// warnOnce warns once of the same reason.
func (m *Maintainer) warnOnce(what, why string, more ...any) {
	if m.warned != why {
		m.warned = why
		m.log.Warn(what, append([]any{"reason", why}, more...)...)
	}
}

// Round joins batches, and if asked to, rolls old ones up and deletes old results. A failure
// prevents what depends on it, and nothing else.
func (m *Maintainer) Round(ctx context.Context, rollup, expire bool) error {
	var mark toll.Watermark
	var states map[int16]*toll.State
	var now toll.Clocks
	var blocked string
	cursors, joining := m.cfg.Writer.Cursors(ctx)
	if joining == nil {
		now, joining = m.readClocks(ctx, cursors)
	}
	reading := joining
	if joining == nil && (rollup || expire) {
		mark, reading = m.marks.Read(ctx, cursors, m.cfg.Topology.Lateness, m.cfg.Topology.Idle)
		now.Event = clocks.EventTime(mark)
	}
	rolling, expiring := reading, reading
	if rolling == nil && rollup && mark.Known && m.cfg.Batches > 0 {
		states, rolling = m.readStates(ctx)
	}
	if joining == nil && m.cfg.Batches > 0 {
		blocked, joining = m.compact(ctx, cursors, states, now)
		rolling = cmp.Or(rolling, joining)
	}
	if expiring == nil && expire && mark.Known {
		expiring = m.expire(ctx, now)
	}
	m.ran(ctx, Join, joining, "")
	if rollup {
		m.ran(ctx, Rollup, rolling, blocked)
	}
	if expire {
		m.ran(ctx, Expire, expiring, "")
	}
	return cmp.Or(joining, rolling, expiring)
}

// ran counts a step that failed, was blocked, or neither. The end of the process is no failure.
func (m *Maintainer) ran(ctx context.Context, step Step, err error, blocked string) {
	outcome := Done
	switch {
	case err != nil && ctx.Err() != nil:
		return
	case err != nil:
		outcome = Failed
	case blocked != "":
		outcome = Blocked
	}
	m.cfg.Stats.Ran(step, outcome, time.Now())
}

// readClocks reads the clocks, and warns where others are wrong than the last time.
func (m *Maintainer) readClocks(ctx context.Context, cursors []toll.Cursor) (toll.Clocks, error) {
	now, _, err := clocks.Read(ctx, m.cfg.Store, cursors, m.cfg.Topology.Lateness,
		m.cfg.Topology.Idle)
	if err != nil {
		return now, err
	}
	skews := now.Skews()
	m.cfg.Stats.SetSkews(skews)
	if key := skewKey(skews); key != m.skewed {
		m.skewed = key
		if key == "" {
			m.log.Info("the clocks agree again")
		} else {
			m.log.Warn(
				"clocks disagree by more than an hour; what is old is deleted by the earliest of them",
				"reason", strings.Join(clocks.Warnings(skews), "; "))
		}
	}
	return now, nil
}

// skewKey is equal as long as the same clocks are wrong in the same way.
func skewKey(skews []toll.Skew) string {
	var b strings.Builder
	for _, s := range skews {
		if s.Wrong() {
			fmt.Fprintf(&b, "%s %v ", s.Clock, s.Ahead > 0)
		}
	}
	return b.String()
}

func (m *Maintainer) readStates(ctx context.Context) (map[int16]*toll.State, error) {
	ctx, cancel := context.WithTimeout(ctx, tableTimeout)
	defer cancel()
	return table.Read(ctx, m.cfg.Topology.Cluster, m.cfg.Topology.Group)
}

// compact joins the batches of all partitions, and rolls old ones up where there are states. It
// returns why not all that is due was rolled up, empty where all was.
func (m *Maintainer) compact(ctx context.Context, cursors []toll.Cursor,
	states map[int16]*toll.State, now toll.Clocks) (blocked string, err error) {
	const noMinutes = toll.Minute(-1 << 31) // before which there is none
	o := retention.CompactOptions{
		States: states, Before: noMinutes, Now: now.Wall(), Keep: m.cfg.Batches, KeepBytes: keptBytes,
	}
	if t, known := now.Now(); known && states != nil && m.cfg.Minutes > 0 {
		o.Before = toll.FoldHorizon(states, toll.MinuteAt(t.Unix()), m.cfg.Minutes)
	}
	var sum retention.Compacted
	for _, c := range cursors {
		done, err := m.compactor.Compact(ctx, c.Partition, o)
		m.cfg.Stats.Compacted(done)
		if err != nil {
			return "", err
		}
		sum.Before += done.Before
		sum.After += done.After
		sum.Blocked = cmp.Or(done.Blocked, sum.Blocked)
	}
	switch {
	case sum.Blocked != "":
		m.warnOnce("old batches wait to be rolled up", sum.Blocked)
	case states != nil:
		m.warned = ""
	}
	if sum.Before > 0 {
		m.log.Debug("compacted batches", "rows", text.Number(sum.Before), "into",
			text.Number(sum.After))
	}
	return sum.Blocked, nil
}

// expire deletes what is older than its retention.
func (m *Maintainer) expire(ctx context.Context, now toll.Clocks) error {
	gone, err := m.cfg.Store.Retire(ctx, retention.Options{
		Clocks: now, Windows: m.cfg.Topology.Windows, KeepWindows: m.cfg.Windows,
		KeepDeadLetters: m.cfg.DeadLetters,
	})
	m.cfg.Stats.Retired(gone)
	if err != nil {
		return err
	}
	if gone != (retention.Retired{}) {
		m.log.Info("deleted what is old", "windows", text.Number(gone.Windows),
			"changes_of_congestion", text.Number(gone.Transitions),
			"dead_letters", text.Number(gone.DeadLetters))
	}
	return nil
}

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
