package closing

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/monitor"
)

// TestWindowsCrowded has the windows of more plazas due than may wait. What waits stays within its
// bound; the others are passed over, their states as they were, until there is room, and in the end
// all windows are submitted.
func TestWindowsCrowded(t *testing.T) {
	const plazas, minutes, start = 300, 600, toll.Minute(27_400_000)
	cfg := newTestConfig()
	cfg.Windows = must(toll.ParseWindows("1m"))
	w := New(&cfg.Config, nil, nil, nil)
	w.horizons.add(&Horizon{Epoch: 1, until: start + minutes, all: start + minutes})
	states := make([]*toll.State, plazas)
	for i := range states {
		states[i] = toll.NewState(1)
		d := &toll.Delta{Epoch: 1, First: 1, Next: 2,
			PlazaDelta: toll.PlazaDelta{Plaza: int16(i), Events: minutes}}
		for m := range toll.Minute(minutes) {
			d.Panes = append(d.Panes,
				toll.Pane{Start: start + m, Types: []toll.TypeCount{{Type: "car", Count: 1}}})
		}
		if o := states[i].Merge(d); o != toll.Applied {
			t.Fatal(o)
		}
	}
	visit := func() (looked int) {
		w.beginVisit()
		for i, s := range states {
			if w.Wants(int16(i)) {
				looked++
				w.Step(int16(i), s)
			}
		}
		w.endVisit(true, 0)
		return looked
	}
	visit()
	if n := visit(); n > 0 {
		t.Errorf("%d states were read although nothing can be done for them", n)
	}
	if !w.visit.crowded || w.wantsVisit() {
		t.Fatalf("crowded %v, and wants a visit %v, while nothing is stored", w.visit.crowded,
			w.wantsVisit())
	}
	closed := map[int16]int{}
	for rounds := 0; len(w.queue.waiting) > 0 || w.wantsVisit(); rounds++ {
		if rounds > 2*plazas {
			t.Fatalf("%d plazas wait, and nothing goes on", len(w.queue.waiting))
		}
		heaviest := 0
		for _, h := range w.queue.waiting {
			heaviest = max(heaviest, h.weight)
		}
		if w.queue.weight >= maxWaitingWeight+heaviest {
			t.Fatalf("what waits weighs %d", w.queue.weight)
		}
		taken := w.take()
		for _, h := range taken {
			closed[h.closing.Plaza] += len(h.closing.Windows)
		}
		w.stored(taken)
		visit()
	}
	for i := range states {
		if n := closed[int16(i)]; n != minutes {
			t.Errorf("plaza %d: %d windows were submitted, want %d", i, n, minutes)
		}
	}
	if w.queue.weight != 0 || w.under != 0 || w.unnoted != 0 {
		t.Errorf("in the end %d, %d, %d", w.queue.weight, w.under, w.unnoted)
	}
}

// TestEndUnderLoad: events that come after the end of the stream, and move the watermark on with
// each step, don't put the end off.
func TestEndUnderLoad(t *testing.T) {
	cfg := newTestConfig()
	cfg.Windows = must(toll.ParseWindows(toll.DefaultWindows))
	s := newStream(cfg, 1)
	at := must(toll.WallTimeFromDate(2022, 2, 10, 10, 20, 0))
	send := func() {
		for _, plaza := range []int16{4000, 4001} {
			at += 90
			s.sources[0].append(toll.Event{Time: at, Type: "car", Plaza: plaza}, time.Unix(int64(at), 0))
			s.sources[0].append(toll.Event{Time: at - 60, Type: "car", Plaza: plaza},
				time.Unix(int64(at), 0))
		}
	}
	send()
	s.drain(0)
	s.windows.End()
	s.observe()
	for n := 0; ; n++ {
		s.windows.beginVisit()
		for _, p := range s.inOrder() {
			send()
			s.drain(0)
			s.visit(p)
		}
		s.windows.endVisit(true, 0)
		if s.windows.AllClosed() {
			break
		}
		if n == 20 {
			t.Fatal("did not end")
		}
		s.storeResults()
		send()
		s.drain(0)
		s.observe()
	}
}

// TestWindowsCostlyVisits: where visits take long, a plaza that had deltas since the one before is
// passed over, and the next visit closes its windows.
func TestWindowsCostlyVisits(t *testing.T) {
	const start = toll.Minute(27_400_000)
	cfg := newTestConfig()
	cfg.Windows = must(toll.ParseWindows("1m"))
	w := New(&cfg.Config, nil, nil, nil)
	state := toll.NewState(1)
	d := &toll.Delta{Epoch: 1, First: 1, Next: 2, PlazaDelta: toll.PlazaDelta{Plaza: 7, Events: 1,
		Panes: []toll.Pane{{Start: start, Types: []toll.TypeCount{{Type: "car", Count: 1}}}}}}
	if o := state.Merge(d); o != toll.Applied {
		t.Fatal(o)
	}
	w.beginVisit()
	w.endVisit(true, 2*costlyVisit)
	w.horizons.add(&Horizon{Epoch: 1, until: start, all: start})
	w.Step(7, state, d)
	w.stored(w.take()) // that nothing of before was left unpublished
	w.horizons.add(&Horizon{Epoch: 1, until: start + 1, all: start + 1})
	w.beginVisit()
	if w.Wants(7) {
		t.Error("a plaza is visited that had deltas just now")
	}
	w.endVisit(true, 2*costlyVisit)
	if !w.wantsVisit() {
		t.Error("no visit is wanted for the plaza that was passed over")
	}
	w.beginVisit()
	if !w.Wants(7) {
		t.Fatal("the plaza is passed over again")
	}
	w.Step(7, state)
	w.endVisit(true, 2*costlyVisit)
	if taken := w.take(); len(taken) != 1 || len(taken[0].closing.Windows) != 1 {
		t.Errorf("submitted %+v, want a window", taken)
	}
}

// TestHorizonsKept: whatever states are behind by, up to a minute, a horizon is kept that they
// cover, and that is not much older.
func TestHorizonsKept(t *testing.T) {
	var h horizons
	const all = 2000
	for i := range all {
		h.add(&Horizon{until: toll.Minute(i)})
		if newest := h.newest().until; newest != toll.Minute(i) {
			t.Fatalf("the newest is %d, want %d", newest, i)
		}
		for behind := range min(i, spacedHorizons[len(spacedHorizons)-1]) {
			covered := slices.IndexFunc(h.list, func(k *Horizon) bool {
				return k.until <= toll.Minute(i-behind)
			})
			if covered < 0 {
				t.Fatalf("after %d no horizon is kept for states %d behind", i, behind)
			}
			if older := i - int(h.list[covered].until); older > 8*behind+8 {
				t.Fatalf("after %d states %d behind are judged by a horizon %d behind", i, behind, older)
			}
		}
		if most := latestHorizons + 2*len(spacedHorizons); len(h.list) > most {
			t.Fatalf("%d horizons are kept, want at most %d", len(h.list), most)
		}
	}
}

// testConfig configures what closes windows, and the sources that go with it.
type testConfig struct {
	Config
	BatchRows int
	newToken  func() uint64
}

func newTestConfig() *testConfig {
	token := uint64(100)
	return &testConfig{
		Config: Config{Topic: "toll",
			Windowing: toll.Windowing{Zone: toll.NewZone(time.UTC), Lateness: toll.DefaultLateness},
			Idle:      toll.DefaultIdle, Log: slog.New(slog.DiscardHandler),
			Backoff: func() backoff.BackOff { return backoff.NewExponentialBackOff() }},
		BatchRows: 7,
		newToken:  func() uint64 { token++; return token },
	}
}

func (c *testConfig) ingest() *ingest.Config {
	return &ingest.Config{Topic: c.Topic, Format: codecs.Auto, Windowing: c.Windowing,
		BatchRows: c.BatchRows, BatchBytes: 8 << 20,
		Log: c.Log, NewToken: c.newToken, Backoff: c.Backoff}
}

// stuckResults are results whose transaction does not end before it is told to.
type stuckResults struct {
	called chan struct{}
	end    chan error
}

func (r *stuckResults) Store(context.Context, []toll.Closing,
	[]traffic.NoticeRef) ([]traffic.Notice,
	bool, error) {
	r.called <- struct{}{}
	err := <-r.end
	return nil, err == nil, err
}

// TestClosingStalled has a transaction of results that does not end while both servers answer. It
// is logged once, reported in heartbeats, and makes the process unhealthy; an outage does not.
func TestClosingStalled(t *testing.T) {
	var log bytes.Buffer
	var now atomic.Int64 // seconds
	stats := monitor.NewStatsAt(func() time.Time { return time.Unix(now.Load(), 0) })
	cfg := newTestConfig()
	cfg.Stats, cfg.Log = stats, slog.New(slog.NewTextHandler(&log, nil))
	results := &stuckResults{make(chan struct{}), make(chan error)}
	w := New(&cfg.Config, Observe(results, stats), nil, nil)
	watch := monitor.NewClosingWatch(stats, cfg.Log)
	answering := true
	pass := func(d time.Duration) {
		for end := now.Load() + int64(d/time.Second); now.Load() < end; now.Add(10) {
			stats.Pass(monitor.CheckKafka)
			if answering {
				stats.Pass(monitor.CheckMySQL)
			} else {
				stats.Fail(monitor.CheckMySQL, "the last call failed")
			}
			watch.Look()
		}
	}
	hand := func() {
		w.mu.Lock()
		w.queue.add(submission{w.session, toll.Closing{Plaza: 1}, 1})
		w.under++
		w.noteDue()
		w.mu.Unlock()
	}
	store := func() chan struct{} {
		done := make(chan struct{})
		taken := w.take()
		go func() {
			defer close(done)
			if _, err := w.store(context.Background(), taken, nil); err == nil {
				w.stored(taken)
			}
		}()
		<-results.called
		return done
	}
	want := func(what string, stalled, known, healthy bool, lines int) {
		t.Helper()
		since, told := stats.StalledSince(time.Unix(now.Load(), 0))
		if since.IsZero() == stalled || told != known {
			t.Errorf("%s: stalled since %v, %v", what, since, told)
		}
		if got := stats.ClosingStalled() > monitor.StalledAfter; got != stalled {
			t.Errorf("%s: stalled for %v", what, stats.ClosingStalled())
		}
		if err := stats.Healthy(); (err == nil) != healthy {
			t.Errorf("%s: healthy: %v", what, err)
		}
		if n := strings.Count(log.String(), "windows are"); n != lines {
			t.Errorf("%s: %d lines, want %d:\n%s", what, n, lines, &log)
		}
	}

	pass(time.Hour)
	want("nothing is due", false, false, true, 0)
	hand()
	done := store()
	pass(4 * time.Minute)
	want("a slow transaction", false, false, true, 0)
	pass(3 * time.Minute)
	want("one that does not end", true, true, true, 1)
	pass(5 * time.Minute)
	want("and still does not", true, true, false, 1)
	results.end <- nil
	<-done
	pass(time.Minute)
	want("it ended", false, true, true, 2)

	hand()
	answering = false
	pass(time.Hour)
	want("an outage", false, true, true, 2)
	answering = true
	pass(time.Minute)
	want("just after it", false, true, true, 2)
	done = store()
	results.end <- nil
	<-done
	pass(time.Hour)
	want("after it", false, true, true, 2)
}
