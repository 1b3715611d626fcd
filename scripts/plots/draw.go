package main

import (
	"bytes"
	"image/color"
	"math"
	"strconv"

	"github.com/tollstream/tollstream/internal/bench/figures"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

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
