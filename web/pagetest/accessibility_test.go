package pagetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

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
	}](w, `axe.run(document, {resultTypes: ['violations'], rules: {'target-size': {enabled: true}}}).then(r => ({Passes: r.passes.length,
		Violations: r.violations.flatMap(v => v.nodes.map(n => v.id + ' (' + v.impact + '): ' + n.html.slice(0, 200) + ' ' + n.failureSummary))}))`)
	for _, v := range found.Violations {
		w.t.Errorf("%s: %s", what, v)
	}
	if found.Passes < 20 {
		w.t.Errorf("%s: axe checked %d rules only", what, found.Passes)
	}
}

func TestAxe(t *testing.T) {
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
