package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// windowsShown is how many of the last windows of each kind are shown.
const windowsShown = 3

// writePlaza prints all that there is about one plaza.
func (v *viewer) writePlaza(t *strings.Builder, b *viewBoard, s screen) {
	p := &b.plazas[0]
	fmt.Fprintf(t, "plaza %s: %s", plazaName(p.plaza), text.Count(p.state.Events, "vehicle"))
	if p.state.Events > 0 {
		fmt.Fprintf(t, ", the last at %s",
			p.clock(time.Unix(v.zone.Unix(p.state.Latest), 0), "2006-01-02 15:04:05 MST"))
	}
	t.WriteByte('\n')
	if about := aboutPlaza(&p.about); about != "" {
		t.WriteString(text.Cut(about, s.width) + "\n")
	}
	t.WriteByte('\n')
	if p.congestion != nil {
		writeState(t, b, p, s.width)
		writeMeasure(t, b, p)
		t.WriteByte('\n')
	}
	if len(p.transitions) > 0 {
		writeTransitions(t, b, p)
		t.WriteByte('\n')
	}
	if len(p.state.Types) > 0 {
		writeTypes(t, p.state.Types, s.width)
		t.WriteByte('\n')
	}
	if b.started {
		writeRolling(t, b, p)
		writeMinutes(t, b, v.zone, p)
		writeLaterThanNow(t, b, p)
		t.WriteByte('\n')
	}
	if len(p.windows) > 0 {
		writeWindows(t, b, p, s.width)
		t.WriteByte('\n')
	}
	if p.state.Events > 0 {
		v.writeLateness(t, b, p)
		t.WriteByte('\n')
	}
	writeVerification(t, b, p)
}

// aboutPlaza is what the plazas file says: Tunnel, M1 km 36, 5 lanes.
func aboutPlaza(about *toll.Plaza) string {
	var parts []string
	if about.Name != "" {
		parts = append(parts, text.OneLine(about.Name))
	}
	if about.Road != "" {
		road := text.OneLine(about.Road)
		if about.PositionKm != 0 {
			road += " km " + strconv.FormatFloat(about.PositionKm, 'f', -1, 64)
		}
		parts = append(parts, road)
	}
	if about.Lanes > 0 {
		parts = append(parts, text.Count(about.Lanes, "lane"))
	}
	return strings.Join(parts, ", ")
}

// transitionsShown is how many changes of congestion are shown.
const transitionsShown = 3

// writeState prints how the plaza stands, since when, and why.
func writeState(t *strings.Builder, b *viewBoard, p *plazaBoard, width int) {
	a := p.congestion
	line := fmt.Sprintf("%s since %s (%s)", a.State, p.at(a.Since, b.now),
		text.Minutes(int64(a.Until)-int64(a.Since)))
	if b.stale(p) {
		line += fmt.Sprintf(", judged up to %s only", p.at(a.Until, b.now))
	}
	t.WriteString(strings.Join(text.Wrap(line+": "+text.OneLine(a.Why), width), "\n") + "\n")
}

// writeMeasure prints the figures by which the plaza was judged.
func writeMeasure(t *strings.Builder, b *viewBoard, p *plazaBoard) {
	m := &p.congestion.Last
	quarter := toll.LastMinutes(m.End-1, toll.Quarter)
	figures := []table.Figure{{"flow", text.Round(m.FlowPerHour),
		"vehicles/h, " + p.span(quarter, b.now)}}
	vc := table.Figure{"v/c", "-", "not known: the plazas file names no lanes"}
	if m.VC != nil && m.Capacity != nil {
		vc = table.Figure{"v/c", text.Ratio(*m.VC),
			fmt.Sprintf("demand of %s pc/h by a capacity of %s pc/h", text.Round(m.Demand),
				text.Round(*m.Capacity))}
	}
	figures = append(figures, vc)
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
				"peak-hour factor of the hour to " + p.at(m.End, b.now)})
	}
	table.WriteFigures(t, append(figures, usualFigure(m)))
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

// writeTransitions prints the last changes of congestion, the newest first: when each began, and
// the figures that settled it.
func writeTransitions(t *strings.Builder, b *viewBoard, p *plazaBoard) {
	var when, change, figures []string
	for _, c := range p.transitions[:min(len(p.transitions), transitionsShown)] {
		when = append(when, p.at(c.Since, b.now))
		change = append(change, fmt.Sprintf("%s → %s", c.From, c.To))
		out := text.Round(c.Measure.FlowPerHour) + " vehicles/h"
		if c.Measure.VC != nil {
			out += ", v/c " + text.Ratio(*c.Measure.VC)
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

func writeTypes(t *strings.Builder, types []toll.TypeCount, width int) {
	sorted := byCount(types)
	total := toll.SumTypes(types)
	nameWidth, numberWidth := 0, len(text.Number(sorted[0].Count))
	for _, c := range sorted {
		nameWidth = max(nameWidth, text.CellWidth(text.Escape(c.Type)))
	}
	bar := max(min(maxBar, width-nameWidth-numberWidth-12), 1)
	for _, c := range sorted {
		length := math.Ceil(float64(c.Count) / float64(max(sorted[0].Count, 1)) * float64(bar))
		fmt.Fprintf(t, "%s  %*s  %5.1f %%  %s\n", text.Pad(text.Escape(c.Type), nameWidth), numberWidth,
			text.Number(c.Count),
			100*float64(c.Count)/float64(max(total, 1)), strings.Repeat("█", int(length)))
	}
}

// writeRolling prints the vehicles in the last minutes up to the stream's time.
func writeRolling(t *strings.Builder, b *viewBoard, p *plazaBoard) {
	names := []string{"last minute", "last 15 minutes", "last hour"}
	var windows []toll.Window
	var counts, flows []string
	countWidth, flowWidth := 0, 0
	for _, n := range rollingMinutes {
		w := toll.LastMinutes(b.now, n)
		count, known := b.rolling(p, n)
		words, flow := text.Count(count, "vehicle"), text.Round(toll.FlowPerHour(count, w.Span()))
		if !known {
			words, flow = "? vehicles", "?"
		}
		windows, counts, flows = append(windows, w), append(counts, words), append(flows, flow)
		countWidth, flowWidth = max(countWidth, len(words)), max(flowWidth, len(flow))
	}
	for i, w := range windows {
		state := "so far"
		switch {
		case !p.knows(w):
			state = "not kept"
		case !b.watermark.Before(w.End.Time()):
			state = "final"
		}
		fmt.Fprintf(t, "%-15s  %s–%s  %*s  %*s vehicles/h  %s\n", names[i],
			p.clock(w.Start.Time(), "15:04"), p.clock(w.End.Time(), "15:04"),
			countWidth, counts[i], flowWidth, flows[i], state)
	}
}

// writeMinutes draws the last hour minute by minute, from the plaza's first event on.
func writeMinutes(t *strings.Builder, b *viewBoard, zone *toll.Zone, p *plazaBoard) {
	s := p.state
	w := toll.LastMinutes(b.now, 60)
	if s.Events > 0 {
		w.Start = max(w.Start, min(zone.Minute(s.Earliest), b.now))
	}
	counts := s.PerMinute(w)
	if most := slices.Max(counts); most > 0 && p.knows(w) {
		fmt.Fprintf(t, "\n%s\nvehicles per minute, %s to %s; the most are %s\n",
			text.Sparkline(counts, most),
			p.clock(w.Start.Time(), "15:04"), p.clock(b.now.Time(), "15:04"), text.Number(most))
	}
}

// writeLaterThanNow tells of vehicles that are in none of the last minutes, since the stream has
// not come to them yet.
func writeLaterThanNow(t *strings.Builder, b *viewBoard, p *plazaBoard) {
	switch later := p.state.After(b.now + 1); {
	case later == 0:
	case p.state.Ahead > 0:
		fmt.Fprintf(t, "%s later than the stream's time\n", text.Count(later, "vehicle"))
	default:
		fmt.Fprintf(t,
			"%s later than the stream's time: this plaza's clock is ahead,\nor most other plazas are quiet\n", text.Count(later, "vehicle"))
	}
}

// writeWindows prints the windows that closed last, a few of each kind, the newest first.
func writeWindows(t *strings.Builder, b *viewBoard, p *plazaBoard, width int) {
	fields := []table.Field{
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
	n := 0
	for i := range p.windows {
		w := &p.windows[i]
		switch {
		case i == 0 || w.Kind != p.windows[i-1].Kind:
			n = 1
		case n == windowsShown:
			continue
		default:
			n++
		}
		events, span := w.Events(), toll.Window{Start: w.Start, End: w.End}
		revision, final := text.Number(w.Revision), "by "+text.Escape(string(w.Reason))
		switch {
		case w.Revision == 0:
			revision, final = "-", "-"
		case !w.Whole:
			final = "so far"
		}
		for i, cell := range []string{
			text.Escape(w.Kind), p.span(span, b.now), text.Number(events),
			text.Round(toll.FlowPerHour(events, span.Span())),
			text.Number(w.Late), text.Number(w.TooLateNow), text.Completeness(events,
				w.TooLateNow), revision, final,
		} {
			fields[i].Cells = append(fields[i].Cells, cell)
		}
	}
	table.Write(t, fields, width)
}

// writeLateness tells how many of the plaza's events came late, and how many ran ahead.
func (v *viewer) writeLateness(t *strings.Builder, b *viewBoard, p *plazaBoard) {
	s := p.state
	late := s.Late + s.LateQuarter + s.TooLate
	if late == 0 {
		t.WriteString("every vehicle came on time\n")
	} else {
		fmt.Fprintf(t, "%s of %s came on time\n", text.Number(s.Events-late),
			text.Count(s.Events, "vehicle"))
	}
	var figures []table.Figure
	add := func(name string, n int64, meaning string) {
		if n > 0 {
			figures = append(figures, table.Figure{name, text.Number(n), meaning})
		}
	}
	add("late", s.Late, "up to 2 hours: in all windows, closed ones too")
	add("late for minutes", s.LateQuarter, "up to 2 days: in windows of whole quarters")
	add("too late", s.TooLate, "in no window")
	lead, zone := "", ""
	if s.Ahead > 0 {
		lead, zone = v.explainLead(b, s.Lead)
	}
	add("ran ahead", s.Ahead, lead)
	table.WriteFigures(t, figures)
	if zone != "" {
		t.WriteString("  " + zone + "\n")
	}
}

// writeVerification prints the verdict on the plaza's figures, and what it compares.
func writeVerification(w io.Writer, b *viewBoard, p *plazaBoard) {
	verdict := map[string]string{
		sql.Exact:    "exact: each vehicle is one row and counted once",
		sql.InFlight: "in flight: some are stored and not yet counted; all else is exact",
		sql.Mismatch: "MISMATCH",
	}[p.status()]
	figures := []table.Figure{
		{"group table", text.Number(p.check.TableCount), "counted"},
		{"in flight", text.Number(p.check.InFlight), "stored and not yet counted"},
	}
	if b.backlog.Offsets > 0 {
		figures = append(figures,
			table.Figure{"waiting", text.Number(b.backlog.Offsets),
				"records of the topic, of any plaza, that are not stored yet"})
	}
	for _, t := range b.backlog.Open {
		figures = append(figures,
			table.Figure{"open transaction", text.Number(t.Offset), transactionLine(t)})
	}
	if p.check.Baseline > 0 {
		figures = append(figures,
			table.Figure{"baseline", text.Number(p.check.Baseline), "rows from before tollstream"})
	}
	if p.check.Pruned > 0 {
		figures = append(figures,
			table.Figure{"pruned", text.Number(p.check.Pruned), "rows deleted by tollstream prune"})
		if p.status() == sql.Exact {
			verdict = "exact: each vehicle is one row, or was until it was pruned, and counted once"
		}
	}
	rows := p.check.StoredRows
	if rows == nil && p.rows != nil {
		rows = p.rows.StoredRows
	}
	switch note := b.rowsNote(p); {
	case rows == nil:
		figures = append(figures, table.Figure{"livetolldata", "?", note})
		if p.status() == sql.Exact {
			verdict = "exact: each stored vehicle is counted once; the rows are not counted"
		}
	case note != "":
		figures = append(figures, table.Figure{"livetolldata", text.Number(*rows), "rows, " + note})
	default:
		figures = append(figures, table.Figure{"livetolldata", text.Number(*rows), "rows"})
	}
	checksum := p.check.ChecksumOK
	if checksum == nil && p.rows != nil {
		checksum = p.rows.ChecksumOK
	}
	switch {
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
		fmt.Fprintf(w, "  %s\n", indexHint)
	}
	for _, problem := range p.problems() {
		fmt.Fprintf(w, "  %s\n", text.OneLine(problem.Text))
	}
	for _, step := range sql.NextSteps(p.problems()) {
		fmt.Fprintf(w, "  what to do: %s\n", step)
	}
}
