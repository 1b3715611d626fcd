package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/topology/kafka"
)

// emitEvery emits an event of each of four plazas at each step of a span.
func (w *world) emitEvery(start time.Time, span, step time.Duration) {
	w.t.Helper()
	var lines strings.Builder
	for at := start; at.Before(start.Add(span)); at = at.Add(step) {
		for plaza := 4000; plaza < 4004; plaza++ {
			fmt.Fprintf(&lines, "%s,%d,car,%d\n", at.UTC().Format(time.ANSIC), at.Unix()%1e6, plaza)
		}
	}
	file := filepath.Join(w.t.TempDir(), "events.csv")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.must("emit", "--from", file)
}

// maintained starts a process that looks for something to delete every few seconds, and waits until
// it has looked, with a clock that is far ahead.
func (w *world) maintained(clock string) *process {
	w.t.Helper()
	p := w.start("process", "--maintenance-every", "50ms", "--keep-windows", "60d",
		"--keep-dead-letters", "30d", "--metrics-listen", "127.0.0.1:0")
	a := w.metricsOf(p)
	w.eventually("a round of deletion", caughtUpWithin, func() bool {
		return a.value(`tollstream_upkeep_runs_total{outcome="success",step="retire"}`) > 0
	})
	if ahead := a.value(`tollstream_clock_ahead_seconds{clock="` + clock + `"}`); ahead < 400*86400 {
		w.t.Errorf("the clock %s is %v seconds ahead, by the metric", clock, ahead)
	}
	if n := strings.Count(p.log.String(), "clocks disagree"); n != 1 {
		w.t.Errorf("clocks that disagree are logged %d times:\n%s", n, p.log)
	}
	if deleted := a.value("tollstream_upkeep_rows_deleted_total"); deleted != 0 {
		w.t.Errorf("%v rows were deleted", deleted)
	}
	return p
}

// warns checks that view shows a warning, as text and as JSON, and verify too.
func (w *world) warns(text string) {
	w.t.Helper()
	if out := w.must("view"); !strings.Contains(out, text) {
		w.t.Errorf("view lacks %q:\n%s", text, out)
	}
	var board struct{ Warnings []string }
	if out := w.must("view", "--json"); json.Unmarshal([]byte(out), &board) != nil ||
		len(board.Warnings) != 1 || !strings.Contains(board.Warnings[0], text) {
		w.t.Errorf("view --json warns of %v", board.Warnings)
	}
	if out := w.must("verify"); !strings.Contains(out, "note: "+text) {
		w.t.Errorf("verify lacks %q:\n%s", text, out)
	}
}

// TestEventsDatedAhead sends events of today and then some dated five years ahead, which more than
// half of the plazas agree on, so event time follows them. Retention deletes nothing of today, and
// verification still finds a window that someone else deletes.
func TestEventsDatedAhead(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	now := time.Now()
	w.emitEvery(now.Add(-50*time.Hour), 50*time.Hour, 5*time.Minute)
	w.must("process", "--until-end")
	w.emitEvery(now.AddDate(5, 0, 0), 200*time.Second, time.Second)
	w.must("process", "--until-end")
	windows := w.count(`SELECT COUNT(*) FROM toll_window`)
	p := w.maintained("event")
	p.interrupt()
	if n := w.count(`SELECT COUNT(*) FROM toll_window`); n < windows || windows < 10_000 {
		t.Errorf("%d windows are left of %d", n, windows)
	}
	if n := w.count(`SELECT COUNT(*) FROM toll_retired`); n != 0 {
		t.Errorf("%d marks say that something was deleted", n)
	}
	w.warns("event time is ")
	if v := w.verify("--deep"); v.Status != "exact" {
		t.Fatalf("verify --deep: %+v", v)
	}
	if out := w.must("verify", "--deep"); !strings.Contains(out, "checked, which are all") {
		t.Errorf("verify --deep says:\n%s", out)
	}
	if out := w.must("prune", "--before", "90d", "--dry-run"); !strings.Contains(out,
		", 0 from before") {
		t.Errorf("prune --before 90d would delete:\n%s", out)
	}
	if _,
		err := w.sql.Exec(
		`DELETE FROM toll_window WHERE kind = '15m' AND events > 0 ORDER BY start_minute LIMIT 1`); err !=
		nil {
		t.Fatal(err)
	}
	if v := w.verify("--deep"); v.Status != "mismatch" || v.Problems[0].Kind != "window_missing" {
		t.Errorf("a window was deleted: %+v", v)
	}
}

// TestServerClockAhead has the database server's clock go 450 days ahead under a process' feet: its
// own and the records' keep it from deleting dead letters and windows, and prune from deleting
// rows.
func TestServerClockAhead(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	w.emitEvery(time.Now().Add(-3*time.Hour), 3*time.Hour, time.Minute)
	file := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(file, []byte("no event\nnor this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("emit", "--raw", "--from", file)
	w.must("process", "--until-end")
	windows := w.count(`SELECT COUNT(*) FROM toll_window`)
	// What NOW() says to everyone but the administrator.
	if _, err := w.root().Exec(fmt.Sprintf(`SET GLOBAL init_connect = 'SET timestamp = %d'`,
		time.Now().AddDate(0, 0, 450).Add(time.Hour).Unix())); err != nil {
		t.Fatal(err)
	}
	p := w.maintained("server")
	p.interrupt()
	if n := w.count(`SELECT COUNT(*) FROM toll_dead_letter`); n != 2 {
		t.Errorf("%d dead letters are left of 2", n)
	}
	if n := w.count(`SELECT COUNT(*) FROM toll_window`); n < windows {
		t.Errorf("%d windows are left of %d", n, windows)
	}
	w.warns("MySQL's clock is 450 days")
	if out := w.must("prune", "--before", "90d", "--dry-run"); !strings.Contains(
		out, ", 0 from before") {
		t.Errorf("prune --before 90d would delete:\n%s", out)
	}
	if v := w.verify("--deep"); v.Status != "exact" || v.Rejected != 2 {
		t.Errorf("verify --deep: %+v", v)
	}
}

// TestClockAhead has a broker that refuses the time of our messages, as Kafka does of a clock that
// is more than an hour ahead of its own. process names the clock and blames nobody else, and goes
// on once the clock is right.
func TestClockAhead(t *testing.T) {
	inParallel(t)
	c := startFakes(t)
	w := newWorldOn(t, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init", "--partitions", "2")
	w.must("emit", "--count", "50", "--rate", "0")
	for i, topic := range []string{kafka.LoopTopic(w.group), kafka.TableTopic(w.group),
		kafka.CongestionTopic(w.topic)} {
		w.must("emit", "--count", "50", "--rate", "0")
		h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidTimestamp,
			Count: -1})
		args := []string{"process"}
		if topic == kafka.CongestionTopic(w.topic) {
			args = append(args, "--until-end") // which closes all windows
		}
		p := w.start(args...)
		for deadline := time.Now().Add(time.Minute); !strings.Contains(p.log.String(),
			"this machine's clock"); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log does not say which clock is wrong:\n%s", topic, p.log)
			}
		}
		time.Sleep(2 * time.Second)
		h.Remove()
		w.eventually("counts of "+topic, 2*time.Minute, func() bool {
			return w.verify().Status == "exact" && w.verify().Events == int64(100+50*i)
		})
		if log := p.log.String(); strings.Contains(log, "MySQL") ||
			strings.Contains(log, "context canceled") {
			t.Errorf("%s: the log blames others:\n%s", topic, log)
		}
		if testing.Verbose() {
			t.Logf("%s:\n%s", topic, p.log)
		}
		if len(args) == 1 {
			p.interrupt()
		} else if <-p.done; p.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("--until-end: exit status %d\n%s", p.cmd.ProcessState.ExitCode(), p.log)
		}
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 200 {
		t.Errorf("verify: %+v", v)
	}
}

// rangesEqualSQL compares each window with what its own range of time says of livetolldata, by SQL
// alone.
func (w *world) rangesEqualSQL() {
	w.t.Helper()
	rows, err := w.sql.Query(`SELECT w.toll_plaza_id, w.kind, CAST(w.window_start AS CHAR),
		CAST(w.window_end AS CHAR), w.events + w.too_late, COUNT(l.timestamp)
		FROM toll_window w LEFT JOIN livetolldata l
		ON l.toll_plaza_id = w.toll_plaza_id AND l.timestamp >= w.window_start
		AND l.timestamp < w.window_end
		GROUP BY w.toll_plaza_id, w.kind, w.start_minute, w.window_start, w.window_end, w.events,
		w.too_late`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	windows, bad := 0, 0
	for rows.Next() {
		var plaza, events, counted int
		var kind, start, end string
		if err := rows.Scan(&plaza, &kind, &start, &end, &events, &counted); err != nil {
			w.t.Fatal(err)
		}
		windows++
		if events != counted {
			bad++
			w.t.Logf("plaza %d, window %s %s to %s: %d events, but %d rows", plaza, kind, start, end, events,
				counted)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	if windows < 100 || bad > 0 {
		w.t.Errorf("%d of %d windows differ from SQL", bad, windows)
	}
}

// TestSkippedHour sends every quarter of a minute around a change of Berlin's clocks, the hour in
// spring that never occurs among them. Each window must be what SQL over livetolldata says, also
// those of plazas in other zones.
func TestSkippedHour(t *testing.T) {
	inParallel(t)
	for _, date := range []string{"2026-03-29", "2026-10-25"} {
		t.Run(date, func(t *testing.T) {
			w := newWorld(t)
			w.env = append(w.env, "TOLLSTREAM_TIMEZONE=Europe/Berlin")
			start, err := time.Parse(time.DateTime, date+" 00:30:00")
			if err != nil {
				t.Fatal(err)
			}
			var lines strings.Builder
			for at := start; at.Before(start.Add(5 * time.Hour)); at = at.Add(15 * time.Second) {
				fmt.Fprintf(&lines, "%s,%d,car,%d\n", at.Format(time.ANSIC), at.Unix()%1e6, 1+at.Unix()/15%4)
			}
			dir := t.TempDir()
			events, plazas := filepath.Join(dir, "events.csv"), filepath.Join(dir, "plazas.csv")
			for file, text := range map[string]string{
				events: lines.String(),
				plazas: "id,timezone\n2,America/New_York\n3,Australia/Lord_Howe\n4,Asia/Kathmandu\n",
			} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.must("init", "--partitions", "2")
			w.must("emit", "--from", events)
			w.must("process", "--until-end", "--plazas-file", plazas)
			if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 5*60*4 {
				t.Fatalf("verify --deep: %+v", v)
			}
			w.rangesEqualSQL()
		})
	}
}
