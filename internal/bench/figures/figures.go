// Package figures holds what a run of the benchmark measured, as JSON and as a table of Markdown.
package figures

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// Report is what a run measured.
type Report struct {
	Date     string   `json:"date"`
	Machine  string   `json:"machine"`
	Servers  string   `json:"servers"`
	Binaries []string `json:"binaries"`
	Rounds   int      `json:"rounds"`
	Scale    float64  `json:"scale"`
	Process  []string `json:"process,omitempty"` // more flags of process
	Figures  []Figure `json:"figures"`
}

// Figure is one figure of a scenario.
type Figure struct {
	// Name is stable: programs read it. It begins with the scenario's.
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit,omitempty"`
	// AtLeast or AtMost is what is wanted; nil for nothing.
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
	// Highest: the highest round counts and not the median.
	Highest bool `json:"highest,omitempty"`
	// Shared: the figure does not depend on tollstream.
	Shared bool `json:"shared,omitempty"`
	// Values has one element for each binary.
	Values []Spread `json:"values"`
	// Ratio is that of the first binary over the last one, of the same round each.
	Ratio *Spread `json:"ratio,omitempty"`
}

// Spread is the values of all rounds.
type Spread struct {
	Median  float64   `json:"median"`
	Lowest  float64   `json:"lowest"`
	Highest float64   `json:"highest"`
	Rounds  []float64 `json:"rounds"`
}

// Units of figures.
const (
	PerSecond  = "/s"
	Seconds    = "s"
	Millis     = "ms"
	Megabytes  = "MB"
	PerMillion = "s per million"
	Percent    = "%"
	Count      = "count"
	Ratio      = ""
)

// Min returns the figure with the least value that is wanted.
func (f Figure) Min(v float64) Figure { f.AtLeast = &v; return f }

// Max returns the figure with the highest value that is wanted.
func (f Figure) Max(v float64) Figure { f.AtMost = &v; return f }

// Add adds those of a scenario's figures that were measured. values holds, by a figure's name, the
// rounds of each binary.
func (r *Report) Add(figures []Figure, values map[string][][]float64) {
	for _, f := range figures {
		for _, rounds := range values[f.Name] {
			if len(rounds) > 0 {
				f.Values = append(f.Values, spread(rounds))
			}
		}
		if len(f.Values) == 0 {
			continue
		}
		if n := len(f.Values); n > 1 {
			var ratios []float64
			for i, first := range f.Values[0].Rounds {
				if last := f.Values[n-1].Rounds; i < len(last) && first > 0 && last[i] > 0 {
					ratios = append(ratios, first/last[i])
				}
			}
			if len(ratios) > 0 {
				s := spread(ratios)
				f.Ratio = &s
			}
		}
		r.Figures = append(r.Figures, f)
	}
}

// Figure returns a figure by its name, nil where it was not measured.
func (r *Report) Figure(name string) *Figure {
	for i := range r.Figures {
		if r.Figures[i].Name == name {
			return &r.Figures[i]
		}
	}
	return nil
}

func spread(rounds []float64) Spread {
	return Spread{Median(rounds), slices.Min(rounds), slices.Max(rounds), rounds}
}

// Median returns the middle of values that are not none.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// Percentile returns the p-th percentile by nearest rank, 0 of nothing.
func Percentile(v []float64, p int) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[max(0, (len(v)*p+99)/100-1)]
}

// Value returns the one of a binary's values that counts.
func (f *Figure) Value(binary int) float64 {
	if f.Highest {
		return f.Values[binary].Highest
	}
	return f.Values[binary].Median
}

// Reached reports whether the first binary has what is wanted, and false where nothing is.
func (f *Figure) Reached() (reached, wanted bool) {
	switch {
	case f.AtLeast != nil:
		return f.Value(0) >= *f.AtLeast, true
	case f.AtMost != nil:
		return f.Value(0) <= *f.AtMost, true
	}
	return false, false
}

// Text writes a value with its unit.
func (f *Figure) Text(v float64) string {
	switch f.Unit {
	case Count, Ratio:
		return f.number(v)
	case PerSecond:
		return f.number(v) + f.Unit
	}
	return f.number(v) + " " + f.Unit
}

// number writes a value in digits worth reading.
func (f *Figure) number(v float64) string {
	switch f.Unit {
	case PerSecond:
		if v >= 10_000 {
			v = math.Round(v/1000) * 1000
		}
		return humanize.Comma(int64(math.Round(v)))
	case Count, Millis, Megabytes:
		return humanize.Comma(int64(math.Round(v)))
	case Percent:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Table returns the figures as a Markdown table.
func (r *Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s, with %s. ", r.Date, r.Machine, r.Servers)
	if r.Rounds == 1 {
		b.WriteString("One round")
	} else {
		fmt.Fprintf(&b, "Medians of %d rounds", r.Rounds)
	}
	if r.Scale != 1 {
		fmt.Fprintf(&b, ", at %g of the usual size", r.Scale)
	}
	if len(r.Process) > 0 {
		fmt.Fprintf(&b, ", with `process %s`", strings.Join(r.Process, " "))
	}
	b.WriteString(". `verify --deep` was exact after each run of `process`.\n\n")
	header := []string{"figure", "wanted", "measured", "lowest – highest", "reached"}
	if len(r.Binaries) > 1 {
		header = append(header, "other", "ratio", "lowest – highest")
	}
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	b.WriteString("|" + strings.Repeat("---|", len(header)) + "\n")
	for i := range r.Figures {
		line(r.Figures[i].cells(len(header)))
	}
	return b.String()
}

func (f *Figure) cells(n int) []string {
	wanted, reached := "", ""
	switch {
	case f.AtLeast != nil:
		wanted = "≥ " + f.Text(*f.AtLeast)
	case f.AtMost != nil:
		wanted = "≤ " + f.Text(*f.AtMost)
	}
	if ok, isWanted := f.Reached(); isWanted {
		if reached = "**no**"; ok {
			reached = "yes"
		}
	}
	v := f.Values[0]
	title := f.Title
	if f.Highest {
		title += ", highest round"
	}
	cells := []string{title, wanted, f.Text(f.Value(0)),
		f.number(v.Lowest) + " – " + f.number(v.Highest), reached}
	if f.Ratio != nil {
		cells = append(cells, f.Text(f.Value(len(f.Values)-1)), fmt.Sprintf("%.2f", f.Ratio.Median),
			fmt.Sprintf("%.2f – %.2f", f.Ratio.Lowest, f.Ratio.Highest))
	}
	for len(cells) < n {
		cells = append(cells, "")
	}
	return cells
}

// What stands between these marks of a page is written by Replace.
const (
	tableBegin = "<!-- figures, written by make bench -->\n"
	tableEnd   = "<!-- end of figures -->\n"
)

// Replace returns the page with another table between its marks.
func Replace(page, table string) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return "", errors.New("the page lacks the marks between which the figures go")
	}
	return before + tableBegin + table + tableEnd + after, nil
}

// Compare returns the page with other figures of a backlog of 12 plazas in its comparison: those of
// tollstream and of LOAD DATA, and when they were measured.
func (r *Report) Compare(page string) (string, error) {
	load := r.Figure("load_1_rows")
	if four := r.Figure("load_4_rows"); four != nil && load != nil &&
		four.Values[0].Median > load.Values[0].Median {
		load = four
	}
	rows, cpu, memory := r.Figure("backlog_12_rows"), r.Figure("backlog_12_cpu_s"),
		r.Figure("backlog_12_memory_mb")
	if load == nil || rows == nil || cpu == nil || memory == nil {
		return "", errors.New("a backlog of 12 plazas was not measured")
	}
	between := func(f *Figure, number func(v float64) string) string {
		return number(f.Values[0].Lowest) + "–" + number(f.Values[0].Highest)
	}
	tenth := func(v float64) string { return fmt.Sprintf("%.1f", v) }
	for _, c := range []struct{ pattern, with string }{
		{`(?m)^(\| \*\*tollstream\*\*)( \|[^|]*){3}`, fmt.Sprintf("$1 | **%s** | **%s** | **%s** ",
			between(rows, rows.number), between(cpu, tenth), memory.Text(memory.Value(0)))},
		{"(?m)^(\\| `LOAD DATA`[^|]*)\\|[^|]*", "${1}| " + between(load, load.number) + " "},
		{"(?m)^(tollstream and `LOAD DATA` were measured on )[0-9-]+", "${1}" + r.Date},
	} {
		pattern := regexp.MustCompile(c.pattern)
		if !pattern.MatchString(page) {
			return "", fmt.Errorf("the page lacks what %s matches", pattern)
		}
		page = pattern.ReplaceAllString(page, c.with)
	}
	return page, nil
}
