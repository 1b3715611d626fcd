package pagetest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/incidents"
)

// someIncidents returns an open one and three that have ended.
func someIncidents() []board.Incident {
	make := func(plaza int, name string, began time.Time, lasted time.Duration, peak float64,
		why string,
		states ...traffic.State) board.Incident {
		id := traffic.IncidentID{Plaza: int16(plaza), Detected: toll.MinuteAt(began.Unix()) + 2}
		i := board.Incident{ID: id.String(), Plaza: plaza, Name: name, Road: "A 9",
			Timezone: "Europe/Berlin", State: states[0], States: states, Severity: states[0].Severity(),
			Began: began, Detected: began.Add(2 * time.Minute), PeakFlow: peak,
			PeakAt: began.Add(20 * time.Minute), Why: why, Notes: []board.IncidentNote{}}
		if lasted > 0 {
			i.Ended = new(began.Add(lasted))
		}
		return i
	}
	all := []board.Incident{
		make(4003, "Hohenwarth", rush.Add(-25*time.Minute), 0, 96,
			"24 vehicles in 15 min, usual are 310 (z −6.1)", traffic.BelowUsual),
		make(4010, "Forest <b>", rush.Add(-50*time.Minute), 31*time.Minute, 2744,
			"throughput 2,812 pc/h is 108 % of the capacity of 2,600 pc/h (4 lanes)", traffic.Saturated,
			traffic.AboveUsual),
		make(4007, "Bridge", rush.Add(-9*time.Hour), 95*time.Minute, 1960,
			"505 vehicles in 15 min, usual are 330 (z 4.1)", traffic.AboveUsual),
		make(4856, "", rush.Add(-33*time.Hour), 20*time.Minute, 12,
			"3 vehicles in 15 min, usual are 44 (z −3.4)", traffic.BelowUsual),
	}
	all[2].Notes = []board.IncidentNote{{At: rush, Author: "Grace Hopper", Acknowledged: true,
		Note: "works on the left lane"}}
	all[2].Acknowledged = true
	return all
}

// TestIncidentsPage reads the list, selects from it, and acknowledges what is open.
func TestIncidentsPage(t *testing.T) {
	t.Parallel()
	n := thousand(20)
	n.incidents = someIncidents()
	l := &live{t: t, source: n, addr: "127.0.0.1:0",
		acknowledgers: []incidents.Acknowledger{{Name: "Ada Lovelace", Token: "token-of-ada-0123456789"}}}
	l.start()
	t.Cleanup(func() { l.stop() })
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	w.do(chromedp.Click(`header a[href="/incidents"]`))
	w.wait("document.querySelectorAll('.incidents tbody tr').length === 4")
	if got := w.texts(".incidents tbody tr:nth-child(2) :is(th, td)"); len(got) != 7 ||
		!strings.Contains(got[1], "saturated (saturated → above usual)") ||
		!strings.Contains(got[2], "Forest <b> 4010 · A 9") || got[3] != "31 min" || got[4] != "2,744" {
		t.Errorf("got %q", got)
	}
	if *shots != "" {
		w.shoot("incidents.png", desk)
	}
	choose := func(name, value, search string, rows int) {
		t.Helper()
		eval[bool](w, fmt.Sprintf(`(e => { e.value = %q; return e.dispatchEvent(new Event('change')) })`+
			`(document.querySelector('[data-f=%s]'))`, value, name))
		w.wait(fmt.Sprintf("location.search === '%s'", search))
		w.wait(fmt.Sprintf("document.querySelectorAll('.incidents tbody tr').length === %d", rows))
	}
	day := rush.Format(time.DateOnly)
	choose("from", day, "?from="+day, 3)
	choose("to", rush.AddDate(0, 0, -1).Format(time.DateOnly), "?from="+day+"&to="+day, 0)
	choose("from", "", "?to="+day, 1)
	choose("to", "", "", 4)
	choose("plaza", "4007", "?plaza=4007", 1)
	choose("plaza", "", "", 4)
	road := eval[string](w, "document.querySelector('[data-f=road]').options[1].value")
	choose("road", road, "?"+url.Values{"road": {road}}.Encode(), 0) // the incidents are elsewhere
	choose("road", "", "", 4)
	w.do(chromedp.Click("[data-f=open]"))
	w.wait("document.querySelectorAll('.incidents tbody tr').length === 1")
	w.wait("location.search === '?open=true'")
	w.do(chromedp.Click(".incidents tbody button"))
	w.do(chromedp.SendKeys("[data-f=token]", "not-the-right-token-0"),
		chromedp.SendKeys("[data-f=note]", "patrol is on its way"))
	w.do(chromedp.Click("dialog button"))
	w.wait("document.querySelector('.refused').textContent.includes('not a token')")
	if *shots != "" {
		w.shoot("incidents-ack.png", desk)
	}
	w.do(chromedp.SetValue("[data-f=token]", "token-of-ada-0123456789"))
	w.do(chromedp.Click("dialog button"))
	w.wait("document.querySelector('.incidents tbody').textContent.includes('patrol is on its way')")
	if got := w.texts(".incidents tbody td:last-child"); len(got) != 1 ||
		!strings.HasPrefix(got[0], "Ada Lovelace") {
		t.Errorf("got %q", got)
	}
	w.check("incidents")
	w.do(chromedp.Click("[data-f=open]"), chromedp.Click(".incidents tbody tr button"))
	w.check("the dialog to acknowledge")
	w.do(chromedp.Click("dialog button[value=cancel]"))
	for _, s := range []size{{320, 640}, phone, wall} {
		w.do(chromedp.EmulateViewport(s.width, s.height))
		w.wait(fmt.Sprintf("innerWidth == %d", s.width))
		if n := eval[int](w, "document.documentElement.scrollWidth - innerWidth"); n > 0 {
			t.Errorf("at %d px the page is %d px too wide", s.width, n)
		}
	}
	if *shots != "" {
		w.do(chromedp.EmulateViewport(phone.width, phone.height))
		w.shoot("incidents-phone.png", phone)
	}
	w.quiet()
}

// TestPastOfAPlaza goes through days and weeks, compares, zooms, and comes back: by the controls,
// by the address alone, and by the browser's button.
func TestPastOfAPlaza(t *testing.T) {
	t.Parallel()
	l := serve(t, highway())
	w := open(t, desk)
	query := func(want string) {
		t.Helper()
		w.wait("location.search == " + quoted(want))
	}
	shows := func(name, want string) {
		t.Helper()
		w.wait(fmt.Sprintf("document.querySelector('[data-f=%s]').innerText.includes(%s)", name,
			quoted(want)))
	}
	press := func(name string) {
		t.Helper()
		w.do(chromedp.Click(chromedp.CSS("[data-f=" + name + "]")))
	}
	slots := func(chart string) [2]string {
		return eval[[2]string](w, "(i => [i.min, i.max])(document.querySelector('[data-f="+chart+
			"] input'))")
	}

	w.visit(l.url+"/plazas/4007", "path.k0")
	shows("flowdate", "Mon 2 Mar 2026")
	shows("against", "Mon 23 Feb 2026")
	if units := eval[[]string](w,
		"[...document.querySelectorAll('.plot .unit')].map(e => e.textContent)"); fmt.Sprint(units) !=
		"[vehicles per 15 min vehicles since the beginning passenger cars per hour]" {
		t.Errorf("units %q", units)
	}
	// What still runs is no collapse: lines end before it, its bar is another, and words name it.
	shows("flowtext", "17:00 to 17:15, so far: ")
	shows("carstext", "16:45 to 17:00: ")
	if got := w.text("[data-f=carstext]"); !strings.Contains(got, "capacity 3,250 pc/h, ") {
		t.Errorf("throughput: %q", got)
	}

	press("earlier")
	query("?date=2026-03-01")
	shows("flowdate", "Sun 1 Mar 2026")
	shows("sofarname", "vehicles on this day")
	press("week")
	query("?date=2026-03-01&span=week")
	shows("flowdate", "week of Mon 23 Feb 2026")
	if got := slots("flow"); got != [2]string{"0", "671"} {
		t.Errorf("a week has quarters %v", got)
	}
	press("later")
	query("?date=2026-03-02&span=week")
	shows("sofarname", "in this week so far")
	for _, want := range []string{"?date=2026-03-01&span=week", "?date=2026-03-01", ""} {
		eval[bool](w, "(history.back(), true)")
		query(want)
	}
	shows("flowdate", "Mon 2 Mar 2026")
	shows("sofarname", "vehicles today")

	// All of it by an address: keys zoom and reset, a tip has the figures.
	w.visit(l.url+"/plazas/4007?date=2026-02-25&compare=2026-02-24&kind=15m"+
		"&from=2026-02-25T06:00&to=2026-02-25T10:00", "path.k0")
	shows("against", "Tue 24 Feb 2026")
	shows("zoomed", "06:00 to 10:00")
	for _, chart := range []string{"flow", "days", "cars"} {
		if got := slots(chart); got != [2]string{"24", "39"} {
			t.Errorf("%s shows quarters %v", chart, got)
		}
	}
	if got := eval[string](w, "document.querySelector('[data-f=compare]').value"); got != "day" {
		t.Errorf("compared with %q", got)
	}
	w.do(chromedp.Focus(chromedp.CSS("[data-f=flow] input")))
	w.press(kb.Home)
	w.wait("document.querySelector('[data-f=flow] .tip').innerText.startsWith('06:00 to 06:15: ')")
	if got := w.text("[data-f=flow] .tip"); !strings.Contains(got, "on Tue 24 Feb 2026") ||
		!strings.Contains(got, "usual ") {
		t.Errorf("the tip shows %q", got)
	}
	w.press("+")
	query("?date=2026-02-25&compare=2026-02-24&kind=15m&from=2026-02-25T06:00&to=2026-02-25T08:00")
	press("whole")
	query("?date=2026-02-25&compare=2026-02-24&kind=15m")
	w.wait("document.querySelector('[data-f=flow] input').max == 95")

	// A mouse drags over a part.
	box := eval[[4]float64](w, "(r => [r.left, r.top, r.width, r.height])"+
		"(document.querySelector('[data-f=flow] svg').getBoundingClientRect())")
	for i, kind := range []input.DispatchMouseEventType{chromedp.MousePressed, chromedp.MouseMoved,
		chromedp.MouseReleased} {
		w.do(chromedp.MouseEvent(kind, box[0]+box[2]*(.4+.15*float64(i)), box[1]+box[3]/2,
			chromedp.ButtonLeft))
	}
	w.wait("location.search.includes('&from=2026-02-25T')")
	w.wait("document.querySelector('[data-f=flow] input').max < 95")
	from, to := slots("flow")[0], slots("flow")[1]
	if len(from) != 2 || len(to) != 2 || from >= to {
		t.Errorf("a drag shows quarters %s to %s", from, to)
	}

	// What was deleted is not known, and is not nothing.
	w.visit(l.url+"/plazas/4007?date=2025-12-31&span=week&compare=2025-12-01", "path.k0")
	shows("legend", "not known")
	shows("lastweek", "the other is not known")
	if got := strings.TrimSpace(w.text("[data-f=atleast]")); got != "at least" {
		t.Errorf("the sum of a part is %q", got)
	}
	w.wait("document.querySelector('[data-f=flow] path.unknown').getAttribute('d') != ''")

	// The file has what the list has.
	w.visit(l.url+"/plazas/4007?date=2026-03-01", "path.k0")
	w.wait("document.querySelector('[data-f=csv]').href.includes('2026-03-01')")
	resp, err := http.Get(eval[string](w, "document.querySelector('[data-f=csv]').href"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if n := strings.Count(string(body), "\r\n"); err != nil || n != 1+96+24 {
		t.Errorf("%d lines, %v", n, err)
	}
	w.quiet()
}

// TestGapsOfTrends looks at sparklines of which something is not known.
func TestGapsOfTrends(t *testing.T) {
	t.Parallel()
	n := highway()
	n.change(func(n *network) { n.unknown = map[int16][2]int{4007: {0, 10}, 4005: {20, 30}} })
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	for id, want := range map[string]string{"4007": "1 10.2", "4005": "2 0.0", "4001": "1 0.0"} {
		if got := eval[string](w, "(d => d.split('M').length - 1 + ' ' + /M([\\d.]+)/.exec(d)[1])"+
			"(document.querySelector('tr.row:has(a[href=\"/plazas/"+id+"\"]) .spark .line')"+
			".getAttribute('d'))"); got != want {
			t.Errorf("plaza %s: parts and where the first begins are %s, want %s", id, got, want)
		}
	}
	w.quiet()
}
