package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// peakBacklogMB is what process may take at most, whatever waits for it, in MB of 2^20 bytes as the
// benchmark has them.
const peakBacklogMB = 96

// viewAnswersWithin bounds how long view may take to answer while a backlog is worked off.
const viewAnswersWithin = 10 * time.Second

// TestBacklog lets process begin when as many events wait as TOLLSTREAM_BACKLOG says, with default
// settings, and asks view again and again meanwhile. Speed is only printed. The command is built
// without the embedded engines, as in the container.
func TestBacklog(t *testing.T) {
	text := os.Getenv("TOLLSTREAM_BACKLOG")
	if text == "" {
		t.Skip("TOLLSTREAM_BACKLOG is not set")
	}
	events, err := strconv.ParseInt(text, 10, 64)
	if err != nil || events < 100_000 {
		t.Fatalf("TOLLSTREAM_BACKLOG is %q, want a number of events of 100000 or more", text)
	}
	if _, ok := statusOf(os.Getpid(), "VmHWM"); !ok {
		t.Skip("there is no /proc here to read the memory of processes from")
	}
	// 5,000 events a second, some forty times what it takes
	within := 5*time.Minute + time.Duration(events)*time.Millisecond/5
	w := newWorld(t)
	w.must("init")
	began := time.Now()
	w.finishes(w.start("emit", "--count", text, "--rate", "0", "--seed", "1", "--start",
		"2022-02-10 10:23:02"), within)
	t.Logf("emitted %s events in %.0f s", comma(int(events)), time.Since(began).Seconds())

	began = time.Now()
	p := w.start("process")
	peak := p.watchPeak()
	var slowest time.Duration
	var shown, behind int
	stored := int64(0)
	for deadline := began.Add(within); stored < events; {
		if !p.running() || time.Now().After(deadline) {
			t.Fatalf("%s events of %s are stored after %v:\n%s", comma(int(stored)), comma(int(events)),
				time.Since(began), p.log)
		}
		asked := time.Now()
		v := w.plaza(4005, stored > 0)
		took := time.Since(asked)
		slowest = max(slowest, took)
		if took > viewAnswersWithin {
			t.Errorf("view took %v with %s events stored", took, comma(int(stored)))
		}
		if v.Verification.Status == "mismatch" {
			t.Fatalf("view: %+v", v)
		}
		shown++
		if v.Verification.InFlight > 0 {
			behind++
		}
		select {
		case <-time.After(max(0, backlogEvery-took)):
		case <-p.done:
		}
		stored = w.cursorsSum()
	}
	took := time.Since(began)
	w.eventually("all merged", within, func() bool { return w.verify().Status == "exact" })
	merged := time.Since(began)
	if _, code := p.interrupt(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.log)
	}
	mb := peak()
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != events {
		t.Errorf("verify --deep: %+v", v)
	}
	if mb == 0 || mb > peakBacklogMB {
		t.Errorf("process took %.0f MB at its peak, want at most %d", mb, peakBacklogMB)
	}
	t.Logf(
		"%s events stored in %.1f s, %s rows/s; all merged after %.1f s; peak memory %.0f MB; "+
			"view answered %d times, the slowest took %.1f s; %d times with events in flight",
		comma(int(events)), took.Seconds(), comma(int(float64(events)/took.Seconds())), merged.Seconds(),
		mb, shown, slowest.Seconds(), behind)
}

// TestBacklogKilled kills process and the database at random moments while it works off as many
// events as TOLLSTREAM_BACKLOG_KILLED says.
func TestBacklogKilled(t *testing.T) {
	events, err := strconv.ParseInt(os.Getenv("TOLLSTREAM_BACKLOG_KILLED"), 10, 64)
	if err != nil {
		t.Skip("TOLLSTREAM_BACKLOG_KILLED is not set to a number of events")
	}
	w := newWorld(t)
	w.must("init")
	w.must("emit", "--count", strconv.FormatInt(events, 10), "--rate", "0", "--seed", "1",
		"--start", "2022-02-10 10:23:02")
	kills, stored := 0, int64(0)
	for deadline := time.Now().Add(10 * time.Minute); stored < events; kills++ {
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s events stored", comma(int(stored)), comma(int(events)))
		}
		p := w.start("process", "--batch-rows", "2000")
		before := stored
		w.eventually("a batch", caughtUpWithin, func() bool { return w.cursorsSum() > before })
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // a random moment
		p.kill()
		// What TiDB's storage for tests has not committed yet is in memory: a kill would store halves.
		if kills%3 == 2 && engine != "tidb" {
			if err := errors.Join(w.db.Kill(), w.db.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if v := w.verify(); v.Status == "mismatch" {
			t.Fatalf("after kill %d: %+v", kills+1, v)
		}
		stored = w.cursorsSum()
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != events {
		t.Errorf("verify --deep: %+v", v)
	}
	w.windowsEqualSQL()
	t.Logf("%s events exact after %d kills", comma(int(events)), kills)
}

// backlogEvery is how often view is asked, unless it takes longer.
const backlogEvery = 2 * time.Second

// plazaView is what view --plaza --json prints, as far as this is about it.
type plazaView struct {
	Total        int64
	Verification struct {
		Status   string
		InFlight int64 `json:"in_flight"`
	}
}

// plaza returns what view says of a plaza, which it knows where there is some of it; else it may
// say that it doesn't.
func (w *world) plaza(plaza int, known bool) plazaView {
	w.t.Helper()
	r := w.run("view", "--plaza", strconv.Itoa(plaza), "--json")
	if !known && r.code == 1 && strings.Contains(r.stderr, "no vehicle has passed") {
		return plazaView{}
	}
	var v plazaView
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.code != 0 {
		w.t.Fatalf("view: exit status %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	return v
}

// cursorsSum returns how many records are stored, where all topics began at 0.
func (w *world) cursorsSum() int64 {
	w.t.Helper()
	return w.count(`SELECT CAST(COALESCE(SUM(next_offset), 0) AS SIGNED) FROM toll_cursor`)
}

// finishes waits for a command that ends by itself.
func (w *world) finishes(p *process, within time.Duration) {
	w.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		w.t.Fatalf("%s did not end within %v:\n%s", strings.Join(p.cmd.Args[1:], " "), within, p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		w.t.Fatalf("%s: exit status %d\n%s", strings.Join(p.cmd.Args[1:], " "), code, p.log)
	}
}

// watchPeak reads the peak of a process's memory until its end. The func that it returns waits for
// that, and returns MB.
func (p *process) watchPeak() func() (mb float64) {
	var mb float64
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			if kib, ok := statusOf(p.cmd.Process.Pid, "VmHWM"); ok {
				mb = kib / 1024
			}
			select {
			case <-ticker.C:
			case <-p.done:
				return
			}
		}
	})
	return func() float64 { wg.Wait(); return mb }
}

// TestSlowLoads has rows of many partitions that load slowly, one batch at a time. The last batch
// waits for longer than a server lets a transaction idle, so it has to wait without one. Else the
// server ends the transaction, and the batch is tried again, and may have to wait as long again.
func TestSlowLoads(t *testing.T) {
	inParallel(t)
	const partitions, events = 16, 50
	idle := 10 * time.Second // idle_transaction_timeout, see sql/internal/db/pool.go
	if engine == "mysql" {
		idle = 20 * time.Second // wait_timeout
	}
	w := newWorld(t)
	w.must("init", "--partitions", fmt.Sprint(partitions))
	// All loads together take a quarter longer than a transaction may idle.
	w.rootExec(
		fmt.Sprintf(
			"CREATE TRIGGER tolldata.slow BEFORE INSERT ON tolldata.livetolldata FOR EACH ROW DO SLEEP(%f)",
			1.25*idle.Seconds()/(partitions*events)))
	truth := newTruth()
	s := w.sender(truth, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for partition := range int32(partitions) {
		for range events {
			_, csv, row := s.event()
			r := &kgo.Record{Partition: partition, Value: []byte(csv)}
			s.client.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			truth.sent(row)
		}
	}
	if err := s.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	// One load at a time, however many cores there are; each partition's events are one batch.
	w = w.with(t, "GOMAXPROCS=2")
	aborted := w.status("Aborted_clients")
	p := w.start("process", "--latency", "1s")
	w.eventually("all rows", caughtUpWithin, func() bool {
		if !p.running() {
			t.Fatalf("process ended by itself:\n%s", p.log)
		}
		return w.count("SELECT COUNT(*) FROM livetolldata") == partitions*events
	})
	w.eventually("all merged", caughtUpWithin, func() bool { return w.verify().Status == "exact" })
	if n := w.status("Aborted_clients") - aborted; n != 0 {
		t.Errorf("the server ended %d connections, of transactions that waited for their turn", n)
	}
	p.interrupt()
	w.exact(truth)
	if n := w.count("SELECT COUNT(*) FROM toll_batch"); n > 2*partitions {
		t.Errorf("%d batches, too short to make each other wait", n)
	}
}

// status returns a counter of the database server.
func (w *world) status(name string) int64 {
	w.t.Helper()
	var n int64
	err := w.root().QueryRow("SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &n)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
