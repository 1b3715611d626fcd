package topology

import (
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/topology/internal/simtest"
)

// mutation is a rule of the protocol that is broken, to see that the simulation notices.
type mutation struct {
	rule   string // of the design
	breach string // as the simulation asks for it
	// of the world that shows it; what reconcile would mend in the end shows without it only
	kind   simKind
	script *simScript // that shows it, where seeds rarely do
	seed   uint64     // with which it showed last, to be tried first
}

// simScript is a course of events that are unlikely to come together.
type simScript struct {
	events []int16 // of the one partition
	rows   []int   // of the processes' batches
	lines  []string
}

var (
	// A is ahead of a database that was restored, and B stores up to where A is, by other batches.
	twoWaysToAnOffset = &simScript{
		events: []int16{1, 2, 1}, rows: []int{2, 1},
		lines: []string{
			"A starts", "A1: load 0", "A1: recover", "a backup is made",
			"A1 reads the records [0, 2) of 0", "A1: commit 0 [0, 2)",
			"backup 0 is restored", "B starts", "B2: load 0", "B2: recover",
			"B2 reads the records [0, 1) of 0", "B2: commit 0 [0, 1)",
			"B2 reads the records [1, 2) of 0", "B2: commit 0 [1, 2)",
			"A1 reads the records [2, 3) of 0", "A1: commit 0 [2, 3)",
		},
	}
	// A's last transaction ends while B begins.
	commitDuringStart = &simScript{
		events: []int16{1}, rows: []int{1, 1},
		lines: []string{
			"A starts", "?A1: read what is unpublished of 0", "A1: load 0", "A1: recover",
			"A1 reads the records [0, 1) of 0",
			"A1: commit 0 [0, 1): the answer is lost, the transaction open", "A1 crashes",
			"B starts", "?B2: read what is unpublished of 0",
			"the server ends the open transaction of 0 [0, 1)", "B2: load 0",
		},
	}
	// A delta from before a rebuild arrives behind those that were sent after it, and would fit.
	lateDelta = &simScript{
		events: []int16{1, 1, 1}, rows: []int{1, 1},
		lines: []string{
			"A starts", "A1: load 0", "A1: recover", "a backup is made",
			"A1 reads the records [0, 1) of 0", "A1: commit 0 [0, 1)",
			"A1's message to deltas 0 of plaza 1 arrives",
			"A1's message to deltas 0 of plaza 1 is acknowledged",
			"A1 reads the records [1, 2) of 0", "A1: commit 0 [1, 2)", "A1 crashes",
			"backup 0 is restored", "rebuild", "B starts", "B2: load 0", "B2: recover",
			"B2 reads the records [0, 1) of 0", "B2: commit 0 [0, 1)",
			"B2's message to deltas 0 of plaza 1 arrives",
			"A1's message to deltas 0 of plaza 1, which is dead, arrives",
			"B2 merges delta 0 of 0", "B2 merges delta 1 of 0", "B2 merges delta 2 of 0",
			"B2's message to table 0 of plaza 1 arrives", "B2's message to table 0 of plaza 1 arrives",
			"B2's message to table 0 of plaza 1 arrives",
		},
	}
)

var mutations = []mutation{
	{rule: "1 batch", breach: "cursor not compared", seed: 10},
	{rule: "1 batch", breach: "token not compared", script: twoWaysToAnOffset},
	{rule: "1 batch", breach: "epoch not compared", kind: simCalm, seed: 204},
	{rule: "2 start", breach: "cursor read after the outbox", script: commitDuringStart,
		kind: simCalm},
	{rule: "2 start", breach: "goes on at the group's offset", seed: 1},
	{rule: "2 start", breach: "a restored database is not noticed", seed: 443},
	{rule: "3 publish", breach: "acknowledged before it is sent", kind: simCalm, seed: 6},
	{rule: "3 publish", breach: "published marked in another epoch", kind: simCalm, seed: 10},
	{rule: "4 aggregate", breach: "prev not checked", seed: 26},
	{rule: "4 aggregate", breach: "duplicates merged"},
	{rule: "4 aggregate", breach: "older epochs merged", script: lateDelta},
	{rule: "4 aggregate", breach: "a newer epoch does not clear", seed: 2},
	{rule: "4 aggregate", breach: "no value set for a duplicate", kind: simCalm, seed: 1},
	{rule: "5 order", breach: "marks after a failed emit", kind: simCalm, seed: 332},
	{rule: "6 reconcile", breach: "no reconcile", seed: 19},
	{rule: "7 rebuild", breach: "rebuild leaves the epoch", seed: 15},
	{rule: "7 rebuild", breach: "rebuild leaves batches published", kind: simCalm, seed: 6},
	{rule: "7 rebuild", breach: "owners don't look at the epoch", kind: simCalm, seed: 238},
	{rule: "7 rebuild", breach: "the group's offsets carry no epoch", seed: 15},
	{rule: "8 readers", breach: "readers count older epochs", seed: 80},
}

// report fails a test with what led to a violation.
func (w *simWorld) report(t *testing.T, seed uint64) {
	t.Helper()
	t.Fatalf("seed %d, events %v: %s, after %d steps, the last of which are:\n%s",
		seed, w.events, w.violation, len(w.trace), strings.Join(w.trace[max(0, len(w.trace)-150):], "\n"))
}

// TestProtocol plays many seeds in each kind of world.
func TestProtocol(t *testing.T) {
	for name, kind := range map[string]simKind{"all": simAll, "calm": simCalm,
		"restores": simRestores} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for seed := range simtest.Seeds(100) {
				w := simulate(t, seed, kind, nil, nil)
				if w.violation != "" {
					w.report(t, seed)
				}
				steps += len(w.trace)
			}
			t.Logf("%d steps", steps)
		})
	}
}

// TestProtocolNeedsItsRules breaks one rule after the other, and finds that something goes wrong
// then that goes right with the rule.
func TestProtocolNeedsItsRules(t *testing.T) {
	const seeds = 5000
	for _, m := range mutations {
		t.Run(m.breach, func(t *testing.T) {
			for i := range uint64(seeds) {
				seed := (m.seed + i) % seeds
				w := simulate(t, seed, m.kind, m.script, &m)
				if w.violation != "" {
					t.Logf("rule %s: seed %d: %s, after %d steps", m.rule, seed, w.violation, len(w.trace))
					if w := simulate(t, seed, m.kind, m.script, nil); w.violation != "" {
						w.report(t, seed)
					}
					return
				}
				if m.script != nil {
					break
				}
			}
			t.Fatalf("rule %s: nothing goes wrong without it", m.rule)
		})
	}
}

// A backup holds a batch that was published since, and its owner has no reason to look at it again.
var marksLost = &simScript{
	events: []int16{1, 1}, rows: []int{1},
	lines: []string{
		"A starts", "A1: load 0", "A1: recover", "A1 reads the records [0, 1) of 0",
		"A1: commit 0 [0, 1)", "a backup is made",
		"A1's message to deltas 0 of plaza 1 arrives",
		"A1's message to deltas 0 of plaza 1 is acknowledged",
		"150ms pass", "A1: mark published 0", "backup 0 is restored",
	},
}

// TestProtocolScripts plays what once went wrong.
func TestProtocolScripts(t *testing.T) {
	for name, script := range map[string]*simScript{"marks lost": marksLost} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) { // of how it goes on
				if w := simulate(t, seed, simAll, script, nil); w.violation != "" {
					w.report(t, seed)
				}
			}
		})
	}
}

// TestProtocolRepeats plays seeds twice: what a seed finds can be looked at again.
func TestProtocolRepeats(t *testing.T) {
	for seed := range simtest.Seeds(30) {
		a, b := simulate(t, seed, simAll, nil, nil), simulate(t, seed, simAll, nil, nil)
		if !slices.Equal(a.trace, b.trace) {
			i := 0
			for i < min(len(a.trace), len(b.trace)) && a.trace[i] == b.trace[i] {
				i++
			}
			t.Errorf("seed %d went another way the second time, from step %d on:\n%q\n%q", seed, i,
				a.trace[max(0, i-6):min(i+3, len(a.trace))], b.trace[max(0, i-6):min(i+3, len(b.trace))])
		}
	}
}
