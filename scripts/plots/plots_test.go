package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/bench"
	"github.com/tollstream/tollstream/internal/bench/figures"
)

// fakeBench returns a report whose rate follows the partitions, and fails where there are two.
func fakeBench(c bench.Config) (*figures.Report, error) {
	if c.Partitions == 2 {
		return nil, errors.New("out of order")
	}
	spread := func(v float64) []figures.Spread {
		return []figures.Spread{{Median: v, Lowest: v * 0.9, Highest: v * 1.1}}
	}
	return &figures.Report{Figures: []figures.Figure{
		{Name: "load_1_rows", Values: spread(300_000)}, {Name: "load_4_rows", Values: spread(400_000)},
		{Name: "backlog_12_rows", Values: spread(float64(c.Partitions) * 100_000)},
		{Name: "backlog_12_cpu_s", Values: spread(1.5)},
	}}, nil
}

// TestFailedPoint checks that a point that fails is reported, that the others are measured and
// drawn, and that a plot can be drawn again from the figures alone.
func TestFailedPoint(t *testing.T) {
	dir := t.TempDir()
	cfg := bench.DefaultConfig()
	cfg.Log = io.Discard
	s := &allSeries[0]
	err := s.measure(cfg, dir, fakeBench)
	if err == nil || !strings.Contains(err.Error(), "series partitions: 2: out of order") {
		t.Errorf("error %v", err)
	}
	var points []point
	text, err := os.ReadFile(filepath.Join(dir, "partitions.json"))
	if err == nil {
		err = json.Unmarshal(text, &points)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 4 || points[0].Value != 1 || points[1].Value != 4 ||
		points[1].Rows.Median != 400_000 ||
		points[1].Load.Median != 400_000 || points[1].CPU.Median != 1.5 {
		t.Errorf("points %+v", points)
	}
	var pictures [2][]byte
	for i := range pictures {
		if err := run(t.Context(), []string{"-from-data", "-series", "partitions", "-out", dir},
			io.Discard); err != nil {
			t.Fatal(err)
		}
		if pictures[i], err = os.ReadFile(filepath.Join(dir, "partitions.svg")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(pictures[0], pictures[1]) {
		t.Error("drawn again from the figures the plot differs")
	}
	for in := xml.NewDecoder(bytes.NewReader(pictures[0])); ; {
		if _, err := in.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOnePoint draws every series with one point alone, which leaves an axis without a length.
func TestOnePoint(t *testing.T) {
	for i := range allSeries {
		s := &allSeries[i]
		spread := figures.Spread{Median: 1, Lowest: 1, Highest: 1}
		if _,
			err := s.picture([]point{{Value: s.values[0], Rows: spread, Load: spread,
			CPU: spread}}); err != nil {
			t.Errorf("series %s: %v", s.name, err)
		}
	}
}

func TestUnknownSeries(t *testing.T) {
	err := run(t.Context(), []string{"-series", "colours"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `unknown series "colours"`) {
		t.Errorf("error %v", err)
	}
}

func TestRoundTicks(t *testing.T) {
	for _, c := range []struct {
		high float64
		want string
	}{{0, "0"}, {2.2, "0 0.5 1 1.5 2"}, {500_000, "0 100k 200k 300k 400k 500k"}, {1_250_000,
		"0 500k 1M"}} {
		var labels []string
		for _, tick := range roundTicks(0, c.high) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("up to %v: %s, want %s", c.high, got, c.want)
		}
	}
}
