package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollstream/tollstream/toll"
)

var errLost = errors.New("connection lost")

func TestHistogram(t *testing.T) {
	h := newHistogram(1, 10, 100)
	for _, v := range []float64{0, 1, 1.5, 10, 10.5, 100, 101, 1e9} {
		h.Observe(v)
	}
	d := h.Read()
	if d.Count != 8 || d.Sum != 1e9+224 ||
		!maps.Equal(d.Buckets, map[float64]uint64{1: 2, 10: 4, 100: 6}) {
		t.Errorf("%+v", d)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				h.Observe(.5)
			}
		})
	}
	wg.Wait()
	if d := h.Read(); d.Count != 4008 || d.Sum != 1e9+2224 || d.Buckets[1] != 4002 {
		t.Errorf("%+v", d)
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(math.Pi) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWaitingRing(t *testing.T) {
	var r waitingRing
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	if !r.find(1).IsZero() {
		t.Error("found in an empty ring")
	}
	for n := 1; n <= 3*maxWaiting+7; n++ {
		r.add(waiting{int64(n), at(n)})
		first := max(1, n-maxWaiting+1)
		for _, want := range []int{first, (first + n) / 2, n} {
			if got := r.find(int64(want)); !got.Equal(at(want)) {
				t.Fatalf("after %d: %d is %v", n, want, got)
			}
		}
		if first > 1 && !r.find(int64(first-1)).IsZero() || !r.find(int64(n+1)).IsZero() {
			t.Fatalf("after %d: found what is gone, or is to come", n)
		}
	}
}

// TestHealth moves the clock of a process whose loops stall, wait, and turn.
func TestHealth(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := newHealth(func() time.Time { return now })
	sound := func(want string) {
		t.Helper()
		got := ""
		if err := h.Healthy(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	sound("") // without any partition
	h.watch(2)
	now = now.Add(LoopLimit)
	sound("")
	now = now.Add(time.Second)
	sound("storing partition 2 has stalled for 2m1s")
	h.Turn(2)
	sound("")
	done := h.Call(2)
	publishing := h.Call(2)
	now = now.Add(time.Hour) // the database is away: no start mends that
	sound("")
	done()
	now = now.Add(time.Hour)
	sound("")
	publishing()
	sound("")
	now = now.Add(2 * LoopLimit)
	sound("storing partition 2 has stalled for 4m0s")
	h.unwatch(2)
	h.Turn(2)
	h.Call(2)()
	sound("")

	h.RunFails()
	now = now.Add(endLimit)
	h.RunFails() // the first counts
	sound("")
	now = now.Add(time.Second)
	sound("a run that failed does not end for 5m1s")
	h.RunEnded()
	sound("")
}

// TestReady follows a process through its start, an outage of each server, a rebalance and silence.
func TestReady(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := NewStatsAt(func() time.Time { return now })
	ready := func(want string) {
		t.Helper()
		got := ""
		if err := s.Ready(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	ready(
		"tables: not checked yet; mysql: not asked yet; kafka: not asked yet; group: no partitions are " +
			"assigned yet")
	s.Checked(errors.New("dial tcp 10.1.2.3:3306: secret"))
	ready(
		"tables: tables and topics can't be checked yet; the log says why; mysql: not asked yet; " +
			"kafka: not asked yet; group: no partitions are assigned yet")
	s.Checked(nil)
	ready("group: no partitions are assigned yet")
	s.Assigned()
	ready("")
	_ = s.Noted(StoreBatch, errLost)
	ready("mysql: the last call failed")
	_ = s.Noted(StoreBatch, fmt.Errorf("commit: %w", context.Canceled)) // says nothing
	ready("mysql: the last call failed")
	_ = s.Noted(StoreBatch, toll.ErrCursorMoved) // an answer
	ready("")
	s.Reached(errLost)
	ready("kafka: the last call failed")
	s.Reached(nil)
	s.Unassigned("no partitions are assigned")
	ready("group: no partitions are assigned")
	s.Restarting()
	ready("group: processing stopped and starts again")
	s.Assigned()
	ready("")
	now = now.Add(checkLimit + time.Second)
	ready("mysql: no answer for 1m1s; kafka: no answer for 1m1s")
	if snap := s.Read(); snap.Sessions != 2 || snap.Restarts != 1 || snap.Retries["store"] != 1 {
		t.Errorf("%+v", snap)
	}
	if names := s.Checks(); len(names) != 4 || names[0].Name != CheckTables ||
		names[3].Name != CheckGroup {
		t.Error(names)
	}
}

// TestNoCursorIsNoFailure looks at a partition that was never processed.
func TestNoCursorIsNoFailure(t *testing.T) {
	s := NewStats()
	s.Checked(nil)
	s.Assigned()
	if err := s.Noted(Load, toll.ErrNoCursor); !errors.Is(err, toll.ErrNoCursor) {
		t.Errorf("got %v", err)
	}
	if n := s.Read().Retries["load"]; n != 0 || s.Ready() != nil {
		t.Errorf("%d retries, ready: %v", n, s.Ready())
	}
}

// TestOutage has three partitions notice one outage: it is logged once, and its end once, when the
// last of them has recovered. A server that does not answer is logged, too.
func TestOutage(t *testing.T) {
	var log strings.Builder
	tr := NewOutage(slog.New(slog.NewTextHandler(&log, nil)), "it failed", "it works")
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		for i := range want {
			if i >= len(got) || !strings.Contains(got[i], want[i]) {
				t.Fatalf("got\n%s\nwant %q", &log, want)
			}
		}
		if len(got) > len(want) {
			t.Fatalf("got\n%s\nwant %q", &log, want)
		}
	}
	tr.Up(1) // which noticed none
	for partition := range int32(3) {
		tr.Down(partition, errors.New("gone away"))
		tr.Down(partition, errors.New("gone away"))
	}
	lines("gone away")
	tr.Up(0)
	tr.Leave(1)
	lines("gone away")
	tr.Up(2)
	lines("gone away", "it works")
	tr.Up(2)
	tr.Down(2, errors.New("again"))
	tr.Leave(2)
	lines("gone away", "it works", "again")
	synctest.Test(t, func(t *testing.T) {
		tr := NewOutage(tr.log, "it failed", "it works")
		answered := tr.Await(0)
		time.Sleep(slowAnswer*time.Second - 1)
		answered()
		time.Sleep(slowAnswer * time.Second)
		lines("gone away", "it works", "again")
		answered = tr.Await(0)
		time.Sleep(slowAnswer*time.Second + 1)
		answered()
		tr.Up(0)
		lines("gone away", "it works", "again", "no answer for 10s", "it works")
	})
	var none *Outage
	none.Await(0)()
	none.Down(0, errors.New("told to nobody"))
	none.Up(0)
}

// TestOutageRace has partitions notice an outage and its end at the same time: for the race
// detector.
func TestOutageRace(t *testing.T) {
	tr := NewOutage(slog.New(slog.DiscardHandler), "", "")
	var wg sync.WaitGroup
	for partition := range int32(4) {
		wg.Go(func() {
			for range 200 {
				tr.Down(partition, errors.New("gone away"))
				tr.Up(partition)
			}
		})
	}
	wg.Wait()
	if tr.Lasts() {
		t.Error("it lasts")
	}
	tr.Down(0, context.Canceled)
	tr.Down(0, &net.OpError{Op: "read", Err: context.Canceled})
	if tr.Lasts() {
		t.Error("a call that was cancelled counts as an outage")
	}
}
