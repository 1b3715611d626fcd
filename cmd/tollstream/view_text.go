package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/tollstream/tollstream/toll"
)

// screen is the room that there is to write to. What is printed scrolls, so its height is no bound.
type screen struct {
	width int
}

// plainScreen is what a file, or a pipe, takes.
var plainScreen = screen{width: 80}

// screenOf returns the width of a terminal.
func screenOf(w io.Writer) screen {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return screen{width}
		}
	}
	return plainScreen
}

// write prints a board for a person: the verdict, then the figures.
func (v *viewer) write(w io.Writer, b *viewBoard, s screen) error {
	var t strings.Builder
	if v.settings.plaza != nil {
		v.writePlaza(&t, b, s)
	} else {
		v.writePlazas(&t, b, s)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// field is a column of a table that may be left out where there is little room.
type field struct {
	column
	rank  int // the lower, the more it matters; what is of rank 0 always stays
	cells []string
}

// fieldGap is the space behind each column.
const fieldGap = 2

func (f *field) width() int {
	widest := text.StringWidth(f.name)
	for _, cell := range f.cells {
		widest = max(widest, text.StringWidth(cell))
	}
	return widest + fieldGap
}

// fitting returns the fields that there is room for, in their order: by rank, up to the first that
// does not fit.
func fitting(fields []field, width int) []field {
	ranks := make([]int, 0, len(fields))
	for i := range fields {
		ranks = append(ranks, fields[i].rank)
	}
	slices.Sort(ranks)
	most := 0
	for _, rank := range slices.Compact(ranks) {
		for i := range fields {
			if fields[i].rank == rank {
				width -= fields[i].width()
			}
		}
		if rank > 0 && width < 0 {
			break
		}
		most = rank
	}
	return slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return f.rank > most })
}

// writeFields prints the fields that there is room for as a table.
func writeFields(w io.Writer, fields []field, width int) {
	fields = fitting(fields, width)
	columns := make([]column, len(fields))
	for i := range fields {
		columns[i] = fields[i].column
	}
	table := newTable(w, columns...)
	for row := range fields[0].cells {
		cells := make([]any, len(fields))
		for i := range fields {
			cells[i] = fields[i].cells[row]
		}
		table.AppendRow(cells)
	}
	table.Render()
}

// figure is a line that tells a number: its name, the number, what it means.
type figure struct{ name, number, meaning string }

// writeFigures prints lines with their names and numbers below each other.
func writeFigures(w io.Writer, figures []figure) {
	nameWidth, numberWidth := 0, 0
	for _, f := range figures {
		nameWidth = max(nameWidth, text.StringWidth(f.name))
		numberWidth = max(numberWidth, text.StringWidth(f.number))
	}
	for _, f := range figures {
		line := "  " + text.Pad(f.name, nameWidth, ' ') + strings.Repeat(" ",
			fieldGap+numberWidth-text.StringWidth(f.number)) + f.number + "  " + f.meaning
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// writeWords prints words in lines of at most a width. A number stays with its unit.
func writeWords(t *strings.Builder, words string, width int) {
	var parts []string
	for word := range strings.FieldsSeq(words) {
		if n := len(parts); n > 0 &&
			(word == "%" || word == "pc/h" || strings.HasSuffix(parts[n-1], "(z")) {
			parts[n-1] += " " + word
			continue
		}
		parts = append(parts, word)
	}
	column := 0
	for _, part := range parts {
		n := text.StringWidth(part)
		switch {
		case column == 0:
		case column+1+n > width:
			t.WriteByte('\n')
			column = 0
		default:
			t.WriteByte(' ')
			column++
		}
		t.WriteString(part)
		column += n
	}
	t.WriteByte('\n')
}

func byCount(types []toll.TypeCount) []toll.TypeCount {
	sorted := slices.Clone(types)
	slices.SortStableFunc(sorted, func(a, b toll.TypeCount) int {
		return cmp.Compare(b.Count, a.Count)
	})
	return sorted
}

func percent(n, total int64) string {
	if total == 0 {
		return "0%"
	}
	p := 100 * float64(n) / float64(total)
	if n > 0 && p < 0.5 {
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", p)
}

// rounded writes a figure without decimals: 3,080.
func rounded(x float64) string { return number(int64(math.Round(x))) }

// ratio writes demand by capacity, rounded down: 0.998 is not 1.
func ratio(x float64) string { return fmt.Sprintf("%.2f", math.Floor(x*100+1e-9)/100) }

// signed writes a z-score: +1.3, −7.4, 0.0.
func signed(x float64) string {
	text := fmt.Sprintf("%.1f", math.Abs(x))
	switch {
	case text == "0.0":
		return text
	case x < 0:
		return "−" + text
	}
	return "+" + text
}

// minutes writes a length in words: 9 min, 1 h 19 min, 2 days 3 h. What is left after the second
// word is dropped.
func minutes(n int64) string {
	type unit struct {
		length   int64
		one, two string
	}
	units := []unit{{24 * 60, "day", "days"}, {60, "h", "h"}, {1, "min", "min"}}
	for i, u := range units {
		count := n / u.length
		if count == 0 && i < len(units)-1 {
			continue
		}
		text := plural(count, u.one, u.two)
		if i+1 < len(units) {
			if rest := n % u.length / units[i+1].length; rest > 0 {
				text += " " + plural(rest, units[i+1].one, units[i+1].two)
			}
		}
		return text
	}
	return ""
}

// sparkline draws counts as columns, the highest for most, and nothing as a dot.
func sparkline(counts []int64, most int64) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	line := make([]rune, 0, len(counts))
	for _, n := range counts {
		if n <= 0 {
			line = append(line, '·')
			continue
		}
		level := int(math.Ceil(float64(n)/float64(most)*float64(len(levels)))) - 1
		line = append(line, levels[min(max(level, 0), len(levels)-1)])
	}
	return string(line)
}

// indexHint says how to make counts of rows fast.
const indexHint = "the optional indexes in sql/indexes.sql make the count fast"

// rowsNote says where the count of rows is not of this moment, and why.
func (b *viewBoard) rowsNote(p *plazaBoard) string {
	switch {
	case p.check.Note != "":
		return p.check.Note
	case b.fresh:
		return ""
	case p.rows != nil && p.rows.Note != "":
		return p.rows.Note
	case !b.rowsAt.IsZero():
		return "counted " + seconds(time.Since(b.rowsAt)) + " ago"
	}
	return ""
}

// clock writes an instant as the database's clock shows it.
func (b *viewBoard) clock(t time.Time, layout string) string {
	return t.In(b.location).Format(layout)
}

// clock writes an instant as the plaza's clock shows it.
func (p *plazaBoard) clock(t time.Time, layout string) string {
	return t.In(p.location).Format(layout)
}

// at writes a minute as the plaza's clock shows it, with the date where that is not the one of
// another minute.
func (p *plazaBoard) at(m, today toll.Minute) string {
	layout := "15:04"
	if p.clock(m.Time(), time.DateOnly) != p.clock(today.Time(), time.DateOnly) {
		layout = "2006-01-02 15:04"
	}
	return p.clock(m.Time(), layout)
}

// span writes a window as the plaza's clock shows it, with the date where that is not the one of
// another minute: 07:00–08:00, 2026-03-23 23:00–24:00. A whole date is 2026-03-23.
func (p *plazaBoard) span(w toll.Window, today toll.Minute) string {
	start, end := p.at(w.Start, today), p.clock(w.End.Time(), "15:04")
	if end == "00:00" && w.End > w.Start {
		end = "24:00"
	}
	if date, ok := strings.CutSuffix(start, " 00:00"); ok && end == "24:00" {
		return date
	}
	return start + "–" + end
}
