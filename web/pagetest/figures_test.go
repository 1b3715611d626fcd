package pagetest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
)

// still returns a network in which nothing changes.
func still(n *network) *network {
	n.speed = 0
	return n
}

// shows fails where a text is not a figure, with a comma before each three digits, rounded to what
// is shown.
func shows(t *testing.T, what, text string, figure float64) {
	t.Helper()
	number, _, _ := strings.Cut(text, " ")
	plain := strings.NewReplacer(",", "", "−", "-", "+", "").Replace(number)
	got, err := strconv.ParseFloat(plain, 64)
	_, decimals, _ := strings.Cut(plain, ".")
	if err != nil || math.Abs(got-figure) > 0.5*math.Pow10(-len(decimals))+1e-9 {
		t.Errorf("%s: the page shows %q, the API says %v", what, text, figure)
	}
	if whole, _, _ := strings.Cut(strings.TrimLeft(number, "+−"),
		"."); whole != grouped(math.Abs(math.Trunc(got))) {
		t.Errorf("%s: %q has no separators", what, text)
	}
}

// row is what the page shows of a plaza.
type row struct {
	ID, State, Name, Flow, VC, Heavy, Deviation, Last, Verification string
}

const readRows = `[...document.querySelectorAll('tr.row')].map(r => {
	const of = name => r.querySelector(':scope > .' + name).innerText.trim()
	return {ID: r.querySelector('a').getAttribute('href').split('/').pop(), State: r.querySelector('.state span').innerText, Name: r.querySelector('a').innerText,
		Flow: of('flow'), VC: of('vc'), Heavy: of('heavy'), Deviation: of('deviation'), Last: of('last'), Verification: of('verification')}
})`

func TestFiguresAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	n := still(highway())
	n.change(func(n *network) { n.inFlight = 1204 })
	l := serve(t, n)
	w := open(t, size{1600, 1400})
	w.visit(l.url+"/", "tr.row")
	shown := get[board.Board](l, "/api/v1/plazas")

	rows := map[string]row{}
	for _, r := range eval[[]row](w, readRows) {
		rows[r.ID] = r
	}
	if len(rows) != len(shown.Plazas) {
		t.Fatalf("%d rows for %d plazas", len(rows), len(shown.Plazas))
	}
	for _, p := range shown.Plazas {
		id := strconv.Itoa(int(p.ID))
		r := rows[id]
		state, _ := p.State.MarshalText()
		if want := strings.ReplaceAll(string(state), "_", " "); r.State != want {
			t.Errorf("%s: state %q, want %q", id, r.State, want)
		}
		if want := max(p.Name, "Plaza "+id); p.Name != "" && r.Name != p.Name || p.Name == "" &&
			r.Name != want {
			t.Errorf("%s: name %q", id, r.Name)
		}
		shows(t, id+" flow", r.Flow, float64(p.FlowPerHour))
		optional := func(what, text string, figure *float64, scale float64) {
			if figure != nil {
				shows(t, id+" "+what, text, *figure*scale)
			} else if text != "–" {
				t.Errorf("%s: %s is %q, want a dash", id, what, text)
			}
		}
		if p.VC != nil {
			shows(t, id+" v/c", r.VC, math.Floor(*p.VC*100))
		}
		optional("heavy share", r.Heavy, p.HeavyShare, 100)
		optional("deviation", r.Deviation, p.Z, 1)
		if want := p.LastEvent.Format("15:04:05"); r.Last != want {
			t.Errorf("%s: last event %q, want %q", id, r.Last, want)
		}
		want := "exact"
		if p.Verification.Status == board.InFlight {
			want = fmt.Sprintf("%d in flight", p.Verification.InFlight)
		}
		if r.Verification != want {
			t.Errorf("%s: verification %q, want %q", id, r.Verification, want)
		}
	}

	shows(t, "flow of all", w.text("[data-f=flow]"), float64(shown.Summary.FlowPerHour))
	shows(t, "plazas", w.text("[data-f=plazas]"), float64(shown.Summary.Plazas))
	shows(t, "events", w.text("[data-f=events]"), float64(*shown.Verification.Events))
	shows(t, "rows", w.text("[data-f=rows]"), float64(*shown.Verification.Rows))
	if got, want := w.text("#clock strong"),
		shown.StreamTime.Format("Mon 2 Jan 2006, 15:04"); got != want {
		t.Errorf("event time %q, want %q", got, want)
	}
	counts := shown.Summary.States
	for i, want := range []int{counts.Saturated, counts.BelowUsual, counts.AboveUsual,
		counts.Busy, counts.NoData, counts.CatchingUp, counts.WarmingUp, counts.Free} {
		if got := w.texts(".tile b")[i]; got != strconv.Itoa(want) {
			t.Errorf("tile %d says %s, want %d", i, got, want)
		}
	}
	if got := w.text("#verdict strong"); got != "1,204 in flight" {
		t.Errorf("verdict %q", got)
	}
	if got := w.text("#verdict"); !strings.Contains(got, "checked ") ||
		!strings.Contains(got, " s ago") {
		t.Errorf("the verdict %q does not say when it was checked", got)
	}
	w.quiet()
}

func TestRoadsShowThePlazasWhereTheyAre(t *testing.T) {
	t.Parallel()
	l := serve(t, still(highway()))
	w := open(t, desk)
	w.visit(l.url+"/", ".strip a text")
	type mark struct {
		ID, Road, Symbol, Label string
		X                       float64
	}
	marks := eval[[]mark](
		w, `[...document.querySelectorAll('.strip a')].map(a => ({ID: a.getAttribute('href').split('/').pop(), Road: a.closest('.way').querySelector('b').innerText,
		Symbol: a.className.baseVal.split(' ')[1], Label: a.getAttribute('aria-label'), X: (r => r.x + r.width / 2)(a.querySelector('path').getBoundingClientRect())}))`)
	at := map[string]mark{}
	for _, m := range marks {
		at[m.ID] = m
	}
	var along []board.Plaza
	for _, p := range get[board.Board](l, "/api/v1/plazas").Plazas {
		m, ok := at[strconv.Itoa(int(p.ID))]
		if (p.Road != "") != ok {
			t.Errorf("plaza %d of road %q is drawn: %t", p.ID, p.Road, ok)
		}
		state, _ := p.State.MarshalText()
		if ok && (m.Road != p.Road || m.Symbol != string(state) || !strings.Contains(m.Label, p.Name)) {
			t.Errorf("plaza %d: %+v", p.ID, m)
		}
		if p.Road == "M 1" {
			along = append(along, p)
		}
	}
	slices.SortFunc(along, func(p, q board.Plaza) int {
		return int(1000 * (*p.PositionKm - *q.PositionKm))
	})
	x := func(p board.Plaza) float64 { return at[strconv.Itoa(int(p.ID))].X }
	first, last := along[0], along[len(along)-1]
	for _, p := range along {
		want := x(first) +
			(*p.PositionKm-*first.PositionKm)/(*last.PositionKm-*first.PositionKm)*(x(last)-x(first))
		if math.Abs(x(p)-want) > 1 {
			t.Errorf("plaza %d at %v px, want %v", p.ID, x(p), want)
		}
	}
}

func TestPlazaFiguresAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	n := still(highway())
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/plazas/4859", "path.k0") // its clock is London's
	w.wait("document.querySelectorAll('.windows tbody tr').length > 5")
	d := get[board.Detail](l, "/api/v1/plazas/4859")

	if got := w.text("h1"); got != d.Name {
		t.Errorf("headline %q", got)
	}
	if got := w.text("[data-f=about]"); !strings.Contains(got, "times in Europe/London") ||
		!strings.Contains(got, "6 lanes") {
		t.Errorf("about %q", got)
	}
	if got, want := w.text("[data-f=since]"), "since "+d.Since.Format("15:04"); !strings.HasPrefix(got,
		want) {
		t.Errorf("since %q, want %q by London's clock", got, want)
	}
	if got := w.text("[data-f=why]"); got != d.Why {
		t.Errorf("why %q, want %q", got, d.Why)
	}
	facts := map[string]string{}
	terms, values := w.texts("dl.facts dt"), w.texts("dl.facts dd")
	for i := range terms {
		facts[terms[i]] = values[i]
	}
	for term, figure := range map[string]float64{
		"Flow, last 15 min": float64(d.FlowPerHour), "Throughput, last 15 min": *d.Throughput,
		"Capacity":                 *d.Capacity,
		"Throughput over capacity": math.Floor(*d.VC * 100), "Against usual": *d.Z,
		"Heavy vehicles": *d.HeavyShare * 100, "Peak-hour factor": *d.PHF,
		"Mean headway": *d.HeadwaySeconds, "Vehicles in all": float64(d.Total),
		"Late": float64(d.Late), "Late for minute windows": float64(d.LateQuarter),
		"Too late": float64(d.TooLate), "Ahead of the clock": float64(d.Ahead),
		"Counted": float64(d.Verification.TableCount), "Rows stored": float64(*d.Verification.StoredRows),
		"In flight": 0,
	} {
		shows(t, term, facts[term], figure)
	}
	shows(t, "day so far", w.text("[data-f=sofar]"), float64(*d.DaySoFar))
	shows(t, "last week", w.text("[data-f=lastweek]"), float64(*d.DaySoFarLastWeek))

	// The table next to the chart has every quarter, the latest first; the slider names the one it is
	// at.
	eval[bool](w, "document.querySelector('.chart details').open = true")
	w.wait("document.querySelector('[data-f=flowtable] tbody tr')")
	var quarters []board.Quarter
	for _, q := range d.Quarters {
		if q.Count != nil && *q.Count > 0 {
			quarters = append(quarters, q)
		}
	}
	slices.Reverse(quarters)
	cells := eval[[][]string](w,
		"[...document.querySelectorAll('[data-f=flowtable] tbody tr')].map(r => [...r.cells].map(c => "+
			"c.innerText))")
	heads := w.texts("[data-f=flowtable] thead th")
	if len(cells) != len(quarters) {
		t.Fatalf("%d rows for %d quarters", len(cells), len(quarters))
	}
	for i, q := range quarters {
		if cells[i][0] != q.Start.Format("15:04") {
			t.Errorf("quarter %d begins at %q, want %v", i, cells[i][0], q.Start)
		}
		for j, head := range heads {
			switch count, isType := q.ByType[head]; {
			case isType:
				shows(t, head, cells[i][j], float64(count))
			case head == "All":
				shows(t, head, cells[i][j], float64(*q.Count))
			case head == "Usual":
				shows(t, head, cells[i][j], *q.UsualMedian)
			}
		}
	}
	if got := eval[string](w,
		"document.querySelector('.plot input').getAttribute('aria-valuetext')"); !strings.HasPrefix(got,
		quarters[0].Start.Format("15:04")) ||
		!strings.Contains(got, grouped(float64(*quarters[0].Count))+" vehicles") {
		t.Errorf("the slider names %q", got)
	}

	// Windows, with those that are asked for by the button.
	page := get[struct {
		Windows []board.Window
		Next    string
	}](l, "/api/v1/plazas/4859/windows?limit=20")
	next := get[struct{ Windows []board.Window }](l,
		"/api/v1/plazas/4859/windows?limit=20&before="+page.Next)
	eval[bool](w, "document.querySelector('[data-f=older]').click(), true")
	w.wait("document.querySelectorAll('.windows tbody tr').length == 40")
	rows := eval[[][]string](w,
		"[...document.querySelectorAll('.windows tbody tr')].map(r => [...r.cells].map(c => "+
			"c.innerText))")
	for i, window := range append(page.Windows, next.Windows...) {
		r := rows[i]
		if r[0] != window.Kind || !strings.Contains(r[1], window.Start.Format("15:04")+" – ") {
			t.Errorf("window %d is %v, want %v", i, r, window)
		}
		shows(t, "vehicles", r[2], float64(window.Count))
		shows(t, "flow of a window", r[3], window.FlowPerHour)
		shows(t, "revision", r[4], float64(window.Revision))
		shows(t, "late", r[5], float64(window.Late))
		if (window.TooLate > 0) != strings.Contains(r[6], "too late") || window.TooLate > 0 &&
			strings.HasPrefix(r[6], "100") {
			t.Errorf("completeness %q of %+v", r[6], window)
		}
	}
	eval[bool](w,
		"(k => (k.value = '1h', k.dispatchEvent(new "+
			"Event('change'))))(document.querySelector('[data-f=kind]'))")
	w.wait(
		"[...document.querySelectorAll('.windows tbody td:first-child')].every(c => c.innerText == '1h')")
	w.quiet()
}

func TestUnknownPlaza(t *testing.T) {
	t.Parallel()
	l := serve(t, highway())
	w := open(t, desk)
	w.visit(l.url+"/plazas/4242", "main")
	w.wait("document.querySelector('main').innerText.startsWith('There is no plaza 4242.')")
	for address, want := range map[string]string{
		"/plazas/99999": "There is no plaza 99999.", "/plazas/Harbour": "There is no plaza Harbour.",
		"/plaza/Harbour": "There is no plaza Harbour.", "/plaza/4242": "There is no plaza 4242.",
		"/plazas/%3Cb%3E": "There is no plaza <b>.", "/nowhere": "There is no such page."} {
		w.visit(l.url+address, "main h1")
		w.wait("document.querySelector('main').innerText.startsWith(" + quoted(want) + ")")
		if got := w.text("main a"); got != "All plazas" {
			t.Errorf("%s: the way back is %q", address, got)
		}
	}
	w.visit(l.url+"/plazas/1001", "h1") // one of which hardly anything is known
	w.wait("document.querySelector('[data-f=about]').innerText.includes('lanes not known')")
	for _, complaint := range w.complaints() {
		if !strings.Contains(complaint, "404") {
			t.Error(complaint)
		}
	}
}

// TestHostileNames shows what a producer could put into names and types. It must be text, whatever
// it looks like.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	const name = `<img src=x onerror="window.taken=1"><b>"'&amp;`
	n := still(newNetwork(
		toll.Plaza{ID: 1, Name: name, Road: `<script>window.taken=1</script>`, PositionKm: 1, Lanes: 2,
			VehiclesPerDay: 9000, HeavyShare: .1},
		toll.Plaza{ID: 2, Name: "\u202eright to left", Road: `<script>window.taken=1</script>`,
			PositionKm: 2, Lanes: 2, VehiclesPerDay: 9000, HeavyShare: .1},
		toll.Plaza{ID: 3, Name: strings.Repeat("W", 300), Lanes: 2, VehiclesPerDay: 9000, HeavyShare: .1},
		toll.Plaza{ID: 4, Name: "__proto__", Road: "constructor", PositionKm: 2, Lanes: 2,
			VehiclesPerDay: 9000, HeavyShare: .1},
	))
	n.change(func(n *network) {
		n.types = map[string]string{"bus": `<svg onload="window.taken=1">`, "motorcycle": "__proto__"}
		n.wrong[1] = `<img src=x onerror="window.taken=1"> differs`
	})
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	if got := eval[string](w,
		`document.querySelector('tr.row a[href="/plazas/1"]').textContent`); got != name {
		t.Errorf("the table shows %q", got)
	}
	if got := w.text("#mismatch li"); !strings.Contains(got,
		`<img src=x onerror="window.taken=1"> differs`) {
		t.Errorf("the banner shows %q", got)
	}
	for _, id := range []string{"1", "2", "3", "4"} {
		w.visit(l.url+"/plazas/"+id, "path.k0")
	}
	w.visit(l.url+"/plazas/1", "path.k0")
	if got := w.text("[data-f=legend]"); !strings.Contains(got, `<svg onload="window.taken=1">`) ||
		!strings.Contains(got, "__proto__") {
		t.Errorf("the legend shows %q", got)
	}
	if eval[bool](w,
		"'taken' in window || document.querySelector('main img, main script, #mismatch img') !== null") {
		t.Error("data became markup")
	}
	if overflow := eval[int](w, "document.documentElement.scrollWidth - innerWidth"); overflow > 0 {
		t.Errorf("the page is %d px too wide", overflow)
	}
	w.quiet()
}

func TestTimesAreByThePlazasClock(t *testing.T) {
	t.Parallel()
	l := serve(t, still(highway()))
	w := open(t, size{1600, 1400})
	w.visit(l.url+"/", "tr.row")
	for _, r := range eval[[]row](w, readRows) {
		loc := rush.Location()
		if r.ID == "4859" {
			loc = zone("Europe/London")
		}
		if want := rush.In(loc).Format("15:"); r.State != "no data" && !strings.HasPrefix(r.Last, want) {
			t.Errorf("plaza %s: last event at %s, want %s", r.ID, r.Last, want)
		}
	}
}

// TestJourneysOnThePage looks at the travel times of each road, and at where the vehicles of a
// plaza come from, where there are journeys and where there are none.
func TestJourneysOnThePage(t *testing.T) {
	t.Parallel()
	n := highway()
	n.journeys = board.HasJourneys
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", ".travel:not([hidden]) tbody tr")
	if got := w.text(".travel [data-f=travelsaid]"); !strings.HasPrefix(got, "16:53 to 17:08, ") ||
		!strings.Contains(got, "1 slow section") {
		t.Errorf("the card says %q", got)
	}
	slow := w.text(".travel table:first-of-type tbody tr:first-child")
	for _, want := range []string{"City West → Tunnel", " slow", "usual ", "41 overdue"} {
		if !strings.Contains(slow, want) {
			t.Errorf("the slow section is first, and has %q: %q", want, slow)
		}
	}
	w.check("travel times")
	if *shots != "" {
		w.shoot("journeys.png", desk)
	}
	for _, path := range []string{"/", "/plazas/4007"} {
		w.visit(l.url+path,
			map[string]string{"/": ".travel tbody tr", "/plazas/4007": ".through li"}[path])
		for _, s := range []size{{320, 640}, phone, wall} {
			w.do(chromedp.EmulateViewport(s.width, s.height))
			w.wait(fmt.Sprintf("innerWidth == %d", s.width))
			if n := eval[int](w, "document.documentElement.scrollWidth - innerWidth"); n > 0 {
				t.Errorf("%s at %d px is %d px too wide", path, s.width, n)
			}
		}
	}
	if got := w.text(".through"); !strings.Contains(got,
		"1,204 vehicles, 16:53 to 17:08") ||
		!strings.Contains(got, "other plazas") {
		t.Errorf("where from and where to: %q", got)
	}
	w.do(chromedp.EmulateViewport(desk.width, desk.height))
	w.check("where from, where to")
	if *shots != "" {
		eval[bool](w, "(document.querySelector('.through').scrollIntoView(), true)")
		w.shoot("journeys-plaza.png", desk)
		w.prefer("prefers-color-scheme", "dark")
		w.do(chromedp.EmulateViewport(phone.width, phone.height))
		w.visit(l.url+"/", ".travel tbody tr")
		eval[bool](w, "(document.querySelector('.travel').scrollIntoView(), true)")
		w.shoot("journeys-phone.png", phone)
	}

	n.change(func(n *network) { n.journeys = board.NotRead })
	w.visit(l.url+"/", ".travel:not([hidden])")
	w.wait("document.querySelector('[data-f=travelsaid]').innerText.includes('create the index')")
	n.change(func(n *network) { n.journeys = "" })
	w.visit(l.url+"/", "tr.row")
	w.wait("document.querySelector('.travel').hidden")
	w.quiet()
}
