package pagetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll/traffic"
)

// hall is the size of a display on a wall.
var hall = size{1920, 1080}

// TestKiosk watches the wall display without touching it: it turns through what needs attention, is
// readable from afar, and comes back by itself after an outage of the server.
func TestKiosk(t *testing.T) {
	n := highway()
	l := serve(t, still(n))
	w := open(t, hall)
	title := func() string { return w.text(".slide h1") }
	w.visit(l.url+"/?kiosk=1", ".kiosk .slide")
	for _, want := range []string{"Network", "Needs attention", "Network"} {
		w.wait("document.querySelector('.slide h1').innerText.startsWith(" + quoted(want) + ")")
	}
	w.wait("document.querySelector('.slide .entry b')?.innerText == 'Tunnel'")
	if got := strings.Join(w.texts(".entry b"), "|"); !strings.Contains(got, "saturated") ||
		!strings.Contains(got, "Freight Yard|below usual") {
		t.Errorf("%s: %s", title(), got)
	}
	for _, want := range []string{"Network", "Needs attention"} {
		w.wait("document.querySelector('.slide h1').innerText.startsWith(" + quoted(want) + ")")
		// No text is lower than 2 % of the screen, or cut off at its edge.
		if got := eval[string](w, `[...document.querySelectorAll('header *, main *')].filter(e =>
			[...e.childNodes].some(c => c.nodeType === 3 && c.data.trim()) && e.getClientRects().length
			&& (parseFloat(getComputedStyle(e).fontSize) < innerHeight * .02 ||
			e.getBoundingClientRect().bottom > innerHeight)).map(e => e.innerText).join(' | ')`); got != "" {
			t.Errorf("%s: not readable: %s", want, got)
		}
		if eval[bool](w, "document.documentElement.scrollWidth > innerWidth || "+
			"document.documentElement.scrollHeight > innerHeight") {
			t.Errorf("%s does not fit", want)
		}
	}

	l.stop()
	w.wait("!document.getElementById('stale').hidden")
	n.change(func(n *network) { n.happens(4010, traffic.Saturated, 3, time.Hour) })
	l.start()
	w.wait("document.getElementById('stale').hidden")
	w.wait("[...document.querySelectorAll('.entry b')].some(e => e.innerText == 'Forest')")

	n.change(func(n *network) { // nothing to worry about
		for i := range n.plazas {
			n.plazas[i].state, n.plazas[i].factor = traffic.Free, .3
		}
	})
	w.wait("document.querySelector('.slide h1').innerText == 'Highest flows'")
	if got := len(w.texts(".entry")); got != 5 {
		t.Errorf("%d plazas", got)
	}
}

// TestKioskOfMany has more to show than fits: it is counted.
func TestKioskOfMany(t *testing.T) {
	n := thousand(100)
	for i := range n.plazas {
		n.plazas[i].state = traffic.Saturated
	}
	l := serve(t, still(n))
	w := open(t, hall)
	w.visit(l.url+"/?kiosk=1", ".kiosk .slide")
	w.wait(fmt.Sprintf("document.querySelector('.more')?.innerText == %q", "and 85 more"))
	if got := w.text(".slide h1"); got != "Needs attention · 3 of 3" {
		t.Errorf("%q", got)
	}
	w.quiet()
}
