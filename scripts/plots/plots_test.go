package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bench stands for tollstream bench: it prints a report whose rate follows its last argument, and fails at 2.
const bench = `#!/bin/sh
for last; do :; done
[ "$last" != 2 ] || { echo "starting" >&2; echo "tollstream: out of order" >&2; exit 1; }
cat <<END
{"machine": "a machine", "servers": "servers", "settings": {"events": 1000, "rounds": 2, "partitions": 4, "plazas": 12, "instances": 1,
  "batch_rows": 10000, "latency_seconds": 0.25, "load": "auto", "rate": 20000, "for_seconds": 15},
 "only": ["load", "process"], "verified": "exact", "figures": {
  "load_data_1_connection_rows_per_second": {"value": 300000, "unit": "/s", "median": 300000, "min": 290000, "max": 310000},
  "load_data_4_connections_rows_per_second": {"value": 400000, "unit": "/s", "median": 400000, "min": 390000, "max": 410000},
  "process_rows_per_second": {"value": ${last}00000, "unit": "/s", "median": ${last}00000, "min": 90000, "max": 950000},
  "process_over_load_data": {"value": 0.5, "median": 0.5, "min": 0.4, "max": 0.6, "at_least": 0.7, "reached": false},
  "process_cpu_seconds_per_million": {"value": 1.8, "unit": "s per million", "median": 1.8, "min": 1.7, "max": 2.1, "at_most": 2, "reached": true}}}
END
`

func fakeBench(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "tollstream")
	if err := os.WriteFile(file, []byte(bench), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestFailedPoint checks that a point that fails is reported, that the others are measured and drawn, and that the plot
// can be drawn again from the figures alone.
func TestFailedPoint(t *testing.T) {
	out := t.TempDir()
	var stderr strings.Builder
	err := run(t.Context(), []string{"-tollstream", fakeBench(t), "-series", "instances", "-out", out}, io.Discard, &stderr)
	if err == nil || !strings.Contains(err.Error(), "series instances: --instances 2: exit status 1: tollstream: out of order") {
		t.Errorf("error %v", err)
	}
	var d data
	text, err := os.ReadFile(filepath.Join(out, "instances.json"))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Points) != 2 || d.Points[0].Value != 1 || d.Points[1].Value != 3 {
		t.Errorf("points %+v", d.Points)
	}
	file := filepath.Join(out, "instances.svg")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for in := xml.NewDecoder(bytes.NewReader(first)); ; {
		if _, err := in.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t.Context(), []string{"-from-data", "-series", "instances", "-out", out}, io.Discard, &stderr); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(first, again) {
		t.Errorf("drawn again from the figures the plot differs, or %v", err)
	}
}

// TestOnePoint draws every series with one point alone, which leaves an axis without a length.
func TestOnePoint(t *testing.T) {
	out := t.TempDir()
	for i := range allSeries {
		s := allSeries[i]
		s.values = s.values[:1]
		m := &measurer{binary: fakeBench(t), events: 1000, rounds: 1, stderr: io.Discard}
		if s.values[0] == 0 {
			s.values = []int{5}
		}
		if err := s.make(t.Context(), m, out, false); err != nil {
			t.Errorf("series %s: %v", s.name, err)
		}
	}
}

func TestTable(t *testing.T) {
	dir := t.TempDir()
	m := &measurer{binary: fakeBench(t), stderr: io.Discard}
	report, err := m.measure(t.Context(), "--partitions", 4)
	if err != nil {
		t.Fatal(err)
	}
	file, page := filepath.Join(dir, "bench.json"), filepath.Join(dir, "page.md")
	if err := os.WriteFile(file, report, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"-table", file, "-into", page}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n", "after\n", "Measured on a machine, with servers.",
		"| `process`, first fetch to last commit, rows |  | 400,000/s | 90,000 – 950,000 |  | 1 |",
		"| `process` over the better `LOAD DATA` | ≥ 0.70 | 0.50 | 0.40 – 0.60 | **no** | 1 |",
		"| `process`, CPU | ≤ 2.00 s per million | 1.80 s per million | 1.70 – 2.10 | yes | 1 |",
		"`tollstream bench --only load,process --events 1000 --rounds 2`; `verify --deep` at its end: exact",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("the old table is still there")
	}
}

func TestUnknownSeries(t *testing.T) {
	err := run(t.Context(), []string{"-series", "plazas,colours"}, io.Discard, io.Discard)
	if want := fmt.Sprintf("unknown series %q", "colours"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestRoundTicks(t *testing.T) {
	for _, c := range []struct {
		high float64
		want string
	}{{0, "0"}, {2.2, "0 0.5 1 1.5 2"}, {500_000, "0 100k 200k 300k 400k 500k"}, {1_250_000, "0 500k 1M"}} {
		var labels []string
		for _, tick := range roundTicks(0, c.high) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("up to %v: %s, want %s", c.high, got, c.want)
		}
	}
}
