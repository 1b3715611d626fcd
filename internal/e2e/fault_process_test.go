package e2e

import (
	"math/rand/v2"
	"time"

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
