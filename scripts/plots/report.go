package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize"

	"tollstream/internal/simulate"
	"tollstream/topology"
)

// report is what tollstream bench --json prints, as far as it is read here.
type report struct {
	Machine  string            `json:"machine"`
	Servers  string            `json:"servers"`
	Settings settings          `json:"settings"`
	Only     []string          `json:"only"`
	Figures  map[string]figure `json:"figures"`
	Verified string            `json:"verified"`
}

type settings struct {
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
}

type figure struct {
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"`
	Median  float64  `json:"median"`
	Min     float64  `json:"min"`
	Max     float64  `json:"max"`
	AtLeast *float64 `json:"at_least"`
	AtMost  *float64 `json:"at_most"`
	Reached *bool    `json:"reached"`
}

func parseReport(text []byte) (*report, error) {
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read a report of tollstream bench: %w", err)
	}
	return &r, nil
}

func readReport(file string) (*report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read a report of tollstream bench: %w", err)
	}
	r, err := parseReport(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// measured is what a plot shows of a report.
type measured struct{ process, load, cpu figure }

func (r *report) measured() (measured, error) {
	m := measured{process: r.Figures["process_rows_per_second"], cpu: r.Figures["process_cpu_seconds_per_million"]}
	for _, name := range []string{"load_data_1_connection_rows_per_second", "load_data_4_connections_rows_per_second"} {
		if f := r.Figures[name]; f.Median > m.load.Median {
			m.load = f
		}
	}
	if m.process.Median == 0 || m.load.Median == 0 || m.cpu.Median == 0 {
		return m, fmt.Errorf("the report lacks figures of process or LOAD DATA; measure with --only load,process")
	}
	if r.Verified != "exact" {
		return m, fmt.Errorf("the events are not stored exactly once: verify says %q", r.Verified)
	}
	return m, nil
}

// command returns the command that measures the same again.
func (r *report) command() string {
	s := &r.Settings
	args := []string{"tollstream", "bench", "--only", strings.Join(r.Only, ","), "--events", fmt.Sprint(s.Events), "--rounds", fmt.Sprint(s.Rounds)}
	add := func(flag string, value, byDefault any) {
		if value != byDefault {
			args = append(args, flag, fmt.Sprint(value))
		}
	}
	add("--partitions", s.Partitions, 4)
	add("--plazas", s.Plazas, len(simulate.DefaultPlazas()))
	add("--stored", s.Stored, 0)
	add("--instances", s.Instances, 1)
	add("--batch-rows", s.BatchRows, topology.DefaultBatchRows)
	add("--latency", fmt.Sprintf("%gs", s.LatencySeconds), fmt.Sprintf("%gs", topology.DefaultLatency.Seconds()))
	add("--load", s.Load, "auto")
	add("--rate", s.Rate, 20_000)
	add("--for", fmt.Sprintf("%gs", s.ForSeconds), "15s")
	return strings.Join(args, " ")
}

// text writes a value in figures worth reading, without its unit.
func (f *figure) text(v float64) string {
	switch f.Unit {
	case "/s":
		return humanize.Comma(int64(v+500) / 1000 * 1000)
	case "ms", "MB":
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// withUnit writes a value with its unit.
func (f *figure) withUnit(v float64) string {
	switch f.Unit {
	case "":
		return f.text(v)
	case "/s":
		return f.text(v) + "/s"
	}
	return f.text(v) + " " + f.Unit
}
