package demo

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

const (
	vehiclesShown = 3 // the last ones that passed
	changesShown  = 6 // the last changes of congestion
	quartersShown = 12
)

// snapshot is what a display shows.
type snapshot struct {
	vehicles   []toll.Event // the last ones
	emitted    int64
	states     map[int16]*toll.State
	congestion map[int16]traffic.Assessment
	checks     []sql.PlazaCheck
}

// display shows a demo: in place on a terminal, else line by line.
type display struct {
	out        io.Writer
	names      map[int16]string             // of the plazas
	congestion map[int16]traffic.Assessment // as last shown
	changes    []string                     // the newest last
	drawn      int                          // lines of the last screen
}

func (d *display) show(s *snapshot) error {
	changes := d.changed(s.congestion)
	sums := sumChecks(s.checks).line(s.emitted)
	if !text.IsTerminal(d.out) {
		for _, line := range changes {
			fmt.Fprintln(d.out, line)
		}
		if n := len(s.vehicles); n > 0 {
			sums = s.vehicles[n-1].Time.Format("15:04  ") + sums
		}
		_, err := fmt.Fprintln(d.out, sums)
		return err
	}
	d.changes = append(d.changes, changes...)
	d.changes = d.changes[max(0, len(d.changes)-changesShown):]
	var b bytes.Buffer
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", d.drawn)
	}
	begin := b.Len()
	for _, e := range s.vehicles {
		fmt.Fprintf(&b, "  %s  %-5s %8d passed plaza %d\n", e.Time.Format("15:04:05"),
			text.Escape(e.Type), e.Vehicle, e.Plaza)
	}
	b.WriteByte('\n')
	d.table(&b, s)
	b.WriteByte('\n')
	for i := range changesShown {
		if i < len(d.changes) {
			b.WriteString("  " + text.Cut(d.changes[i], text.Width(d.out)-3))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\n%s\n", sums)
	d.drawn = bytes.Count(b.Bytes()[begin:], []byte{'\n'})
	_, err := d.out.Write(b.Bytes())
	return err
}

// changed returns the changes of congestion since the last call, a line each, the earliest first.
func (d *display) changed(congestion map[int16]traffic.Assessment) []string {
	var plazas []int16
	for plaza, now := range congestion {
		before, known := d.congestion[plaza]
		quiet := now.State == traffic.Free || now.State == traffic.NoData
		switch {
		case known && before.State == now.State && before.Since == now.Since, !known && quiet:
		case known && before.State == traffic.NoData && now.State == traffic.Free:
		default:
			plazas = append(plazas, plaza)
		}
	}
	d.congestion = congestion
	slices.SortFunc(plazas, func(a, b int16) int {
		return cmp.Or(cmp.Compare(congestion[a].Since, congestion[b].Since), cmp.Compare(a, b))
	})
	var lines []string
	for _, plaza := range plazas {
		a := congestion[plaza]
		lines = append(lines, fmt.Sprintf("%s  plaza %d %s: %s since %s: %s",
			a.Until.Time().Format("15:04"), plaza, d.names[plaza], a.State,
			a.Since.Time().Format("15:04"), a.Why))
	}
	return lines
}

// table draws a line for each plaza, along the road.
func (d *display) table(w io.Writer, s *snapshot) {
	t := table.New(w, table.Right("plaza"), table.Left(""), table.Right("veh/h"), table.Right("v/c"),
		table.Left("state"), table.Left("last hours"), table.Right("counted"), table.Left("verdict"))
	byPlaza := map[int16]sql.PlazaCheck{}
	for _, c := range s.checks {
		if c.Plaza >= toll.MinPlaza {
			byPlaza[int16(c.Plaza)] = c
		}
	}
	for _, plaza := range slices.Sorted(maps.Keys(s.states)) {
		state, c := s.states[plaza], byPlaza[plaza]
		flow, vc, congestion := "–", "–", ""
		if a, ok := s.congestion[plaza]; ok {
			flow = text.Number(int64(a.Last.FlowPerHour))
			if a.Last.VC != nil {
				vc = fmt.Sprintf("%.2f", *a.Last.VC)
			}
			congestion = a.State.String()
		}
		t.AppendRow([]any{plaza, d.names[plaza], flow, vc, congestion, quarterLine(state),
			text.Number(state.Events), verdictWords(c.Status, c.InFlight)})
	}
	t.Render()
}

// quarterLine draws the last quarters of an hour that are complete, the highest of them as a full
// column.
func quarterLine(s *toll.State) string {
	quarters := s.Quarters.List
	quarters = quarters[:max(0, len(quarters)-1)]
	quarters = quarters[max(0, len(quarters)-quartersShown):]
	if len(quarters) == 0 {
		return ""
	}
	counts := make([]int64, len(quarters))
	for i := range quarters {
		counts[i] = quarters[i].Count()
	}
	return text.Sparkline(counts, slices.Max(counts))
}

func verdictWords(status string, inFlight int64) string {
	switch status {
	case sql.Exact:
		return "exact"
	case sql.InFlight:
		return text.Number(inFlight) + " in flight"
	}
	return "MISMATCH"
}

// sums are the totals of the checks of all plazas.
type sums struct {
	rows, counted, inFlight int64
	rowsKnown               bool // whether rows were counted this time
	mismatch                bool
}

func sumChecks(checks []sql.PlazaCheck) sums {
	var s sums
	for _, c := range checks {
		if c.StoredRows != nil {
			s.rows += *c.StoredRows
			s.rowsKnown = true
		}
		s.counted += c.TableCount
		s.inFlight += c.InFlight
		s.mismatch = s.mismatch || c.Status == sql.Mismatch
	}
	return s
}

func (s sums) line(emitted int64) string {
	verdict := "they agree"
	if s.mismatch {
		verdict = "MISMATCH"
	}
	rows := "stored " + text.Number(s.counted+s.inFlight)
	if s.rowsKnown {
		rows = "rows in MySQL " + text.Number(s.rows)
	}
	return fmt.Sprintf("emitted %s · %s = counted per plaza %s + in flight %s · %s",
		text.Number(emitted), rows, text.Number(s.counted), text.Number(s.inFlight), verdict)
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
