package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll/traffic"
)

// The least room that there must be.
const (
	leastWidth  = 40
	leastHeight = 10
)

// Lines around what a page shows.
const (
	headLines = 3 // verification, network, time; of a mismatch, what to do, too
	footLines = 1
)

// staleAge is the age from which figures are stale: several times what reading a thousand plazas
// takes.
const staleAge = 6 * time.Second

func (m *model) tooSmall() bool { return m.width < leastWidth || m.height < leastHeight }

// frame returns the screen as it is now: as many lines as it is high, each as wide as it is.
func (m *model) frame() []line {
	if m.width <= 0 || m.height <= 0 {
		return nil
	}
	var lines []line
	switch {
	case m.tooSmall():
		lines = m.smallFrame()
	case m.page == pageTable:
		lines = append(m.head(), m.table()...)
		lines = append(lines, m.foot())
	default:
		content := m.content()
		first := max(min(m.scroll, len(content)-m.contentRoom()), 0)
		in := content[first:min(first+m.contentRoom(), len(content))]
		lines = append(m.head(), in...)
		for len(lines) < m.height-footLines {
			lines = append(lines, nil)
		}
		lines = append(lines, m.footOf(first, len(content)))
	}
	lines = lines[:min(len(lines), m.height)]
	for len(lines) < m.height {
		lines = append(lines, nil)
	}
	for i := range lines {
		lines[i] = lines[i].to(m.width)
	}
	return lines
}

// smallFrame is for a terminal that is too small for the rest.
func (m *model) smallFrame() []line {
	return []line{m.verification(), textLine(fmt.Sprintf("too small: %d×%d,", m.width, m.height)),
		textLine(fmt.Sprintf("needs %d×%d", leastWidth, leastHeight))}
}

// contentRoom is how many lines a page may show that is no table.
func (m *model) contentRoom() int { return max(m.height-m.headLines()-footLines, 1) }

// content returns all lines of a page that is no table.
func (m *model) content() []line {
	if m.page == pageHelp {
		return m.help()
	}
	if m.page == pageIncidents {
		return m.incidentsPage()
	}
	return m.plazaPage(m.height)
}

func (m *model) head() []line {
	lines := append(m.notices(), m.verification(), m.network())
	if step := m.nextStep(); step != "" {
		lines = append(lines, line{{ellipsed("what to do: "+step, m.width), strong}})
	}
	return append(lines, m.time())
}

// headLines is how many lines head returns.
func (m *model) headLines() int {
	lines := headLines + len(m.notices())
	if m.nextStep() != "" {
		lines++
	}
	return lines
}

// maxNotices is how many notices there is room for.
const maxNotices = 2

// notices are what to know before the figures are trusted. While the view is stale, it knows no
// more than that.
func (m *model) notices() (lines []line) {
	if _, stale := m.stale(); stale || m.board == nil {
		return nil
	}
	all := m.board.Notices
	for _, n := range all[:min(len(all), maxNotices)] {
		words, k := text.Cell(render.NoticeLine(n)), strong
		if n.Severe {
			words, k = fill(words, m.width, false), critical
		}
		lines = append(lines, line{{ellipsed(words, m.width), k}})
	}
	return lines
}

// nextStep returns what to do about the first mismatch, where there is one.
func (m *model) nextStep() string {
	if m.board == nil || len(m.board.Verification.Next) == 0 {
		return ""
	}
	return text.Cell(m.board.Verification.Next[0])
}

// stale returns the age of the figures, and whether that is too high.
func (m *model) stale() (age time.Duration, stale bool) {
	if m.board == nil {
		return 0, false
	}
	age = max(m.now.Sub(m.board.At), 0)
	return age, m.outage != "" || age > staleAge && !m.paused
}

// verification is the line with the verdict on the figures, which every page shows.
func (m *model) verification() line {
	if m.board == nil {
		return line{{"not verified yet", strong}}
	}
	v := &m.board.Verification
	if age, stale := m.stale(); stale {
		return m.staleVerdict(age)
	}
	checked := ""
	if v.CheckedAt != nil {
		checked = " · checked " + ago(m.now.Sub(*v.CheckedAt))
	}
	vehicles := int64(0)
	if v.Events != nil {
		vehicles = *v.Events
	}
	all, plazas := text.Count(vehicles, "vehicle"), text.Count(len(m.board.Plazas), "plaza")
	mark := verdictSymbols[v.Status] + " "
	fit := func(k style, variants ...string) line {
		return line{{mark + firstFit(m.width-cells(mark), variants...), k}}
	}
	switch {
	case v.Status == board.Mismatch:
		wrong := m.board.Mismatches()
		slices.Sort(wrong)
		verdict, names := "MISMATCH", ""
		if len(wrong) > 0 {
			verdict += " at " + text.Count(len(wrong), "plaza")
			names = ": " + render.SomePlazas(wrong)
		}
		l := fit(critical, verdict+names+checked+" · details: tollstream verify", verdict+names+checked,
			verdict+checked, verdict, "MISMATCH")
		return l.to(m.width).in(critical)
	case v.Status == board.InFlight:
		few := text.Number(v.InFlight)
		return fit(strong, "in flight: "+few+" stored and not yet counted, all else exact; "+all+
			" counted"+checked,
			few+" in flight, all else exact"+checked, few+" in flight"+checked, few+" in flight")
	case v.Status == board.NotVerified:
		return fit(strong, "not verified: rows not read; "+all+" counted; "+render.IndexHint,
			"not verified: rows not read; "+all+" counted", "not verified: rows not read")
	case vehicles == 0 && v.Rows == nil:
		return fit(good, "exact: nothing is stored yet")
	case v.Rows != nil && *v.Rows != vehicles:
		// some are from before tollstream, or were deleted on purpose
		rows := text.Count(*v.Rows, "row")
		return fit(good, "exact: "+all+" at "+plazas+", each counted once; "+rows+checked,
			"exact: "+all+", "+rows+checked, "exact"+checked, "exact")
	}
	return fit(good, "exact: "+all+" at "+plazas+", each one row and counted once"+checked,
		"exact: "+all+", each one row, counted once"+checked, "exact: "+all+checked, "exact"+checked,
		"exact")
}

// staleVerdict is the verdict on figures that are old.
func (m *model) staleVerdict(age time.Duration) line {
	v := &m.board.Verification
	words := map[board.Status]string{board.Exact: "exact", board.NotVerified: "not verified",
		board.InFlight: text.Number(v.InFlight) + " in flight", board.Mismatch: "MISMATCH"}[v.Status]
	k := strong
	if v.Status == board.Mismatch {
		k = critical
	}
	long, at := ago(age), m.board.At.In(m.board.Location).Format(time.TimeOnly)
	return line{{firstFit(m.width, "? "+words+" at "+at+", "+long+"; not verified since",
		"? "+words+" at "+at+", "+long, "? "+words+", "+long, "? stale"), k}}
}

// network sums up all plazas, or shows the first problem.
func (m *model) network() line {
	if m.board == nil {
		return nil
	}
	if v := &m.board.Verification; v.Status == board.Mismatch && len(v.Problems) > 0 {
		out := text.Cell(v.Problems[0])
		if more := len(v.Problems) - 1; more > 0 {
			out = fmt.Sprintf("1 of %s problems: %s", text.Number(more+1), out)
		}
		return line{{out, alarm}}
	}
	s := &m.board.Summary
	states := line{}
	for _, state := range board.Severity {
		n := *s.States.Of(state)
		if n == 0 {
			continue
		}
		if len(states) > 0 {
			states = append(states, span{", ", plain})
		}
		states = append(states,
			span{fmt.Sprintf("%s %s %s", stateSymbols[state], text.Number(n), state), stateStyle(state)})
	}
	if len(states) == 0 {
		return textLine("no plaza is known yet")
	}
	for _, first := range []string{
		fmt.Sprintf("%s, %s vehicles/h · ", text.Count(s.Plazas, "plaza"), s.FlowPerHour.String()),
		fmt.Sprintf("%s vehicles/h · ", s.FlowPerHour.String()),
		s.FlowPerHour.String() + " veh/h · ",
	} {
		if l := append(line{{first, plain}}, states...); l.width() <= m.width {
			return l
		}
	}
	return states
}

// time shows how recent the figures are.
func (m *model) time() line {
	age, stale := m.stale()
	switch {
	case m.outage != "":
		long := ago(m.now.Sub(m.since))
		long = strings.TrimSuffix(long, " ago")
		since := m.since.In(m.boardZone()).Format(time.TimeOnly)
		return line{{fill(firstFit(m.width,
			fmt.Sprintf("STALE for %s, since %s: %s", long, since, m.outage)), m.width, false), critical}}
	case m.paused:
		return line{{fill(firstFit(m.width, fmt.Sprintf("PAUSED, figures of %s; Space goes on", ago(age)),
			"PAUSED; Space goes on"), m.width, false), chosen}}
	case m.board == nil:
		words := "reading …"
		if !m.reading.IsZero() && m.now.Sub(m.reading) >= 2*time.Second {
			words = "reading for " + strings.TrimSuffix(ago(m.now.Sub(m.reading)), " ago") + " …"
		}
		return textLine(words)
	case stale:
		return line{{fill(firstFit(m.width,
			fmt.Sprintf("STALE: reading takes long, figures of %s", ago(age)), "STALE: figures of "+
				ago(age)), m.width, false), critical}}
	}
	updated := "updated " + ago(age)
	if at := m.board.Feed.ArrivedAt; at != nil {
		updated = "newest event " + ago(m.now.Sub(*at))
	}
	if m.board.StreamTime == nil {
		return spread(m.width, "no event yet", updated)
	}
	location := m.boardZone()
	at := render.EventTime(m.board, location)
	behind := ", " + render.Behind(m.board, m.now)
	mark := ""
	if m.board.Watermark != nil {
		mark = ", watermark " + render.Watermark(m.board, location)
	}
	lag := ""
	if n := m.board.Waiting; n > 0 {
		lag = ", lag " + text.Number(n)
	}
	if len(m.board.Warnings) > 0 {
		mark += ", clocks disagree"
	}
	left := firstFit(m.width-cells(updated)-2, at+behind+mark+lag, at+behind+mark, at+behind,
		strings.TrimPrefix(at, "event time ")+behind, strings.TrimPrefix(at, "event time "),
		m.board.StreamTime.In(location).Format("Mon 15:04 MST"))
	return spread(m.width, left, updated)
}

func (m *model) boardZone() *time.Location {
	if m.board == nil {
		return time.UTC
	}
	return m.board.Location
}

// spread puts one text to the left and one to the right; the right one stays where there is little
// room.
func spread(width int, left, right string) line {
	room := width - cells(right) - 2
	if room < 1 {
		return textLine(right)
	}
	return line{{fill(ellipsed(left, room), room, false) + "  ", plain}, {right, plain}}
}

// tableRoom is how many plazas there is room for.
func (m *model) tableRoom() int { return max(m.height-m.headLines()-1-footLines, 1) }

// table returns the visible plazas, below the names of their columns.
func (m *model) table() []line {
	if m.board == nil {
		return slices.Repeat([]line{nil}, m.height-m.headLines()-footLines)
	}
	columns := placeColumns(m.widths, m.width)
	_, stale := m.stale()
	lines := []line{m.tableHead(columns)}
	for i := m.offset; i < min(m.offset+m.tableRoom(), len(m.order)); i++ {
		row := &m.rows[m.order[i]]
		var l line
		for j, c := range columns {
			cell, k := row.cells[c.index], plain
			if c.style != nil {
				k = c.style(row)
			}
			if stale && k == good {
				k = faint
			}
			if c.Name == trendName {
				cell = row.trend(c.width)
			}
			if j > 0 {
				l = append(l, span{strings.Repeat(" ", table.Gap), plain})
			}
			cell = ellipsed(cell, c.width)
			blanks := span{strings.Repeat(" ", c.width-cells(cell)), plain}
			if c.Number {
				l = append(l, blanks, span{cell, k})
			} else {
				l = append(l, span{cell, k}, blanks)
			}
		}
		if i == m.cursor {
			l = l.to(m.width).in(chosen)
		}
		lines = append(lines, l)
	}
	if len(m.order) == 0 {
		words := "no plaza matches the filter; Esc clears it"
		if len(m.rows) == 0 {
			words = "plazas appear here with their first vehicle"
		}
		lines = append(lines, textLine(words))
	}
	room := m.height - m.headLines() - footLines
	if m.previews() {
		lines = append(lines, line{{strings.Repeat("─", m.width), faint}})
		lines = append(lines, m.plazaPage(m.spare())...)
	}
	lines = lines[:min(len(lines), room)]
	for len(lines) < room {
		lines = append(lines, nil)
	}
	return lines
}

// tableHead names the columns. The letter that sorts by one is underlined, and an arrow stands
// behind the one that does.
func (m *model) tableHead(columns []placedColumn) line {
	var l line
	gap := 0
	for _, c := range columns {
		l = append(l, span{strings.Repeat(" ", gap), plain})
		gap = table.Gap
		name := c.Name
		if name == trendName {
			name = trendHours(c.width)
		}
		blanks, arrow := c.width-cells(name), ""
		if c.key != "" && c.key == m.sort.key {
			arrow = m.sort.arrow()
		}
		switch {
		case c.Number:
			l = append(l, span{strings.Repeat(" ", blanks), plain})
			l = append(append(l, keyed(name, c.key)...), span{arrow, strong})
			gap -= cells(arrow)
		default:
			l = append(append(l, keyed(name, c.key)...),
				span{arrow + strings.Repeat(" ", blanks-cells(arrow)), strong})
		}
	}
	return l
}

// keyed writes a name with the letter of its key underlined.
func keyed(name, key string) line {
	i := strings.Index(name, key)
	if key == "" || i < 0 {
		return line{{name, strong}}
	}
	return line{{name[:i], strong}, {key, marked}, {name[i+len(key):], strong}}
}

// foot is the last line of the table.
func (m *model) foot() line {
	of := ""
	if n := len(m.order); n > 0 && m.board != nil {
		of = fmt.Sprintf("%s–%s of %s", text.Number(m.offset+1),
			text.Number(min(m.offset+m.tableRoom(), n)), text.Number(n))
	}
	sorted := "by " + m.sort.column().Name + " " + m.sort.arrow()
	filtered := ""
	switch {
	case m.typing:
		return spread(m.width,
			firstFit(m.width-cells(of)-2, "/"+m.filter+"▏ Enter keeps the filter, Esc drops it",
				"/"+m.filter+"▏"), of)
	case m.filter != "":
		filtered = "/" + m.filter + " (Esc clears) · "
	}
	right := firstFit(m.width*2/3, sorted+" · "+of, of)
	if of == "" {
		right = sorted
	}
	return spread(m.width,
		firstFit(m.width-cells(right)-2,
			filtered+"Enter: plaza  i: incidents  /: filter  letter: sort  Space: pause  ?: help  q: quit",
			filtered+"Enter: plaza  /: filter  letter: sort  Space: pause  ?: help  q: quit",
			filtered+"Enter: plaza  /: filter  ?: help  q: quit", filtered+"?: help  q: quit", filtered+
				"q: quit"), right)
}

// footOf is the last line of another page.
func (m *model) footOf(first, lines int) line {
	of := ""
	if room := m.contentRoom(); lines > room {
		of = fmt.Sprintf("lines %d–%d of %d", first+1, min(first+room, lines), lines)
	}
	room := m.width - cells(of) - 2
	if m.page == pageHelp {
		return spread(m.width, firstFit(room, "Esc: back  ↑↓: scroll  q: quit", "Esc: back"), of)
	}
	if m.page == pageIncidents {
		return spread(m.width, firstFit(room,
			"Esc: back  ↑↓: scroll  Space: pause  ?: help  q: quit", "Esc: back  q: quit", "Esc"), of)
	}
	return spread(m.width,
		firstFit(room, "Esc: back  ←→: other plazas  ↑↓: scroll  Space: pause  ?: help  q: quit",
			"Esc: back  ←→: others  ?: help  q: quit", "Esc: back  q: quit", "Esc"), of)
}

// help explains keys and figures.
func (m *model) help() []line {
	var t strings.Builder
	t.WriteString("KEYS\n")
	table.WriteFigures(&t, []table.Figure{
		{"↑ ↓, j k", "", "move, or scroll"},
		{"PgUp PgDn", "", "by a page"},
		{"Home End", "", "to the first line, or the last"},
		{"Enter", "", "the plaza under the cursor; Esc goes back"},
		{"← →", "", "there: the plaza before or after it"},
		{"i", "", "the incidents of all plazas; Esc goes back"},
		{"/", "", "only the plazas with these words: name, road, state …"},
		{"Space", "", "pause, or go on"},
		{"Ctrl-L", "", "redraw the screen"},
		{"Ctrl-Z", "", "suspend; the shell's fg goes on"},
		{"q, Ctrl-C", "", "quit"},
	})
	t.WriteString("\nORDER: the underlined letter of a column sorts by it, once more turns it round\n")
	var keys []table.Figure
	for i := range tableColumns {
		c := &tableColumns[i]
		if c.key != "" {
			keys = append(keys, table.Figure{c.key, "", cmp.Or(c.meaning, render.Meanings[c.Name])})
		}
	}
	table.WriteFigures(&t, keys)
	t.WriteString("\nSTATES\n")
	for _, s := range board.Severity {
		fmt.Fprintf(&t, "  %s  %s\n", fill(stateWords(s), 13, false), stateMeaning(s))
	}
	t.WriteString("\nVERIFICATION\n")
	table.WriteFigures(&t, []table.Figure{
		{"✓ exact", "", "each vehicle is one row of livetolldata and counted once"},
		{"~ in flight", "", "some are stored and not yet counted, which is healthy"},
		{"? not verified", "", "the rows were not read, so nothing is proved"},
		{"✗ MISMATCH", "", "rows and counts disagree: run tollstream verify"},
	})
	var lines []line
	for text := range strings.Lines(t.String()) {
		lines = append(lines, textLine(strings.TrimSuffix(text, "\n")))
	}
	return lines
}

func stateMeaning(s traffic.State) string {
	return map[traffic.State]string{
		traffic.Saturated: "throughput at capacity", traffic.BelowUsual: "far less than usual",
		traffic.AboveUsual: "far more than usual", traffic.Busy: "throughput near capacity",
		traffic.Free: "none of these", traffic.NoData: "nothing passes, or nothing is known of now",
		traffic.CatchingUp: "its events are not stored yet",
		traffic.WarmingUp:  "observed for a few minutes so far",
	}[s]
}

// ago writes how long ago something was.
func ago(d time.Duration) string {
	if s := int64(max(d, 0) / time.Second); s < 60 {
		return fmt.Sprintf("%d s ago", s)
	}
	return text.Minutes(int64(d/time.Minute)) + " ago"
}
