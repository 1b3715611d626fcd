package pagetest

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/tollstream/tollstream/toll/traffic"
)

// shown returns the plazas of the table from the top.
func (w *window) shown() []string {
	w.t.Helper()
	return w.texts("tr.row a")
}

// csvNames returns the names in the CSV that the page links to.
func (w *window) csvNames(l *live) []string {
	w.t.Helper()
	records,
		err := csv.NewReader(
		strings.NewReader(
			strings.TrimPrefix(
				string(l.body(eval[string](w, "document.querySelector('[data-f=csv]').getAttribute('href')"))),
				"\ufeff"))).ReadAll()
	if err != nil {
		w.t.Fatal(err)
	}
	column := slices.Index(records[0], "name")
	var names []string
	for _, r := range records[1:] {
		names = append(names, r[column])
	}
	return names
}

func TestSort(t *testing.T) {
	t.Parallel()
	l := serve(t, still(highway()))
	w := open(t, size{1600, 1400})
	w.visit(l.url+"/", "tr.row")
	if got := w.shown()[:2]; !slices.Equal(got, []string{"Tunnel", "Freight Yard"}) {
		t.Errorf("first are %v, want the most urgent ones", got)
	}
	for _, column := range []string{"name", "flow", "vc", "heavy", "deviation", "last", "verification",
		"state"} {
		var orders [][]string
		for _, want := range []string{"first", "then"} {
			w.do(chromedp.Click(chromedp.CSS("thead ." + column + " button")))
			sort := eval[string](w, "document.querySelector('thead ."+column+"').getAttribute('aria-sort')")
			if n := eval[int](w,
				"document.querySelectorAll('[aria-sort=ascending], [aria-sort=descending]').length"); n != 1 {
				t.Errorf("%d columns are sorted by", n)
			}
			names := w.shown()
			orders = append(orders, names)
			// The CSV has the same plazas in the same order, by the server's own sorting.
			csv := w.csvNames(l)
			for i, name := range csv {
				if name == "" {
					csv[i] = "Plaza 1001"
				}
			}
			if !slices.Equal(names, csv) {
				t.Errorf("%s %s (%s): the table shows\n%v, the CSV has\n%v", column, want, sort, names, csv)
			}
		}
		if column != "verification" && slices.Equal(orders[0], orders[1]) { // all are exact here
			t.Errorf("%s: both orders are the same", column)
		}
	}
	w.quiet()
}

func TestFilter(t *testing.T) {
	t.Parallel()
	l := serve(t, still(highway()))
	w := open(t, size{1600, 1400})
	w.visit(l.url+"/", "tr.row")
	w.do(chromedp.SendKeys(chromedp.CSS("[type=search]"), "m 1 CITY"))
	if got := w.shown(); !slices.Equal(got, []string{"City East", "City West"}) {
		t.Errorf("found %v", got)
	}
	if got := w.text("[data-f=shown]"); got != "2 of 18 plazas" {
		t.Errorf("says %q", got)
	}
	w.press(kb.Escape)
	if n := len(w.shown()); n != 18 {
		t.Errorf("%d plazas after Escape", n)
	}
	w.do(chromedp.Click(chromedp.CSS(".tile.busy")), chromedp.Click(chromedp.CSS(".tile.no_data")))
	if got := w.shown(); len(got) != 3 || !slices.Contains(got, "Ferry") {
		t.Errorf("busy or without data are %v", got)
	}
	if got := w.csvNames(l); !slices.Equal(got, w.shown()) {
		t.Errorf("the CSV has %v", got)
	}
	if got := eval[string](w,
		"document.querySelector('.tile.busy').getAttribute('aria-pressed')"); got != "true" {
		t.Errorf("aria-pressed is %s", got)
	}

	// The address holds order and filter, over a plaza's page and back, and over a reload.
	w.do(chromedp.Click(chromedp.CSS("thead .flow button")))
	before := w.shown()
	address := eval[string](w, "location.search")
	w.do(chromedp.Click(chromedp.CSS("tr.row a")))
	w.wait("location.pathname.startsWith('/plazas/') && document.activeElement.tagName == 'H1'")
	w.do(chromedp.Click(chromedp.CSS(".back")))
	w.wait("document.querySelector('tr.row')")
	if got := w.shown(); !slices.Equal(got, before) || eval[string](w, "location.search") != address {
		t.Errorf("back at %v, want %v", got, before)
	}
	w.do(chromedp.Reload())
	w.wait("document.querySelector('tr.row')")
	if got := w.shown(); !slices.Equal(got, before) {
		t.Errorf("after a reload %v, want %v", got, before)
	}
	w.do(chromedp.SendKeys(chromedp.CSS("[type=search]"), "no such plaza"))
	w.wait("!document.querySelector('.empty').hidden")
	w.do(chromedp.Click(chromedp.CSS("[data-f=clear]")))
	if n := len(w.shown()); n != 18 {
		t.Errorf("%d plazas after all are asked for", n)
	}
	w.quiet()
}

func TestKeyboard(t *testing.T) {
	t.Parallel()
	l := serve(t, still(thousand(1000)))
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	focus := func() string {
		return eval[string](w, "document.activeElement.innerText || document.activeElement.tagName")
	}

	w.press(kb.Tab)
	if got := focus(); got != "Skip to the figures" {
		t.Errorf("first is %q", got)
	}
	// As one event, so that the page can keep the character from being typed; chromedp sends that on
	// its own.
	for _, e := range []input.DispatchKeyEventParams{{Type: input.DispatchKeyEventTypeKeyDown,
		Key: "/", Text: "/"}, {Type: input.DispatchKeyEventTypeKeyUp, Key: "/"}} {
		if _, err := chromedp.Call(w.ctx, input.DispatchKeyEvent, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := eval[string](w, "document.activeElement.value"); got != "" {
		t.Errorf("/ types %q", got)
	}
	if got := focus(); got != "INPUT" {
		t.Errorf("/ goes to %q", got)
	}
	for range 5 {
		w.press(kb.Tab) // the CSV, the wall display; state, plaza, flow
	}
	w.press(kb.Enter)
	if got := eval[string](w,
		"document.querySelector('thead .flow').getAttribute('aria-sort')"); got != "descending" {
		t.Errorf("Enter on flow sorts %q", got)
	}
	w.press(" ")
	if got := eval[string](w,
		"document.querySelector('thead .flow').getAttribute('aria-sort')"); got != "ascending" {
		t.Errorf("space on flow sorts %q", got)
	}
	w.press(kb.Enter)

	// From row to row, also to those that do not exist yet.
	eval[bool](w, "document.querySelector('tr.row a').focus(), true")
	index := func() string {
		return eval[string](w,
			"document.activeElement.closest('tr')?.getAttribute('aria-rowindex') ?? ''")
	}
	for range 60 {
		w.press(kb.ArrowDown)
	}
	if got := index(); got != "62" {
		t.Errorf("60 times down is row %q", got)
	}
	if !eval[bool](w,
		"(r => r.top > 100 && r.bottom < innerHeight)(document.activeElement.getBoundingClientRect())") {
		t.Error("the row with the focus is not in sight")
	}
	w.press(kb.End)
	if got := index(); got != "1001" {
		t.Errorf("End is row %q", got)
	}
	w.press(kb.ArrowUp)
	w.press(kb.Home)
	if got := index(); got != "2" {
		t.Errorf("Home is row %q", got)
	}
	w.press(kb.PageDown)
	if got := index(); got == "2" || got == "" {
		t.Errorf("page down is row %q", got)
	}
	name := focus()
	w.press(kb.Enter)
	w.wait("document.querySelector('h1[tabindex]')?.innerText == " + quoted(name))
	w.do(chromedp.NavigateBack())
	w.wait("document.querySelector('tr.row')")

	// Along the roads with the arrow keys, as one stop of the Tab key.
	if n := eval[int](w, "document.querySelectorAll('.strips [tabindex=\"0\"]').length"); n != 1 {
		t.Errorf("the roads are %d stops", n)
	}
	eval[bool](w, "document.querySelector('.strips [tabindex=\"0\"]').focus(), true")
	first := eval[string](w, "document.activeElement.getAttribute('aria-label')")
	w.press(kb.ArrowRight)
	w.press(kb.ArrowDown)
	if got := eval[string](w, "document.activeElement.getAttribute('aria-label')"); got == first ||
		!strings.Contains(got, "M 2 km") {
		t.Errorf("right and down from %q is %q", first, got)
	}
	if got := w.text(".roads [data-f=readout]"); !strings.Contains(got, "M 2 km") ||
		!strings.Contains(got, "veh/h") {
		t.Errorf("the roads show %q", got)
	}
	w.press(kb.Enter)
	w.wait("location.pathname.startsWith('/plazas/')")

	// Through the quarters of a chart.
	w.wait("document.querySelector('path.k0')")
	eval[bool](w, "document.querySelector('.plot input').focus(), true")
	before := w.text("[data-f=flowtext]")
	w.press(kb.ArrowLeft)
	w.wait("document.querySelector('[data-f=flowtext]').innerText != " + quoted(before))
	w.quiet()
}

// TestRows presses a row somewhere else than on its name, and has states that began on another day.
func TestRows(t *testing.T) {
	t.Parallel()
	n := highway()
	n.change(func(n *network) {
		for i := range n.plazas {
			n.plazas[i].since += 5 * 24 * time.Hour
		}
	})
	l := serve(t, still(n))
	w := open(t, desk)
	for _, s := range []size{desk, {1024, 768}, {800, 900}, phone} {
		w.do(chromedp.EmulateViewport(s.width, s.height))
		w.visit(l.url+"/", "tr.row")
		if cut := eval[string](w, `[...document.querySelectorAll('.row .state small')]
			.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText).join()`); cut != "" {
			t.Errorf("cut off in %d columns: %s", s.width, cut)
		}
		if got := w.text(".row .state small"); !strings.HasPrefix(got, "since 2") {
			t.Errorf("since when: %q", got)
		}
		eval[bool](w, "document.querySelector('tr.row').scrollIntoView({ block: 'center' }), true")
		w.do(chromedp.Click("tr.row .flow"))
		w.wait("location.pathname.startsWith('/plazas/') && !!document.querySelector('path.k0')")
	}
	w.quiet()
}

// TestWindowKindIsInTheAddress chooses a kind of windows and loads the page again.
func TestWindowKindIsInTheAddress(t *testing.T) {
	t.Parallel()
	l := serve(t, still(highway()))
	w := open(t, desk)
	w.visit(l.url+"/plazas/4007", ".windows tbody tr")
	choose := func(kind string) {
		eval[bool](w, "(s => { s.value = "+quoted(kind)+
			"; s.dispatchEvent(new Event('change')); return true })(document.querySelector("+
			"'[data-f=kind]'))")
	}
	choose("1h")
	w.wait("location.search == '?kind=1h'")
	only := "(rows => rows.length > 0 && rows.every(r => r.cells[0].innerText == '1h'))" +
		"([...document.querySelectorAll('.windows tbody tr')])"
	w.wait(only)
	w.visit(l.url+"/plazas/4007?kind=1h", ".windows tbody tr")
	w.wait(only)
	choose("")
	w.wait("location.search == ''")
	w.quiet()
	w.visit(l.url+"/plazas/4007?kind=2h", ".windows tbody tr") // one that is not counted
	w.wait("location.search == ''")
}

// TestOrderIsHeldUnderThePointer keeps a row where it is while someone may be about to press it.
func TestOrderIsHeldUnderThePointer(t *testing.T) {
	t.Parallel()
	n := still(highway())
	l := serve(t, n)
	w := open(t, size{1600, 1400})
	w.visit(l.url+"/?sort=flow&order=desc", "tr.row")
	before, flow := w.shown(), eval[string](w, flowOf("4010"))
	at := eval[[]float64](w,
		"(r => [r.x + 5, r.y + 5])(document.querySelectorAll('tr.row')[3].getBoundingClientRect())")
	w.do(chromedp.MouseEvent("mouseMoved", at[0], at[1]))
	n.change(func(n *network) { n.happens(4010, traffic.Saturated, 20, time.Hour) })
	w.wait(flowOf("4010") + " != " + quoted(flow))
	if eval[bool](w, "document.querySelector('[data-f=held]').hidden") {
		t.Error("the page does not say that the order is held")
	}
	if got := w.shown(); !slices.Equal(got, before) {
		t.Errorf("rows moved under the pointer: %v", got)
	}
	w.do(chromedp.MouseEvent("mouseMoved", 5, 5))
	w.wait("document.querySelector('tr.row a').innerText == 'Forest'")
	w.quiet()
}
