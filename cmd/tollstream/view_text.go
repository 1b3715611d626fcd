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

	"tollstream/sql"
	"tollstream/toll"
)

// screen is the room that there is to write to.
type screen struct {
	width  int
	height int // 0 for no end
}

// plainScreen is what a file, or a pipe, takes.
var plainScreen = screen{width: 80}

// screenOf returns the width of a terminal; what is printed once scrolls, so its height is no bound.
func screenOf(w io.Writer) screen {
	s := terminalOf(w)
	s.height = 0
	return s
}

// terminalOf returns the size of a terminal.
func terminalOf(w io.Writer) screen {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return screen{width, height}
		}
	}
	return plainScreen
}

// write prints a board for a person: the verdict, then the figures.
func (v *viewer) write(w io.Writer, b *board, s screen) error {
	var t strings.Builder
	if v.settings.plaza != nil {
		v.writePlaza(&t, b, s)
	} else {
		v.writePlazas(&t, b, s)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// writePlazas prints one line for each plaza, as many as there is room for.
func (v *viewer) writePlazas(t *strings.Builder, b *board, s screen) {
	if len(b.plazas) == 0 {
		t.WriteString("exact: nothing is stored yet\n")
		return
	}
	t.WriteString(networkVerdict(b) + "\n")
	if b.started {
		fmt.Fprintf(t, "stream time %s, watermark %s\n", b.clock(b.now.Time(), "2006-01-02 15:04 MST"), b.clock(b.watermark, time.TimeOnly))
	}
	t.WriteByte('\n')

	const frame = 11 // lines around the plazas' own, those of watch among them
	shown := b.plazas
	if s.height > 0 && len(shown) > max(s.height-frame, 1) {
		shown = shown[:max(s.height-frame, 1)]
	}
	columns := []column{{"plaza", true}, {"total", true}, {"1 min", true}, {"15 min", true}, {"1 h", true}, {"last", true}, {"verdict", false}}
	var rows [][]string
	for i := range shown {
		p := &shown[i]
		row := []string{plazaName(p.plaza), number(p.state.Events)}
		for _, n := range rollingMinutes {
			var count int64
			if b.started {
				count = toll.SumTypes(p.state.In(toll.LastMinutes(b.now, n)))
			}
			row = append(row, number(count))
		}
		rows = append(rows, append(row, v.lastEvent(b, p.state), plazaVerdict(p)))
	}
	columns = addShares(columns, rows, shown, b.types(), s.width)
	table := newTable(t, columns...)
	for _, row := range rows {
		cells := make([]any, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		table.AppendRow(cells)
	}
	table.Render()
	if more := len(b.plazas) - len(shown); more > 0 {
		fmt.Fprintf(t, "and %s more\n", counted(int64(more), "plaza"))
	}
	t.WriteString("\n1 min, 15 min, 1 h: vehicles in that time up to the stream's time\n")
	if note := b.rowsNote(&b.plazas[0]); note != "" && b.rowsKnown() {
		fmt.Fprintf(t, "rows %s\n", note)
	} else if note != "" {
		fmt.Fprintf(t, "%s; %s\n", note, indexHint)
	}
}

// networkVerdict is the verdict on all plazas, in one line.
func networkVerdict(b *board) string {
	status, inFlight, wrong := b.status()
	all := fmt.Sprintf("%s at %s", counted(b.events, "vehicle"), counted(int64(len(b.plazas)), "plaza"))
	switch status {
	case sql.Mismatch:
		const shown = 5
		names := strings.Join(wrong[:min(len(wrong), shown)], ", ")
		if len(wrong) > shown {
			names += " …"
		}
		return fmt.Sprintf("MISMATCH at %s: %s (tollstream verify says more)", counted(int64(len(wrong)), "plaza"), names)
	case sql.InFlight:
		return fmt.Sprintf("in flight: %s; %s more stored and not yet counted", all, number(inFlight))
	}
	if !b.rowsKnown() {
		return "exact: " + all + ", each counted once; the rows are not counted"
	}
	return "exact: " + all + ", each one row and counted once"
}

// rowsKnown reports whether the rows of livetolldata were counted, now or before.
func (b *board) rowsKnown() bool {
	p := &b.plazas[0]
	return p.check.StoredRows != nil || p.rows != nil && p.rows.StoredRows != nil
}

func plazaVerdict(p *plazaBoard) string {
	switch p.status() {
	case sql.Mismatch:
		return "MISMATCH"
	case sql.InFlight:
		return number(p.check.InFlight) + " in flight"
	}
	return "exact"
}

// lastEvent returns a plaza's last event: its time, or its date where that is not the stream's.
func (v *viewer) lastEvent(b *board, s *toll.State) string {
	if s.Events == 0 {
		return "-"
	}
	if v.zone.Wall(b.now.Time()).Format(time.DateOnly) != s.Latest.Format(time.DateOnly) {
		return s.Latest.Format(time.DateOnly)
	}
	return s.Latest.Format(time.TimeOnly)
}

// types returns the events of all plazas by type, the most frequent first.
func (b *board) types() []toll.TypeCount {
	var types []toll.TypeCount
	for i := range b.plazas {
		types = toll.AddTypes(types, b.plazas[i].state.Types)
	}
	return byCount(types)
}

// maxShares is the most types whose shares are listed.
const maxShares = 6

// addShares adds a column with its share for each type, the most frequent first, as long as there is room.
func addShares(columns []column, rows [][]string, plazas []plazaBoard, types []toll.TypeCount, width int) []column {
	const gap = 2
	room := width
	for i, c := range columns {
		widest := text.StringWidth(c.name)
		for _, row := range rows {
			widest = max(widest, text.StringWidth(row[i]))
		}
		room -= widest + gap
	}
	for _, t := range types[:min(len(types), maxShares)] {
		name := escape(t.Type)
		widest := text.StringWidth(name)
		parts := make([]string, len(rows))
		for i := range rows {
			parts[i] = share(plazas[i].state.Types, t.Type)
			widest = max(widest, len(parts[i]))
		}
		if room -= widest + gap; room < 0 {
			break
		}
		columns = append(columns, column{name, true})
		for i := range rows {
			rows[i] = append(rows[i], parts[i])
		}
	}
	return columns
}

// share returns the share of one type.
func share(types []toll.TypeCount, name string) string {
	for _, t := range types {
		if t.Type == name {
			return percent(t.Count, toll.SumTypes(types))
		}
	}
	return "-"
}

func byCount(types []toll.TypeCount) []toll.TypeCount {
	sorted := slices.Clone(types)
	slices.SortStableFunc(sorted, func(a, b toll.TypeCount) int { return cmp.Compare(b.Count, a.Count) })
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

// writePlaza prints all that there is about one plaza.
func (v *viewer) writePlaza(t *strings.Builder, b *board, s screen) {
	p := &b.plazas[0]
	fmt.Fprintf(t, "plaza %s: %s", plazaName(p.plaza), counted(p.state.Events, "vehicle"))
	if p.state.Events > 0 {
		fmt.Fprintf(t, ", the last at %s", b.clock(time.Unix(v.zone.Unix(p.state.Latest), 0), "2006-01-02 15:04:05 MST"))
	}
	t.WriteString("\n\n")
	if len(p.state.Types) > 0 {
		writeTypes(t, p.state.Types, s.width)
		t.WriteByte('\n')
	}
	if b.started {
		writeWindows(t, b, p.state)
		writeMinutes(t, b, v.zone, p.state)
		if ahead := p.state.After(b.now + 1); ahead > 0 {
			fmt.Fprintf(t, "%s later than the stream's time: this plaza's clock is ahead,\nor most other plazas are quiet\n", counted(ahead, "vehicle"))
		}
		t.WriteByte('\n')
	}
	writeVerification(t, b, p)
}

// maxBar is the longest bar, in characters.
const maxBar = 40

func writeTypes(t *strings.Builder, types []toll.TypeCount, width int) {
	sorted := byCount(types)
	total := toll.SumTypes(types)
	nameWidth, numberWidth := 0, len(number(sorted[0].Count))
	for _, c := range sorted {
		nameWidth = max(nameWidth, text.StringWidth(escape(c.Type)))
	}
	bar := max(min(maxBar, width-nameWidth-numberWidth-12), 1)
	for _, c := range sorted {
		length := math.Ceil(float64(c.Count) / float64(max(sorted[0].Count, 1)) * float64(bar))
		fmt.Fprintf(t, "%s  %*s  %5.1f %%  %s\n", text.Pad(escape(c.Type), nameWidth, ' '), numberWidth, number(c.Count),
			100*float64(c.Count)/float64(max(total, 1)), strings.Repeat("█", int(length)))
	}
}

func writeWindows(t *strings.Builder, b *board, s *toll.State) {
	names := []string{"last minute", "last 15 minutes", "last hour"}
	var windows []toll.Window
	var counts, flows []string
	countWidth, flowWidth := 0, 0
	for _, n := range rollingMinutes {
		w := toll.LastMinutes(b.now, n)
		count := toll.SumTypes(s.In(w))
		windows = append(windows, w)
		counts = append(counts, counted(count, "vehicle"))
		flows = append(flows, number(int64(math.Round(toll.FlowPerHour(count, w.Span())))))
		countWidth = max(countWidth, len(counts[len(counts)-1]))
		flowWidth = max(flowWidth, len(flows[len(flows)-1]))
	}
	for i, w := range windows {
		state := "so far"
		if !b.watermark.Before(w.End.Time()) {
			state = "final"
		}
		fmt.Fprintf(t, "%-15s  %s–%s  %*s  %*s vehicles/h  %s\n", names[i], b.clock(w.Start.Time(), "15:04"), b.clock(w.End.Time(), "15:04"),
			countWidth, counts[i], flowWidth, flows[i], state)
	}
}

// writeMinutes draws the last hour minute by minute, from the plaza's first event on.
func writeMinutes(t *strings.Builder, b *board, zone *toll.Zone, s *toll.State) {
	w := toll.LastMinutes(b.now, 60)
	if s.Events > 0 {
		w.Start = max(w.Start, min(zone.Minute(s.Earliest), b.now))
	}
	counts := s.Minutes(w)
	most := slices.Max(counts)
	if most == 0 {
		return
	}
	fmt.Fprintf(t, "\n%s\nvehicles per minute, %s to %s; the most are %s\n", sparkline(counts, most),
		b.clock(w.Start.Time(), "15:04"), b.clock(b.now.Time(), "15:04"), number(most))
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

func writeVerification(t *strings.Builder, b *board, p *plazaBoard) {
	verdict := map[string]string{
		sql.Exact:    "exact: each vehicle is one row and counted once",
		sql.InFlight: "in flight: some are stored and not yet counted; all else is exact",
		sql.Mismatch: "MISMATCH",
	}[p.status()]
	type line struct{ name, figure, meaning string }
	lines := []line{
		{"group table", number(p.check.TableCount), "counted"},
		{"in flight", number(p.check.InFlight), "stored and not yet counted"},
	}
	if p.check.Baseline > 0 {
		lines = append(lines, line{"baseline", number(p.check.Baseline), "rows from before tollstream"})
	}
	rows := p.check.StoredRows
	if rows == nil && p.rows != nil {
		rows = p.rows.StoredRows
	}
	switch note := b.rowsNote(p); {
	case rows == nil:
		lines = append(lines, line{"livetolldata", "?", note})
		if p.status() == sql.Exact {
			verdict = "exact: each stored vehicle is counted once; the rows are not counted"
		}
	case note != "":
		lines = append(lines, line{"livetolldata", number(*rows), "rows, " + note})
	default:
		lines = append(lines, line{"livetolldata", number(*rows), "rows"})
	}
	checksum := p.check.ChecksumOK
	if checksum == nil && p.rows != nil {
		checksum = p.rows.ChecksumOK
	}
	switch {
	case checksum == nil:
		lines = append(lines, line{"checksum", "-", "not compared (--deep does)"})
	case *checksum:
		lines = append(lines, line{"checksum", "ok", "the rows are those that were stored"})
	default:
		lines = append(lines, line{"checksum", "WRONG", "the rows are not those that were stored"})
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(l.figure))
	}
	t.WriteString(verdict + "\n")
	for _, l := range lines {
		fmt.Fprintf(t, "  %-12s  %*s  %s\n", l.name, width, l.figure, l.meaning)
	}
	if rows == nil {
		fmt.Fprintf(t, "  %s\n", indexHint)
	}
	for _, problem := range p.problems() {
		fmt.Fprintf(t, "  %s\n", oneLine(problem.Text))
	}
}

// indexHint says how to make counts of rows fast.
const indexHint = "the optional indexes in sql/indexes.sql make the count fast"

// rowsNote says where the count of rows is not of this moment, and why.
func (b *board) rowsNote(p *plazaBoard) string {
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

// clock writes an instant as the plazas' clocks show it.
func (b *board) clock(t time.Time, layout string) string { return t.In(b.location).Format(layout) }
