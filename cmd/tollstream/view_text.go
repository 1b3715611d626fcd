package main

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// screen is the room that there is to write to. What is printed scrolls, so its height is no bound.
type screen struct {
	width int
}

// plainScreen is what a file, or a pipe, takes.
var plainScreen = screen{width: 80}

// screenOf returns the width of a terminal.
func screenOf(w io.Writer) screen { return screen{text.Width(w)} }

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

func byCount(types []toll.TypeCount) []toll.TypeCount {
	sorted := slices.Clone(types)
	slices.SortStableFunc(sorted, func(a, b toll.TypeCount) int {
		return cmp.Compare(b.Count, a.Count)
	})
	return sorted
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
		return "counted " + text.Seconds(time.Since(b.rowsAt)) + " ago"
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
