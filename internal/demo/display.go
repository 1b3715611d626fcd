package demo

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

const (
	vehiclesShown = 3 // the last ones that passed
	changesShown  = 6 // the last changes of congestion
	quartersShown = 12
)

// display shows a demo: in place on a terminal, else line by line.
type display struct {
	out        io.Writer
	congestion map[int]traffic.Assessment // by plaza, as last shown
	slow       map[[2]int]bool            // sections, as last shown
	changes    []string                   // the newest last
	drawn      int                        // lines of the last screen
}

// show shows the plazas, the sections that are slow, and the last vehicles of all that were
// emitted.
func (d *display) show(b *board.Board, sections []board.Section, vehicles []toll.Event,
	emitted int64) error {
	slices.SortFunc(b.Plazas, func(p, q board.Plaza) int { return cmp.Compare(p.ID, q.ID) })
	changes := append(d.changed(b.Plazas), d.slowed(sections)...)
	sums := sumLine(b.Plazas, emitted)
	if !text.IsTerminal(d.out) {
		for _, line := range changes {
			fmt.Fprintln(d.out, line)
		}
		if n := len(vehicles); n > 0 {
			sums = vehicles[n-1].Time.Format("15:04  ") + sums
		}
		_, err := fmt.Fprintln(d.out, sums)
		return err
	}
	d.changes = append(d.changes, changes...)
	d.changes = d.changes[max(0, len(d.changes)-changesShown):]
	var screen bytes.Buffer
	if d.drawn > 0 {
		fmt.Fprintf(&screen, "\x1b[%dA\x1b[J", d.drawn)
	}
	begin := screen.Len()
	for _, e := range vehicles {
		fmt.Fprintf(&screen, "  %s  %-5s %8d passed plaza %d\n", e.Time.Format("15:04:05"),
			text.Escape(e.Type), e.Vehicle, e.Plaza)
	}
	screen.WriteByte('\n')
	drawTable(&screen, b.Plazas)
	screen.WriteByte('\n')
	for i := range changesShown {
		if i < len(d.changes) {
			screen.WriteString("  " + text.Cut(d.changes[i], text.Width(d.out)-3))
		}
		screen.WriteByte('\n')
	}
	fmt.Fprintf(&screen, "\n%s\n", sums)
	d.drawn = bytes.Count(screen.Bytes()[begin:], []byte{'\n'})
	_, err := d.out.Write(screen.Bytes())
	return err
}

// changed returns the changes of congestion since the last call, a line each, the earliest first.
func (d *display) changed(plazas []board.Plaza) []string {
	congestion := map[int]traffic.Assessment{}
	var changed []*board.Plaza
	for i := range plazas {
		p := &plazas[i]
		if p.Assessment == nil {
			continue
		}
		now := *p.Assessment
		congestion[p.ID] = now
		before, known := d.congestion[p.ID]
		quiet := now.State == traffic.Free || now.State == traffic.NoData
		switch {
		case known && before.State == now.State && before.Since == now.Since, !known && quiet:
		case known && before.State == traffic.NoData && now.State == traffic.Free:
		default:
			changed = append(changed, p)
		}
	}
	d.congestion = congestion
	slices.SortStableFunc(changed, func(p, q *board.Plaza) int {
		return cmp.Compare(p.Assessment.Since, q.Assessment.Since)
	})
	var lines []string
	for _, p := range changed {
		a := p.Assessment
		lines = append(lines, fmt.Sprintf("%s  plaza %d %s: %s since %s: %s",
			a.Until.Time().Format("15:04"), p.ID, p.Name, a.State, a.Since.Time().Format("15:04"),
			a.Why))
	}
	return lines
}

// slowed returns the sections that became slow since the last call, and those that are no longer, a
// line each.
func (d *display) slowed(sections []board.Section) (lines []string) {
	slow := map[[2]int]bool{}
	for i := range sections {
		s := &sections[i]
		key := [2]int{s.From, s.To}
		if slow[key] = s.Slow; s.Slow == d.slow[key] {
			continue
		}
		word := "as usual again"
		if s.Slow {
			word = "slow"
		}
		takes := "few arrive"
		if s.MedianSeconds != nil {
			takes = "takes " + render.TravelTime(s.MedianSeconds)
		}
		overdue := "" // which shows before those that arrive took longer
		if low := s.OverdueLow; s.Slow && low != nil && *low > 0 {
			overdue = fmt.Sprintf(", %s or more overdue", text.Number(*low))
		}
		lines = append(lines, fmt.Sprintf("       plaza %d to %d %s: %s: %s, usually %s%s", s.From, s.To,
			s.ToName, word, takes, render.TravelTime(s.UsualSeconds), overdue))
	}
	d.slow = slow
	slices.Sort(lines)
	return lines
}

// drawTable draws a line for each plaza, along the road.
func drawTable(w io.Writer, plazas []board.Plaza) {
	t := table.New(w, table.Right("plaza"), table.Left(""), table.Right("veh/h"),
		table.Right("of cap."), table.Left("state"), table.Left("last hours"),
		table.Right("counted"), table.Left("verdict"))
	for i := range plazas {
		p := &plazas[i]
		flow, vc, state := "–", "–", ""
		if p.Assessment != nil {
			flow, state = p.FlowPerHour.String(), p.State.String()
		}
		if p.VC != nil {
			vc = render.Full(*p.VC)
		}
		t.AppendRow([]any{p.ID, p.Name, flow, vc, state, quarterLine(p), text.Number(p.Total),
			render.PlazaVerdict(p)})
	}
	_ = t.Render()
}

// quarterLine draws the last quarters of an hour that are complete, the highest of them as a full
// column.
func quarterLine(p *board.Plaza) string {
	counts := p.CompleteQuarters(quartersShown)
	for len(counts) > 0 && counts[0] <= 0 {
		counts = counts[1:]
	}
	if len(counts) == 0 {
		return ""
	}
	return text.Sparkline(counts, slices.Max(counts))
}

// sumLine compares what was emitted, stored and counted.
func sumLine(plazas []board.Plaza, emitted int64) string {
	var counted, inFlight, rows int64
	rowsKnown, verdict := false, "they agree" // whether rows were counted this time
	for i := range plazas {
		c := &plazas[i].Check
		counted += c.TableCount
		inFlight += c.InFlight
		if c.StoredRows != nil {
			rows += *c.StoredRows
			rowsKnown = true
		}
		if plazas[i].Verification.Status == board.Mismatch {
			verdict = "MISMATCH"
		}
	}
	stored := "stored " + text.Number(counted+inFlight)
	if rowsKnown {
		stored = "rows in MySQL " + text.Number(rows)
	}
	return fmt.Sprintf("emitted %s · %s = counted per plaza %s + in flight %s · %s",
		text.Number(emitted), stored, text.Number(counted), text.Number(inFlight), verdict)
}

// passing keeps the last vehicles that passed.
type passing struct {
	mu   sync.Mutex
	last []toll.Event
	n    int64
}

func (p *passing) add(e *toll.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	p.last = append(p.last, *e)
	p.last = slices.Delete(p.last, 0, max(0, len(p.last)-vehiclesShown))
}

func (p *passing) read() ([]toll.Event, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last), p.n
}
