package pagetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

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
