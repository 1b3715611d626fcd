package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Options sets how all plazas are listed.
type Options struct {
	Order string // that they are in, as for [board.Board.Sort]
	Top   int    // how many of them, 0 for all
	Width int    // columns
}

func (o *Options) top(b *board.Board) []board.Plaza {
	if o.Top > 0 && o.Top < len(b.Plazas) {
		return b.Plazas[:o.Top]
	}
	return b.Plazas
}

// Plazas writes all plazas for a person: the verdict, the state of the network, a line for each.
func Plazas(b *board.Board, o Options) string {
	if len(b.Plazas) == 0 {
		lines := append(lagLines(b), lateness(b)...)
		return strings.Join(lines, "\n") + "\n"
	}
	t := &strings.Builder{}
	head := networkVerdict(b)
	if b.StreamTime != nil {
		line := EventTime(b, b.Location) + ", " + Behind(b, b.At)
		if b.Watermark != nil {
			line += "; watermark " + Watermark(b, b.Location)
		}
		head = append(head, line)
	}
	head = append(head, lagLines(b)...)
	if states := states(b); states != "" {
		head = append(head, states)
	}
	head = append(head, lateness(b)...)
	head = append(head, b.Warnings...)
	t.WriteString(strings.Join(head, "\n") + "\n\n")

	shown := o.top(b)
	fields := table.Fitting(plazaFields(b, shown, o.Order), o.Width)
	foot := legend(fields)
	if slices.ContainsFunc(shown, func(p board.Plaza) bool { return p.Outdated() }) {
		foot = append(foot, "*: judged up to an earlier time only; tollstream view --plaza shows which")
	}
	if slices.ContainsFunc(fields, func(f table.Field) bool {
		return f.Rank < shareRank && slices.Contains(f.Cells, "?")
	}) {
		foot = append(foot, "?: of minutes that the group table no longer holds; toll_window has them")
	}
	if slices.ContainsFunc(fields, func(f table.Field) bool { return f.Name == "last" }) &&
		slices.ContainsFunc(shown, func(p board.Plaza) bool {
			return p.LastEvent != nil && p.Location.String() != b.Location.String()
		}) {
		foot = append(foot, "last: by each plaza's own clock")
	}
	if note := rowsNote(b, &b.Plazas[0]); note != "" && b.Verification.Rows == nil {
		foot = append(foot, note+"; "+IndexHint)
	}
	table.Write(t, fields, o.Width)
	if more := len(b.Plazas) - len(shown); more > 0 {
		fmt.Fprintf(t, "and %s more\n", text.Count(more, "plaza"))
	}
	t.WriteString("\n" + strings.Join(foot, "\n") + "\n")
	return t.String()
}

// EventTime writes how far the stream has come, with the weekday and the date: event time
// Tue 2026-03-24 08:23 CET.
func EventTime(b *board.Board, clock *time.Location) string {
	return "event time " + b.StreamTime.In(clock).Format("Mon 2006-01-02 15:04 MST")
}

// Behind writes how far event time is behind the wall clock, which shows now. The stream's time is
// a minute, and so is what is compared.
func Behind(b *board.Board, now time.Time) string {
	minutes := int64(toll.MinuteAt(now.Unix())) - int64(b.Now())
	if minutes < 0 {
		return text.Minutes(-minutes) + " ahead of the clock"
	}
	return text.Minutes(minutes) + " behind the clock"
}

// Watermark writes the watermark, with its date where that is not the stream's.
func Watermark(b *board.Board, clock *time.Location) string {
	at := b.Watermark.In(clock)
	if at.Format(time.DateOnly) != b.StreamTime.In(clock).Format(time.DateOnly) {
		return at.Format(time.DateTime)
	}
	return at.Format(time.TimeOnly)
}

// lagLines say how far behind the topic the figures are, and what keeps them there.
func lagLines(b *board.Board) (lines []string) {
	lines = healthLines(b)
	if b.Waiting > 0 && b.Processing.CatchingUp == nil {
		lines = append(lines, "lag: "+text.Count(b.Waiting, "record")+" of the topic")
	}
	for _, t := range b.OpenTransactions {
		lines = append(lines, transactionLine(t))
	}
	return lines
}

// healthLines are what to know before the figures are trusted, and how old the newest event is.
func healthLines(b *board.Board) (lines []string) {
	for _, n := range b.Notices {
		lines = append(lines, NoticeLine(n))
	}
	if age := feedAge(b); age != "" && !b.Feed.Silent {
		lines = append(lines, "newest event "+age)
	}
	return lines
}

// NoticeLine writes a notice as a line of text; one in capitals is of figures that are not those of
// the present.
func NoticeLine(n board.Notice) string {
	if !n.Severe {
		return n.Text
	}
	return map[string]string{"feed": "NO FEED: ", "process": "NO PROCESS: "}[n.Kind] + n.Text
}

// feedAge writes how long ago the newest event arrived; empty for never.
func feedAge(b *board.Board) string {
	if b.Feed.AgeSeconds == nil {
		return ""
	}
	if s := *b.Feed.AgeSeconds; s >= 60 {
		return text.Minutes(s/60) + " ago"
	}
	return text.Number(*b.Feed.AgeSeconds) + " s ago"
}

// transactionLine describes a transaction that keeps records of the topic from being read. How long
// it is open is known from the second board on.
func transactionLine(t board.OpenTransaction) string {
	line := fmt.Sprintf("partition %d waits at offset %s for the end of a producer's transaction",
		t.Partition, text.Number(t.Offset))
	if open := time.Since(t.Since).Truncate(time.Second); open > 0 {
		line += ", for " + open.String() + " so far"
	}
	return line
}

// networkVerdict is the verdict on all plazas, in one line, and what to do about a mismatch. Its
// figures are those of one check.
func networkVerdict(b *board.Board) []string {
	v := &b.Verification
	all := fmt.Sprintf("%s at %s", text.Count(*v.Events, "vehicle"),
		text.Count(len(b.Plazas), "plaza"))
	checked := ""
	if at := v.CheckedAt; at != nil && at.Before(b.At) {
		checked = "; checked " + text.Seconds(b.At.Sub(*at)) + " ago"
	}
	switch v.Status {
	case board.Mismatch:
		wrong := b.Mismatches()
		lines := []string{fmt.Sprintf("MISMATCH at %s: %s (details: tollstream verify)",
			text.Count(len(wrong), "plaza"), SomePlazas(wrong))}
		for _, step := range v.Next {
			lines = append(lines, "what to do: "+step)
		}
		return lines
	case board.NotVerified:
		return []string{"not verified: rows not read; " + all + " counted"}
	case board.InFlight:
		return []string{fmt.Sprintf("in flight: %s; %s more stored and not yet counted", all,
			text.Number(v.InFlight)) + checked}
	}
	return []string{"exact: " + all + ", each one row and counted once" + checked}
}

// SomePlazas lists the first few plazas.
func SomePlazas(ids []int) string {
	const shown = 5
	var names []string
	for _, id := range ids[:min(len(ids), shown)] {
		names = append(names, PlazaName(id))
	}
	list := strings.Join(names, ", ")
	if len(ids) > shown {
		list += " …"
	}
	return list
}

// states counts the plazas in each state, the worst first; empty where none was assessed.
func states(b *board.Board) string {
	counts := map[traffic.State]int64{}
	unjudged := int64(0)
	for i := range b.Plazas {
		switch p := &b.Plazas[i]; {
		case p.Assessment == nil && p.ID == board.NullPlaza:
		case p.State == traffic.NoData && (p.Assessment == nil || p.Outdated()):
			unjudged++
		default:
			counts[p.State]++
		}
	}
	var parts []string
	for _, state := range board.Severity {
		if n := counts[state]; n > 0 {
			parts = append(parts, text.Number(n)+" "+state.String())
		}
	}
	if len(parts) > 0 && unjudged > 0 {
		parts = append(parts, text.Number(unjudged)+" not judged")
	}
	return strings.Join(parts, ", ")
}

// lateness counts the events that came late or ran ahead, and the rejected records: a line each,
// where there are any.
func lateness(b *board.Board) []string {
	var late, lateQuarter, tooLate, ahead int64
	var leading []int
	for i := range b.Plazas {
		p := &b.Plazas[i]
		late, lateQuarter, tooLate = late+p.Late, lateQuarter+p.LateQuarter, tooLate+p.TooLate
		if ahead += p.Ahead; p.Ahead > 0 {
			leading = append(leading, p.ID)
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
		lines = append(lines, fmt.Sprintf("%s ran ahead, at plaza %s (view --plaza shows by how much)",
			text.Number(ahead), SomePlazas(leading)))
	}
	if b.RecentRejects.High {
		lines = append(lines, fmt.Sprintf("REJECTED: %s of the last %s",
			text.Number(b.RecentRejects.Rejected), text.Count(b.RecentRejects.Records, "record")))
	}
	if b.DeadLetters > 0 {
		lines = append(lines, text.Count(b.DeadLetters, "dead letter")+
			": tollstream dead-letters")
	}
	return lines
}

// Names of columns that the legend explains.
const (
	ColumnFlow = "flow/h"
	ColumnVC   = "of cap."
	ColumnZ    = "z"
	// whether the capacity is wrong; only there where one is
	columnWrong = "capacity"
)

// Meanings explain columns, by their names.
var Meanings = map[string]string{
	ColumnFlow: "vehicles an hour, by the last 15 minutes",
	ColumnVC:   "throughput over capacity",
	ColumnZ:    "how far the flow is from usual at this hour; beyond 3 either way is rare",
}

// shareRank is the rank of the first column with the share of a type of vehicle; those are named by
// events.
const shareRank = 10

// MaxName is the most characters of a plaza's name in the table.
const MaxName = 20

// plazaFields returns the columns of the table of all plazas.
func plazaFields(b *board.Board, shown []board.Plaza, order string) []table.Field {
	has := func(known func(p *board.Plaza) bool) bool {
		return slices.ContainsFunc(b.Plazas, func(p board.Plaza) bool { return known(&p) })
	}
	var fields []table.Field
	add := func(rank int, c table.Column, cell func(p *board.Plaza) string) {
		f := table.Field{Column: c, Rank: rank}
		for i := range shown {
			f.Cells = append(f.Cells, cell(&shown[i]))
		}
		fields = append(fields, f)
	}
	// a figure that is listed where any plaza has it
	addFigure := func(rank int, name string, of func(p *board.Plaza) *float64,
		write func(x float64) string) {
		if !has(func(p *board.Plaza) bool { return of(p) != nil }) {
			return
		}
		add(rank, table.Right(name), func(p *board.Plaza) string {
			if x := of(p); x != nil {
				return write(*x)
			}
			return "-"
		})
	}

	add(0, table.Right("plaza"), func(p *board.Plaza) string { return PlazaName(p.ID) })
	if slices.ContainsFunc(shown, func(p board.Plaza) bool { return p.Name != "" }) {
		add(1, table.Left("name"), func(p *board.Plaza) string {
			return text.Cut(text.Escape(p.Name), MaxName)
		})
	}
	if slices.ContainsFunc(shown, func(p board.Plaza) bool { return p.Road != "" }) {
		add(8, table.Left("road"), func(p *board.Plaza) string { return text.Cut(Road(p), MaxName) })
	}
	if has(func(p *board.Plaza) bool { return p.Assessment != nil || p.State != traffic.NoData }) {
		marked := has(func(p *board.Plaza) bool {
			return p.Measure != nil && needsAttention(p.State)
		})
		add(0, table.Left("state"), func(p *board.Plaza) string { return stateMark(p, marked) })
	}
	add(1, table.Right(ColumnFlow), func(p *board.Plaza) string {
		if p.FlowKnown || !p.FlowPerHour.Known() {
			return p.FlowPerHour.String()
		}
		return "?"
	})
	addFigure(1, ColumnVC, func(p *board.Plaza) *float64 { return p.VC }, Full)
	if has(func(p *board.Plaza) bool { return p.CapacityWrong }) {
		add(1, table.Left(columnWrong), func(p *board.Plaza) string {
			if p.CapacityWrong {
				return "wrong"
			}
			return ""
		})
	}
	rank := 9
	if order == board.ByDeviation {
		rank = 1
	}
	addFigure(rank, ColumnZ, func(p *board.Plaza) *float64 { return p.Z }, text.Signed)
	add(2, table.Right("total"), func(p *board.Plaza) string { return text.Number(p.Total) })
	for i, n := range rollingMinutes {
		add(7-i, table.Right(rollingNames[i]), func(p *board.Plaza) string {
			count, known := b.Rolling(p, n)
			if !known {
				return "?"
			}
			return text.Number(count)
		})
	}
	add(4, table.Right("last"), func(p *board.Plaza) string { return LastEvent(b, p) })
	add(3, table.Left("verdict"), PlazaVerdict)
	for i, c := range b.Types() {
		if i < maxShares {
			add(shareRank+i, table.Right(text.Escape(c.Type)), func(p *board.Plaza) string {
				return share(p.Counts.Types, c.Type)
			})
		}
	}
	return fields
}

// Full writes throughput over capacity in per cent.
func Full(vc float64) string { return text.Round(traffic.Percent(vc)) + " %" }

// stateMark returns a plaza's state, with a mark where someone should look at it: ▲ for too much
// for the capacity, ▼ and △ for less and more than usual.
func stateMark(p *board.Plaza, marked bool) string {
	state, mark := "-", "  "
	switch {
	case p.State == traffic.NoData && p.Assessment == nil:
	case p.State == traffic.NoData && p.Outdated():
		state = p.Assessment.State.String() + "*"
	default:
		state = p.State.String()
	}
	switch {
	case p.State == traffic.BelowUsual:
		mark = "▼ "
	case p.State == traffic.AboveUsual:
		mark = "△ "
	case needsAttention(p.State):
		mark = "▲ "
	}
	if !marked {
		return state
	}
	return mark + state
}

// needsAttention reports whether a state is one that someone should look at.
func needsAttention(s traffic.State) bool {
	return s == traffic.Saturated || s == traffic.BelowUsual || s == traffic.AboveUsual
}

// legend explains the columns that are shown, in lines.
func legend(fields []table.Field) []string {
	shown := func(name string) bool {
		return slices.ContainsFunc(fields, func(f table.Field) bool {
			return f.Name == name && f.Rank < shareRank
		})
	}
	var lines []string
	for _, name := range []string{ColumnFlow, ColumnVC} {
		if shown(name) {
			lines = append(lines, name+": "+Meanings[name])
		}
	}
	if shown(columnWrong) {
		lines = append(lines, columnWrong+" wrong: more than that passed; correct lanes and "+
			"capacity_per_lane in the plazas file")
	}
	if shown(ColumnZ) {
		lines = append(lines, ColumnZ+": "+Meanings[ColumnZ])
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

// PlazaVerdict is the verdict on a plaza, in a word or two.
func PlazaVerdict(p *board.Plaza) string {
	switch p.Verification.Status {
	case board.Mismatch:
		return "MISMATCH"
	case board.NotVerified:
		return "not verified"
	case board.InFlight:
		return text.Number(p.Verification.InFlight) + " in flight"
	}
	return "exact"
}

// LastEvent writes a plaza's last event by the plaza's clock, which must be set: its time, or its
// date where that is not the stream's.
func LastEvent(b *board.Board, p *board.Plaza) string {
	if p.LastEvent == nil {
		return "-"
	}
	at := p.LastEvent.In(p.Location)
	if date := at.Format(time.DateOnly); b.Now().Time().In(p.Location).Format(time.DateOnly) != date {
		return date
	}
	return at.Format(time.TimeOnly)
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
