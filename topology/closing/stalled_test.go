package closing

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/monitor"
)

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
		w.waiting, w.under = append(w.waiting, submission{w.session, toll.Closing{Plaza: 1}, 1}), w.under+
			1
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
