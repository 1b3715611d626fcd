package figures

import (
	"os"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	figures := []Figure{
		Figure{Name: "over", Title: "over `LOAD DATA`"}.Min(0.75),
		Figure{Name: "memory", Title: "peak memory", Unit: Megabytes, Highest: true}.Max(96),
		{Name: "beyond", Title: "beyond", Unit: Percent},
		{Name: "rows", Title: "rows", Unit: PerSecond},
		{Name: "never", Title: "never measured"},
	}
	r := &Report{Date: "2026-11-29", Machine: "a machine", Servers: "servers", Rounds: 3, Scale: 1,
		Binaries: []string{"a", "b"}}
	r.Add(figures, map[string][][]float64{
		"over":   {{0.7, 0.9, 0.8}, {0.7, 0.6, 0.4}},
		"memory": {{90, 97, 80}, {90, 90, 90}},
		"beyond": {{-1, 2, -3}, {4, 4, 4}},
		"rows":   {{1_234, 321_987, 321_000}, {}},
	})
	got := r.Table()
	for _, want := range []string{
		"Measured 2026-11-29 on a machine, with servers. Medians of 3 rounds.",
		"| over `LOAD DATA` | ≥ 0.75 | 0.80 | 0.70 – 0.90 | yes | 0.60 | 1.50 | 1.00 – 2.00 |\n",
		"| peak memory, highest round | ≤ 96 MB | 97 MB | 80 – 97 | **no** | 90 MB | 1.00 | 0.89 – " +
			"1.08 |\n",
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

func TestPercentile(t *testing.T) {
	v := []float64{3, 1, 2, 4}
	for p, want := range map[int]float64{1: 1, 25: 1, 26: 2, 50: 2, 99: 4, 100: 4} {
		if got := Percentile(v, p); got != want {
			t.Errorf("p%d: %v, want %v", p, got, want)
		}
	}
	if got := Median(v); got != 2.5 {
		t.Errorf("median %v", got)
	}
}

// TestCompare writes figures into the comparison of the README itself.
func TestCompare(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{Date: "2027-01-31"}
	if _, err := r.Compare(string(readme)); err == nil {
		t.Error("figures were found that were not measured")
	}
	one := func(v ...float64) [][]float64 { return [][]float64{v} }
	r.Add([]Figure{{Name: "load_1_rows", Unit: PerSecond}, {Name: "load_4_rows", Unit: PerSecond},
		{Name: "backlog_12_rows", Unit: PerSecond}, {Name: "backlog_12_cpu_s", Unit: PerMillion},
		{Name: "backlog_12_memory_mb", Unit: Megabytes, Highest: true}},
		map[string][][]float64{
			"load_1_rows": one(300_000), "load_4_rows": one(310_000, 299_000),
			"backlog_12_rows":  one(200_000, 234_567),
			"backlog_12_cpu_s": one(1.21, 1.38), "backlog_12_memory_mb": one(70, 88.2),
		})
	page, err := r.Compare(string(readme))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| **tollstream** | **200,000–235,000** | **1.2–1.4** | **88 MB** | **0, and 0 lost",
		"| `LOAD DATA` of a file, for comparison | 299,000–310,000 | – |",
		"`LOAD DATA` were measured on 2027-01-31, the others on 20",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if again, err := r.Compare(page); err != nil || again != page {
		t.Error("a second time changed the page again", err)
	}
}
