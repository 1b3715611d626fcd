package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tollstream/tollstream/internal/bench"
	"github.com/tollstream/tollstream/internal/bench/figures"
)

// series varies one setting of the benchmark and leaves the others as they are.
type series struct {
	name   string
	values []int
	axis   string
	set    func(c *bench.Config, value int)
}

// plazas is how many plazas a backlog has where that is not what varies.
const plazas = 12

var allSeries = []series{
	{"partitions", []int{1, 2, 4, 8, 16}, "partitions of the topic",
		func(c *bench.Config, v int) { c.Partitions = v }},
	{"batch-rows", []int{100, 300, 1_000, 3_000, 10_000, 30_000, 100_000}, "most rows of a batch",
		func(c *bench.Config, v int) { c.Process = []string{"--batch-rows", fmt.Sprint(v)} }},
	{"plazas", []int{10, 100, 1_000, 10_000}, "plazas",
		func(c *bench.Config, v int) { c.Plazas = []int{v} }},
}

func seriesNames() []string {
	names := make([]string, len(allSeries))
	for i, s := range allSeries {
		names[i] = s.name
	}
	return names
}

// point is what was measured with one value of the setting.
type point struct {
	Value   int            `json:"value"`
	Machine string         `json:"machine"`
	Rows    figures.Spread `json:"rows_per_second"`
	Load    figures.Spread `json:"load_data_rows_per_second"` // the better of the ways to load
	CPU     figures.Spread `json:"cpu_seconds_per_million"`
}

func newPoint(value, plazas int, r *figures.Report) (p point, err error) {
	p = point{Value: value, Machine: r.Machine}
	for name, into := range map[string]*figures.Spread{
		fmt.Sprintf("backlog_%d_rows", plazas): &p.Rows, fmt.Sprintf("backlog_%d_cpu_s", plazas): &p.CPU,
		"load_1_rows": &p.Load,
	} {
		f := r.Figure(name)
		if f == nil {
			return p, fmt.Errorf("%s was not measured", name)
		}
		*into = f.Values[0]
	}
	if four := r.Figure("load_4_rows"); four != nil && four.Values[0].Median > p.Load.Median {
		p.Load = four.Values[0]
	}
	return p, nil
}

func (s *series) file(dir, ext string) string { return filepath.Join(dir, s.name+ext) }

// measure writes the figures of all points. A point that fails is left out, and the others are
// measured all the same.
func (s *series) measure(cfg bench.Config, dir string,
	run func(bench.Config) (*figures.Report, error)) error {
	var points []point
	var errs []error
	for _, v := range s.values {
		cfg := cfg
		cfg.Plazas = []int{plazas}
		s.set(&cfg, v)
		fmt.Fprintf(cfg.Log, "series %s: %d\n", s.name, v)
		r, err := run(cfg)
		if err == nil {
			var p point
			if p, err = newPoint(v, cfg.Plazas[0], r); err == nil {
				points = append(points, p)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("series %s: %d: %w", s.name, v, err))
			fmt.Fprintln(cfg.Log, errs[len(errs)-1])
		}
	}
	if len(points) == 0 {
		return errors.Join(errs...)
	}
	text, err := json.MarshalIndent(points, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(append(errs, os.WriteFile(s.file(dir, ".json"), append(text, '\n'), 0o644))...)
}

// draw draws what was measured.
func (s *series) draw(dir string) error {
	text, err := os.ReadFile(s.file(dir, ".json"))
	if err != nil {
		return err
	}
	var points []point
	if err := json.Unmarshal(text, &points); err != nil {
		return fmt.Errorf("%s: %w", s.file(dir, ".json"), err)
	}
	svg, err := s.picture(points)
	if err != nil {
		return fmt.Errorf("draw series %s: %w", s.name, err)
	}
	return os.WriteFile(s.file(dir, ".svg"), svg, 0o644)
}
