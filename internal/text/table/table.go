// Package table prints tables and lists of figures in the style of all commands.
package table

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// Column is a column of a table.
type Column struct {
	Name   string
	Number bool // aligned right
}

// Left returns a column of texts.
func Left(name string) Column { return Column{Name: name} }

// Right returns a column of numbers.
func Right(name string) Column { return Column{Name: name, Number: true} }

// Table is a table that is being filled. On a terminal that is too narrow, the cells of its widest
// texts take several lines.
type Table struct {
	out     io.Writer
	columns []Column
	widths  []int // the widest cell of each column
	rows    table.Writer
}

// New returns a table in the style of all commands. Append rows of texts that went through
// escape where they are not ours, then Render.
func New(w io.Writer, columns ...Column) *Table {
	t := &Table{out: w, columns: columns, rows: table.NewWriter()}
	t.rows.SetStyle(tableStyle)
	t.rows.SuppressTrailingSpaces()
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = c.Name
		t.widths = append(t.widths, text.StringWidth(c.Name))
	}
	t.rows.AppendHeader(header)
	return t
}

// AppendRow adds a row, with a cell for each column.
func (t *Table) AppendRow(cells []any) {
	for i, cell := range cells {
		t.widths[i] = max(t.widths[i], text.StringWidth(fmt.Sprint(cell)))
	}
	t.rows.AppendRow(cells)
}

// Render prints the table.
func (t *Table) Render() error {
	if f, ok := t.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.narrow(width)
		}
	}
	configs := make([]table.ColumnConfig, len(t.columns))
	for i, c := range t.columns {
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMax: t.widths[i],
			WidthMaxEnforcer: text.WrapSoft}
		if c.Number {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.rows.SetColumnConfigs(configs)
	_, err := fmt.Fprintln(t.out, t.rows.Render())
	return err
}

// narrowest is the width below which a column of texts is not narrowed.
const narrowest = 16

// narrow takes from the widest columns of texts what the table is wider than a terminal.
func (t *Table) narrow(width int) {
	over := Gap * len(t.widths)
	for _, w := range t.widths {
		over += w
	}
	for over -= width; over > 0; {
		widest := -1
		for i, c := range t.columns {
			if !c.Number && t.widths[i] > narrowest && (widest < 0 || t.widths[i] > t.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		t.widths[widest]--
		over--
	}
}

var tableStyle = func() table.Style {
	s := table.StyleLight
	s.Name = "tollstream"
	s.Options = table.Options{SeparateHeader: true, SeparateFooter: true}
	s.Format.Header, s.Format.Footer = text.FormatDefault, text.FormatDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	return s
}()

// Field is a column of a table that may be left out where there is little room.
type Field struct {
	Column
	Rank  int // the lower, the more it matters; what is of rank 0 always stays
	Cells []string
}

// Gap is the space behind each column.
const Gap = 2

func (f *Field) width() int {
	widest := text.StringWidth(f.Name)
	for _, cell := range f.Cells {
		widest = max(widest, text.StringWidth(cell))
	}
	return widest
}

// Fit returns the highest rank of n columns that there is room for, and how much room is left: by
// rank, up to the first that does not fit. A column without a width takes no room.
func Fit(n int, column func(i int) (rank, width int), room int) (most, left int) {
	taken := map[int]int{} // by rank
	for i := range n {
		if rank, width := column(i); width > 0 {
			taken[rank] += width + Gap
		}
	}
	for _, rank := range slices.Sorted(maps.Keys(taken)) {
		if rank > 0 && taken[rank] > room {
			break
		}
		most, room = rank, room-taken[rank]
	}
	return most, room
}

// Fitting returns the fields that there is room for, in their order: by rank, up to the first that
// does not fit.
func Fitting(fields []Field, width int) []Field {
	most, _ := Fit(len(fields), func(i int) (rank, width int) {
		return fields[i].Rank, fields[i].width()
	}, width)
	return slices.DeleteFunc(slices.Clone(fields), func(f Field) bool { return f.Rank > most })
}

// Write prints the fields that there is room for as a table.
func Write(w io.Writer, fields []Field, width int) error {
	fields = Fitting(fields, width)
	columns := make([]Column, len(fields))
	for i := range fields {
		columns[i] = fields[i].Column
	}
	table := New(w, columns...)
	for row := range fields[0].Cells {
		cells := make([]any, len(fields))
		for i := range fields {
			cells[i] = fields[i].Cells[row]
		}
		table.AppendRow(cells)
	}
	return table.Render()
}

// Figure is a line about a number: its name, the number, what it means.
type Figure [3]string

// WriteFigures prints lines with their names and numbers below each other.
func WriteFigures(w io.Writer, figures []Figure) {
	nameWidth, numberWidth := 0, 0
	for _, f := range figures {
		nameWidth = max(nameWidth, text.StringWidth(f[0]))
		numberWidth = max(numberWidth, text.StringWidth(f[1]))
	}
	for _, f := range figures {
		line := "  " + text.Pad(f[0], nameWidth, ' ') + strings.Repeat(" ",
			Gap+numberWidth-text.StringWidth(f[1])) + f[1] + "  " + f[2]
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
