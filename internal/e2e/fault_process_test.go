package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// caughtUpWithin is far more than any recovery takes, also on a loaded machine.
const caughtUpWithin = 2 * time.Minute

var three = []string{"one", "two", "three"}

// killOfThree kills one of three processes of a group with SIGKILL at a random moment, and starts
// it again.
func killOfThree(f *injection) {
	w := newWorld(f.T)
	w.must("init", "--partitions", "6")
	l := w.startLoad(newTruth())
	members := make([]*process, len(three))
	for i, name := range three {
		members[i] = w.member(name)
	}
	l.caughtUp("the start", caughtUpWithin, members...)
	l.forgetPauses()
	for range f.rounds {
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // a random moment
		victim := rand.IntN(len(members))
		members[victim].kill()
		if v := w.verify(); v.Status == "mismatch" {
			f.Fatalf("round %d, right after the kill: %+v", f.result.rounds, v)
		}
		f.brief(members[victim])
		members[victim] = w.member(three[victim])
		l.caughtUp("after a kill", caughtUpWithin, members...)
		f.done()
	}
	f.finish(l, members...)
}

// scale goes from one process to three and back to one.
func scale(f *injection) {
	w := newWorld(f.T)
	w.must("init", "--partitions", "6")
	l := w.startLoad(newTruth())
	first := w.member("one")
	l.caughtUp("the start", caughtUpWithin, first)
	l.forgetPauses()
	for range f.rounds {
		second, third := w.member("two"), w.member("three")
		for _, p := range []*process{first, second, third} {
			f.says(p, "processing partitions=2")
		}
		out := l.caughtUp("after scaling out", caughtUpWithin, first, second, third)
		f.result.pause = max(f.result.pause, l.pause())
		outPause := l.pause()
		l.forgetPauses()
		second.interrupt()
		third.interrupt()
		f.says(first, "processing partitions=6")
		in := l.caughtUp("after scaling in", caughtUpWithin, first)
		f.Logf(
			"1 → 3: longest pause %v, all stored again after %v; 3 → 1: longest pause %v, "+
				"all stored again after %v", outPause.Round(time.Millisecond),
			out.Round(time.Millisecond), l.pause().Round(time.Millisecond), in.Round(time.Millisecond))
		// some 2 s; generous, for loaded machines
		if most := max(outPause, l.pause()); most > time.Minute {
			f.Errorf("scaling kept events waiting for %v", most)
		}
		f.brief(second)
		f.brief(third)
		f.done()
	}
	f.finish(l, first)
}

// failover kills one of two processes for good. The other one takes over when the session of the
// dead one is over.
func failover(f *injection, args ...string) {
	w := newWorld(f.T)
	w.must("init")
	l := w.startLoad(newTruth())
	members := []*process{w.member("one", args...), w.member("two", args...)}
	l.caughtUp("the start", caughtUpWithin, members...)
	l.forgetPauses()
	for round := range f.rounds {
		dead := round % 2
		f.says(members[0], "processing partitions=2")
		f.says(members[1], "processing partitions=2")
		f.result.pause = max(f.result.pause, l.pause())
		l.forgetPauses()
		members[dead].kill()
		f.says(members[1-dead], "processing partitions=4")
		l.caughtUp("after one is dead", caughtUpWithin, members[1-dead])
		f.Logf("the partitions of the dead one stood for %v", l.pause().Round(time.Millisecond))
		members[dead] = w.member(three[dead], args...)
		l.caughtUp("with both", caughtUpWithin, members...)
		f.done()
	}
	f.finish(l, members...)
}

func coldFailover(f *injection) { failover(f) }
func warmFailover(f *injection) { failover(f, "--hot-standby") }

// fallBacks reads the changelog of the group table and returns how many of its records hold less of
// a plaza than an earlier one: what a former owner wrote late.
func (w *world) fallBacks() int {
	w.t.Helper()
	newest := map[string]map[int32]int64{}
	behind := 0
	for _, r := range w.records(kafka.TableTopic(w.group)) {
		v, err := wire.StateCodec{}.Decode(r.Value)
		state, ok := v.(*toll.State)
		if err != nil || !ok {
			w.t.Fatalf("read the state of plaza %s: %v", r.Key, err)
		}
		merged := newest[string(r.Key)]
		if merged == nil {
			merged = map[int32]int64{}
			newest[string(r.Key)] = merged
		}
		for partition, next := range merged {
			if state.MergedIn(partition) < next {
				behind++
				break
			}
		}
		for _, m := range state.Merged {
			merged[m.Partition] = max(merged[m.Partition], m.Next)
		}
	}
	if len(newest) == 0 {
		w.t.Fatal("the changelog of the group table is empty")
	}
	return behind
}

// A fault is one way in which the surroundings, or a process, break. It is injected again and again
// while events keep coming; in the end nothing may be lost or doubled.
type fault struct {
	name  string
	title string // in the summary
	usual bool   // whether it is part of every run of the tests, not of the campaign alone
	// short and percent say how often it is injected: in a usual run, and in a campaign, of its
	// rounds.
	short, percent int
	run            func(f *injection)
}

var faults = []fault{
	{"kill", "kill -9 of one of three processes", true, 3, 100, killOfThree},
	{"stop", "one of two pauses, and continues", false, 1, 10, stopOneOfTwo},
	{"scale", "1 → 3 → 1 processes", false, 1, 5, scale},
	{"failover", "one of two dies for good", false, 1, 5, coldFailover},
	{"failover-warm", "the same with a hot standby", false, 1, 5, warmFailover},

	{"database-kill", "database killed", true, 2, 20, killDatabase},
	{"database-kill-in-commit", "database killed in a commit", false, 2, 20, killDatabaseInCommit},
	{"database-steps", "cut at each step of a transaction", true, 1, 3, cutAtEveryStep},
	{"database-commit", "answer to a commit lost", true, 2, 50, loseCommitAnswers},
	{"database-certified", "commit refused by a cluster", true, 1, 10, refuseCommits},
	{"database-paused", "database paused", true, 1, 3, pauseDatabase},
	{"database-locks", "lock waits and deadlocks", false, 1, 5, lockDatabase},
	{"database-read-only", "database read-only", false, 1, 5, forbidWrites},
	{"database-full", "database out of space", false, 1, 3, fillDatabase},
	{"database-local-infile", "LOAD DATA forbidden", false, 1, 1, forbidLoadData},
	{"database-other", "another database at the address", false, 1, 3, swapDatabase},

	{"kafka-kill", "broker killed", true, 1, 5, killKafka},
	{"kafka-paused", "broker paused", false, 1, 1, pauseKafka},
	{"kafka-produce", "produce cut or answered late", false, 2, 20, cutProduces},
	{"kafka-session", "session expired, late sends", false, 1, 5, expireSession},
	{"kafka-leaders", "leaders and coordinator moved (fake)", false, 3, 20, moveLeaders},
	{"kafka-refusals", "produce refused (fake)", false, 1, 5, refuseProduces},
	{"kafka-partitions", "topic grew", false, 1, 1, growTopic},
	{"kafka-retention", "unread events deleted", false, 2, 4, deleteUnread},

	{"state-damaged", "state folder deleted, damaged, old", true, 6, 12, damageState},
	{"state-foreign", "state folder of others, no folder", false, 2, 2, foreignState},
	{"state-full", "state folder full", false, 1, 1, fullStateFolder},
}

// injection is one run of a fault.
type injection struct {
	*testing.T
	rounds int
	result outcome
}

// outcome is what came of a fault.
type outcome struct {
	title                         string
	rounds, events, lost, doubled int
	pause                         time.Duration
	failed, skipped               bool
}

// campaignRounds returns how many rounds a campaign asks for, 0 for a usual run.
func campaignRounds() int {
	n, err := strconv.Atoi(os.Getenv("TOLLSTREAM_ROUNDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// roundsOf returns how often a fault is injected: in a usual run, or as a share of a campaign's
// rounds.
func roundsOf(short, percent int) int {
	if asked := campaignRounds(); asked > 0 {
		return max(1, asked*percent/100)
	}
	return short
}

// TestFaults injects each fault under load, on real servers unless its file says otherwise, and
// prints what came of it. With TOLLSTREAM_ROUNDS=n it is a campaign, one fault after the other;
// TOLLSTREAM_FAULTS_REPORT names a file for its table.
func TestFaults(t *testing.T) {
	if campaignRounds() == 0 {
		t.Parallel()
	}
	var mu sync.Mutex
	results := make([]*outcome, len(faults))
	t.Cleanup(func() { reportFaults(t, results) })
	for i, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			if !fault.usual {
				campaign(t)
			}
			if campaignRounds() == 0 {
				t.Parallel() // most of it is waiting
			}
			f := &injection{T: t, rounds: roundsOf(fault.short, fault.percent),
				result: outcome{title: fault.title}}
			t.Cleanup(func() {
				mu.Lock()
				defer mu.Unlock()
				f.result.failed, f.result.skipped = t.Failed(), t.Skipped()
				results[i] = &f.result
			})
			fault.run(f)
		})
	}
}

// done counts a round.
func (f *injection) done() { f.result.rounds++ }

// finish ends a load, lets all be stored and merged, and checks that it is exact: by verify --deep,
// by the test's own ground truth, and by SQL for the windows. Processes that still run are
// interrupted first.
func (f *injection) finish(l *load, processes ...*process) {
	f.Helper()
	l.end()
	f.result.pause = max(f.result.pause, l.pause())
	for _, p := range processes {
		if p.running() {
			p.interrupt()
		}
		f.brief(p)
	}
	w := l.w
	w.must("process", "--until-end")
	lost, doubled, wrong := l.truth.compare(w)
	f.result.events += l.truth.total()
	f.result.lost += lost
	f.result.doubled += doubled
	if len(wrong) > 0 {
		f.Errorf("%d rows lost, %d doubled; rows that differ from what was sent: %d\n%s", lost, doubled,
			len(wrong),
			strings.Join(wrong[:min(10, len(wrong))], "\n"))
	}
	if v := w.verify("--deep"); v.Status != "exact" {
		f.Fatalf("verify --deep: %+v", v)
	}
	w.windowsEqualSQL()
}

// linesPerRound bounds what a process may say of a fault.
const linesPerRound = 12

// brief checks that a process says what is wrong in few lines, without a stack.
func (f *injection) brief(p *process) {
	f.Helper()
	log := p.log.String()
	if strings.Contains(log, "goroutine ") || strings.Contains(log, ".go:") ||
		strings.Contains(log, "panic") {
		f.Errorf("a process prints a stack:\n%s", log)
	}
	if n := strings.Count(log, "\n"); n > 10+linesPerRound*max(1, f.result.rounds) {
		f.Errorf("a process prints %d lines in %d rounds:\n%s", n, f.result.rounds, log)
	}
}

// sessionTimeout is after how long the group gives a member's partitions to others: the shortest
// that the tests' brokers take is a second, which a loaded machine may take to answer.
const sessionTimeout = 3 * time.Second

// member starts a process as a member of the group.
func (w *world) member(instance string, args ...string) *process {
	w.t.Helper()
	p := w.start(append([]string{"process", "--instance", instance, "--batch-rows", "300",
		"--session-timeout", sessionTimeout.String()}, args...)...)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			log := p.log.String()
			w.t.Logf("the last of what process %s said:\n%s", instance, log[max(0, len(log)-2000):])
		}
	})
	return p
}

// underLoad starts to send events, and a process that has caught up with them.
func (w *world) underLoad(args ...string) (*load, *process) {
	w.t.Helper()
	l, p := w.startLoad(newTruth()), w.member("one", args...)
	l.caughtUp("the start", caughtUpWithin, p)
	l.forgetPauses()
	return l, p
}

// reportFaults prints the summary, and writes it to the file that TOLLSTREAM_FAULTS_REPORT names.
func reportFaults(t *testing.T, results []*outcome) {
	tw := newTable("fault", "rounds", "events", "lost", "doubled", "longest pause")
	for _, r := range results {
		if r == nil || r.skipped {
			continue
		}
		title := r.title
		if r.failed {
			title += " (FAILED)"
		}
		tw.AppendRow(table.Row{title, humanize.Comma(int64(r.rounds)), humanize.Comma(int64(r.events)),
			humanize.Comma(int64(r.lost)),
			humanize.Comma(int64(r.doubled)), fmt.Sprintf("%.1f s", r.pause.Seconds())})
	}
	if tw.Length() == 0 {
		return
	}
	summary := tw.Render()
	t.Log("\n" + summary)
	if path := os.Getenv("TOLLSTREAM_FAULTS_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(summary+"\n"), 0o644); err != nil {
			t.Errorf("write the report: %v", err)
		}
	}
}
