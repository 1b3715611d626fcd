package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tollstream/internal/devstack"
	"tollstream/internal/simulate"
	"tollstream/toll"
)

// TestBench measures a little of everything, on a real Kafka and MariaDB.
func TestBench(t *testing.T) {
	for _, c := range []struct {
		what  string
		found func() bool
	}{
		{"Apache Kafka (make kafka)", func() bool { _, ok := devstack.FindKafka(); return ok }},
		{"Java", func() bool { _, err := exec.LookPath("java"); return err == nil }},
		{"MariaDB", func() bool { _, ok := devstack.FindMariaDB(); return ok }},
	} {
		if c.found() {
			continue
		}
		if servicesRequired() {
			t.Fatalf("%s is not installed, and this run requires it", c.what)
		}
		t.Skipf("%s is not installed", c.what)
	}
	for _, c := range []struct {
		name string
		args []string
		lack []string // beginnings of the names of figures
	}{
		{"everything", []string{"--only", strings.Join(benchParts, ","), "--plazas", "20", "--rate", "2000", "--for", "2s"}, []string{"insert_", "process_over_insert"}},
		{"rows before, two processes, INSERT", []string{"--only", "process", "--stored", "3000", "--instances", "2", "--load", "insert", "--batch-rows", "500"},
			[]string{"emit_", "kgo_", "load_data_", "process_over_load_data", "merged_", "produced_", "view_", "verify_", "start_"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"tollstream", "bench", "--events", "20000", "--rounds", "1", "--partitions", "2", "--json"}, c.args...)
			if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != 0 {
				t.Fatalf("exit status %d\n%s", code, stderr.String())
			}
			var report benchReport
			if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
				t.Fatal(err)
			}
			if report.Verified != "exact" {
				t.Errorf("verified: %q", report.Verified)
			}
			for _, k := range benchKinds {
				f := report.Figures[k.name]
				lacks := slices.ContainsFunc(c.lack, func(l string) bool { return strings.HasPrefix(k.name, l) })
				if f == nil != lacks {
					t.Errorf("%s: is there %v, want %v", k.name, f != nil, !lacks)
				}
				if f != nil && (f.Value < 0 && !strings.Contains(k.name, "_beyond_") || len(f.Rounds) != 1 || f.Min != f.Value || f.Max != f.Value) {
					t.Errorf("%s: %+v", k.name, *f)
				}
			}
		})
	}
}

func TestBenchFigure(t *testing.T) {
	b := &bench{app: &app{stderr: io.Discard}, report: newBenchReport(benchSettings{Events: 1, Rounds: 3, Rate: 20_000}, nil)}
	for _, v := range []float64{0.71, 0.5, 0.7} {
		b.record("process_over_load_data", v)
	}
	for _, v := range []float64{90, 97, 80} {
		b.record("process_peak_memory_mb", v)
	}
	b.record("process_rows_per_second", 321_987)
	b.record("produced_to_merged_p50_ms", 43.4)
	b.report.Verified = "exact"
	f := b.report.Figures["process_over_load_data"]
	if f.Value != 0.7 || f.Median != 0.7 || f.Min != 0.5 || f.Max != 0.71 || *f.AtLeast != 0.7 || !*f.Reached {
		t.Errorf("a median that reaches what is wanted: %+v", *f)
	}
	if f = b.report.Figures["process_peak_memory_mb"]; f.Value != 97 || f.Median != 90 || *f.AtMost != 96 || *f.Reached {
		t.Errorf("a highest that is above what is wanted: %+v", *f)
	}
	var out strings.Builder
	b.report.print(&out)
	for _, want := range []string{
		"process, first fetch to last commit 322,000/s",
		"process over the better LOAD DATA 0.70 ≥ 0.70 ✓",
		"process, peak memory 97 MB ≤ 96 MB ✗",
		"produced to merged at 20,000/s, p50 43 ms ≤ 50 ms ✓",
		"verify --deep at the end exact exact ✓",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestPercentile(t *testing.T) {
	v := []float64{3, 1, 2, 4}
	for p, want := range map[int]float64{1: 1, 25: 1, 26: 2, 50: 2, 99: 4, 100: 4} {
		if got := percentile(v, p); got != want {
			t.Errorf("p%d: %v, want %v", p, got, want)
		}
	}
	if got := median(v); got != 2.5 {
		t.Errorf("median %v", got)
	}
}

// TestBatchTimes follows two batches of one partition, the first with two plazas.
func TestBatchTimes(t *testing.T) {
	times := newBatchTimes(map[int32]int64{1: 100})
	now := time.Now()
	delta := func(plaza int16, first, next, events int64) *toll.Delta {
		return &toll.Delta{Partition: 1, First: first, Next: next, PlazaDelta: toll.PlazaDelta{Plaza: plaza, Events: events}}
	}
	times.Stored(1, 5, 0, 0)
	times.Stored(1, 2, 1, 0) // 105 to 108, one of them rejected
	times.Merged(delta(7, 100, 105, 2), toll.Applied, now)
	times.Merged(delta(7, 100, 105, 2), toll.Duplicate, now)
	one, two := times.batches[batchKey{1, 105}], times.batches[batchKey{1, 108}]
	if one == nil || two == nil || !one.merged.IsZero() {
		t.Fatalf("after one of two plazas: %+v, %+v", one, two)
	}
	times.Merged(delta(8, 100, 105, 3), toll.Applied, now)
	times.Merged(delta(7, 105, 108, 2), toll.Applied, now.Add(-time.Hour))
	if one.merged.IsZero() || two.merged.IsZero() || times.firstMerged().IsZero() {
		t.Errorf("after all: %+v, %+v", one, two)
	}
	state := func(next int64) *toll.State { return &toll.State{Merged: []toll.Merged{{Partition: 1, Next: next}}} }
	times.look(map[int16]*toll.State{7: state(105)}, now.Add(time.Second))
	if times.settled() || !one.visible.IsZero() {
		t.Error("visible before all plazas are")
	}
	times.look(map[int16]*toll.State{7: state(108), 8: state(105)}, now.Add(2*time.Second))
	if !times.settled() {
		t.Error("not settled after all is visible")
	}
	if merged, visible := times.since(now); len(merged) != 1 || len(visible) != 1 || visible[0] != 2000 {
		t.Errorf("since: %v, %v", merged, visible)
	}
}

func TestInsertTransactions(t *testing.T) {
	const rows = 12_001
	name := filepath.Join(t.TempDir(), "rows")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	g := simulate.New(simulate.DefaultPlazas(), 1, simulate.Steady(benchDay, 10))
	if n, err := io.Copy(file, &rowReader{generator: g, left: rows}); err != nil || n < 30*rows {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	transactions, err := insertTransactions(name, 6000)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]int
	for _, statements := range transactions {
		var counts []int
		for _, s := range statements {
			counts = append(counts, strings.Count(s, "),(")+1)
			if !strings.HasPrefix(s, "INSERT INTO bench_load (timestamp, vehicle_id, vehicle_type, toll_plaza_id) VALUES ('2022-02-10 00:") || !strings.HasSuffix(s, ")") {
				t.Errorf("statement %.100s…", s)
			}
		}
		got = append(got, counts)
	}
	if want := [][]int{{5000, 1000}, {5000, 1000}, {1}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("rows of statements %v, want %v", got, want)
	}
}

func TestBenchPlazas(t *testing.T) {
	for n, last := range map[int]int16{1: 4000, 12: 4856, 13: 13, 32767: 32767} {
		p := benchPlazas(n)
		if len(p) != n || p[n-1] != last {
			t.Errorf("%d plazas: %d, the last %d", n, len(p), p[n-1])
		}
	}
}
