package pagetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/toll/traffic"
)

func quoted(s string) string { return strconv.Quote(s) }

// MaxPageBytes bounds the files that the page is made of, as they are stored.
const MaxPageBytes = 122_000

func TestWeight(t *testing.T) {
	total := int64(0)
	err := fs.WalkDir(os.DirFS("../static"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, "kiosk.") { // loaded where it is wanted
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all files of the page: %d bytes", total)
	if total > MaxPageBytes {
		t.Errorf("all files of the page are %d bytes, more than %d", total, MaxPageBytes)
	}
}

// TestNothingIsWiderThanTheWindow looks at both pages from the smallest phone to a wall.
func TestNothingIsWiderThanTheWindow(t *testing.T) {
	t.Parallel()
	n := thousand(1000)
	n.wrong[1017] = "rows and events differ"
	l := serve(t, n)
	w := open(t, desk)
	for _, path := range []string{"/", "/plazas/1013"} {
		w.visit(l.url+path, map[string]string{"/": "tr.row", "/plazas/1013": "path.k0"}[path])
		for _, s := range []size{{320, 640}, phone, {600, 900}, {768, 1024}, {1024, 768}, {1280, 800},
			desk, {1920, 1080}, wall, {3840, 2160}} {
			w.do(chromedp.EmulateViewport(s.width, s.height))
			w.wait(fmt.Sprintf("innerWidth == %d", s.width))
			eval[bool](w,
				"new Promise(done => { let n = 0; const frame = () => ++n < 4 ? requestAnimationFrame(frame) "+
					": done(true); frame() })")
			over := eval[[]string](w,
				`(limit => document.documentElement.scrollWidth <= limit ? [] : [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > limit + 1).slice(0, 3).map(e => e.tagName + '.' + e.className))(innerWidth)`)
			if len(over) > 0 || eval[int](w, "document.documentElement.scrollWidth - innerWidth") > 0 {
				t.Errorf("%s at %d px: too wide are %v", path, s.width, over)
			}
			// Nothing in the table is cut off or runs into its neighbour.
			if cut := eval[[]string](w,
				`[...document.querySelectorAll('tr.row > td, thead button')].filter(e => e.offsetWidth && e.scrollWidth > e.clientWidth + 1).slice(0, 3).map(e => e.className + ' ' + e.innerText)`); len(cut) > 0 {
				t.Errorf("%s at %d px: cut off are %q", path, s.width, cut)
			}
		}
	}
	if got := eval[float64](w, "parseFloat(getComputedStyle(document.body).fontSize)"); got < 24 {
		t.Errorf("type of %v px on a display of 3840", got)
	}
	w.do(chromedp.EmulateViewport(wall.width, wall.height))
	if got := eval[float64](w, "parseFloat(getComputedStyle(document.body).fontSize)"); got < 19 {
		t.Errorf("type of %v px on a display of 2560", got)
	}
	w.quiet()
}

// busy measures, until the func that it returns is called, how many times as long as on a quiet
// machine a thread has to wait for what it computes: by how many want a core at once. Where the
// kernel does not report it, that is once.
func busy() (times func() float64) {
	stop, share := make(chan struct{}), make(chan float64)
	go func() {
		sum, n := 0., 0.
		for {
			if text, err := os.ReadFile("/proc/loadavg"); err == nil {
				if fields := strings.Fields(string(text)); len(fields) > 3 {
					running, _, _ := strings.Cut(fields[3], "/")
					if r, err := strconv.ParseFloat(running, 64); err == nil {
						sum, n = sum+r, n+1
					}
				}
			}
			select {
			case <-stop:
				share <- max(1, sum/max(1, n)/float64(runtime.NumCPU())-1) // the browser has threads of its own
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() float64 { close(stop); return <-share }
}

// within fails where something takes longer than a limit, in milliseconds. The limit is a quiet
// machine's: a busy one has as many times that as it is busy, and three attempts, for that changes.
func (w *window) within(what string, limit float64, measure func() float64) {
	w.t.Helper()
	for try := range 3 {
		times := busy()
		took := measure()
		busy := times()
		if took <= limit*busy {
			return
		}
		if try == 2 {
			w.t.Errorf("%s %.1f ms, want %v at most, or %.1f times that as busy as the machine is", what,
				took, limit, busy)
		}
	}
}

// TestThousandPlazas measures what the page does with as many: the first figures, an update of all
// of them at once, and scrolling. The bounds are several times what a quiet machine needs.
func TestThousandPlazas(t *testing.T) {
	l := serve(t, thousand(1000))
	w := open(t, desk)
	if _, err := chromedp.Call(w.ctx, page.AddScriptToEvaluateOnNewDocument,
		page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		new MutationObserver((_, o) => { if (document.querySelector('tr.row .flow')?.innerText) { window.firstFigures = performance.now(); o.disconnect() } }).observe(document, {childList: true, subtree: true})`}); err != nil {
		t.Fatal(err)
	}
	l.body("/api/v1/plazas") // the server has read its first board
	w.within("first figures after", 5000, func() float64 {
		began := time.Now()
		w.visit(l.url+"/", "tr.row")
		took := eval[float64](w, "window.firstFigures")
		t.Logf("first figures after %.0f ms, by the test's clock %v", took,
			time.Since(began).Round(time.Millisecond))
		return took
	})

	// An update is what happens between two callbacks of the same frame, one asked for before the
	// page's own and one after.
	w.within("an update takes", 150, func() float64 {
		costs := eval[[]float64](w, `(async () => {
			const {apply, live} = await import('/static/live.js')
			const costs = []
			for (let i = 0; i < 30; i++) {
				const plazas = [...live.plazas.values()].map(p => ({id: p.id, total: p.total + i, flow_per_hour: p.flow_per_hour + (p.id * 7 + i * 13) % 50, vc: p.vc * (1 + (p.id + i) % 5 / 100), sparkline_last: i}))
				costs.push(await new Promise(done => {
					let began
					requestAnimationFrame(() => began = performance.now())
					apply({at: 'test ' + i, plazas}, false)
					requestAnimationFrame(() => { document.body.offsetHeight; done(performance.now() - began) })
				}))
			}
			return costs.sort((a, b) => a - b)
		})()`)
		t.Logf("an update of 1,000 plazas with layout: median %.1f ms, worst %.1f ms",
			costs[len(costs)/2], costs[len(costs)-1])
		return costs[len(costs)/2]
	})

	w.within("two frames take", 200, func() float64 {
		scroll := eval[struct {
			Blank, Rows int
			Frames      []float64
		}](w, `(async () => {
			const result = {Blank: 0, Rows: 0, Frames: []}
			scrollTo(0, 0)
			await new Promise(requestAnimationFrame)
			await new Promise(requestAnimationFrame)
			let last = performance.now()
			for (let i = 0; i < 120; i++) {
				scrollBy(0, i < 60 ? 611 : -517)
				await new Promise(requestAnimationFrame)
				await new Promise(done => requestAnimationFrame(done))
				result.Frames.push(performance.now() - last)
				last = performance.now()
				for (const y of [innerHeight * .3, innerHeight * .6, innerHeight - 20]) if (scrollY > 600 && !document.elementFromPoint(innerWidth / 3, y)?.closest('tr.row')) result.Blank++
				result.Rows = Math.max(result.Rows, document.querySelectorAll('tr.row').length)
			}
			result.Frames.sort((a, b) => a - b)
			return result
		})()`)
		t.Logf("scrolling: two frames in median %.1f ms, worst %.1f ms; at most %d rows exist",
			scroll.Frames[len(scroll.Frames)/2], scroll.Frames[len(scroll.Frames)-1], scroll.Rows)
		if scroll.Blank > 0 {
			t.Errorf("%d times there was no row where one should be", scroll.Blank)
		}
		if scroll.Rows > 80 {
			t.Errorf("%d rows exist", scroll.Rows)
		}
		return scroll.Frames[len(scroll.Frames)/2]
	})
	w.quiet()
}

func TestTheme(t *testing.T) {
	t.Parallel()
	l := serve(t, highway())
	w := open(t, desk)
	background := func() string {
		return eval[string](w, "getComputedStyle(document.body).backgroundColor")
	}
	const dark, light = "rgb(14, 19, 25)", "rgb(243, 245, 248)"
	w.prefer("prefers-color-scheme", "dark")
	w.visit(l.url+"/", "tr.row")
	if got := background(); got != dark {
		t.Errorf("by the system: %s", got)
	}
	w.do(chromedp.Click(chromedp.CSS("#theme")))
	if got := background(); got != light {
		t.Errorf("after the button: %s, %s", got, w.text("#theme"))
	}
	w.do(chromedp.Reload())
	w.wait("document.querySelector('tr.row')")
	if got := background(); got != light {
		t.Errorf("after a reload: %s", got)
	}
	w.do(chromedp.Click(chromedp.CSS("#theme")), chromedp.Click(chromedp.CSS("#theme")))
	if got := w.text("#theme"); got != "Theme: auto" || background() != dark {
		t.Errorf("all the way round: %s, %s", got, background())
	}
	w.quiet()
}

func TestReducedMotion(t *testing.T) {
	t.Parallel()
	l := serve(t, highway())
	w := open(t, desk)
	w.prefer("prefers-reduced-motion", "reduce")
	w.visit(l.url+"/", "tr.row")
	moving := eval[[]string](w,
		`[...document.querySelectorAll('*')].filter(e => (s => s.transitionDuration.split(',').some(d => parseFloat(d)) || s.animationName != 'none')(getComputedStyle(e))).map(e => e.className)`)
	if len(moving) > 0 {
		t.Errorf("these move: %v", moving)
	}
}

// axe returns axe-core, as it is vendored.
func axe(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

func TestAxeIsAsItWasPublished(t *testing.T) {
	sum := sha256.Sum256([]byte(axe(t)))
	notes, err := os.ReadFile("testdata/axe-core/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(notes), hex.EncodeToString(sum[:])) {
		t.Errorf("testdata/axe-core/README.md does not name the SHA-256 of axe.min.js, %x", sum)
	}
}

// check runs axe-core on what the window shows, with all of its rules.
func (w *window) check(what string) {
	w.t.Helper()
	if !eval[bool](w, "'axe' in window") {
		w.do(chromedp.Evaluate[chromedp.Void](axe(w.t)))
	}
	found := eval[struct {
		Violations []string
		Passes     int
	}](w, `axe.run(document, {
		resultTypes: ['violations'], rules: {'target-size': {enabled: true}},
	}).then(r => ({
		Passes: r.passes.length,
		Violations: r.violations.flatMap(v => v.nodes.map(n =>
			v.id + ' (' + v.impact + '): ' + n.html.slice(0, 200) + ' ' + n.failureSummary)),
	}))`)
	for _, v := range found.Violations {
		w.t.Errorf("%s: %s", what, v)
	}
	if found.Passes < 20 {
		w.t.Errorf("%s: axe checked %d rules only", what, found.Passes)
	}
}

func TestAxe(t *testing.T) {
	t.Parallel()
	n := highway()
	l := serve(t, n)
	for scheme, sizes := range map[string][]size{"light": {desk, phone}, "dark": {phone, wall}} {
		for _, s := range sizes {
			t.Run(fmt.Sprint(scheme, " ", s.width), func(t *testing.T) {
				w := open(t, s)
				w.prefer("prefers-color-scheme", scheme)
				w.visit(l.url+"/", "tr.row")
				w.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.roads').open = true"))
				w.check("overview")
				w.do(chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('.tile')[2].click()"))
				w.check("overview with a filter")
				w.visit(l.url+"/plazas/4007", "path.k0")
				w.wait("document.querySelectorAll('.windows tbody tr').length > 5")
				w.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.chart details').open = true"))
				w.wait("document.querySelector('.chart tbody tr')")
				w.check("plaza")
				w.quiet()
			})
		}
	}
	t.Run("mismatch and stale", func(t *testing.T) {
		w := open(t, desk)
		w.visit(l.url+"/", "tr.row")
		n.change(func(n *network) {
			n.wrong[4007] = "rows and count differ"
		})
		w.wait("!document.getElementById('mismatch').hidden")
		w.check("mismatch")
		n.change(func(n *network) { n.err = errors.New("the database is away") })
		w.wait("!document.getElementById('stale').hidden")
		w.check("stale")
		w.quiet()
	})
}

// hall is the size of a display on a wall.
var hall = size{1920, 1080}

// TestKiosk watches the wall display without touching it: it turns through what needs attention, is
// readable from afar, and comes back by itself after an outage of the server.
func TestKiosk(t *testing.T) {
	t.Parallel()
	n := highway()
	l := serve(t, still(n))
	w := open(t, hall)
	w.visit(l.url+"/?kiosk=1", ".kiosk .slide")
	for _, want := range []string{"Network", "Needs attention", "Network"} {
		w.wait(titled(want))
	}
	if got := w.when("document.querySelector('.slide .entry b')?.innerText == 'Tunnel'",
		"[...document.querySelectorAll('.entry b')].map(e => e.innerText).join('|')"); !strings.Contains(
		got, "saturated") || !strings.Contains(got, "Freight Yard|below usual") {
		t.Error(got)
	}
	for _, want := range []string{"Network", "Needs attention"} {
		// No text is lower than 2 % of the screen, or cut off at its edge.
		if got := w.when(titled(want), `[...document.querySelectorAll('header *, main *')].filter(e =>
			[...e.childNodes].some(c => c.nodeType === 3 && c.data.trim()) && e.getClientRects().length
			&& (parseFloat(getComputedStyle(e).fontSize) < innerHeight * .02 ||
			e.getBoundingClientRect().bottom > innerHeight)).map(e => e.innerText).join(' | ')`); got != "" {
			t.Errorf("%s: not readable: %s", want, got)
		}
		if got := w.when(titled(want), "`${document.documentElement.scrollWidth > innerWidth || "+
			"document.documentElement.scrollHeight > innerHeight}`"); got != "false" {
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
	got := w.when(titled("Highest flows"), "`${document.querySelectorAll('.entry').length}`")
	if got != "5" {
		t.Errorf("%s plazas", got)
	}
}

// titled is the condition that a slide is shown whose title begins so.
func titled(start string) string {
	return "document.querySelector('.slide h1').innerText.startsWith(" + quoted(start) + ")"
}

// TestKioskOfMany has more to show than fits: it is counted.
func TestKioskOfMany(t *testing.T) {
	t.Parallel()
	n := thousand(100)
	for i := range n.plazas {
		n.plazas[i].state = traffic.Saturated
	}
	l := serve(t, still(n))
	w := open(t, hall)
	w.visit(l.url+"/?kiosk=1", ".kiosk .slide")
	if got := w.when("document.querySelector('.more')?.innerText == 'and 85 more'",
		"document.querySelector('.slide h1').innerText"); got != "Needs attention · 3 of 3" {
		t.Errorf("%q", got)
	}
	w.quiet()
}

// TestFilesNeedNothingElse keeps out what the content policy forbids, and what would be fetched
// from elsewhere.
func TestFilesNeedNothingElse(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		"an address elsewhere": regexp.MustCompile(`(?i)https?://|//[a-z0-9-]+\.[a-z]`),
		"a style or script within": regexp.MustCompile(
			`(?i)<style|\sstyle=|<script>|\son[a-z]+=|javascript:`),
		"data that may become markup": regexp.MustCompile(
			`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML`),
		"code that is made of text":    regexp.MustCompile(`\beval\(|new Function|setTimeout\(['"]`),
		"a style that is an attribute": regexp.MustCompile(`setAttribute\('style'|\{ style: `),
		"an import of another package": regexp.MustCompile(`from '[^.]|@import|url\(`),
	}
	static := os.DirFS("../static")
	names, err := fs.Glob(static, "*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(static, name)
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range forbidden {
			if found := pattern.Find([]byte(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg",
				""))); found != nil {
				t.Errorf("%s has %s: %q", name, what, found)
			}
		}
	}
}
