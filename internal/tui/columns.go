package tui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// plazaRow is a plaza in the table.
type plazaRow struct {
	*board.Plaza
	location *time.Location // of its clock
	cells    []string       // of columns, in their order
	search   string         // what a filter looks at, in lower case
}

// column is a column of the table of all plazas.
type column struct {
	table.Column
	key   string // that sorts by it: a letter of its name; empty for none
	rank  int    // the lower, the more it matters; what is of rank 0 always stays
	up    bool   // whether the lowest goes first, unless it is turned round
	cell  func(p *plazaRow, today string) string
	style func(p *plazaRow) style           // nil for plain
	by    func(p *plazaRow) (float64, bool) // what it is sorted by, and false where that is not known
}

// urgency is the order of states by how soon someone should look, the most urgent last. A plaza
// that is silent goes before those that are fine.
var urgency = map[traffic.State]float64{traffic.Free: 0, traffic.NoData: 1, traffic.Busy: 2,
	traffic.BelowUsual: 3, traffic.Saturated: 4}

var stateSymbols = map[traffic.State]string{traffic.Saturated: "▲", traffic.BelowUsual: "▼",
	traffic.Busy: "◆", traffic.NoData: "○", traffic.Free: "·"}

var verdictSymbols = map[board.Status]string{board.Exact: "✓", board.InFlight: "~",
	board.Mismatch: "✗"}

func stateWords(s traffic.State) string { return stateSymbols[s] + " " + s.String() }

func stateStyle(s traffic.State) style {
	switch s {
	case traffic.Saturated:
		return alarm
	case traffic.BelowUsual:
		return notice
	case traffic.Busy:
		return strong
	case traffic.NoData:
		return faint
	}
	return plain
}

// Names of columns that more than the table refers to.
const (
	columnFlow = "flow/h"
	columnVC   = "v/c"
	columnZ    = "z"
	trendName  = "last hours"
)

// leastTrend is how many columns a sparkline takes at least. It gets more where there is room.
const leastTrend = 12

var tableColumns = []column{
	{Column: table.Right("plaza"), key: "p", up: true,
		cell: func(p *plazaRow, _ string) string { return plazaName(p.ID) },
		by:   func(p *plazaRow) (float64, bool) { return float64(p.ID), true }},
	{Column: table.Left("name"), key: "n", rank: 4, up: true,
		cell: func(p *plazaRow, _ string) string { return ellipsed(text.Cell(p.Name), 20) }},
	{Column: table.Left("state"), key: "s",
		cell:  func(p *plazaRow, _ string) string { return stateWords(p.State) },
		style: func(p *plazaRow) style { return stateStyle(p.State) },
		by:    func(p *plazaRow) (float64, bool) { return urgency[p.State], true }},
	{Column: table.Right(columnFlow), key: "f", rank: 1,
		cell: func(p *plazaRow, _ string) string { return text.Round(p.FlowPerHour) },
		by:   func(p *plazaRow) (float64, bool) { return p.FlowPerHour, true }},
	{Column: table.Right(columnVC), key: "v", rank: 2,
		cell: func(p *plazaRow, _ string) string { return known(p.VC, text.Ratio) },
		by:   func(p *plazaRow) (float64, bool) { return value(p.VC) }},
	{Column: table.Right("heavy"), key: "h", rank: 6,
		cell: func(p *plazaRow, _ string) string { return known(p.HeavyShare, sharePercent) },
		by:   func(p *plazaRow) (float64, bool) { return value(p.HeavyShare) }},
	{Column: table.Right(columnZ), key: "z", rank: 5,
		cell: func(p *plazaRow, _ string) string { return known(p.Z, text.Signed) },
		style: func(p *plazaRow) style {
			if p.Z != nil && math.Abs(*p.Z) >= 3 {
				return strong
			}
			return plain
		},
		by: func(p *plazaRow) (float64, bool) { z, ok := value(p.Z); return math.Abs(z), ok }},
	{Column: table.Left(trendName), rank: 7}, // its cells depend on the room, see trend
	{Column: table.Right("total"), key: "t", rank: 9,
		cell: func(p *plazaRow, _ string) string { return text.Number(p.Total) },
		by:   func(p *plazaRow) (float64, bool) { return float64(p.Total), true }},
	{Column: table.Right("last"), key: "l", rank: 8,
		cell: func(p *plazaRow, today string) string {
			if p.LastEvent == nil {
				return "-"
			}
			if at := p.LastEvent.In(p.location); at.Format(time.DateOnly) == today {
				return at.Format(time.TimeOnly)
			} else {
				return at.Format(time.DateOnly)
			}
		},
		by: func(p *plazaRow) (float64, bool) {
			if p.LastEvent == nil {
				return 0, false
			}
			return float64(p.LastEvent.Unix()), true
		}},
	{Column: table.Left("verdict"), key: "d", rank: 3,
		cell: func(p *plazaRow, _ string) string { return plazaVerdictWords(&p.Verification) },
		style: func(p *plazaRow) style {
			switch p.Verification.Status {
			case board.Mismatch:
				return critical
			case board.Exact:
				return good
			}
			return plain
		},
		by: func(p *plazaRow) (float64, bool) {
			return float64(slices.Index([]board.Status{board.Exact, board.InFlight, board.Mismatch},
				p.Verification.Status)), true
		}},
}

func plazaVerdictWords(v *board.PlazaVerification) string {
	switch v.Status {
	case board.Mismatch:
		return verdictSymbols[board.Mismatch] + " MISMATCH"
	case board.InFlight:
		return verdictSymbols[board.InFlight] + " " + text.Number(v.InFlight) + " in flight"
	}
	return verdictSymbols[board.Exact] + " exact"
}

func known(x *float64, write func(float64) string) string {
	if x == nil {
		return "-"
	}
	return write(*x)
}

func value(x *float64) (float64, bool) {
	if x == nil {
		return 0, false
	}
	return *x, true
}

// sharePercent writes a share as a percentage with one decimal: 12.3 %.
func sharePercent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// sortKey is the order of the table.
type sortKey struct {
	key      string // of a column
	reversed bool   // against the column's own order
}

// sortKeys are the keys of the orders that view --sort names.
var sortKeys = map[string]string{"total": "t", "flow": "f", "vc": "v", "deviation": "z"}

func (k sortKey) column() *column {
	return &tableColumns[slices.IndexFunc(tableColumns, func(c column) bool {
		return c.key == k.key
	})]
}

// ascending reports whether the lowest goes first.
func (k sortKey) ascending() bool { return k.column().up != k.reversed }

func (k sortKey) arrow() string {
	if k.ascending() {
		return "↑"
	}
	return "↓"
}

// compare orders plazas. What is not known goes last either way; of equals the fuller plaza goes
// first, then the one with more flow, then the lower number, as on the page.
func (k sortKey) compare(p, q *plazaRow) int {
	c := k.column()
	sign := -1
	if k.ascending() {
		sign = 1
	}
	first := 0
	if c.by == nil { // a text
		first = cmp.Or(unknownLast(p.Name != "", q.Name != ""),
			sign*cmp.Compare(strings.ToLower(p.Name), strings.ToLower(q.Name)))
	} else {
		first = compareKnown(c.by, p, q, sign)
	}
	return cmp.Or(first,
		compareKnown(func(p *plazaRow) (float64, bool) { return value(p.VC) }, p, q, -1),
		-cmp.Compare(p.FlowPerHour, q.FlowPerHour),
		cmp.Compare(p.ID, q.ID))
}

func compareKnown(by func(*plazaRow) (float64, bool), p, q *plazaRow, sign int) int {
	x, xKnown := by(p)
	y, yKnown := by(q)
	if !xKnown || !yKnown {
		return unknownLast(xKnown, yKnown)
	}
	return sign * cmp.Compare(x, y)
}

func unknownLast(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// newPlazaRow prepares a plaza for the table. today is the date of the stream's time.
func newPlazaRow(p *board.Plaza, location *time.Location, today string) plazaRow {
	row := plazaRow{Plaza: p, location: location, cells: make([]string, len(tableColumns))}
	for i := range tableColumns {
		if cell := tableColumns[i].cell; cell != nil {
			row.cells[i] = cell(&row, today)
		}
	}
	row.search = strings.ToLower(strings.Join([]string{
		plazaName(p.ID), text.Cell(p.Name), text.Cell(p.Road), p.State.String(),
		plazaVerdictWords(&p.Verification),
	}, "\n"))
	return row
}

// matches reports whether a plaza has all words of a filter.
func (p *plazaRow) matches(words []string) bool {
	for _, word := range words {
		if !strings.Contains(p.search, word) {
			return false
		}
	}
	return true
}

// placedColumn is a column that is shown.
type placedColumn struct {
	*column
	index int // in columns
	width int
}

// placeColumns returns the columns that there is room for, in their order. widths are those of all
// columns.
func placeColumns(widths []int, room int) []placedColumn {
	ranked := make([]int, len(tableColumns))
	for i := range ranked {
		ranked[i] = i
	}
	slices.SortStableFunc(ranked, func(i, j int) int {
		return cmp.Compare(tableColumns[i].rank, tableColumns[j].rank)
	})
	var placed []placedColumn
	room += table.Gap // the last column needs none behind it
	for _, i := range ranked {
		if widths[i] == 0 {
			continue
		}
		room -= widths[i] + table.Gap
		if tableColumns[i].rank > 0 && room < 0 {
			room += widths[i] + table.Gap
			break
		}
		placed = append(placed, placedColumn{&tableColumns[i], i, widths[i]})
	}
	slices.SortFunc(placed, func(p, q placedColumn) int { return cmp.Compare(p.index, q.index) })
	for i := range placed {
		if placed[i].Name == trendName {
			placed[i].width += min(max(room, 0), board.SparklineQuarters-placed[i].width)
		}
	}
	return placed
}

// trend draws the flow of the last quarters of an hour, one a column. It leaves the top of the line
// free, or the lines of the table would grow together.
func (p *plazaRow) trend(columns int) string {
	counts := p.Sparkline[max(len(p.Sparkline)-columns, 0):]
	most := int64(1)
	for _, n := range counts {
		most = max(most, n)
	}
	return strings.ReplaceAll(text.Sparkline(counts, most), "█", "▇")
}

// trendHours is how long a sparkline of so many columns is.
func trendHours(columns int) string {
	return fmt.Sprintf("last %d h", columns*toll.Quarter/60)
}
