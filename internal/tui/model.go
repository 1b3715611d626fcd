package tui

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
)

// model is the state of the full-screen view. It has no clock and does no input or output: its
// methods take what happens, frame returns what to show, and request what to read. One goroutine
// uses it.
type model struct {
	width, height int
	now           time.Time // wall clock of the last message

	board   *board.Board // read last, nil before the first
	rows    []plazaRow   // of board, in its order
	widths  []int        // of columns; 0 for one with nothing to show
	brief   func(error) string
	reading time.Time // when the read under way began, zero for none
	outage  string    // why the board can't be read, empty while it can
	since   time.Time // when the outage began

	page  page
	under page // the page below help
	top   int  // the most plazas that are listed, 0 for all

	// Of the table.
	sort     sortKey
	filter   string
	before   string // the filter before it was typed at
	typing   bool   // whether keys go to the filter
	order    []int  // indices of rows, as they are listed
	cursor   int    // in order
	offset   int    // in order, of the first visible line
	followed int16  // the plaza that the cursor stays on …
	follows  bool   // … unless it stays on the first line, whichever plaza that is

	// Of a plaza's page.
	plaza        int16
	detail       *board.Detail // nil where not read
	detailFailed string        // why not
	// Of the page of incidents, the same.
	incidents       *board.IncidentPage
	incidentsFailed string
	scroll          int // lines

	paused   bool
	pausedAt time.Time
	quit     bool
	fatal    error // why the view ended, nil if a person quit
}

type page uint8

const (
	pageTable page = iota
	pagePlaza
	pageIncidents
	pageHelp
)

func newModel(o Options, now time.Time) *model {
	m := &model{now: now, top: o.Top, brief: o.Brief,
		sort: sortKey{key: sortKeyOf(cmp.Or(o.Sort, "state"))}}
	if m.brief == nil {
		m.brief = error.Error
	}
	if o.Plaza != nil {
		m.open(*o.Plaza)
	}
	return m
}

// request is what the model wants to be read.
type request struct {
	paused bool
	plaza  int16
	detail bool // of plaza
	// the list of incidents
	incidents bool
}

func (m *model) request() request {
	page := m.page
	if page == pageHelp {
		page = m.under
	}
	// what is previewed decides which plaza the page is of
	detail := page == pagePlaza || page == pageTable && m.previews()
	return request{paused: m.paused, plaza: m.plaza, detail: detail,
		incidents: page == pageIncidents}
}

// previewRoom is how many lines a tall screen must have left below the table for what there is
// about the chosen plaza.
const previewRoom = 16

// spare is how many lines are left below the table and a rule.
func (m *model) spare() int { return m.tableRoom() - len(m.order) - 1 }

// previews reports whether the chosen plaza is shown below the table. It is the page's plaza then.
func (m *model) previews() bool {
	if m.board == nil || len(m.order) == 0 || m.spare() < previewRoom {
		return false
	}
	if id := int16(m.rows[m.order[m.cursor]].ID); id != m.plaza {
		m.plaza, m.detail, m.detailFailed = id, nil, ""
	}
	return true
}

// resize takes the size of the terminal.
func (m *model) resize(width, height int) {
	m.width, m.height = width, height
	m.scrollTable()
}

// tick takes the wall clock, and since when a read is under way.
func (m *model) tick(now, reading time.Time) { m.now, m.reading = now, reading }

// show takes a board, or why there is none.
func (m *model) show(b *board.Board, err error, now time.Time) {
	m.now, m.reading = now, time.Time{}
	if err != nil {
		if m.outage == "" {
			m.since = now
			if m.board != nil {
				m.since = m.board.At
			}
		}
		m.outage = "waiting for the servers: " + text.Cell(text.OneLine(m.brief(err)))
		return
	}
	m.outage = ""
	if m.paused && m.board != nil {
		return // it was under way when the view was paused
	}
	m.board = b
	m.rows = m.rows[:0]
	for i := range b.Plazas {
		m.rows = append(m.rows, newPlazaRow(b, &b.Plazas[i]))
	}
	m.measure()
	m.arrange()
}

// showDetail takes a plaza's page, or why there is none.
func (m *model) showDetail(plaza int16, d *board.Detail, err error) {
	switch {
	case plaza != m.plaza: // asked for before another one was opened
	case err != nil:
		m.detailFailed = text.Cell(text.OneLine(m.brief(err)))
	default:
		m.detail, m.detailFailed = d, ""
	}
}

// showIncidents takes the incidents, or why there are none.
func (m *model) showIncidents(page *board.IncidentPage, err error) {
	if err != nil {
		m.incidentsFailed = text.Cell(text.OneLine(m.brief(err)))
		return
	}
	m.incidents, m.incidentsFailed = page, ""
}

// measure sets the widths of the columns: all rows', so that nothing moves while one scrolls.
func (m *model) measure() {
	m.widths = make([]int, len(tableColumns))
	for i := range tableColumns {
		c := &tableColumns[i]
		some := false
		widest := cells(c.Name)
		if !c.Number && c.key != "" {
			widest++ // for an arrow; numbers have theirs in the gap behind them
		}
		for j := range m.rows {
			cell := m.rows[j].cells[i]
			some = some || cell != "" && cell != "-"
			widest = max(widest, cells(cell))
		}
		switch {
		case c.Name == trendName && len(m.rows) > 0:
			m.widths[i] = leastTrend
		case some && c.Name != trendName || c.rank == 0:
			m.widths[i] = widest
		}
	}
}

// arrange lists the plazas that pass the filter in their order. The cursor follows its plaza.
func (m *model) arrange() {
	line := m.cursor - m.offset
	words := strings.Fields(strings.ToLower(m.filter))
	m.order = m.order[:0]
	for i := range m.rows {
		if m.rows[i].matches(words) {
			m.order = append(m.order, i)
		}
	}
	slices.SortFunc(m.order, func(i, j int) int { return m.sort.compare(&m.rows[i], &m.rows[j]) })
	if m.top > 0 && len(m.order) > m.top {
		m.order = m.order[:m.top]
	}
	if !m.follows {
		m.cursor, m.offset = 0, 0
		return
	}
	at := slices.IndexFunc(m.order, func(i int) bool { return m.rows[i].ID == int(m.followed) })
	if at < 0 { // filtered out, or gone
		m.moveTo(m.cursor)
		return
	}
	m.cursor = at
	m.offset = at - line // the row moves, and the eye need not
	m.scrollTable()
}

// moveTo puts the cursor on a line of the list.
func (m *model) moveTo(i int) {
	m.cursor = max(min(i, len(m.order)-1), 0)
	m.follows = m.cursor > 0
	if m.follows {
		m.followed = int16(m.rows[m.order[m.cursor]].ID)
	}
	m.scrollTable()
}

// scrollTable keeps the cursor visible, and the page full.
func (m *model) scrollTable() {
	room := m.tableRoom()
	m.offset = min(max(m.offset, m.cursor-room+1), m.cursor)
	m.offset = max(min(m.offset, len(m.order)-room), 0)
}

// open shows a plaza's page.
func (m *model) open(plaza int16) {
	if plaza != m.plaza || m.page != pagePlaza {
		m.detail, m.detailFailed, m.scroll = nil, "", 0
	}
	m.page, m.plaza = pagePlaza, plaza
}

// step opens the plaza that comes n lines later in the list.
func (m *model) step(n int) {
	at := slices.IndexFunc(m.order, func(i int) bool { return m.rows[i].ID == int(m.plaza) })
	if at < 0 || at+n < 0 || at+n >= len(m.order) {
		return
	}
	m.moveTo(at + n)
	m.open(int16(m.rows[m.order[at+n]].ID))
}

// Names of keys that are no characters.
const (
	keyUp, keyDown, keyLeft, keyRight = "up", "down", "left", "right"
	keyPageUp, keyPageDown            = "pgup", "pgdown"
	keyHome, keyEnd                   = "home", "end"
	keyEnter, keyEscape, keySpace     = "enter", "esc", "space"
	keyBackspace                      = "backspace"
)

// press takes a key by its name, as x, up or ctrl+c.
func (m *model) press(key string) {
	switch {
	case key == "ctrl+c":
		m.quit = true
	case m.typing:
		m.pressFilter(key)
	case key == "q":
		m.quit = true
	case key == keySpace:
		m.paused, m.pausedAt = !m.paused, m.now
	case m.page == pageHelp:
		if key == "?" || key == keyEscape || key == keyEnter || key == keyBackspace {
			m.page = m.under
		} else {
			m.scrollBy(key)
		}
	case key == "?":
		m.page, m.under, m.scroll = pageHelp, m.page, 0
	case m.page == pagePlaza:
		m.pressPlaza(key)
	case m.page == pageIncidents:
		if key == keyEscape || key == keyBackspace || key == "i" {
			m.page = pageTable
		} else {
			m.scrollBy(key)
		}
	default:
		m.pressTable(key)
	}
}

func (m *model) pressTable(key string) {
	page := max(m.tableRoom()-1, 1)
	switch key {
	case keyUp, "k":
		m.moveTo(m.cursor - 1)
	case keyDown, "j":
		m.moveTo(m.cursor + 1)
	case keyPageUp, "ctrl+b":
		m.offset -= page
		m.moveTo(m.cursor - page)
	case keyPageDown, "ctrl+f":
		m.offset += page
		m.moveTo(m.cursor + page)
	case keyHome, "g":
		m.moveTo(0)
	case keyEnd, "G":
		m.moveTo(len(m.order) - 1)
	case keyEnter, keyRight:
		if len(m.order) > 0 {
			m.open(int16(m.rows[m.order[m.cursor]].ID))
		}
	case "i":
		m.page, m.scroll = pageIncidents, 0
	case "/":
		m.typing, m.before = true, m.filter
	case keyEscape:
		m.setFilter("")
	default:
		if slices.ContainsFunc(tableColumns, func(c column) bool {
			return c.key == key && key != ""
		}) {
			m.sort = sortKey{key: key, reversed: m.sort.key == key && !m.sort.reversed}
			m.moveTo(0)
			m.arrange()
		}
	}
}

func (m *model) pressPlaza(key string) {
	switch key {
	case keyEscape, keyBackspace:
		m.page = pageTable
	case keyRight, "n":
		m.step(1)
	case keyLeft, "p":
		m.step(-1)
	default:
		m.scrollBy(key)
	}
}

// scrollBy scrolls a page that has no cursor. That it does not go too far, frame sees to.
func (m *model) scrollBy(key string) {
	page := max(m.height-4, 1)
	switch key {
	case keyUp, "k":
		m.scroll--
	case keyDown, "j":
		m.scroll++
	case keyPageUp, "ctrl+b":
		m.scroll -= page
	case keyPageDown, "ctrl+f":
		m.scroll += page
	case keyHome, "g":
		m.scroll = 0
	case keyEnd, "G":
		m.scroll = 1 << 20
	}
	m.clampScroll()
}

// clampScroll keeps to the lines that the page has.
func (m *model) clampScroll() {
	if !m.tooSmall() {
		m.scroll = max(min(m.scroll, len(m.content())-m.contentRoom()), 0)
	}
}

// maxFilter is the most characters of a filter.
const maxFilter = 64

func (m *model) pressFilter(key string) {
	switch key {
	case keyEnter:
		m.typing = false
	case keyEscape:
		m.typing = false
		m.setFilter(m.before)
	case keyBackspace:
		_, size := utf8.DecodeLastRuneInString(m.filter)
		m.setFilter(m.filter[:len(m.filter)-size])
	case "ctrl+u":
		m.setFilter("")
	case keySpace:
		m.text(" ")
	case keyUp:
		m.moveTo(m.cursor - 1)
	case keyDown:
		m.moveTo(m.cursor + 1)
	}
}

// text takes characters that were typed or pasted. Those that are keys of the view reach press.
func (m *model) text(s string) {
	if !m.typing {
		return
	}
	for _, r := range s {
		if text.Steady(r) && utf8.RuneCountInString(m.filter) < maxFilter {
			m.filter += string(r)
		}
	}
	m.setFilter(m.filter)
}

func (m *model) setFilter(filter string) {
	m.filter = filter
	m.moveTo(0)
	m.arrange()
}

// end ends the view with an error.
func (m *model) end(err error) { m.quit, m.fatal = true, err }
