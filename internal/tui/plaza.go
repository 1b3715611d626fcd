package tui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// row returns the plaza of the page, nil where the board does not have it.
func (m *model) row() *plazaRow {
	i := slices.IndexFunc(m.rows, func(r plazaRow) bool { return r.ID == int(m.plaza) })
	if i < 0 {
		return nil
	}
	return &m.rows[i]
}

// plazaPage returns all that there is about one plaza, of which frame shows what there is room for:
// about height lines.
func (m *model) plazaPage(height int) []line {
	r := m.row()
	if r == nil {
		title := line{{"plaza " + render.PlazaName(int(m.plaza)), strong}}
		if m.board == nil {
			return []line{title}
		}
		return []line{title, textLine(fmt.Sprintf("no vehicle has passed plaza %d yet", m.plaza))}
	}
	p := plazaPage{p: r.Plaza, clock: r.Location, width: m.width}
	if m.board.StreamTime != nil {
		p.now = toll.MinuteAt(m.board.StreamTime.Unix())
	}
	p.title()
	p.measures()
	p.verification()
	d := m.detail
	switch {
	case m.detailFailed != "" && d == nil:
		p.blank()
		p.words("the history can't be read: " + m.detailFailed)
	case d == nil:
		p.blank()
		p.words("reading the history …")
	default:
		p.history(d, height)
	}
	return p.lines
}

// plazaPage makes the lines of a plaza's page.
type plazaPage struct {
	p     *board.Plaza
	clock *time.Location
	now   toll.Minute // the stream's time
	width int
	lines []line
}

func (p *plazaPage) blank() { p.lines = append(p.lines, nil) }
func (p *plazaPage) words(s string) {
	for _, words := range text.Wrap(s, p.width) {
		p.lines = append(p.lines, line{{words, plain}})
	}
}

// heading begins a part.
func (p *plazaPage) heading(s string) {
	p.blank()
	p.lines = append(p.lines, line{{s, strong}})
}

// written adds lines that were written as plain text.
func (p *plazaPage) written(write func(t *strings.Builder)) {
	var t strings.Builder
	write(&t)
	for text := range strings.Lines(t.String()) {
		p.lines = append(p.lines, textLine(strings.TrimRight(text, "\n ")))
	}
}

func (p *plazaPage) at(t time.Time) string { return board.ClockTime(p.clock, t, p.now) }

func (p *plazaPage) title() {
	about := text.Cell(render.About(p.p))
	title := line{{"plaza " + render.PlazaName(p.p.ID), strong}}
	if about != "" {
		title = append(title, span{"  " + about, plain})
	}
	p.lines = append(p.lines, title)
	state := stateWords(p.p.State)
	if p.p.Since != nil {
		state += " since " + p.at(*p.p.Since)
		if since := toll.MinuteAt(p.p.Since.Unix()); p.now > since {
			state += " (" + text.Minutes(int64(p.now)-int64(since)) + ")"
		}
	}
	p.lines = append(p.lines, line{{state, stateStyle(p.p.State)}})
	if p.p.Why != "" {
		p.words(text.Cell(p.p.Why))
	}
}

// measures shows the figures of now, in two columns where there is room.
func (p *plazaPage) measures() {
	unit := "vehicles/h"
	if n := p.p.ObservedMinutes; n != nil {
		unit += ", of its first " + text.Minutes(int64(*n))
	}
	figures := []table.Figure{{"flow", p.p.FlowPerHour.String(), unit}}
	vc := table.Figure{render.ColumnVC, "-", "capacity not known"}
	if p.p.VC != nil && p.p.Capacity != nil {
		vc = table.Figure{render.ColumnVC, text.Round(traffic.Percent(*p.p.VC)),
			fmt.Sprintf("%% of %s pc/h", text.Round(*p.p.Capacity))}
		if p.p.CapacityWrong {
			vc[2] += ", which looks wrong"
		}
	}
	figures = append(figures, vc)
	usual := table.Figure{render.ColumnZ, "-", "usual not known yet"}
	if p.p.Z != nil && p.p.Usual != nil {
		usual = table.Figure{render.ColumnZ, text.Signed(*p.p.Z),
			fmt.Sprintf("usual %s in 15 min", text.Round(p.p.Usual.Median))}
	}
	figures = append(figures, usual)
	if p.p.HeavyShare != nil {
		figures = append(figures,
			table.Figure{"heavy", fmt.Sprintf("%.1f", 100**p.p.HeavyShare), "% of the vehicles"})
	}
	if p.p.HeadwaySeconds != nil {
		figures = append(figures,
			table.Figure{"headway", fmt.Sprintf("%.1f", *p.p.HeadwaySeconds), "s between vehicles"})
	}
	if p.p.PHF != nil {
		figures = append(figures, table.Figure{"PHF", fmt.Sprintf("%.2f", *p.p.PHF), "peak-hour factor"})
	}
	figures = append(figures, table.Figure{"total", text.Number(p.p.Total), "vehicles"})
	if p.p.LastEvent != nil {
		figures = append(figures,
			table.Figure{"last", p.p.LastEvent.In(p.clock).Format(time.TimeOnly),
				p.p.LastEvent.In(p.clock).Format("2006-01-02 MST")})
	}
	p.sideBySide(figures)
}

// sideBySide writes figures in two columns where they fit, else in one.
func (p *plazaPage) sideBySide(figures []table.Figure) {
	half := (len(figures) + 1) / 2
	var left, right plazaPage
	left.written(func(t *strings.Builder) { table.WriteFigures(t, figures[:half]) })
	right.written(func(t *strings.Builder) { table.WriteFigures(t, figures[half:]) })
	if widest(left.lines)+widest(right.lines)+table.Gap > p.width {
		p.written(func(t *strings.Builder) { table.WriteFigures(t, figures) })
		return
	}
	for i, l := range left.lines {
		if i < len(right.lines) {
			l = append(l.to(widest(left.lines)+table.Gap), right.lines[i]...)
		}
		p.lines = append(p.lines, l)
	}
}

func widest(lines []line) int {
	n := 0
	for _, l := range lines {
		n = max(n, l.width())
	}
	return n
}

func (p *plazaPage) verification() {
	v := &p.p.Verification
	out := plazaVerdictWords(p.p) + ": " + text.Number(v.TableCount) + " counted"
	if v.StoredRows != nil {
		out += ", " + text.Count(*v.StoredRows, "row")
	} else {
		out += ", rows not read"
	}
	if v.Status != board.InFlight && v.InFlight > 0 {
		out += ", " + text.Number(v.InFlight) + " in flight"
	}
	switch {
	case v.ChecksumOK == nil:
	case *v.ChecksumOK:
		out += ", checksum ok"
	default:
		out += ", checksum WRONG"
	}
	k := map[board.Status]style{board.Exact: good, board.InFlight: plain,
		board.NotVerified: strong, board.Mismatch: critical}[v.Status]
	p.lines = append(p.lines, line{{out, k}})
	for _, step := range board.NextSteps(p.p.Problems()) {
		p.words("what to do: " + step)
	}
}

// history adds what was read of the plaza's past.
func (p *plazaPage) history(d *board.Detail, height int) {
	const least, most = 6, 16
	p.heading("FLOW TODAY, vehicles/h")
	p.lines = append(p.lines,
		flowChart(d.Quarters, p.clock, p.now, p.width, min(max(height/4, least), most))...)

	p.heading("TODAY SO FAR")
	p.soFar(d)
	p.types(d.Quarters)

	p.heading("INCIDENTS")
	p.changes(d.Changes)

	p.heading("WINDOWS")
	p.windows(d.RecentWindows)

	late := p.p.Late + p.p.LateQuarter + p.p.TooLate
	p.heading("LATENESS")
	if late == 0 {
		p.words("every vehicle came on time")
	} else {
		p.words(fmt.Sprintf("%s late, %s late for minutes, %s too late for any window",
			text.Number(p.p.Late),
			text.Number(p.p.LateQuarter), text.Number(p.p.TooLate)))
	}
	if p.p.Ahead > 0 {
		p.words(fmt.Sprintf("%s ran ahead, the last by %s", text.Number(p.p.Ahead),
			text.Minutes((p.p.LeadSeconds+30)/60)))
	}
}

func (p *plazaPage) soFar(d *board.Detail) {
	today, before := "not known", "not known"
	if d.DaySoFar != nil {
		today = text.Count(*d.DaySoFar, "vehicle")
	}
	if d.DaySoFarLastWeek != nil {
		before = text.Number(*d.DaySoFarLastWeek)
		if d.DaySoFar != nil && *d.DaySoFarLastWeek > 0 {
			before += fmt.Sprintf(" (%s %%)",
				text.Signed((float64(*d.DaySoFar)/float64(*d.DaySoFarLastWeek)-1)*100))
		}
	}
	p.words(today + "; last week by this time: " + before)
}

// types shows what passed today by type.
func (p *plazaPage) types(quarters []board.Quarter) {
	counts := map[string]int64{}
	for i := range quarters {
		for name, n := range quarters[i].ByType {
			counts[text.Cell(name)] += n
		}
	}
	var types []toll.TypeCount
	for name, n := range counts {
		types = append(types, toll.TypeCount{Type: name, Count: n})
	}
	slices.SortFunc(types, func(a, b toll.TypeCount) int { return cmp.Compare(a.Type, b.Type) })
	if len(types) > 0 {
		p.written(func(t *strings.Builder) { t.WriteString(render.Types(types, p.width)) })
	}
}

func (p *plazaPage) changes(changes []board.Change) {
	if len(changes) == 0 {
		p.words("none yet")
		return
	}
	for _, c := range changes {
		since, noticed := p.at(c.Since), c.Detected.In(p.clock)
		when := noticed.Format("15:04")
		if noticed.Format(time.DateOnly) != c.Since.In(p.clock).Format(time.DateOnly) {
			when = noticed.Format("2006-01-02 15:04")
		}
		p.lines = append(p.lines, line{{since + "  ", plain}, {stateWords(c.To), stateStyle(c.To)},
			{" after " + c.From.String() + ", detected at " + when, plain}})
		for _, words := range text.Wrap(text.Cell(c.Why), p.width-4) {
			p.lines = append(p.lines, line{{"    " + words, faint}})
		}
	}
}

// windows shows the windows that closed last, a few of each kind, the short ones first.
func (p *plazaPage) windows(windows []board.Window) {
	if len(windows) == 0 {
		p.words("none has closed yet")
		return
	}
	spans := map[string]time.Duration{}
	for i := range windows {
		w := &windows[i]
		spans[w.Kind] = max(spans[w.Kind], w.End.Sub(w.Start))
	}
	sorted := slices.Clone(windows)
	slices.SortStableFunc(sorted, func(v, w board.Window) int {
		return cmp.Or(cmp.Compare(spans[v.Kind], spans[w.Kind]), cmp.Compare(v.Kind, w.Kind))
	})
	fields := []table.Field{
		{Column: table.Left("kind")}, {Column: table.Right("window")},
		{Column: table.Right("vehicles")},
		{Column: table.Right("rev"), Rank: 1}, {Column: table.Right("complete"),
			Rank: 2}, {Column: table.Right(render.ColumnFlow), Rank: 3},
		{Column: table.Right("late"), Rank: 4}, {Column: table.Right("too late"),
			Rank: 4}, {Column: table.Left("final"), Rank: 5},
	}
	fields = render.Windows(fields, sorted, p.clock, p.now)
	for i := range fields {
		for j, cell := range fields[i].Cells {
			fields[i].Cells[j] = text.Cell(cell)
		}
	}
	p.written(func(t *strings.Builder) { table.Write(t, fields, p.width) })
}

// Of the flow chart.
const (
	chartLeft = 8 // columns of its scale
	// capacityRoom is how many times the highest flow the capacity may be and still be in the chart.
	capacityRoom = 2.5
)

// flowColumn is a column of the chart, which stands for one or more quarters of an hour. Figures
// are an hour's.
type flowColumn struct {
	flow           float64
	known          bool
	missing        bool // it has begun, and is not known
	partial        bool // not all of it has passed
	low, mid, high float64
	usual          bool
}

// flowChart draws the flow of a day by quarters of an hour: bars, in eighths of a line, against
// what is usual and the capacity, where it can be converted to vehicles. What is not known is a
// dot below. It takes height lines, and three for the axis and the legend.
func flowChart(points []board.Quarter, location *time.Location, now toll.Minute, width,
	height int) []line {
	if len(points) == 0 {
		return []line{textLine("nothing is known of today")}
	}
	room := max(width-chartLeft, 1)
	group := (len(points) + room - 1) / room // quarters in a column
	wide := max(room/len(points), 1)         // columns of a quarter
	columns, capacity := flowColumns(points, now, group)
	top := 0.0
	for _, c := range columns {
		top = max(top, c.flow, c.high)
	}
	above := capacity > top*capacityRoom && top > 0
	if capacity > 0 && !above {
		top = max(top, capacity)
	}
	step := roundStep(top / float64(height))
	unit := step // an hour's flow of a line

	row := func(x float64) int { return int(math.Floor(x / unit)) }
	var lines []line
	for r := height - 1; r >= 0; r-- {
		scale := strings.Repeat(" ", chartLeft-1)
		if r%2 == 0 {
			scale = fill(text.Round(float64(r)*unit), chartLeft-1, true)
		}
		l := line{{scale + "│", faint}}
		for _, c := range columns {
			cell := span{" ", plain}
			level := int(math.Round(c.flow/unit*8)) - 8*r
			switch {
			case !c.known || level <= 0:
				switch {
				case c.missing && !c.known && r == 0:
					cell = span{"·", faint}
				case c.usual && row(c.mid) == r:
					cell = span{"─", strong}
				case capacity > 0 && !above && row(capacity) == r:
					cell = span{"╌", alarm}
				case c.usual && row(c.low) <= r && r <= row(c.high):
					cell = span{"░", faint}
				}
			case level < 8:
				cell.text = string([]rune("▁▂▃▄▅▆▇")[level-1])
			case c.usual && row(c.mid) == r:
				cell = span{"─", chosen} // drawn on the bar
			case capacity > 0 && !above && row(capacity) == r:
				cell = span{"╌", chosen}
			default:
				cell.text = "█"
			}
			if c.partial && level > 0 {
				cell.style = faint
			}
			cell.text = strings.Repeat(cell.text, wide)
			if n := len(l); l[n-1].style == cell.style && n > 1 {
				l[n-1].text += cell.text
			} else {
				l = append(l, cell)
			}
		}
		lines = append(lines, l)
	}
	lines = append(lines, chartAxis(points, location, group, wide, len(columns)*wide))
	legend := line{{strings.Repeat(" ", chartLeft) + "█ passed", plain}}
	if slices.ContainsFunc(columns, func(c flowColumn) bool { return c.usual }) {
		legend = append(legend, span{"  ─ usual  ░ its band", plain})
	}
	if slices.ContainsFunc(columns, func(c flowColumn) bool { return c.missing }) {
		legend = append(legend, span{"  · not known", plain})
	}
	switch {
	case above:
		legend = append(legend, span{fmt.Sprintf("  capacity far above, about %s",
			text.Round(capacity)), plain})
	case capacity > 0:
		legend = append(legend, span{fmt.Sprintf("  ╌ capacity, about %s",
			text.Round(capacity)), plain})
	}
	return append(lines, legend)
}

// flowColumns sums up quarters of an hour, group of them in a column. It returns the capacity too:
// in vehicles, of as many types as passed that day, 0 where not known.
func flowColumns(points []board.Quarter, now toll.Minute, group int) ([]flowColumn, float64) {
	const perHour = 60 / toll.Quarter
	var columns []flowColumn
	capacity, vehicles, cars := 0.0, 0.0, 0.0
	for first := 0; first < len(points); first += group {
		c := flowColumn{}
		counts, usuals := 0, 0
		for _, q := range points[first:min(first+group, len(points))] {
			if q.Capacity != nil {
				capacity = *q.Capacity * perHour
			}
			if q.Count != nil && q.PassengerCars != nil {
				vehicles, cars = vehicles+float64(*q.Count), cars+*q.PassengerCars
			}
			if q.Count == nil {
				c.missing = c.missing || toll.MinuteAt(q.Start.Unix()) <= now
			} else {
				counts++
				c.flow += float64(*q.Count) * perHour
				c.partial = c.partial || toll.MinuteAt(q.Start.Unix())+toll.Quarter > now+1
			}
			if q.UsualMedian != nil && q.UsualLow != nil && q.UsualHigh != nil {
				usuals++
				c.low, c.mid, c.high = c.low+*q.UsualLow*perHour, c.mid+*q.UsualMedian*perHour, c.high+
					*q.UsualHigh*perHour
			}
		}
		if c.known = counts > 0; c.known {
			c.flow /= float64(counts)
		}
		if c.usual = usuals > 0; c.usual {
			n := float64(usuals)
			c.low, c.mid, c.high = c.low/n, c.mid/n, c.high/n
		}
		columns = append(columns, c)
	}
	if cars == 0 {
		return columns, 0
	}
	return columns, capacity * vehicles / cars
}

// roundStep returns the next round number that is not below x: 1, 2, 2.5 or 5 times a power of ten.
func roundStep(x float64) float64 {
	if x <= 1 {
		return 1
	}
	ten := math.Pow(10, math.Floor(math.Log10(x)))
	for _, s := range []float64{1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if s*ten >= x {
			return s * ten
		}
	}
	return 10 * ten
}

// chartAxis names hours of the plaza's clock below their quarters.
func chartAxis(points []board.Quarter, location *time.Location, group, wide, columns int) line {
	axis := []rune(strings.Repeat(" ", columns+4))
	hours := 3
	if columns < 60 {
		hours = 6
	}
	for i := range points {
		at := points[i].Start.In(location)
		if at.Minute() == 0 && at.Hour()%hours == 0 {
			copy(axis[i/group*wide:], []rune(at.Format("15")))
		}
	}
	return line{{strings.Repeat(" ", chartLeft-1) + "└" + strings.TrimRight(string(axis), " "), faint}}
}
