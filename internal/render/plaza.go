package render

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// WindowsShown is how many of the last windows of each kind are shown.
const WindowsShown = 3

// Plaza writes all that there is about the plaza of a board of one, in lines of a width.
func Plaza(b *board.Board, width int) string {
	t, p := &strings.Builder{}, &b.Plazas[0]
	fmt.Fprintf(t, "plaza %s: %s", PlazaName(p.ID), text.Count(p.Total, "vehicle"))
	if p.LastEvent != nil {
		fmt.Fprintf(t, ", the last at %s", p.LastEvent.In(p.Location).Format("2006-01-02 15:04:05 MST"))
	}
	t.WriteByte('\n')
	if about := About(p); about != "" {
		t.WriteString(text.Cut(about, width) + "\n")
	}
	if b.StreamTime != nil {
		t.WriteString(EventTime(b, p.Location) + ", " + Behind(b, b.At) + "\n")
	}
	for _, line := range healthLines(b) {
		t.WriteString(line + "\n")
	}
	t.WriteByte('\n')
	switch {
	case p.Aged || p.State == traffic.CatchingUp || p.State == traffic.WarmingUp:
		t.WriteString(strings.Join(text.Wrap(p.State.String()+": "+text.OneLine(p.Why), width), "\n") +
			"\n\n")
	case p.Assessment != nil:
		writeState(t, b, p, width)
		writeMeasure(t, b, p, b.History)
		t.WriteByte('\n')
	}
	history := b.History
	if history == nil {
		history = &board.History{}
	}
	if len(history.Changes) > 0 {
		writeChanges(t, b, p, history.Changes)
		t.WriteByte('\n')
	}
	if len(p.Counts.Types) > 0 {
		t.WriteString(Types(p.Counts.Types, width) + "\n")
	}
	if b.StreamTime != nil {
		writeRolling(t, b, p)
		writeMinutes(t, b, p)
		writeLaterThanNow(t, b, p)
		t.WriteByte('\n')
	}
	if len(history.RecentWindows) > 0 {
		table.Write(t, Windows(windowFields(), history.RecentWindows, p.Location, b.Now()), width)
		t.WriteByte('\n')
	}
	if p.Total > 0 {
		writeLateness(t, b, p)
		t.WriteByte('\n')
	}
	writeVerification(t, b, p)
	return t.String()
}

// About is what the plazas file has of a plaza: Tunnel, M1 km 36, 5 lanes.
func About(p *board.Plaza) string {
	var parts []string
	if p.Name != "" {
		parts = append(parts, text.OneLine(p.Name))
	}
	if p.Road != "" {
		parts = append(parts, Road(p))
	}
	if p.Lanes > 0 {
		parts = append(parts, text.Count(p.Lanes, "lane"))
	}
	return strings.Join(parts, ", ")
}

// Road is where a plaza is: M1 km 36.
func Road(p *board.Plaza) string {
	road := text.OneLine(p.Road)
	if p.PositionKm != nil {
		road += " km " + strconv.FormatFloat(*p.PositionKm, 'f', -1, 64)
	}
	return road
}

// changesShown is how many changes of congestion are shown.
const changesShown = 3

// writeState prints the state of the plaza, since when, and why.
func writeState(t *strings.Builder, b *board.Board, p *board.Plaza, width int) {
	a := p.Assessment
	at := func(m toll.Minute) string { return board.ClockTime(p.Location, m.Time(), b.Now()) }
	line := fmt.Sprintf("%s since %s (%s)", a.State, at(a.Since),
		text.Minutes(int64(a.Until)-int64(a.Since)))
	if p.Outdated() {
		line += fmt.Sprintf(", judged up to %s only", at(a.Until))
	}
	t.WriteString(strings.Join(text.Wrap(line+": "+text.OneLine(a.Why), width), "\n") + "\n")
}

// writeMeasure prints the figures by which the plaza was judged.
func writeMeasure(t *strings.Builder, b *board.Board, p *board.Plaza, history *board.History) {
	m, minutes := &p.Assessment.Last, toll.Quarter
	if p.Measure != nil {
		m = p.Measure
	}
	if p.ObservedMinutes != nil {
		minutes = *p.ObservedMinutes
	}
	quarter := toll.LastMinutes(m.End-1, minutes)
	figures := []table.Figure{{"flow", text.Round(m.FlowPerHour),
		"vehicles/h, " + board.ClockSpan(p.Location, quarter.Start.Time(), quarter.End.Time(), b.Now())}}
	vc := table.Figure{"of capacity", "-", "not known: the plazas file names no lanes"}
	if m.VC != nil && m.Capacity != nil {
		vc = table.Figure{"of capacity", text.Round(traffic.Percent(*m.VC)),
			fmt.Sprintf("%%, throughput of %s pc/h over a capacity of %s pc/h", text.Round(m.Throughput),
				text.Round(*m.Capacity))}
	}
	figures = append(figures, vc)
	if history != nil && history.CapacityBound != nil {
		figures = append(figures, boundFigure(history.CapacityBound))
	}
	if m.HeadwaySeconds != nil {
		figures = append(figures,
			table.Figure{"headway", fmt.Sprintf("%.1f", *m.HeadwaySeconds),
				"s from one vehicle to the next"})
	}
	if m.HeavyShare != nil {
		figures = append(figures, table.Figure{"heavy share", fmt.Sprintf("%.1f", 100**m.HeavyShare),
			"% of the vehicles"})
	}
	if m.PHF != nil {
		figures = append(figures,
			table.Figure{"PHF", fmt.Sprintf("%.2f", *m.PHF),
				"peak-hour factor of the hour to " + board.ClockTime(p.Location, m.End.Time(), b.Now())})
	}
	table.WriteFigures(t, append(figures, usualFigure(m)))
}

// boundFigure shows what the capacity is at least.
func boundFigure(b *traffic.CapacityBound) table.Figure {
	return table.Figure{"capacity ≥", text.Round(b.CarsPerHour), fmt.Sprintf(
		"pc/h: passed in an even hour on %s of %d weeks", text.Count(b.Days,
			"day"), traffic.HistoryWeeks)}
}

// usualFigure compares the last quarter of an hour with what is usual.
func usualFigure(m *traffic.Measure) table.Figure {
	switch {
	case m.Usual != nil && m.Z != nil:
		return table.Figure{"usual", strconv.FormatFloat(math.Round(m.Usual.Median), 'f', 0, 64),
			fmt.Sprintf("vehicles in 15 min, by %d weeks; now %s, z %s", m.Usual.N, text.Number(m.Count15),
				text.Signed(*m.Z))}
	case m.Usual != nil:
		return table.Figure{"usual", "-",
			fmt.Sprintf("not known yet (needs %d weeks, has %d)", traffic.MinHistory,
				m.Usual.N)}
	}
	return table.Figure{"usual", "-",
		fmt.Sprintf("not known yet (needs %d weeks)", traffic.MinHistory)}
}

// writeChanges prints the last changes of congestion, the newest first: when each began, and the
// figures that decided it.
func writeChanges(t *strings.Builder, b *board.Board, p *board.Plaza, changes []board.Change) {
	var when, change, figures []string
	for _, c := range changes[:min(len(changes), changesShown)] {
		when = append(when, board.ClockTime(p.Location, c.Since, b.Now()))
		change = append(change, fmt.Sprintf("%s → %s", c.From, c.To))
		out := text.Round(c.Measure.FlowPerHour) + " vehicles/h"
		if c.Measure.VC != nil {
			out += ", " + Full(*c.Measure.VC) + " of cap."
		}
		if c.Measure.Z != nil {
			out += ", z " + text.Signed(*c.Measure.Z)
		}
		figures = append(figures, out)
	}
	table.Write(t, []table.Field{
		{Column: table.Right("since"), Cells: when},
		{Column: table.Left("change"), Cells: change},
		{Column: table.Left("flow then"), Cells: figures},
	}, math.MaxInt)
}

// maxBar is the longest bar, in characters.
const maxBar = 40

// Types draws the vehicles by type as bars, the most frequent first.
func Types(types []toll.TypeCount, width int) string {
	var t strings.Builder
	sorted := board.ByCount(types)
	total := toll.SumTypes(types)
	nameWidth, numberWidth := 0, len(text.Number(sorted[0].Count))
	for _, c := range sorted {
		nameWidth = max(nameWidth, text.CellWidth(text.Escape(c.Type)))
	}
	bar := max(min(maxBar, width-nameWidth-numberWidth-12), 1)
	for _, c := range sorted {
		length := math.Ceil(float64(c.Count) / float64(max(sorted[0].Count, 1)) * float64(bar))
		fmt.Fprintf(&t, "%s  %*s  %5.1f %%  %s\n", text.Pad(text.Escape(c.Type), nameWidth), numberWidth,
			text.Number(c.Count),
			100*float64(c.Count)/float64(max(total, 1)), strings.Repeat("█", int(length)))
	}
	return t.String()
}

// writeRolling prints the vehicles in the last minutes up to the stream's time.
func writeRolling(t *strings.Builder, b *board.Board, p *board.Plaza) {
	names := []string{"last minute", "last 15 minutes", "last hour"}
	var windows []toll.Window
	var counts []string
	countWidth := 0
	for _, n := range rollingMinutes {
		w := toll.LastMinutes(b.Now(), n)
		count, known := b.Rolling(p, n)
		words := text.Count(count, "vehicle")
		if !known {
			words = "? vehicles"
		}
		windows, counts = append(windows, w), append(counts, words)
		countWidth = max(countWidth, len(words))
	}
	for i, w := range windows {
		state := "so far"
		switch {
		case !p.Holds(w):
			state = "not kept"
		case b.Passed(w):
			state = "final"
		}
		fmt.Fprintf(t, "%-15s  %s–%s  %*s  %s\n", names[i],
			w.Start.Time().In(p.Location).Format("15:04"), w.End.Time().In(p.Location).Format("15:04"),
			countWidth, counts[i], state)
	}
}

// writeMinutes draws the last hour minute by minute, from the plaza's first event on and without
// the minute that still runs, which would look like a collapse.
func writeMinutes(t *strings.Builder, b *board.Board, p *board.Plaza) {
	w := toll.LastMinutes(b.Now(), 60)
	if !b.Passed(w) {
		w.Start, w.End = w.Start-1, w.End-1
	}
	if p.FirstEvent != nil {
		w.Start = max(w.Start, toll.MinuteAt(p.FirstEvent.Unix()))
	}
	if w.Start >= w.End {
		return
	}
	counts := p.Counts.PerMinute(w)
	if most := slices.Max(counts); most > 0 && p.Holds(w) {
		fmt.Fprintf(t, "\n%s\nvehicles per minute, %s to %s; the most are %s\n",
			text.Sparkline(counts, most),
			w.Start.Time().In(p.Location).Format("15:04"),
			w.End.Time().In(p.Location).Format("15:04"), text.Number(most))
	}
}

// writeLaterThanNow counts vehicles that are in none of the last minutes, since the stream has
// not come to them yet.
func writeLaterThanNow(t *strings.Builder, b *board.Board, p *board.Plaza) {
	switch later := p.Counts.After(b.Now() + 1); {
	case later == 0:
	case p.Ahead > 0:
		fmt.Fprintf(t, "%s later than the stream's time\n", text.Count(later, "vehicle"))
	default:
		fmt.Fprintf(t, "%s later than the stream's time: this plaza's clock is ahead,\n"+
			"or most other plazas are quiet\n", text.Count(later, "vehicle"))
	}
}

// windowFields are the columns of the windows that closed last.
func windowFields() []table.Field {
	return []table.Field{
		{Column: table.Left("kind")},
		{Column: table.Right("window")},
		{Column: table.Right("vehicles")},
		{Column: table.Right("flow/h"), Rank: 1},
		{Column: table.Right("late"), Rank: 2},
		{Column: table.Right("too late"), Rank: 2},
		{Column: table.Right("complete"), Rank: 5},
		{Column: table.Right("rev"), Rank: 3},
		{Column: table.Left("final"), Rank: 4},
	}
}

// Windows fills in the columns, by their names, with windows that follow each other by kind: a few
// of each, the newest first.
func Windows(fields []table.Field, windows []board.Window, clock *time.Location,
	now toll.Minute) []table.Field {
	n := 0
	for i := range windows {
		w := &windows[i]
		if n++; i == 0 || w.Kind != windows[i-1].Kind {
			n = 1
		}
		if n > WindowsShown {
			continue
		}
		revision, final := text.Number(w.Revision), "by "+text.Escape(string(w.Reason))
		switch {
		case w.Revision == 0:
			revision, final = "-", "-"
		case !w.Final:
			final = "so far"
		}
		cells := map[string]string{
			"kind": text.Escape(w.Kind), "window": board.ClockSpan(clock, w.Start, w.End, now),
			"vehicles": text.Number(w.Count), ColumnFlow: text.Round(w.FlowPerHour),
			"late": text.Number(w.Late), "too late": text.Number(w.TooLate),
			"complete": text.Completeness(w.Count, w.TooLate), "rev": revision, "final": final,
		}
		for i := range fields {
			fields[i].Cells = append(fields[i].Cells, cells[fields[i].Name])
		}
	}
	return fields
}

// writeLateness counts the plaza's events that came late, and those that ran ahead.
func writeLateness(t *strings.Builder, b *board.Board, p *board.Plaza) {
	late := p.Late + p.LateQuarter + p.TooLate
	if late == 0 {
		t.WriteString("every vehicle came on time\n")
	} else {
		fmt.Fprintf(t, "%s of %s came on time\n", text.Number(p.Total-late),
			text.Count(p.Total, "vehicle"))
	}
	var figures []table.Figure
	add := func(name string, n int64, meaning string) {
		if n > 0 {
			figures = append(figures, table.Figure{name, text.Number(n), meaning})
		}
	}
	add("late", p.Late, "up to 2 hours: in all windows, closed ones too")
	add("late for minutes", p.LateQuarter, "up to 2 days: in windows of whole quarters")
	add("too late", p.TooLate, "in no window")
	lead, zone := "", ""
	if p.Ahead > 0 {
		lead, zone = explainLead(b, p.LeadSeconds)
	}
	add("ran ahead", p.Ahead, lead)
	table.WriteFigures(t, figures)
	if zone != "" {
		t.WriteString("  " + zone + "\n")
	}
}

// writeVerification prints the verdict on the plaza's figures, and what it compares.
func writeVerification(w io.Writer, b *board.Board, p *board.Plaza) {
	verdict := map[board.Status]string{
		board.Exact:       "exact: each vehicle is one row and counted once",
		board.InFlight:    "in flight: some are stored and not yet counted; all else is exact",
		board.NotVerified: "not verified: rows not read",
		board.Mismatch:    "MISMATCH",
	}[p.Verification.Status]
	check := p.Verified()
	figures := []table.Figure{
		{"group table", text.Number(check.TableCount), "counted"},
		{"in flight", text.Number(check.InFlight), "stored and not yet counted"},
	}
	if b.Waiting > 0 {
		figures = append(figures,
			table.Figure{"lag", text.Number(b.Waiting),
				"records of the topic, of any plaza, that are not stored yet"})
	}
	for _, t := range b.OpenTransactions {
		figures = append(figures,
			table.Figure{"open transaction", text.Number(t.Offset), transactionLine(t)})
	}
	if check.Baseline > 0 {
		figures = append(figures,
			table.Figure{"baseline", text.Number(check.Baseline), "rows from before tollstream"})
	}
	if check.Pruned > 0 {
		figures = append(figures,
			table.Figure{"pruned", text.Number(check.Pruned), "rows deleted by tollstream prune"})
		if p.Verification.Status == board.Exact {
			verdict = "exact: each vehicle is one row, or was until it was pruned, and counted once"
		}
	}
	rows := check.StoredRows
	switch note := rowsNote(b, p); {
	case rows == nil:
		figures = append(figures, table.Figure{"livetolldata", "?", note})
	case note != "":
		figures = append(figures, table.Figure{"livetolldata", text.Number(*rows), "rows, " + note})
	default:
		figures = append(figures, table.Figure{"livetolldata", text.Number(*rows), "rows"})
	}
	switch checksum := check.ChecksumOK; {
	case checksum == nil:
		figures = append(figures, table.Figure{"checksum", "-", "not compared (--deep does)"})
	case *checksum:
		figures = append(figures, table.Figure{"checksum", "ok", "the rows are those that were stored"})
	default:
		figures = append(figures,
			table.Figure{"checksum", "WRONG", "the rows are not those that were stored"})
	}
	fmt.Fprintln(w, verdict)
	table.WriteFigures(w, figures)
	if rows == nil {
		fmt.Fprintf(w, "  %s\n", IndexHint)
	}
	for _, problem := range p.Problems() {
		fmt.Fprintf(w, "  %s\n", text.OneLine(problem.Text))
	}
	for _, step := range board.NextSteps(p.Problems()) {
		fmt.Fprintf(w, "  what to do: %s\n", step)
	}
}

// IndexHint is how to make counts of rows fast.
const IndexHint = "the optional indexes in sql/indexes.sql make the count fast"

// rowsNote is when the rows were counted, where that was not now, or why they were not.
func rowsNote(b *board.Board, p *board.Plaza) string {
	switch {
	case p.Check.Note != "":
		return p.Check.Note
	case slices.ContainsFunc(b.Plazas, func(p board.Plaza) bool { return p.Check.StoredRows != nil }):
		return ""
	case p.Counted != nil && p.Counted.Note != "":
		return p.Counted.Note
	case !b.RowsAt.IsZero():
		return "counted " + text.Seconds(time.Since(b.RowsAt)) + " ago"
	}
	return ""
}

// PlazaName writes the ID of a plaza.
func PlazaName(plaza int) string {
	if plaza == board.NullPlaza {
		return "NULL"
	}
	return strconv.Itoa(plaza)
}

// rollingMinutes are the lengths of the windows up to the stream's time.
var rollingMinutes = []int{1, 15, 60}

// rollingNames are their names in the table of all plazas.
var rollingNames = []string{"1 min", "15 min", "1 h"}
