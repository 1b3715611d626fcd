package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
			if got.Unit == perSecond && got.Value(0) <= 0 {
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

func TestReport(t *testing.T) {
	s := scenario{figures: []Figure{
		Figure{Name: "over", Title: "over `LOAD DATA`"}.atLeast(0.75),
		Figure{Name: "memory", Title: "peak memory", Unit: megabytes, Highest: true}.atMost(96),
		{Name: "beyond", Title: "beyond", Unit: percent},
		{Name: "rows", Title: "rows", Unit: perSecond},
		{Name: "never", Title: "never measured"},
	}}
	r := &Report{Date: "2026-11-29", Machine: "a machine", Servers: "servers", Rounds: 3, Scale: 1,
		Binaries: []string{"a", "b"}}
	r.add(&s, map[string][][]float64{
		"over":   {{0.7, 0.9, 0.8}, {0.7, 0.6, 0.4}},
		"memory": {{90, 97, 80}, {90, 90, 90}},
		"beyond": {{-1, 2, -3}, {4, 4, 4}},
		"rows":   {{1_234, 321_987, 321_000}, {}},
	})
	got := r.Table()
	for _, want := range []string{
		"Measured 2026-11-29 on a machine, with servers. Medians of 3 rounds.",
		"| over `LOAD DATA` | ≥ 0.75 | 0.80 | 0.70 – 0.90 | yes | 0.60 | 1.50 | 1.00 – 2.00 |\n",
		"| peak memory, highest round | ≤ 96 MB | 97 MB | 80 – 97 | **no** | 90 MB | 1.00 | 0.89 – 1.08 |\n",
		"| beyond |  | -1.0 % | -3.0 – 2.0 |  | 4.0 % | 0.50 | 0.50 – 0.50 |\n",
		"| rows |  | 321,000/s | 1,234 – 322,000 |  |  |  |  |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "never") {
		t.Errorf("a figure that was not measured is in the table:\n%s", got)
	}
	page, err := Replace("before\n"+tableBegin+"old\n"+tableEnd+"after\n", "new\n")
	if want := "before\n" + tableBegin + "new\n" + tableEnd + "after\n"; err != nil || page != want {
		t.Errorf("the page is %q, %v; want %q", page, err, want)
	}
	if _, err := Replace("no marks", got); err == nil {
		t.Error("a page without marks is accepted")
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
