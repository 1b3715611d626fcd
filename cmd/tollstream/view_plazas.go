package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/kafka"
)

// writePlazas prints one line for each plaza.
func (v *viewer) writePlazas(t *strings.Builder, b *viewBoard, s screen) {
	if len(b.plazas) == 0 {
		t.WriteString("exact: nothing is stored yet\n")
		for _, line := range backlogLines(b) {
			t.WriteString(line + "\n")
		}
		for _, line := range b.lateness() {
			t.WriteString(line + "\n")
		}
		return
	}
	head := []string{networkVerdict(b)}
	if b.started {
		line := "stream time " + b.clock(b.now.Time(), "2006-01-02 15:04 MST")
		if !b.watermark.IsZero() {
			line += ", watermark " + b.clock(b.watermark, time.TimeOnly)
		}
		head = append(head, line)
	}
	head = append(head, backlogLines(b)...)
	if states := b.states(); states != "" {
		head = append(head, states)
	}
	head = append(head, b.lateness()...)
	head = append(head, clocks.Warnings(b.skews)...)
	t.WriteString(strings.Join(head, "\n") + "\n\n")

	shown := v.top(b)
	fields := table.Fitting(v.plazaFields(b, shown), s.width)
	foot := legend(fields)
	if slices.ContainsFunc(shown, func(p plazaBoard) bool { return b.stale(&p) }) {
		foot = append(foot, "*: judged up to an earlier time only; tollstream view --plaza says which")
	}
	if slices.ContainsFunc(fields, func(f table.Field) bool {
		return f.Rank < shareRank && slices.Contains(f.Cells, "?")
	}) {
		foot = append(foot, "?: of minutes that the state does not keep; toll_window has them")
	}
	if note := b.rowsNote(&b.plazas[0]); note != "" && b.rowsKnown() {
		foot = append(foot, "rows "+note)
	} else if note != "" {
		foot = append(foot, note+"; "+indexHint)
	}
	table.Write(t, fields, s.width)
	if more := len(b.plazas) - len(shown); more > 0 {
		fmt.Fprintf(t, "and %s more\n", text.Count(more, "plaza"))
	}
	t.WriteString("\n" + strings.Join(foot, "\n") + "\n")
}

// backlogLines say how far behind the topic the figures are, and what keeps them there.
func backlogLines(b *viewBoard) (lines []string) {
	if b.backlog.Offsets > 0 {
		lines = append(lines, waitingLine(b))
	}
	for _, t := range b.backlog.Open {
		lines = append(lines, transactionLine(t))
	}
	return lines
}

// transactionLine says which transaction keeps records of the topic from being read. How long it is
// open is known to those who looked before.
func transactionLine(t kafka.OpenTransaction) string {
	line := fmt.Sprintf("partition %d waits at offset %s for the end of a producer's transaction",
		t.Partition, text.Number(t.Offset))
	if open := time.Since(t.Since).Truncate(time.Second); open > 0 {
		line += ", for " + open.String() + " so far"
	}
	return line
}

func waitingLine(b *viewBoard) string {
	wait := "wait"
	if b.backlog.Offsets == 1 {
		wait = "waits"
	}
	return text.Count(b.backlog.Offsets, "record") + " of the topic " + wait + " to be stored"
}

// networkVerdict is the verdict on all plazas, in one line.
func networkVerdict(b *viewBoard) string {
	status, inFlight, wrong := b.status()
	all := fmt.Sprintf("%s at %s", text.Count(b.events, "vehicle"),
		text.Count(len(b.plazas), "plaza"))
	switch status {
	case sql.Mismatch:
		return fmt.Sprintf("MISMATCH at %s: %s (tollstream verify says more)",
			text.Count(len(wrong), "plaza"), someOf(wrong))
	case sql.InFlight:
		return fmt.Sprintf("in flight: %s; %s more stored and not yet counted", all,
			text.Number(inFlight))
	}
	if !b.rowsKnown() {
		return "exact: " + all + ", each counted once; the rows are not counted"
	}
	return "exact: " + all + ", each one row and counted once"
}

// someOf lists the first few names.
func someOf(names []string) string {
	const shown = 5
	list := strings.Join(names[:min(len(names), shown)], ", ")
	if len(names) > shown {
		list += " …"
	}
	return list
}

// states tells how many plazas are in which state, the worst first; empty where none was assessed.
func (b *viewBoard) states() string {
	counts := map[traffic.State]int64{}
	unjudged := int64(0)
	for i := range b.plazas {
		switch p := &b.plazas[i]; {
		case p.congestion == nil && p.plaza == nullPlaza:
		case p.congestion == nil || b.stale(p):
			unjudged++
		default:
			counts[p.congestion.State]++
		}
	}
	var parts []string
	for _, state := range severity {
		if n := counts[state]; n > 0 {
			parts = append(parts, text.Number(n)+" "+state.String())
		}
	}
	if len(parts) > 0 && unjudged > 0 {
		parts = append(parts, text.Number(unjudged)+" not judged")
	}
	return strings.Join(parts, ", ")
}

// lateness tells how many events came late or ran ahead, and how many records are no events: a line
// each, where there are any.
func (b *viewBoard) lateness() []string {
	var late, lateQuarter, tooLate, ahead int64
	var leading []string
	for i := range b.plazas {
		s := b.plazas[i].state
		late, lateQuarter, tooLate, ahead = late+s.Late, lateQuarter+s.LateQuarter, tooLate+
			s.TooLate, ahead+s.Ahead
		if s.Ahead > 0 {
			leading = append(leading, plazaName(b.plazas[i].plaza))
		}
	}
	var lines []string
	var parts []string
	for _, c := range []struct {
		n    int64
		what string
	}{{late, "late"}, {lateQuarter, "late for minutes"}, {tooLate, "too late"}} {
		if c.n > 0 {
			parts = append(parts, text.Number(c.n)+" "+c.what)
		}
	}
	if len(parts) > 0 {
		lines = append(lines, strings.Join(parts, ", "))
	}
	if ahead > 0 {
		lines = append(lines, fmt.Sprintf("%s ran ahead, at plaza %s (view --plaza says by how much)",
			text.Number(ahead), someOf(leading)))
	}
	if b.recent.High() {
		lines = append(lines, fmt.Sprintf("REJECTED: %s of the last %s could not be a row",
			text.Number(b.recent.Rejected), text.Count(b.recent.Records, "record")))
	}
	if b.letters > 0 {
		lines = append(lines, fmt.Sprintf("%s could not be a row: tollstream dead-letters",
			text.Count(b.letters, "record")))
	}
	return lines
}

// rowsKnown reports whether the rows of livetolldata were counted, now or before.
func (b *viewBoard) rowsKnown() bool {
	p := &b.plazas[0]
	return p.check.StoredRows != nil || p.rows != nil && p.rows.StoredRows != nil
}

// Names of columns that the legend explains.
const (
	columnFlow = "flow/h"
	columnVC   = "v/c"
	columnZ    = "z"
)

// shareRank is the rank of the first column with the share of a type of vehicle; those are named by
// events.
const shareRank = 10

// maxName is the most characters of a plaza's name in the table.
const maxName = 20

// plazaFields returns the columns of the table of all plazas.
func (v *viewer) plazaFields(b *viewBoard, shown []plazaBoard) []table.Field {
	has := func(known func(p *plazaBoard) bool) bool {
		return slices.ContainsFunc(b.plazas, func(p plazaBoard) bool { return known(&p) })
	}
	var fields []table.Field
	add := func(rank int, c table.Column, cell func(p *plazaBoard) string) {
		f := table.Field{Column: c, Rank: rank}
		for i := range shown {
			f.Cells = append(f.Cells, cell(&shown[i]))
		}
		fields = append(fields, f)
	}
	figure := func(of func(m *traffic.Measure) *float64,
		write func(x float64) string) func(p *plazaBoard) string {
		return func(p *plazaBoard) string {
			if m := b.measure(p); m != nil && of(m) != nil {
				return write(*of(m))
			}
			return "-"
		}
	}
	vc := func(m *traffic.Measure) *float64 { return m.VC }
	z := func(m *traffic.Measure) *float64 { return m.Z }
	measured := func(of func(m *traffic.Measure) *float64) bool {
		return has(func(p *plazaBoard) bool { m := b.measure(p); return m != nil && of(m) != nil })
	}

	add(0, table.Right("plaza"), func(p *plazaBoard) string { return plazaName(p.plaza) })
	if has(func(p *plazaBoard) bool { return p.about.Name != "" }) {
		add(8, table.Left("name"), func(p *plazaBoard) string {
			return text.Cut(text.Escape(p.about.Name), maxName)
		})
	}
	if has(func(p *plazaBoard) bool { return p.congestion != nil }) {
		marked := has(func(p *plazaBoard) bool {
			return b.measure(p) != nil && troubled(p.congestion.State)
		})
		add(0, table.Left("state"), func(p *plazaBoard) string { return b.stateMark(p, marked) })
	}
	add(1, table.Right(columnFlow), func(p *plazaBoard) string {
		if flow, known := b.flow(p); known {
			return text.Round(flow)
		}
		return "?"
	})
	if measured(vc) {
		add(1, table.Right(columnVC), figure(vc, text.Ratio))
	}
	if measured(z) {
		rank := 9
		if v.settings.sort == sortDeviation {
			rank = 1
		}
		add(rank, table.Right(columnZ), figure(z, text.Signed))
	}
	add(2, table.Right("total"), func(p *plazaBoard) string { return text.Number(p.state.Events) })
	for i, n := range rollingMinutes {
		add(7-i, table.Right(rollingNames[i]), func(p *plazaBoard) string {
			count, known := b.rolling(p, n)
			if !known {
				return "?"
			}
			return text.Number(count)
		})
	}
	add(4, table.Right("last"), func(p *plazaBoard) string { return v.lastEvent(b, p) })
	add(3, table.Left("verdict"), plazaVerdict)
	for i, c := range b.types() {
		if i < maxShares {
			add(shareRank+i, table.Right(text.Escape(c.Type)), func(p *plazaBoard) string {
				return share(p.state.Types, c.Type)
			})
		}
	}
	return fields
}

// stateMark returns a plaza's state, with a mark where someone should look at it: ▲ for too much, ▼
// for too little.
func (b *viewBoard) stateMark(p *plazaBoard, marked bool) string {
	state, mark := "-", "  "
	if p.congestion != nil {
		state = p.congestion.State.String()
		switch {
		case b.stale(p):
			state += "*"
		case p.congestion.State == traffic.BelowUsual:
			mark = "▼ "
		case troubled(p.congestion.State):
			mark = "▲ "
		}
	}
	if !marked {
		return state
	}
	return mark + state
}

// legend explains the columns that are shown, in lines.
func legend(fields []table.Field) []string {
	shown := func(name string) bool {
		return slices.ContainsFunc(fields, func(f table.Field) bool {
			return f.Name == name && f.Rank < shareRank
		})
	}
	var lines, figures []string
	if shown(columnFlow) {
		figures = append(figures, columnFlow+": vehicles an hour, by the last 15 minutes")
	}
	if shown(columnVC) {
		figures = append(figures, columnVC+": demand by capacity")
	}
	if len(figures) > 0 {
		lines = append(lines, strings.Join(figures, "; "))
	}
	if shown(columnZ) {
		lines = append(lines,
			columnZ+": how far the flow is from usual at this hour; beyond 3 either way is rare")
	}
	var rolling []string
	for _, name := range rollingNames {
		if shown(name) {
			rolling = append(rolling, name)
		}
	}
	if len(rolling) > 0 {
		lines = append(lines,
			strings.Join(rolling, ", ")+": vehicles in that time up to the stream's time")
	}
	return lines
}

func plazaVerdict(p *plazaBoard) string {
	switch p.status() {
	case sql.Mismatch:
		return "MISMATCH"
	case sql.InFlight:
		return text.Number(p.check.InFlight) + " in flight"
	}
	return "exact"
}

// lastEvent returns a plaza's last event: its time, or its date where that is not the stream's.
func (v *viewer) lastEvent(b *viewBoard, p *plazaBoard) string {
	s := p.state
	if s.Events == 0 {
		return "-"
	}
	if v.zone.Wall(b.now.Time()).Format(time.DateOnly) != s.Latest.Format(time.DateOnly) {
		return s.Latest.Format(time.DateOnly)
	}
	return s.Latest.Format(time.TimeOnly)
}

// types returns the events of all plazas by type, the most frequent first.
func (b *viewBoard) types() []toll.TypeCount {
	var types []toll.TypeCount
	for i := range b.plazas {
		types = toll.AddTypes(types, b.plazas[i].state.Types)
	}
	return byCount(types)
}

// maxShares is the most types whose shares are listed.
const maxShares = 6

// share returns the share of one type.
func share(types []toll.TypeCount, name string) string {
	for _, t := range types {
		if t.Type == name {
			return text.Percent(t.Count, toll.SumTypes(types))
		}
	}
	return "-"
}
