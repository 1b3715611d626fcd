package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// column is a column of a table.
type column struct {
	name   string
	number bool // aligned right
}

// leftAligned returns a column of texts.
func leftAligned(name string) column { return column{name: name} }

// rightAligned returns a column of numbers.
func rightAligned(name string) column { return column{name: name, number: true} }

// newTable returns a table in the style of all commands. Append rows of texts that went through
// escape where they are not ours, then Render.
func newTable(w io.Writer, columns ...column) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(tableStyle)
	t.SuppressTrailingSpaces()
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range columns {
		header = append(header, c.name)
		config := table.ColumnConfig{Number: i + 1}
		if c.number {
			config.Align, config.AlignHeader, config.AlignFooter = text.AlignRight, text.AlignRight,
				text.AlignRight
		}
		configs = append(configs, config)
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

var tableStyle = func() table.Style {
	s := table.StyleLight
	s.Name = "tollstream"
	s.Options = table.Options{SeparateHeader: true, SeparateFooter: true}
	s.Format.Header, s.Format.Footer = text.FormatDefault, text.FormatDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	return s
}()

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

// figure is a line about a number: its name, the number, what it means.
type figure [3]string

// writeFigures prints lines with their names and numbers below each other.
func writeFigures(w io.Writer, figures []figure) {
	nameWidth, numberWidth := 0, 0
	for _, f := range figures {
		nameWidth = max(nameWidth, text.StringWidth(f[0]))
		numberWidth = max(numberWidth, text.StringWidth(f[1]))
	}
	for _, f := range figures {
		line := "  " + text.Pad(f[0], nameWidth, ' ') + strings.Repeat(" ",
			fieldGap+numberWidth-text.StringWidth(f[1])) + f[1] + "  " + f[2]
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
