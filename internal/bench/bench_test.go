package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
)

// TestScenarios measures each scenario at a tiny size, on a real Kafka and MariaDB.
func TestScenarios(t *testing.T) {
	cfg := DefaultConfig()
	if err := FindServers(cfg.Engine); err != nil {
		if testkit.ServicesRequired() {
			t.Fatalf("this run requires services: %v", err)
		}
		t.Skip(err)
	}
	binary, err := testkit.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Binaries, cfg.Rounds, cfg.Scale, cfg.Plazas = []string{binary}, 1, 0.01, []int{12, 1_000}
	cfg.Log = t.Output()
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios(&cfg) {
		for _, f := range s.figures {
			got := report.Figure(f.Name)
			if got == nil {
				t.Errorf("%s: %s was not measured", s.name, f.Name)
				continue
			}
			if len(got.Values) != 1 || len(got.Values[0].Rounds) != 1 {
				t.Errorf("%s: %+v, want one value", s.name, got.Values)
			}
			if got.Unit == figures.PerSecond && got.Value(0) <= 0 {
				t.Errorf("%s: %s is %v", s.name, f.Name, got.Value(0))
			}
		}
	}
	if f := report.Figure("latency_merged_p50_ms"); f.Value(0) < report.Figure(
		"latency_stored_p50_ms").Value(0) ||
		f.Value(0) > report.Figure("latency_visible_p50_ms").Value(0) {
		t.Errorf("batches are not stored first, then merged, and then visible:\n%s", report.Table())
	}
}

func TestValidate(t *testing.T) {
	c := Config{Only: []string{"speed"}, Scale: -1, Plazas: []int{0, 40_000}}
	err := c.Validate()
	for _, want := range []string{"no binary", `"speed"`, "rounds are 0", "scale is -1",
		"partitions are 0",
		"plazas are 0", "plazas are 40000"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	c = DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("the default is refused: %v", err)
	}
	c.Binaries = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no binary") {
		t.Errorf("error %v of a binary that is not there", err)
	}
}

// TestMerged finds the first state that holds all events below an offset.
func TestMerged(t *testing.T) {
	at := time.Now()
	later := at.Add(time.Second)
	tail := tail{merges: map[mergeKey][]merge{{7, 1}: {{100, at, at}, {200, later, later}}}}
	for next, want := range map[int64]time.Time{1: at, 100: at, 101: later, 200: later, 201: {}} {
		if m, ok, _ := tail.merged(7, 1, next); !m.merged.Equal(want) || ok == want.IsZero() {
			t.Errorf("%d: merged %v, %v; want %v", next, m.merged, ok, want)
		}
	}
	if _, ok, _ := tail.merged(7, 2, 1); ok {
		t.Error("another partition's events are merged")
	}
}

func TestCPU(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Skip(err) // there is no /proc
	}
	for began := time.Now(); ; {
		now, err := cpuTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now > before {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("a minute of work takes no CPU time")
		}
	}
	if mb := peakMemory(os.Getpid()); mb < 1 {
		t.Errorf("the peak memory is %v MB", mb)
	}
}

func TestFeeds(t *testing.T) {
	for n, last := range map[int]int16{1: 4000, 12: 4856, 13: 13, 32767: 32767} {
		if p := plazaNumbers(n); len(p) != n || p[n-1] != last {
			t.Errorf("%d plazas: %d, the last %d", n, len(p), p[n-1])
		}
	}
	all := func(next feed) (events []toll.Event) {
		for e := (toll.Event{}); next(&e); {
			events = append(events, e)
		}
		return events
	}
	first, again := all(backlogFeed(12, 500)), all(backlogFeed(12, 500))
	if len(first) != 500 || !slices.Equal(first, again) {
		t.Errorf("%d and %d events, want the same 500", len(first), len(again))
	}
}
