package pagetest

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll/traffic"
)

// flowOf is JavaScript that reads the flow of a plaza in the table.
func flowOf(id string) string {
	return "document.querySelector('tr.row a[href=\"/plazas/" + id +
		"\"]').closest('tr').querySelector('.flow').innerText"
}

// TestLive sees a change arrive without anything being loaded again, on both pages.
func TestLive(t *testing.T) {
	t.Parallel()
	n := still(highway())
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	eval[bool](w, "window.here = true")
	before := eval[string](w, flowOf("4010"))
	n.change(func(n *network) { n.happens(4010, traffic.Saturated, 3, time.Hour) })
	began := time.Now()
	w.wait(flowOf("4010") + " != " + strconv.Quote(before))
	// after 20 s the page asks for the board where the stream says nothing
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a change took %v", took)
	}
	if got := w.text("tr.row.saturated a"); got != "Tunnel" && got != "Forest" {
		t.Errorf("first is %q, want one that is saturated", got)
	}
	w.wait(`document.querySelector('.strip a[href="/plazas/4010"]').classList.contains('saturated')`)

	eval[bool](w, `document.querySelector('tr.row a[href="/plazas/4010"]').click(), true`)
	w.wait("document.querySelector('[data-f=state]').innerText.toLowerCase() == 'saturated'")
	n.change(func(n *network) { n.happens(4010, traffic.BelowUsual, .1, time.Hour) })
	w.wait("document.querySelector('[data-f=state]').innerText.toLowerCase() == 'below usual'")
	if !eval[bool](w, "window.here === true") {
		t.Error("the page was loaded again")
	}
	w.quiet()
}

// TestServerAway stops the server until the page calls itself stale, and starts it again.
func TestServerAway(t *testing.T) {
	t.Parallel()
	n := still(highway())
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	w.wait("document.querySelector('.fresh.on')")
	eval[bool](w, "window.here = true")
	before := eval[string](w, flowOf("4010"))

	// The page notes itself what it says: on a busy machine a test that looks from outside may come
	// too late.
	eval[bool](w, `(notes => {
		window.notes = notes
		new MutationObserver(() => notes.push({says: document.getElementById('fresh').innerText, stale: !document.getElementById('stale').hidden}))
			.observe(document.getElementById('fresh'), {subtree: true, childList: true, characterData: true, attributes: true})
		return true
	})([])`)
	l.stop()
	w.wait("!document.getElementById('stale').hidden && notes.some(n => n.stale)")
	if !eval[bool](w, "notes.some(n => n.says.includes('reconnecting') && !n.stale)") {
		t.Errorf("stale at once: %s", eval[string](w, "JSON.stringify(notes)"))
	}
	if got := eval[string](w, "notes.find(n => n.stale).says"); !strings.Contains(got, "STALE") ||
		!strings.Contains(got, "last update 1") {
		t.Errorf("a stale page says %q", got)
	}
	if got := w.text("#stale"); !strings.Contains(got, "Not live") ||
		!strings.Contains(got, "reconnect") {
		t.Errorf("the banner says %q", got)
	}
	if got := eval[string](w, "document.title"); !strings.Contains(got, "stale") {
		t.Errorf("the title is %q", got)
	}
	w.inSight("#stale")

	n.change(func(n *network) { n.happens(4010, traffic.Busy, 3, time.Hour) })
	l.start()
	w.wait(
		"document.getElementById('stale').hidden && document.querySelector('.fresh.on') && " +
			"!document.body.classList.contains('stale')")
	w.wait(flowOf("4010") + " != " + strconv.Quote(before))
	if !eval[bool](w, "window.here === true") {
		t.Error("the page was loaded again")
	}
	w.quiet()
}

// TestSourceAway has a server that is there, and a database that is not.
func TestSourceAway(t *testing.T) {
	t.Parallel()
	n := highway()
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/plazas/4007", "path.k0")
	n.change(func(n *network) { n.err = errors.New("the database is away") })
	w.wait("!document.getElementById('stale').hidden")
	if got := w.text("#stale"); !strings.Contains(got, "nothing newer") {
		t.Errorf("the banner says %q", got)
	}
	w.inSight("#stale")
	// Who comes now sees the last figures, and at once that they are old.
	late := open(t, desk)
	late.visit(l.url+"/", "tr.row")
	late.wait("!document.getElementById('stale').hidden")
	n.change(func(n *network) { n.err = nil })
	w.wait("document.getElementById('stale').hidden")
	late.wait("document.getElementById('stale').hidden")
	w.quiet()
}

// inSight fails where an element is not wholly in the window, with nothing over it.
func (w *window) inSight(selector string) {
	w.t.Helper()
	if !eval[bool](w, `(e => { const r = e.getBoundingClientRect(), x = r.x + r.width / 2
		return r.height > 20 && r.top >= 0 && r.bottom <= innerHeight && r.width > innerWidth * .9 && e.contains(document.elementFromPoint(x, r.y + 5)) && e.contains(document.elementFromPoint(x, r.bottom - 5))
	})(document.querySelector(`+strconv.Quote(selector)+`))`) {
		w.t.Errorf("%s is not in sight", selector)
	}
}

// TestToken takes a server that lets nobody in without its token, and then gives it another one.
func TestToken(t *testing.T) {
	t.Parallel()
	l := &live{t: t, source: highway(), addr: "127.0.0.1:0", token: "a-token-of-the-test-1"}
	l.start()
	t.Cleanup(func() { l.stop() })
	w := open(t, desk)
	w.do(chromedp.Navigate(l.url + "/"))
	if got := w.text("h1"); got != "This page needs a token" {
		t.Errorf("without a token: %q", got)
	}
	w.do(chromedp.Navigate(l.url + "/plazas/4007?kind=15m"))
	w.press("wrong\r")
	w.wait("document.querySelector('[role=alert]')?.innerText.includes('not the token')")
	w.press(l.token + "\r")
	w.wait("document.querySelector('path.k0')")
	if got := eval[string](w, "location.pathname + location.search"); got !=
		"/plazas/4007?kind=15m" {
		t.Errorf("the form led to %q", got)
	}
	w.visit(l.url+"/plazas/4007?token="+l.token, "path.k0")
	if got := eval[string](w, "location.href"); strings.Contains(got, "token") {
		t.Errorf("the address %q shows the token", got)
	}
	l.stop()
	l.token = "a-token-of-the-test-2"
	l.start()
	w.wait(
		"!document.getElementById('stale').hidden && " +
			"document.getElementById('stale').innerText.includes('no token')")
	w.quiet()
}

// TestChangesAddUp lets hours pass in seconds, and compares what the page has put together from
// changes with the whole.
func TestChangesAddUp(t *testing.T) {
	t.Parallel()
	n := thousand(60)
	n.speed = 1200
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	for range 4 {
		time.Sleep(time.Second)
		n.change(func(n *network) {
			n.happens(1003, traffic.State(time.Now().UnixNano()%4), 1.1, time.Hour)
			n.inFlight++
		})
	}
	var last time.Time
	n.change(func(n *network) {
		n.began, n.speed = n.now().Add(time.Minute), 0 // a minute that no board before this has
		last = n.now()
	})
	eval[bool](w, "import('/static/live.js').then(m => { window.live = m.live; return true })")
	// the last change
	w.wait(fmt.Sprintf("Date.parse(live.board.stream_time) == %d", last.UnixMilli()))
	board := get[map[string]any](l, "/api/v1/plazas")
	has := eval[map[string]any](w,
		"({...live.board, plazas: [...live.plazas.values()].sort((p, q) => p.id - q.id)})")
	for _, name := range []string{"plazas", "summary", "stream_time", "watermark", "timezone"} {
		if !reflect.DeepEqual(has[name], board[name]) {
			t.Errorf("%s: the page has\n%.2000v\nthe API says\n%.2000v", name, has[name], board[name])
		}
	}
	// A plaza that is gone goes.
	n.change(func(n *network) { n.plazas = n.plazas[1:] })
	w.wait("live.plazas.size == 59 && !document.querySelector('tr.row a[href=\"/plazas/1000\"]')")
	w.quiet()
}

func TestMismatchIsLoud(t *testing.T) {
	t.Parallel()
	n := thousand(200)
	l := serve(t, n)
	for _, s := range []size{desk, phone} {
		w := open(t, s)
		w.visit(l.url+"/", "tr.row")
		w.wait("document.querySelector('.verdict.exact')")
		w.do(chromedp.Evaluate[chromedp.Void]("scrollTo(0, 1500)")) // it must be seen from anywhere
		n.change(func(n *network) { n.wrong[1017] = "12,345 rows are stored, 12,346 events are counted" })
		w.wait("!document.getElementById('mismatch').hidden")
		w.inSight("#mismatch")
		if got := w.text("#mismatch"); !strings.Contains(got, "Mismatch") ||
			!strings.Contains(got, "12,345 rows are stored") ||
			!strings.Contains(got, "What to do: count the plazas again") ||
			!strings.Contains(got, n.of(1017).Name) {
			t.Errorf("the banner says %q", got)
		}
		if got := eval[string](w,
			"getComputedStyle(document.getElementById('mismatch')).backgroundColor"); got !=
			"rgb(168, 21, 31)" {
			t.Errorf("the banner is %s", got)
		}
		if got := w.text("#verdict strong"); got != "MISMATCH" {
			t.Errorf("the verdict is %q", got)
		}
		if got := eval[string](w, "document.title"); !strings.Contains(got, "MISMATCH") {
			t.Errorf("the title is %q", got)
		}
		if got := eval[string](
			w, "document.getElementById('mismatch').getAttribute('role')"); got != "alert" {
			t.Errorf("the banner's role is %q", got)
		}
		eval[bool](w, "document.querySelector('#mismatch a').click(), true")
		w.wait("document.querySelector('[data-f=verdict] strong')?.innerText == 'MISMATCH'")
		if got := w.text("[data-f=proof]"); !strings.Contains(got, "DIFFERS") {
			t.Errorf("the plaza's proof is %q", got)
		}
		n.change(func(n *network) { clear(n.wrong) })
		w.wait("document.getElementById('mismatch').hidden")
		w.quiet()
	}
}

// TestRejectsAreNoted sees a high share of rejects among the last records appear and go.
func TestRejectsAreNoted(t *testing.T) {
	t.Parallel()
	n := still(highway())
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	const note = "document.querySelector('[data-f=waiting]').innerText"
	n.change(func(n *network) {
		n.recent = board.RecentRejects{Records: 4000, Rejected: 1234,
			High: true}
	})
	w.wait(note + " == '1,234 of the last 4,000 rejected'")
	n.change(func(n *network) { n.recent = board.RecentRejects{Records: 4000, Rejected: 12} })
	w.wait(note + " == ''")
	w.quiet()
}

func TestInFlightIsCalm(t *testing.T) {
	t.Parallel()
	n := highway()
	n.inFlight = 1204
	l := serve(t, n)
	w := open(t, desk)
	w.visit(l.url+"/", "tr.row")
	if got := w.text("#verdict strong"); got != "1,204 in flight" {
		t.Errorf("the verdict is %q", got)
	}
	if eval[bool](w, "!document.getElementById('mismatch').hidden") {
		t.Error("what is in flight is shown as a mismatch")
	}
	n.change(func(n *network) { n.inFlight = 0 })
	w.wait("document.querySelector('#verdict strong').innerText == 'exact'")
	w.quiet()
}
