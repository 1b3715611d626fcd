// Command plots measures how the cost of a backlog grows while one setting varies, and draws it.
//
//	go run ./scripts/plots             # measures all series, then draws
//	go run ./scripts/plots -from-data  # draws again from the figures next to the plots
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/tollstream/tollstream/internal/bench"
	"github.com/tollstream/tollstream/internal/bench/figures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "plots:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	cfg := bench.DefaultConfig()
	cfg.Only, cfg.Log = []string{"backlog"}, stderr
	flags := flag.NewFlagSet("plots", flag.ContinueOnError)
	flags.SetOutput(stderr)
	names := flags.String("series", strings.Join(seriesNames(), ","), "`names` of the series")
	out := flags.String("out", filepath.Join("docs", "plots"),
		"`folder` of the plots and their figures")
	fromData := flags.Bool("from-data", false,
		"draw from the figures in that folder, without measuring")
	flags.StringVar(&cfg.Binaries[0], "binary", cfg.Binaries[0], "the `command` to measure")
	flags.Float64Var(&cfg.Scale, "scale", cfg.Scale, "`factor` on the events of each point")
	flags.IntVar(&cfg.Rounds, "rounds", 3, "`rounds` of each point")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	measure := func(cfg bench.Config) (*figures.Report, error) { return bench.Run(ctx, cfg) }
	var errs []error
	for name := range strings.SplitSeq(*names, ",") {
		i := slices.IndexFunc(allSeries, func(s series) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("unknown series %q; there are %s", name, strings.Join(seriesNames(), ", "))
		}
		s := &allSeries[i]
		if !*fromData {
			errs = append(errs, s.measure(cfg, *out, measure))
		}
		errs = append(errs, s.draw(*out))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

var (
	processColor = color.RGBA{R: 0x1b, G: 0x66, B: 0xb3, A: 0xff}
	loadColor    = color.RGBA{R: 0xc2, G: 0x5a, B: 0x0a, A: 0xff}
	gridColor    = color.RGBA{R: 0xdd, G: 0xdd, B: 0xdd, A: 0xff}
)

// picture draws a series as SVG: rows/s on the left, CPU on the right. The background is white, so
// it can be read on dark pages too.
func (s *series) picture(points []point) ([]byte, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	var process, load, cpu []figures.Spread
	for _, p := range points {
		process, load, cpu = append(process, p.Rows), append(load, p.Load), append(cpu, p.CPU)
	}
	rows := s.panel(points, "rows/s")
	cost := s.panel(points, "CPU seconds per million events")
	if err := addLine(rows, points, "LOAD DATA LOCAL, same rows", load, loadColor,
		draw.BoxGlyph{}); err != nil {
		return nil, err
	}
	if err := addLine(rows, points, "process", process, processColor, draw.CircleGlyph{}); err != nil {
		return nil, err
	}
	if err := addLine(cost, points, "", cpu, processColor, draw.CircleGlyph{}); err != nil {
		return nil, err
	}

	canvas := vgsvg.New(20*vg.Centimeter, 8*vg.Centimeter)
	dc := draw.New(canvas)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Points(14), PadTop: vg.Points(6),
		PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(14)}
	panels := [][]*plot.Plot{{rows, cost}}
	for i, c := range plot.Align(panels, tiles, dc)[0] {
		panels[0][i].Draw(c)
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// Browsers that lack the font take one of the same widths.
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")), nil
}

func (s *series) panel(points []point, title string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Title.Padding = title, vg.Points(6)
	p.X.Label.Text = s.axis
	p.X.Padding, p.Y.Padding = vg.Points(4), 0
	var ticks plot.ConstantTicks
	for _, point := range points {
		ticks = append(ticks, plot.Tick{Value: float64(point.Value), Label: short(float64(point.Value))})
	}
	p.X.Tick.Marker = ticks
	if len(points) > 1 {
		p.X.Scale = plot.LogScale{}
	}
	p.Y.Tick.Marker = plot.TickerFunc(roundTicks)
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, true, vg.Points(6),
		vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = gridColor
	p.Add(grid)
	return p
}

// addLine adds a line through the medians with bars from the lowest to the highest, named in the
// legend unless the name is empty. The y axis starts at 0, and has room for the legend above the
// highest.
func addLine(p *plot.Plot, measured []point, name string, values []figures.Spread, c color.Color,
	shape draw.GlyphDrawer) error {
	points := make(plotter.XYs, len(values))
	bars := make(plotter.YErrors, len(values))
	for i, v := range values {
		points[i] = plotter.XY{X: float64(measured[i].Value), Y: v.Median}
		bars[i].Low, bars[i].High = v.Median-v.Lowest, v.Highest-v.Median
		p.Y.Max = math.Max(p.Y.Max, v.Highest*1.25)
	}
	p.Y.Min = 0
	line, glyphs, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(1.5)
	glyphs.Color, glyphs.Shape, glyphs.Radius = c, shape, vg.Points(2.5)
	errorBars, err := plotter.NewYErrorBars(struct {
		plotter.XYer
		plotter.YErrorer
	}{points, bars})
	if err != nil {
		return err
	}
	errorBars.Color, errorBars.Width = c, vg.Points(1)
	p.Add(line, glyphs, errorBars)
	if name != "" {
		p.Legend.Add(name, line, glyphs)
	}
	return nil
}

// roundTicks returns about five round values from 0 up.
func roundTicks(_, high float64) []plot.Tick {
	if high <= 0 {
		return []plot.Tick{{Value: 0, Label: "0"}}
	}
	step := math.Pow(10, math.Floor(math.Log10(high/5)))
	for _, f := range []float64{1, 2, 5, 10} {
		if f*step >= high/6 {
			step *= f
			break
		}
	}
	var ticks []plot.Tick
	for i := 0; float64(i)*step <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: float64(i) * step, Label: short(float64(i) * step)})
	}
	return ticks
}

// short writes 20000 as 20k.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return decimal(v/1e6) + "M"
	case v >= 1e3:
		return decimal(v/1e3) + "k"
	}
	return decimal(v)
}

// decimal writes a value with two decimals at most.
func decimal(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }

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
