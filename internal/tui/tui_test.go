package tui

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"golang.org/x/tools/txtar"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

var update = flag.Bool("update-screens", false, "write testdata again")

// testNow is the wall clock of the fixtures; the stream's is that of toll's busiest hour.
var testNow = time.Date(2026, 3, 24, 7, 23, 5, 0, time.UTC)

// testBoard is a board of plazas 4000 and up, of every state and verdict. The stream's time is
// 08:23 in Berlin.
func testBoard(plazas int) *board.Board {
	at := testNow.Add(-time.Second)
	stream := time.Date(2026, 3, 24, 7, 23, 0, 0, time.UTC)
	berlin, _ := time.LoadLocation("Europe/Berlin")
	b := &board.Board{
		Location: berlin, At: at, StreamTime: &stream, Watermark: new(stream.Add(-2 * time.Second)),
		Waiting:  2_431,
		Timezone: "Europe/Berlin",
		Verification: board.Verification{Status: board.Exact, Events: new(int64(plazas) * 961_001),
			Rows: new(int64(plazas) * 961_001), CheckedAt: new(at.Add(-time.Second))},
	}
	names := []string{"Boughton", "Devon", "Mill Lane", "Quarry", "Harbour", "Freight Yard", "",
		"Tunnel", "Østerbro", "横浜料金所", "Forest"}
	for i := range plazas {
		p := board.Plaza{
			ID: 4000 + i, Location: berlin, Name: names[i%len(names)], Road: "M1",
			PositionKm: new(float64(i) * 4.5),
			Lanes:      2 + i%5, State: traffic.Free,
			Since: new(stream.Add(-90 * time.Minute)), Why: "demand is within what the lanes can take",
			Total:       int64(1_000_000 - i*7_919%900_000),
			FlowPerHour: board.Flow(600 + i*977%3000),
			Measures: board.Measures{VC: new(0.2 + float64(i*13%60)/100), PHF: new(0.92),
				HeavyShare: new(0.05 + float64(i%7)/50), Z: new(float64(i%5) - 2),
				HeadwaySeconds: new(1.2), Throughput: new(700.0)},
			Capacity: new(3250.0), Usual: &traffic.Usual{Median: 712, MAD: 20, N: 3},
			LastEvent: new(stream.Add(58 * time.Second)),
		}
		for q := range board.SparklineQuarters {
			p.Sparkline = append(p.Sparkline, new(int64(400+300*math.Sin(float64(q+i)/7))))
		}
		p.Verification = board.PlazaVerification{Status: board.Exact, TableCount: p.Total,
			StoredRows: new(p.Total)}
		switch i {
		case 3:
			p.State, p.Z, p.FlowPerHour = traffic.BelowUsual, new(-6.2), 196
		case 4:
			p.State, p.VC = traffic.Busy, new(0.812)
		case 6:
			p.State, p.VC, p.Z, p.HeavyShare, p.Usual, p.FlowPerHour = traffic.NoData, nil, nil, nil, nil, 0
			p.Sparkline = make([]*int64, board.SparklineQuarters)
			p.LastEvent = new(stream.Add(-40 * time.Hour))
		case 7:
			p.State, p.VC, p.FlowPerHour = traffic.Saturated, new(1.0829), 3084
			p.Throughput, p.Z = new(3516.0), new(2.2)
			p.Since, p.Why = new(stream.Add(-13*time.Minute)),
				"demand 3,516 pc/h is 108 % of the capacity of 3,250 pc/h (5 lanes); how long the queue is "+
					"can't be told from crossings"
		}
		b.Plazas = append(b.Plazas, p)
	}
	b.Summary = board.Summarize(b.Plazas)
	return b
}

// inFlight and mismatched change a board's verdict.
func inFlight(b *board.Board) *board.Board {
	b.Verification.Status, b.Verification.InFlight = board.InFlight, 93
	b.Plazas[1].Verification.Status, b.Plazas[1].Verification.InFlight = board.InFlight, 93
	return b
}

// unread has a count of rows that was cut off.
func unread(b *board.Board) *board.Board {
	b.Verification.Status, b.Verification.Rows = board.NotVerified, nil
	b.Verification.CheckedAt = nil
	for i := range b.Plazas {
		b.Plazas[i].Verification.Status = board.NotVerified
	}
	return b
}

func mismatched(b *board.Board) *board.Board {
	b.Verification.Status = board.Mismatch
	b.Verification.Problems = []string{"plaza 4002: 2 of its rows are missing\x1b[31m",
		"plaza 4005: other rows"}
	b.Verification.Next = []string{"find out who changed the table; then restore the database"}
	for _, i := range []int{2, 5} {
		b.Plazas[i].Verification.Status = board.Mismatch
		*b.Plazas[i].Verification.StoredRows -= 2
	}
	return b
}

// testDetail is the page of a plaza of testBoard: a Tuesday up to 08:23, against a usual day.
func testDetail(b *board.Board, plaza int16) *board.Detail {
	location, _ := time.LoadLocation(b.Timezone)
	i := slices.IndexFunc(b.Plazas, func(p board.Plaza) bool { return p.ID == int(plaza) })
	d := &board.Detail{Plaza: b.Plazas[i], At: b.At, DaySoFar: new(int64(9102)),
		DaySoFarLastWeek: new(int64(8951))}
	midnight := time.Date(2026, 3, 24, 0, 0, 0, 0, location)
	usual := func(q int) float64 { // two rush hours
		h := float64(q) / 4
		return 60 + 640*math.Exp(-(h-8)*(h-8)/6) + 560*math.Exp(-(h-17)*(h-17)/8)
	}
	for q := range 96 {
		point := board.Quarter{Start: midnight.Add(time.Duration(q) * 15 * time.Minute),
			Capacity: new(812.5)}
		median := usual(q)
		point.UsualMedian, point.UsualLow, point.UsualHigh = new(median), new(median*0.85),
			new(median*1.15)
		if q < 34 {
			n := int64(median*(1.05+0.1*math.Sin(float64(q)))) + 20
			if q == 33 {
				n = n * 9 / 15
			}
			point.Count, point.ByType = &n, map[string]int64{"car": n * 4 / 5, "truck": n / 8,
				"van": n - n*4/5 - n/8}
			point.PassengerCars = new(float64(n + n/8))
			if q >= 4 && q < 7 {
				point.Count, point.PassengerCars, point.ByType = nil, nil, nil
			}
		}
		d.Quarters = append(d.Quarters, point)
	}
	d.Changes = []board.Change{
		{From: traffic.Busy, To: traffic.Saturated, Since: *b.Plazas[i].Since,
			Detected: b.Plazas[i].Since.Add(2 * time.Minute),
			Why:      "demand 3,516 pc/h is 108 % of the capacity"},
		{From: traffic.Free, To: traffic.Busy, Since: b.Plazas[i].Since.Add(-26 * time.Hour),
			Detected: b.Plazas[i].Since.Add(-26 * time.Hour), Why: "demand is 78 % of the capacity"},
	}
	window := func(kind string, start, end time.Time, count, late, tooLate, revision int64, final bool,
		reason toll.CloseReason) {
		d.RecentWindows = append(d.RecentWindows,
			board.Window{Kind: kind, Start: start, End: end, Count: count, Late: late, TooLate: tooLate,
				Revision:    revision,
				FlowPerHour: float64(count) / end.Sub(start).Hours(), Final: final, Reason: reason,
				ByType: map[string]int64{"car": count}})
	}
	stream := *b.StreamTime
	for n := range 4 {
		end := stream.Add(-time.Duration(n) * time.Minute)
		window("1m", end.Add(-time.Minute), end, 56-int64(n), 0, 0, 1, true, toll.ClosedByWatermark)
	}
	window("15m", stream.Add(-23*time.Minute), stream.Add(-8*time.Minute), 743, 3, 1, 2, true,
		toll.ClosedByIdle)
	window("day", midnight, stream.Add(-8*time.Minute), 9102, 3, 0, 33, false, toll.ClosedByWatermark)
	return d
}

// modelOf is a model that shows a board.
func modelOf(t *testing.T, b *board.Board, width, height int) *model {
	t.Helper()
	m := newModel(Options{}, testNow)
	m.resize(width, height)
	m.show(b, nil, testNow)
	return m
}

// textOf returns the frame as text, after it has been checked that it fits.
func (m *model) textOf(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	frame := m.frame()
	if len(frame) != m.height {
		t.Errorf("%d lines on a screen of %d", len(frame), m.height)
	}
	for i, l := range frame {
		if n := l.width(); n != m.width {
			t.Errorf("line %d has %d columns of %d: %q", i, n, m.width, l)
		}
		for _, r := range l.String() {
			if !text.Steady(r) {
				t.Errorf("line %d holds %q: %q", i, r, l)
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

func (m *model) keys(keys ...string) *model {
	for _, k := range keys {
		if m.typing && len(k) == 1 {
			m.text(k)
		} else {
			m.press(k)
		}
	}
	return m
}

// testIncidents is one that is open, and two that have ended.
func testIncidents() *board.IncidentPage {
	began := testNow.Add(-37 * time.Minute).Truncate(time.Minute)
	incident := func(plaza int, name string, before, lasted time.Duration, s traffic.State,
		peak float64,
		why string) board.Incident {
		i := board.Incident{Plaza: plaza, Name: name, State: s, Why: why, PeakFlow: peak,
			Began: began.Add(-before), ID: fmt.Sprintf("20260324T0646Z-%d", plaza)}
		if lasted > 0 {
			i.Ended = new(i.Began.Add(lasted))
		}
		return i
	}
	page := &board.IncidentPage{More: true, Incidents: []board.Incident{
		incident(4007, "Tunnel", 0, 0, traffic.Saturated, 3516,
			"throughput 3,516 pc/h is 108 % of the capacity of 3,250 pc/h (5 lanes)"),
		incident(4003, "Quarry\x1b[31m", time.Hour, 25*time.Minute, traffic.BelowUsual, 96,
			"24 vehicles in 15 min, usual are 310 (z −6.1)"),
		incident(4009, "横浜料金所", 30*time.Hour, 95*time.Minute, traffic.Busy, 2744, "near capacity"),
	}}
	page.Incidents[1].Notes = []board.IncidentNote{{Author: "Ada", Acknowledged: true}}
	return page
}

// TestIncidents opens the list and leaves it; a failure shows until it is read.
func TestIncidents(t *testing.T) {
	m := modelOf(t, testBoard(12), 80, 24).keys("i")
	if w := m.request(); !w.incidents || w.detail {
		t.Errorf("it requests %+v", w)
	}
	m.showIncidents(nil, errors.New("no database"))
	if got := m.textOf(t); !strings.Contains(got, "the incidents can't be read: no database") {
		t.Errorf("got\n%s", got)
	}
	m.showIncidents(&board.IncidentPage{}, nil)
	if got := m.textOf(t); !strings.Contains(got, "no incident yet") {
		t.Errorf("got\n%s", got)
	}
	if m.keys("?", keyEscape, keyEscape); m.request().incidents || m.page != pageTable {
		t.Error("it is not left")
	}
}

// TestGolden compares frames with those in testdata/screens.txtar.
func TestGolden(t *testing.T) {
	detail := func(b *board.Board, width, height int) *model {
		m := modelOf(t, b, width, height).keys(keyEnter)
		m.showDetail(m.plaza, testDetail(b, m.plaza), nil)
		return m
	}
	incidents := func(width, height int) *model {
		m := modelOf(t, testBoard(12), width, height).keys("i")
		m.showIncidents(testIncidents(), nil)
		return m
	}
	later := func(m *model,
		d time.Duration) *model {
		m.tick(testNow.Add(d), time.Time{})
		return m
	}
	const file = "testdata/screens.txtar"
	screens, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*model{
		"table-80x24":      modelOf(t, testBoard(12), 80, 24),
		"table-40x10":      modelOf(t, testBoard(12), 40, 10),
		"table-300x20":     modelOf(t, testBoard(30), 300, 20),
		"table-132x20":     modelOf(t, testBoard(1000), 132, 20).keys("t", keyEnd, keyUp),
		"in-flight-100x14": modelOf(t, inFlight(testBoard(12)), 100, 14),
		"unread-100x10":    modelOf(t, unread(testBoard(12)), 100, 10),
		"mismatch-100x14":  modelOf(t, mismatched(testBoard(12)), 100, 14).keys("d"),
		"mismatch-40x10":   modelOf(t, mismatched(testBoard(12)), 40, 10),
		"filter-80x12":     modelOf(t, testBoard(40), 80, 12).keys("/", "m", "i", "l", "l"),
		"nothing-80x10": modelOf(t,
			&board.Board{At: testNow, Verification: board.Verification{Status: board.Exact},
				Notices: []board.Notice{{Kind: "first_event",
					Text: "waiting for the first event; tollstream emit --profile day sends simulated ones"}}},
			80, 10),
		"stale-80x12":      later(modelOf(t, testBoard(12), 80, 12), 14*time.Second),
		"paused-80x12":     later(modelOf(t, testBoard(12), 80, 12).keys(keySpace), 75*time.Second),
		"plaza-100x70":     detail(testBoard(12), 100, 70),
		"plaza-80x24":      detail(testBoard(12), 80, 24),
		"plaza-40x30":      detail(testBoard(12), 40, 30),
		"plaza-240x40":     detail(testBoard(12), 240, 40),
		"incidents-80x14":  incidents(80, 14),
		"incidents-40x12":  incidents(40, 12),
		"incidents-240x12": incidents(240, 12),
		"help-80x40":       modelOf(t, testBoard(12), 80, 40).keys("?"),
		"small-39x4":       modelOf(t, mismatched(testBoard(12)), 39, 4),
	} {
		t.Run(name, func(t *testing.T) {
			got := m.textOf(t)
			i := slices.IndexFunc(screens.Files, func(f txtar.File) bool { return f.Name == name })
			if *update && i < 0 {
				screens.Files = append(screens.Files, txtar.File{Name: name, Data: []byte(got)})
			} else if *update {
				screens.Files[i].Data = []byte(got)
			} else if i < 0 {
				t.Errorf("it is not in %s", file)
			} else if want := string(screens.Files[i].Data); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(screens), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSort sorts by each column, both ways: what is not known goes last either way.
func TestSort(t *testing.T) {
	m := modelOf(t, testBoard(12), 200, 20)
	first := func() string { return render.PlazaName(m.rows[m.order[0]].ID) }
	last := func() string { return render.PlazaName(m.rows[m.order[len(m.order)-1]].ID) }
	for _, c := range []struct{ key, first, last, turnedFirst, turnedLast string }{
		{"p", "4000", "4011", "4011", "4000"},
		{"n", "4011", "4006", "4009", "4006"}, // Boughton with the higher v/c; one has no name
		{"s", "4007", "4000", "4009", "4007"},
		{"f", "4009", "4006", "4006", "4009"},
		{"c", "4007", "4006", "4000", "4006"},
		{"h", "4005", "4006", "4007", "4006"},
		{"z", "4003", "4006", "4002", "4006"}, // either way from usual
		{"t", "4000", "4011", "4011", "4000"},
		{"l", "4007", "4006", "4006", "4000"},
		{"d", "4007", "4006", "4007", "4006"}, // all exact: the fuller one first
	} {
		m.sort = sortKey{key: "?"} // another one
		if m.press(c.key); first() != c.first || last() != c.last {
			t.Errorf("%s: from %s to %s, want %s to %s", c.key, first(), last(), c.first, c.last)
		}
		if m.press(c.key); first() != c.turnedFirst || last() != c.turnedLast {
			t.Errorf("%s turned round: from %s to %s, want %s to %s", c.key, first(), last(), c.turnedFirst,
				c.turnedLast)
		}
	}
	keys := map[string]bool{}
	for _, c := range tableColumns {
		if c.key != "" && (keys[c.key] || !strings.Contains(c.Name, c.key)) {
			t.Errorf("the key %s of the column %s is taken, or none of its letters", c.key, c.Name)
		}
		keys[c.key] = true
	}
	for flag, key := range map[string]string{"total": "t", "flow": "f", "vc": "c",
		"deviation": "z"} {
		if m := newModel(Options{Sort: flag},
			testNow); m.sort.column().key != key {
			t.Errorf("--sort %s sorts by %s", flag, m.sort.column().Name)
		}
	}
}

// TestCursor follows a plaza while others overtake it; on the first line it stays there.
func TestCursor(t *testing.T) {
	b := testBoard(100)
	m := modelOf(t, b, 80, 15).keys("t")
	at := func() int16 { return int16(m.rows[m.order[m.cursor]].ID) }
	if at() != 4000 {
		t.Fatalf("the fullest is %d", at())
	}
	b2 := testBoard(100)
	b2.Plazas[70].Total = 5_000_000
	m.show(b2, nil, testNow)
	if at() != 4070 || m.cursor != 0 || m.offset != 0 {
		t.Errorf("the first line shows %d, cursor %d", at(), m.cursor)
	}
	m.keys(keyPageDown, keyPageDown, keyDown)
	plaza, line := at(), m.cursor-m.offset
	for i := range 3 {
		b3 := testBoard(100)
		for j := range 20 + 20*i {
			b3.Plazas[99-j].Total = int64(6_000_000 + j)
		}
		m.show(b3, nil, testNow)
		if at() != plaza || m.cursor-m.offset != line {
			t.Errorf("the cursor is on %d in line %d, and was on %d in line %d", at(), m.cursor-m.offset,
				plaza, line)
		}
		m.textOf(t)
	}
	m.keys(keyEnd)
	if m.cursor != 99 || m.offset != 100-m.tableRoom() {
		t.Errorf("End: cursor %d, offset %d", m.cursor, m.offset)
	}
	m.show(testBoard(3), nil, testNow) // the others have gone
	if m.cursor > 2 || m.offset != 0 {
		t.Errorf("of three plazas: cursor %d, offset %d", m.cursor, m.offset)
	}
	m.show(&board.Board{At: testNow}, nil, testNow)
	m.keys(keyDown, keyUp, keyEnd, keyPageUp, keyEnter, keyRight)
	if m.page != pageTable {
		t.Error("Enter opened a plaza where there is none")
	}
	m.textOf(t)
	if m := newModel(Options{Top: 5}, testNow); true {
		m.resize(80, 24)
		m.show(testBoard(100), nil, testNow)
		if len(m.order) != 5 {
			t.Errorf("--top 5 lists %d", len(m.order))
		}
	}
}

// TestFilter types at the filter.
func TestFilter(t *testing.T) {
	m := modelOf(t, mismatched(testBoard(40)), 80, 24)
	for filter, want := range map[string]int{"": 40, "4002": 1, "MILL": 4, "mill free": 4,
		"mill mismatch": 1, "m1 saturated": 1, "横浜": 3, "nowhere": 0, "no data": 1} {
		m.keys(keyEscape, "/")
		m.text(filter)
		m.keys(keyEnter)
		if len(m.order) != want {
			t.Errorf("%q leaves %d plazas, want %d", filter, len(m.order), want)
		}
		m.textOf(t)
	}
	m.keys(keyEscape, "/", "q", "q", keyBackspace)
	if m.quit || m.filter != "q" {
		t.Errorf("typed q at the filter: %q, quit %v", m.filter, m.quit)
	}
	m.keys(keyEscape)
	if m.filter != "" || m.typing {
		t.Error("Esc does not drop what was typed")
	}
	m.keys("/")
	m.text("\x1b[2J\u202e" + strings.Repeat("x", 1000))
	if n := len(m.filter); n > maxFilter || strings.ContainsAny(m.filter, "\x1b\u202e") {
		t.Errorf("pasted %q", m.filter)
	}
	m.textOf(t)
	m.keys("ctrl+u", "4", "0", keyDown, keyEnter, keyEnter)
	if m.page != pagePlaza {
		t.Error("Enter after the filter opens no plaza")
	}
}

// TestHostile shows texts that would break columns, or the terminal.
func TestHostile(t *testing.T) {
	b := testBoard(12)
	evil := "\x1b]0;x\x07\u202e😀שa\u0301\u0302横"
	for i := range b.Plazas {
		b.Plazas[i].Name, b.Plazas[i].Road, b.Plazas[i].Why = evil, evil, evil+"\n"+evil
	}
	b.Verification.Problems = []string{evil}
	b.Verification.Status = board.Mismatch
	d := testDetail(b, 4007)
	for i := range d.Quarters {
		d.Quarters[i].ByType = map[string]int64{evil: 5, "\x1b[31m": 1}
	}
	d.Changes[0].Why = evil
	d.RecentWindows[0].Kind, d.RecentWindows[0].Reason = evil, toll.CloseReason(evil)
	for _, width := range []int{40, 41, 57, 80, 133, 300} {
		m := modelOf(t, b, width, 60)
		m.textOf(t)
		m.keys(keyEnter)
		m.showDetail(m.plaza, d, nil)
		m.textOf(t)
		m.keys(keyEscape)
		m.show(nil, errors.New(evil), testNow)
		m.textOf(t)
	}
}

// TestSizes draws every page in every size.
func TestSizes(t *testing.T) {
	b := testBoard(50)
	m := modelOf(t, b, 80, 24).keys(keyEnter)
	m.showDetail(m.plaza, testDetail(b, m.plaza), nil)
	for width := 0; width <= 300; width += 1 + width/20 {
		for height := 0; height <= 100; height += 1 + height/10 {
			m.resize(width, height)
			for _, page := range []page{pageTable, pagePlaza, pageHelp} {
				if m.page = page; width > 0 && height > 0 {
					m.textOf(t)
				} else if len(m.frame()) != 0 {
					t.Errorf("%d lines in %d×%d", len(m.frame()), width, height)
				}
				m.keys(keyPageDown, keyEnd, keyUp)
			}
		}
	}
}

// TestVerification never calls figures exact that were not read lately.
func TestVerification(t *testing.T) {
	style := func(m *model) style { return m.frame()[0][0].style }
	text := func(m *model) string { return m.frame()[0].String() }
	m := newModel(Options{}, testNow)
	m.resize(80, 24)
	if got := text(m); !strings.HasPrefix(got, "not verified yet") {
		t.Errorf("before the first board: %q", got)
	}
	m.show(nil, errors.New("no answer"), testNow)
	if got := m.textOf(t); !strings.Contains(got, "waiting for the servers: no answer") {
		t.Errorf("%s", got)
	}
	m.show(testBoard(12), nil, testNow)
	if style(m) != good {
		t.Errorf("exact looks like %d", style(m))
	}
	m.show(nil, errors.New("no answer"), testNow.Add(3*time.Second))
	m.tick(testNow.Add(63*time.Second), time.Time{})
	if got := m.textOf(t); style(m) == good ||
		!strings.Contains(got, "? exact at 08:23:04, 1 min ago; not verified since") ||
		!strings.Contains(got, "STALE for 1 min, since 08:23:04: waiting for the servers: no answer") {
		t.Errorf("%s", got)
	}
	at := func(b *board.Board, seconds int) *board.Board {
		b.At = testNow.Add(time.Duration(seconds) * time.Second)
		return b
	}
	m.show(at(inFlight(testBoard(12)), 64), nil, testNow.Add(64*time.Second))
	if got := text(m); strings.Contains(got, "?") || !strings.Contains(got, "~ 93 in flight") {
		t.Errorf("in flight: %q", got)
	}
	m.show(at(mismatched(testBoard(12)), 65), nil, testNow.Add(65*time.Second))
	for _, page := range []page{pageTable, pagePlaza, pageHelp} {
		if m.page = page; style(m) != critical ||
			!strings.Contains(text(m), "✗ MISMATCH at 2 plazas: 4002, 4005 · checked ") {
			t.Errorf("on page %d: %q", page, text(m))
		}
	}
	m.tick(testNow.Add(3*time.Minute), testNow.Add(66*time.Second)) // a read that hangs
	if style(m) != critical || !strings.Contains(m.textOf(t), "STALE") {
		t.Errorf("a mismatch that is stale: %s", m.textOf(t))
	}
}

// TestTallScreen has room below the table, for what there is about the chosen plaza.
func TestTallScreen(t *testing.T) {
	b := testBoard(12)
	m := modelOf(t, b, 200, 60)
	for _, key := range []string{"", keyDown} {
		if key != "" {
			m.keys(key)
		}
		w := m.request()
		if !w.detail || w.plaza != int16(m.rows[m.order[m.cursor]].ID) {
			t.Fatalf("%+v is requested", w)
		}
		if !strings.Contains(m.textOf(t), "reading the history") {
			t.Errorf("%q: another plaza's history is shown", key)
		}
		m.showDetail(w.plaza, testDetail(b, w.plaza), nil)
		for _, want := range []string{"FLOW TODAY", "TODAY SO FAR"} {
			if !strings.Contains(m.textOf(t), want) {
				t.Errorf("%q: there is no %s in\n%s", key, want, m.textOf(t))
			}
		}
	}
	if m.keys("?"); !m.request().detail {
		t.Error("help makes what is beneath it go stale")
	}
	m.keys(keyEscape)
	if m.resize(200, 30); m.request().detail || strings.Contains(m.textOf(t), "FLOW TODAY") {
		t.Errorf("there is no room:\n%s", m.textOf(t))
	}
}

// TestPause stops updates, but for those that are asked for.
func TestPause(t *testing.T) {
	m := modelOf(t, testBoard(12), 80, 24).keys(keySpace)
	before := m.board
	m.show(testBoard(3), nil, testNow.Add(time.Second))
	if m.board != before || !m.request().paused {
		t.Error("a paused view goes on")
	}
	m.keys(keyEnter)
	if w := m.request(); !w.detail || w.plaza != 4007 {
		t.Errorf("Enter requests %+v", w)
	}
	m.keys("?")
	if !m.request().detail {
		t.Error("help makes the page beneath it go stale")
	}
	m.showDetail(4001, &board.Detail{}, nil) // asked for before
	if m.detail != nil {
		t.Error("the page of another plaza is shown")
	}
	m.keys(keyEscape, keySpace, keyRight)
	if w := m.request(); w.paused || w.plaza != 4003 {
		t.Errorf("→ requests %+v", w)
	}
	m.keys(keyLeft, keyLeft, keyLeft)
	if m.plaza != 4007 {
		t.Errorf("← at the first goes to %d", m.plaza)
	}
	m.keys(keyEscape)
	if m.page != pageTable || m.request().detail {
		t.Error("Esc does not go back")
	}
	if m.keys("q"); !m.quit {
		t.Error("q does not quit")
	}
}

// TestColour has a word or a symbol for everything that has a colour.
func TestColour(t *testing.T) {
	for _, state := range board.Severity {
		if stateSymbols[state] == "" {
			t.Errorf("%s has no symbol", state)
		}
	}
	ansi := styled(modelOf(t, mismatched(testBoard(12)), 80, 24).frame())
	if n := strings.Count(ansi, "\n"); n != 23 {
		t.Errorf("%d line feeds", n)
	}
	for _, m := range regexp.MustCompile("\x1b\\[([0-9;]*)m").FindAllStringSubmatch(ansi, -1) {
		for code := range strings.SplitSeq(m[1], ";") {
			if !slices.Contains([]string{"", "1", "2", "4", "7", "31", "32", "35"}, code) {
				t.Errorf("a style beyond the 16 colours: %q", m[0])
			}
		}
	}
}

// TestWidths compares the widths of what a cell may hold in the library that draws with those in
// text, which tables use.
func TestWidths(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if s := string(r); text.Steady(r) && cells(s) != text.CellWidth(s) {
			t.Fatalf("%U takes %d columns, or %d", r, cells(s), text.CellWidth(s))
		}
	}
}

// TestDrawingPanics ends the program in good order where drawing panics.
func TestDrawingPanics(t *testing.T) {
	m := modelOf(t, testBoard(3), 80, 24)
	m.board.Location = nil // in which it shows the stream's time
	quit := make(chan struct{})
	p := &teaModel{model: m, want: func(request) {}, quit: func() { close(quit) }}
	if v := p.View(); !v.AltScreen || v.Content != "" {
		t.Errorf("it draws %q", v.Content)
	}
	<-quit
	var panicked *panicError
	if !errors.As(m.fatal, &panicked) || !strings.Contains(panicked.Error(), "missing Location") {
		t.Errorf("the view ends with %v", m.fatal)
	}
	if same, _ := p.Update(tickMsg{}); same == nil || p.View().Content != "" {
		t.Error("it goes on")
	}
}

// recorder takes what a feed sends.
type recorder chan any

func (r recorder) next(t *testing.T, want func(any) bool) any {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case m := <-r:
			if want(m) {
				return m
			}
		case <-deadline:
			t.Fatal("the feed sends nothing")
		}
	}
}

// fakeSource counts what is read.
type fakeSource struct {
	board  func(ctx context.Context, n int64) (*board.Board, error)
	boards atomic.Int64
	plazas atomic.Int64
}

func (s *fakeSource) Board(ctx context.Context) (*board.Board, error) {
	return s.board(ctx, s.boards.Add(1))
}

func (s *fakeSource) Plaza(_ context.Context, id int16) (*board.Detail, error) {
	s.plazas.Add(1)
	if id == 4999 {
		return nil, fmt.Errorf("plaza: %w", board.ErrNotFound)
	}
	return &board.Detail{Plaza: board.Plaza{ID: int(id)}}, nil
}

func (s *fakeSource) Incidents(_ context.Context, q board.IncidentQuery) (board.IncidentPage,
	error) {
	return board.IncidentPage{Incidents: make([]board.Incident, min(q.Limit, 3))}, nil
}

// TestFeed reads what is requested, and reports a read that times out.
func TestFeed(t *testing.T) {
	source := &fakeSource{board: func(ctx context.Context, n int64) (*board.Board, error) {
		switch n {
		case 2:
			return nil, errors.New("no database")
		case 3:
			<-ctx.Done()
			return nil, ctx.Err()
		case 4:
			return nil, nil
		}
		return testBoard(3), nil
	}}
	sent := make(recorder, 1000)
	// what does answer answers within it on a busy machine too
	f := newFeed(source, Options{Timeout: 2 * time.Second})
	f.send = func(m any) { sent <- m }
	f.every = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.run(ctx) }()
	for _, want := range []string{"", "no database", "no answer within 2.00 s",
		"there is nothing to show", ""} {
		m := sent.next(t, func(m any) bool { _, ok := m.(boardMsg); return ok }).(boardMsg)
		if (m.board == nil) == (want == "") || want != "" && (m.err == nil || m.err.Error() != want) {
			t.Errorf("it sends %v, %v; want %q", m.board != nil, m.err, want)
		}
	}
	f.want(request{plaza: 4001, detail: true})
	if m := sent.next(t,
		func(m any) bool { _, ok := m.(detailMsg); return ok }).(detailMsg); m.plaza != 4001 ||
		m.detail == nil || m.err != nil {
		t.Errorf("%+v", m)
	}
	f.want(request{paused: true, plaza: 4999, detail: true})
	if m := sent.next(t, func(m any) bool {
		d, ok := m.(detailMsg)
		return ok &&
			d.plaza == 4999
	}).(detailMsg); m.err == nil || m.err.Error() != "no vehicle has passed plaza 4999 yet" {
		t.Errorf("%+v", m)
	}
	f.want(request{paused: true, incidents: true})
	if m := sent.next(t,
		func(m any) bool { _, ok := m.(incidentsMsg); return ok }).(incidentsMsg); m.err !=
		nil || len(m.page.Incidents) != 3 {
		t.Errorf("%+v", m)
	}
	before := source.boards.Load()
	for range 20 {
		sent.next(t, func(m any) bool { _, ok := m.(tickMsg); return ok })
	}
	if n := source.boards.Load(); n != before || source.plazas.Load() != 2 {
		t.Errorf("while paused it read %d boards, and %d plazas", n-before, source.plazas.Load())
	}
	stop()
	<-ended
}

// TestHeldLog holds the log back while the screen is shown, and no more of it than a person reads.
func TestHeldLog(t *testing.T) {
	var out bytes.Buffer
	k := &HeldLog{To: &out}
	fmt.Fprintln(k, "before")
	release := k.Hold()
	for i := range maxKept + 5 {
		fmt.Fprintln(k, "line", i)
	}
	log.Print("of a library")
	if out.String() != "before\n" {
		t.Errorf("written meanwhile: %q", out.String())
	}
	release()
	if got := out.String(); !strings.HasPrefix(got, "before\n… 6 lines of the log before\nline 6\n") ||
		!strings.Contains(got, "of a library") {
		t.Errorf("%s", got)
	}
	fmt.Fprintln(k, "after")
	if !strings.HasSuffix(out.String(), "after\n") {
		t.Errorf("%s", out.String())
	}
}

func BenchmarkBoard(b *testing.B) {
	board := testBoard(1000)
	m := newModel(Options{}, testNow)
	m.resize(160, 50)
	b.ReportAllocs()
	for b.Loop() {
		m.show(board, nil, testNow)
		styled(m.frame())
	}
}

func BenchmarkFrame(b *testing.B) {
	m := newModel(Options{}, testNow)
	m.resize(160, 50)
	m.show(testBoard(1000), nil, testNow)
	b.ReportAllocs()
	for b.Loop() {
		m.press(keyDown)
		styled(m.frame())
	}
}
