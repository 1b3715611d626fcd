package pagetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/internal/board"
)

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
