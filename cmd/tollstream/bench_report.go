package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// benchSettings is what was measured.
type benchSettings struct {
	Events         int     `json:"events"`
	Rounds         int     `json:"rounds"`
	Partitions     int     `json:"partitions"`
	Plazas         int     `json:"plazas"`
	Stored         int     `json:"stored"`
	Instances      int     `json:"instances"`
	BatchRows      int     `json:"batch_rows"`
	LatencySeconds float64 `json:"latency_seconds"`
	Load           string  `json:"load"`
	Rate           int     `json:"rate"`
	ForSeconds     float64 `json:"for_seconds"`

	latency, length time.Duration
}

// benchReport is what bench --json prints.
type benchReport struct {
	Machine  string                  `json:"machine"`
	Servers  string                  `json:"servers"`
	Settings benchSettings           `json:"settings"`
	Only     []string                `json:"only"`
	Figures  map[string]*benchFigure `json:"figures"`
	Verified string                  `json:"verified,omitempty"` // by verify --deep at the end
}

// benchFigure is one figure of all rounds.
type benchFigure struct {
	Value  float64   `json:"value"` // the one that counts: the median, or the highest where one round is one too many
	Unit   string    `json:"unit,omitempty"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
	// AtLeast or AtMost is what is wanted.
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
	Reached *bool    `json:"reached,omitempty"`
}

// Units of figures.
const (
	unitPerSecond  = "/s"
	unitSeconds    = "s"
	unitMillis     = "ms"
	unitMB         = "MB"
	unitPerMillion = "s per million"
	unitRatio      = ""
)

// benchKind says what a figure is.
type benchKind struct {
	name    string // stable: scripts read it
	title   string // for the table; RATE stands for the rate
	unit    string
	atLeast float64 // 0 for nothing wanted
	atMost  float64
	highest bool // the highest round counts, not the median
}

// benchKinds are the figures in the order of the table.
var benchKinds = slices.Concat([]benchKind{
	{name: "emit_events_per_second", title: "emit, as fast as it goes", unit: unitPerSecond, atLeast: 300_000},
	{name: "kgo_events_per_second", title: "franz-go's producer, the same events", unit: unitPerSecond},
	{name: "emit_over_kgo", title: "emit over franz-go's producer", atLeast: 0.7},
	{name: "load_data_1_connection_rows_per_second", title: "LOAD DATA LOCAL, 1 connection", unit: unitPerSecond},
	{name: "load_data_4_connections_rows_per_second", title: "LOAD DATA LOCAL, 4 connections", unit: unitPerSecond},
	{name: "insert_1_connection_rows_per_second", title: "bare INSERT, 1 connection", unit: unitPerSecond},
	{name: "insert_4_connections_rows_per_second", title: "bare INSERT, 4 connections", unit: unitPerSecond},
	{name: "process_rows_per_second", title: "process, first fetch to last commit", unit: unitPerSecond},
	{name: "process_over_load_data", title: "process over the better LOAD DATA", atLeast: 0.7},
	{name: "process_over_insert", title: "process over the better INSERT", atLeast: 0.7},
	{name: "process_cpu_seconds_per_million", title: "process, CPU", unit: unitPerMillion, atMost: 2},
	{name: "process_peak_memory_mb", title: "process, peak memory", unit: unitMB, atMost: 96, highest: true},
	{name: "merged_behind_stored_seconds", title: "merged behind stored, longest", unit: unitSeconds, atMost: 1, highest: true},
	{name: "produced_to_merged_p50_ms", title: "produced to merged at RATE/s, p50", unit: unitMillis, atMost: 50},
	{name: "produced_to_merged_p99_ms", title: "produced to merged at RATE/s, p99", unit: unitMillis, atMost: 150},
	{name: "produced_to_visible_p50_ms", title: "produced to visible at RATE/s, p50", unit: unitMillis, atMost: 100},
	{name: "produced_to_visible_p99_ms", title: "produced to visible at RATE/s, p99", unit: unitMillis, atMost: 250},
}, readKinds("", ""), readKinds("_indexed", ", indexed"), []benchKind{
	{name: "start_to_processing_seconds", title: "start to processing", unit: unitSeconds},
	{name: "start_to_first_row_seconds", title: "start to first row", unit: unitSeconds, atMost: 3},
	{name: "start_without_state_to_processing_seconds", title: "start without local state to processing", unit: unitSeconds},
	{name: "start_without_state_to_first_row_seconds", title: "start without local state to first row", unit: unitSeconds},
})

func readKinds(suffix, title string) []benchKind {
	return []benchKind{
		{name: "view_plaza_seconds" + suffix, title: "view of one plaza" + title, unit: unitSeconds},
		{name: "view_plaza_count_seconds" + suffix, title: "bare count of its rows" + title, unit: unitSeconds},
		{name: "view_plaza_beyond_count_seconds" + suffix, title: "view beyond the count" + title, unit: unitSeconds, atMost: 0.7},
		{name: "verify_seconds" + suffix, title: "verify" + title, unit: unitSeconds},
		{name: "verify_bare_seconds" + suffix, title: "bare count by plaza" + title, unit: unitSeconds},
		{name: "verify_over_bare" + suffix, title: "verify over the bare count" + title, atMost: 1.3},
		{name: "verify_deep_seconds" + suffix, title: "verify --deep" + title, unit: unitSeconds},
		{name: "verify_deep_bare_seconds" + suffix, title: "bare scan with checksum" + title, unit: unitSeconds},
		{name: "verify_deep_over_bare" + suffix, title: "verify --deep over the bare scan" + title, atMost: 1.3},
	}
}

func newBenchReport(s benchSettings, only []string) *benchReport {
	return &benchReport{
		Machine: fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Servers: "Apache Kafka and MariaDB on the same machine", Settings: s, Only: only, Figures: map[string]*benchFigure{},
	}
}

// record adds a round's value to a figure.
func (b *bench) record(name string, v float64) {
	i := slices.IndexFunc(benchKinds, func(k benchKind) bool { return k.name == name })
	k := &benchKinds[i]
	f := b.report.Figures[name]
	if f == nil {
		f = &benchFigure{Unit: k.unit}
		b.report.Figures[name] = f
	}
	f.add(k, v)
	b.say("  %s %s", k.heading(b.report.Settings), k.text(v))
}

func (f *benchFigure) add(k *benchKind, v float64) {
	f.Rounds = append(f.Rounds, v)
	f.Median, f.Min, f.Max = median(f.Rounds), slices.Min(f.Rounds), slices.Max(f.Rounds)
	f.Value = f.Median
	if k.highest {
		f.Value = f.Max
	}
	switch {
	case k.atLeast > 0:
		reached := f.Value >= k.atLeast
		f.AtLeast, f.Reached = &k.atLeast, &reached
	case k.atMost > 0:
		reached := f.Value <= k.atMost
		f.AtMost, f.Reached = &k.atMost, &reached
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// percentile returns the p-th percentile by nearest rank.
func percentile(v []float64, p int) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[max(0, (len(v)*p+99)/100-1)]
}

// heading returns the title for a person.
func (k *benchKind) heading(s benchSettings) string {
	return strings.ReplaceAll(k.title, "RATE", number(int64(s.Rate)))
}

// text writes a value in figures worth reading, with its unit.
func (k *benchKind) text(v float64) string {
	switch k.unit {
	case unitPerSecond:
		if v >= 10_000 {
			v = math.Round(v/1000) * 1000
		}
		return number(int64(math.Round(v))) + "/s"
	case unitMillis, unitMB:
		return fmt.Sprintf("%.0f %s", v, k.unit)
	case unitRatio:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2f %s", v, k.unit)
}

func (r *benchReport) print(w io.Writer) {
	s := &r.Settings
	fmt.Fprintf(w, "%s at %s on %s", counted(int64(s.Events), "event"), counted(int64(s.Plazas), "plaza"), counted(int64(s.Partitions), "partition"))
	if s.Instances > 1 {
		fmt.Fprintf(w, ", %d processes", s.Instances)
	}
	if s.Stored > 0 {
		fmt.Fprintf(w, ", %s before", counted(int64(s.Stored), "row"))
	}
	fmt.Fprintf(w, "\n%s, %s, median of %s\n\n", r.Servers, r.Machine, counted(int64(s.Rounds), "round"))
	t := newTable(w, column{name: "figure"}, column{name: "value", number: true}, column{name: "wanted", number: true}, column{name: ""})
	for i := range benchKinds {
		k := &benchKinds[i]
		f := r.Figures[k.name]
		if f == nil {
			continue
		}
		wanted, mark := "", ""
		switch {
		case f.AtLeast != nil:
			wanted = "≥ " + k.text(*f.AtLeast)
		case f.AtMost != nil:
			wanted = "≤ " + k.text(*f.AtMost)
		}
		if f.Reached != nil {
			if mark = "✗"; *f.Reached {
				mark = "✓"
			}
		}
		t.AppendRow([]any{k.heading(*s), k.text(f.Value), wanted, mark})
	}
	if r.Verified != "" {
		mark := "✗"
		if r.Verified == "exact" {
			mark = "✓"
		}
		t.AppendRow([]any{"verify --deep at the end", r.Verified, "exact", mark})
	}
	t.Render()
}
