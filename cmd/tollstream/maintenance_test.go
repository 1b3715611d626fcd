package main

import (
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/topology"
)

// TestMaintenance compacts what a process stored, through Kafka's topics and the codecs: all is
// exact before and after, and a rebuild counts the same from what is left.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	process := func() {
		t.Helper()
		p.expect(0, "process", "--until-end", "--batch-rows", "5", "--state-dir",
			filepath.Join(p.dir, "state"), "--instance", "a", "--log-level", "error")
	}
	verified := func() verify.Report {
		t.Helper()
		out, _ := p.expect(0, "verify", "--deep", "--json")
		var r verify.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Status != verify.Exact {
			t.Fatalf("got %+v", r)
		}
		return r
	}
	counts := func() string {
		t.Helper()
		out, _ := p.expect(0, "view", "--json")
		var v struct {
			Plazas []struct {
				Plaza, Total, Late, TooLate int64
				ByType                      map[string]int64 `json:"by_type"`
			}
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v", v)
	}
	var lines strings.Builder
	start := time.Date(2022, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 900 { // twelve days
		at := start.Add(time.Duration(i) * 20 * time.Minute)
		fmt.Fprintf(&lines, "%s,%d,%s,%d\n", at.Format("2006-01-02 15:04:05"), i,
			[]string{"car", "truck", "bus"}[i%3], 4000+i%4)
	}
	var b strings.Builder
	if code, stderr := p.command(t.Context(), lines.String(), &b, "emit", "--from", "-"); code != 0 {
		t.Fatalf("emit: %d\n%s", code, stderr)
	}
	process()
	before := verified()
	if before.Events != 900 || before.BatchRows < 150 {
		t.Fatalf("got %+v", before)
	}
	counted := counts()
	windows := p.number(`SELECT COUNT(*) FROM toll_window`)

	con := p.Connection()
	var warnings strings.Builder
	log := slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := con.OpenStore(log)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	meta, err := store.Meta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stats := maintenance.NewStats()
	topo := topology.DefaultConfig()
	topo.Cluster, topo.Topic, topo.Group, topo.TopicID = con.Cluster, con.Topic, con.Group,
		meta.TopicID
	topo.Windows, topo.Lateness, topo.Idle = pipeline.DefaultWindows().Kinds, meta.Lateness,
		time.Second
	topo.Log = log
	cfg := maintenance.Config{Topology: topo, Retention: maintenance.DefaultRetention(), Store: store,
		Writer: store.Writer(meta.TopicID), Stats: stats}
	m := maintenance.New(cfg)
	defer m.Close()
	round := func() verify.Report {
		t.Helper()
		if err := m.Round(t.Context(), true, true); err != nil {
			t.Fatal(err)
		}
		return verified()
	}
	if r := round(); r.BatchRows != before.BatchRows {
		t.Errorf("young batches were compacted: %d rows of %d", r.BatchRows, before.BatchRows)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 30 MINUTE`)
	joined := round()
	if joined.BatchRows > 20 || joined.WindowsFolded != 0 || joined.Windows != before.Windows {
		t.Errorf("joined: %+v", joined)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 3 HOUR`)
	rolled := round()
	if rolled.BatchRows > 4 || rolled.Batches != before.Batches || rolled.WindowsFolded != 0 ||
		rolled.Windows != before.Windows || warnings.Len() > 0 {
		t.Errorf("rolled up: %+v, %s", rolled, &warnings)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_batch WHERE folded_minute > -2147483648`); n == 0 {
		t.Error("no minutes were rolled up")
	}
	if got := counts(); got != counted {
		t.Errorf("got %s, want %s", got, counted)
	}
	if out, _ := p.expect(0, "verify", "--deep"); !strings.Contains(out,
		"compacted into "+fmt.Sprint(rolled.BatchRows)+" rows") ||
		!strings.Contains(out, "checked, which are all") {
		t.Errorf("verify says:\n%s", out)
	}

	ran := func(step maintenance.Step, outcome maintenance.Outcome, want int64) {
		t.Helper()
		if got := stats.Read().Runs[maintenance.Run{Step: step, Outcome: outcome}]; got != want {
			t.Errorf("%s, %s: %d times, want %d", step, outcome, got, want)
		}
	}
	for _, step := range []maintenance.Step{maintenance.Join, maintenance.Rollup, maintenance.Expire} {
		ran(step, maintenance.Done, 3)
		ran(step, maintenance.Blocked, 0)
	}
	if got, want := stats.Read().Deleted["toll_batch"],
		before.BatchRows-rolled.BatchRows; got != want {
		t.Errorf("%d rows of toll_batch were deleted, want %d", got, want)
	}
	cfg.Topology.Cluster.Brokers = []string{"127.0.0.1:1"}
	nowhere := maintenance.New(cfg)
	defer nowhere.Close()
	if err := nowhere.Round(t.Context(), true, true); err == nil {
		t.Error("a round went well without Kafka")
	}
	ran(maintenance.Join, maintenance.Done, 4) // which needs no watermark
	ran(maintenance.Rollup, maintenance.Failed, 1)
	ran(maintenance.Expire, maintenance.Failed, 1)

	p.expect(0, "rebuild", "--yes")
	process()
	if r := verified(); r.WindowsFolded != rolled.WindowsFolded {
		t.Errorf("after a rebuild: %+v", r)
	}
	if got := counts(); got != counted {
		t.Errorf("after a rebuild: %s, want %s", got, counted)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_window`); n != windows {
		t.Errorf("%d windows, want %d", n, windows)
	}

	p.expect(2, "prune", "--before", "2022-02-05")
	if out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--dry-run"); !strings.Contains(out,
		"holds 900 rows, 264 from before") {
		t.Errorf("prune says:\n%s", out)
	}
	out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--batch-rows", "100", "--yes")
	if !strings.Contains(out, "deleted 264 rows in ") {
		t.Errorf("prune says:\n%s", out)
	}
	if r := verified(); r.Pruned != 264 || r.Rows != 636 {
		t.Errorf("pruned: %+v", r)
	}
	if out, _ := p.expect(0, "view", "--plaza", "4000"); !strings.Contains(out,
		"rows deleted by tollstream prune") {
		t.Errorf("view says:\n%s", out)
	}
	p.execute(`DELETE FROM livetolldata LIMIT 1`)
	if out, _ := p.expect(1, "verify"); !strings.Contains(out, "1 row was deleted") {
		t.Errorf("verify says:\n%s", out)
	}
}

// number returns what a query counts.
func (p *testbed) number(query string) (n int64) {
	p.t.Helper()
	db, err := dbsql.Open("mysql", p.Connection().DSN)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}
