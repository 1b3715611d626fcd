package tui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// plazaRow is a plaza in the table.
type plazaRow struct {
	*board.Plaza
	cells  []string // of columns, in their order
	search string   // what a filter looks at, in lower case
}

// column is a column of the table of all plazas.
type column struct {
	table.Column
	meaning string // for help; empty for that of render
	key     string // that sorts by it: a letter of its name; empty for none
	rank    int    // the lower, the more it matters; what is of rank 0 always stays
	up      bool   // whether the lowest goes first, unless reversed
	cell    func(p *plazaRow, b *board.Board) string
	style   func(p *plazaRow) style // nil for plain
	by      string                  // what it is sorted by, of [board.Figures]; empty for the name
}

var stateSymbols = map[traffic.State]string{traffic.Saturated: "▲", traffic.BelowUsual: "▼",
	traffic.CatchingUp: "»", traffic.WarmingUp: "◌", traffic.AboveUsual: "△", traffic.Busy: "◆",
	traffic.NoData: "×", traffic.Free: "○"}

var verdictSymbols = map[board.Status]string{board.Exact: "✓", board.InFlight: "~",
	board.NotVerified: "?", board.Mismatch: "✗"}

func stateWords(s traffic.State) string { return stateSymbols[s] + " " + s.String() }

func stateStyle(s traffic.State) style {
	switch s {
	case traffic.Saturated:
		return alarm
	case traffic.BelowUsual, traffic.AboveUsual:
		return notice
	case traffic.Busy:
		return strong
	case traffic.NoData, traffic.CatchingUp, traffic.WarmingUp:
		return faint
	}
	return plain
}

// trendName is the column of sparklines.
const trendName = "last hours"

// leastTrend is how many columns a sparkline takes at least. It gets more where there is room.
const leastTrend = 12

// mostTrend is all quarters of an hour that are over.
const mostTrend = board.SparklineQuarters - 1

var tableColumns = []column{
	{Column: table.Right("plaza"), meaning: "number of the plaza", key: "p", up: true,
		cell: func(p *plazaRow, _ *board.Board) string { return render.PlazaName(p.ID) },
		by:   "id"},
	{Column: table.Left("name"), meaning: "its name", key: "n", rank: 4, up: true,
		cell: func(p *plazaRow, _ *board.Board) string {
			return ellipsed(text.Cell(p.Name), render.MaxName)
		}},
	{Column: table.Left("state"), meaning: "how urgent it is", key: "s",
		cell:  func(p *plazaRow, _ *board.Board) string { return stateWords(p.State) },
		style: func(p *plazaRow) style { return stateStyle(p.State) },
		by:    "state"},
	{Column: table.Right(render.ColumnFlow), key: "f", rank: 1,
		cell: func(p *plazaRow, _ *board.Board) string { return p.FlowPerHour.String() },
		by:   board.ByFlow},
	{Column: table.Right(render.ColumnVC), key: "c", rank: 2,
		cell: func(p *plazaRow, _ *board.Board) string {
			if p.CapacityWrong {
				return known(p.VC, render.Full) + "!"
			}
			return known(p.VC, render.Full)
		},
		by: board.ByVC},
	{Column: table.Right("heavy"), meaning: "share of heavy vehicles", key: "h", rank: 6,
		cell: func(p *plazaRow, _ *board.Board) string { return known(p.HeavyShare, sharePercent) },
		by:   "heavy"},
	{Column: table.Right(render.ColumnZ), key: "z", rank: 5,
		cell: func(p *plazaRow, _ *board.Board) string { return known(p.Z, text.Signed) },
		style: func(p *plazaRow) style {
			if p.Z != nil && math.Abs(*p.Z) >= 3 {
				return strong
			}
			return plain
		},
		by: board.ByDeviation},
	{Column: table.Left(trendName), rank: 7}, // its cells depend on the room, see trend
	{Column: table.Right("total"), meaning: "vehicles since the beginning", key: "t", rank: 9,
		cell: func(p *plazaRow, _ *board.Board) string { return text.Number(p.Total) },
		by:   board.ByTotal},
	{Column: table.Right("last"), meaning: "the last event", key: "l", rank: 8,
		cell: func(p *plazaRow, b *board.Board) string { return render.LastEvent(b, p.Plaza) },
		by:   "last"},
	{Column: table.Left("verdict"), meaning: "verification of the plaza", key: "d", rank: 3,
		cell: func(p *plazaRow, _ *board.Board) string { return plazaVerdictWords(p.Plaza) },
		style: func(p *plazaRow) style {
			switch p.Verification.Status {
			case board.Mismatch:
				return critical
			case board.Exact:
				return good
			}
			return plain
		},
		by: "verification"},
}

func plazaVerdictWords(p *board.Plaza) string {
	return verdictSymbols[p.Verification.Status] + " " + render.PlazaVerdict(p)
}

func known(x *float64, write func(float64) string) string {
	if x == nil {
		return "-"
	}
	return write(*x)
}

// sharePercent writes a share as a percentage with one decimal: 12.3 %.
func sharePercent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// sortKey is the order of the table.
type sortKey struct {
	key      string // of a column
	reversed bool   // against the column's own order
}

// sortKeyOf returns the key of the column that is sorted by a figure.
func sortKeyOf(figure string) string {
	i := slices.IndexFunc(tableColumns, func(c column) bool { return c.key != "" && c.by == figure })
	return tableColumns[i].key
}

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

// compare orders plazas. What is not known goes last either way; the ties are as on the page.
func (k sortKey) compare(p, q *plazaRow) int {
	c := k.column()
	if figure := board.Figures[c.by]; figure != nil {
		return cmp.Or(board.CompareFigures(figure(p.Plaza), figure(q.Plaza), !k.ascending()),
			board.CompareTies(p.Plaza, q.Plaza))
	}
	order := strings.Compare(strings.ToLower(p.Name), strings.ToLower(q.Name))
	switch {
	case p.Name == "" && q.Name != "":
		order = 1
	case p.Name != "" && q.Name == "":
		order = -1
	case !k.ascending():
		order = -order
	}
	return cmp.Or(order, board.CompareTies(p.Plaza, q.Plaza))
}

// newPlazaRow prepares a plaza of a board for the table.
func newPlazaRow(b *board.Board, p *board.Plaza) plazaRow {
	row := plazaRow{Plaza: p, cells: make([]string, len(tableColumns))}
	for i := range tableColumns {
		if cell := tableColumns[i].cell; cell != nil {
			row.cells[i] = cell(&row, b)
		}
	}
	row.search = strings.ToLower(strings.Join([]string{
		render.PlazaName(p.ID), text.Cell(p.Name), text.Cell(p.Road), p.State.String(),
		plazaVerdictWords(p),
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
	most, room := table.Fit(len(widths), func(i int) (rank, width int) {
		return tableColumns[i].rank, widths[i]
	}, room+table.Gap) // the last column needs none behind it
	var placed []placedColumn
	for i := range tableColumns {
		if c := &tableColumns[i]; widths[i] > 0 && c.rank <= most {
			placed = append(placed, placedColumn{c, i, widths[i]})
		}
	}
	for i := range placed {
		if placed[i].Name == trendName {
			placed[i].width += min(max(room, 0), mostTrend-placed[i].width)
		}
	}
	return placed
}

// trend draws the flow of the last quarters of an hour that are over, one a column. It leaves the
// top of the line free, or the lines of the table would grow together.
func (p *plazaRow) trend(columns int) string {
	counts := p.CompleteQuarters(columns)
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

// mostIncidents is how many incidents the page has: the newest.
const mostIncidents = 200

// incidentsPage returns the incidents of all plazas, the newest first, of which frame shows what
// there is room for. Each has its reason below it where the table has no room for that.
func (m *model) incidentsPage() []line {
	title := line{{"incidents", strong}, {", the newest first", plain}}
	switch {
	case m.incidentsFailed != "" && m.incidents == nil:
		return []line{title, textLine("the incidents can't be read: " + m.incidentsFailed)}
	case m.incidents == nil:
		return []line{title, textLine("reading …")}
	case len(m.incidents.Incidents) == 0:
		return []line{title, textLine("no incident yet")}
	}
	lines := []line{title, nil}
	all := slices.DeleteFunc(render.IncidentFields(m.incidents.Incidents), func(f table.Field) bool {
		return f.Name == "incident" // which only commands need
	})
	fields := table.Fitting(all, m.width)
	wide := fields[len(fields)-1].Name == "why"
	var t strings.Builder
	table.Write(&t, fields, m.width)
	rows := strings.Split(strings.TrimRight(t.String(), "\n"), "\n")
	head := len(rows) - len(m.incidents.Incidents)
	for i, row := range rows {
		style := plain
		if i < head {
			style = faint
		} else if in := &m.incidents.Incidents[i-head]; in.Ended == nil {
			style = stateStyle(in.State)
		}
		lines = append(lines, line{{row, style}})
		if i >= head && !wide {
			lines = append(lines,
				line{{"  " + ellipsed(m.incidents.Incidents[i-head].Why, m.width-2), faint}})
		}
	}
	if m.incidents.More {
		lines = append(lines, textLine("older ones: tollstream incidents --limit 0"))
	}
	return lines
}
