package pagetest

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// TestScreenshots makes the pictures of the README, of a real pipeline with a simulated Tuesday
// morning at the sample plazas: go test ./web/pagetest -run Screenshots -screenshots
// ../../docs/img, which is make screenshots. They are at their best where Debian's fonts-inter is
// installed. Without the flag they go to a folder that is removed, and there is no history of
// weeks.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	weeks := 3
	if *shots == "" {
		weeks = 0
	}
	w := open(t, desk)
	p := newPipeline(t)
	folder := t.TempDir()
	plazas := filepath.Join(folder, "plazas.csv")
	if err := os.WriteFile(plazas, []byte(simulate.SamplePlazas), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run("init", "--partitions", "4")
	_, stop := p.start("process", "--plazas-file", plazas)
	defer stop()
	now := time.Date(2026, 3, 24, 8, 24, 0, 0, time.UTC)
	today := now.Truncate(24 * time.Hour)
	events := filepath.Join(folder, "events.csv")
	for week := weeks; week > 0; week-- {
		day := today.AddDate(0, 0, -7*week)
		simulateInto(t, events, day, day.Add(24*time.Hour), uint64(week))
		p.run("emit", "--from", events)
	}
	from := today.Add(-8 * time.Hour)
	if weeks == 0 {
		from = now.Add(-time.Hour)
	}
	simulateInto(t, events, from, now, 99,
		simulate.Incident{Plaza: 4003, Kind: simulate.Blockage, Size: .45,
			Start: now.Add(-50 * time.Minute), End: now},
		simulate.Incident{Plaza: 4010, Kind: simulate.Surge, Size: 3, Start: now.Add(-40 * time.Minute),
			End: now})
	p.run("emit", "--from", events)
	p.windowsDone(now.Add(-2 * time.Minute).Format(time.DateTime))
	url, _ := p.view("127.0.0.1:0")

	w.prefer("prefers-color-scheme", "light")
	w.visit(url+"/", "tr.row")
	p.waitExact(w)
	w.shoot("view-light.png", desk)
	w.prefer("prefers-color-scheme", "dark")
	w.shoot("view-dark.png", desk)
	w.prefer("prefers-color-scheme", "light")
	w.visit(url+"/plazas/4007", "path.k0")
	w.wait("document.querySelectorAll('.windows tbody tr').length > 5")
	w.do(chromedp.EmulateViewport(1440, 1320))
	w.shoot("view-plaza.png", size{1440, 1320})
	w.do(chromedp.EmulateViewport(hall.width, hall.height))
	w.visit(url+"/?kiosk=3", ".slide .entry")
	w.shoot("view-kiosk.png", hall)
	w.prefer("prefers-color-scheme", "dark")
	w.do(chromedp.EmulateViewport(phone.width, phone.height, chromedp.EmulateScale(2),
		chromedp.EmulateMobile))
	w.visit(url+"/", "tr.row")
	w.shoot("view-phone.png", phone)
	w.quiet()
}

// simulateInto writes the events at the sample plazas in [from, until) into a CSV file.
func simulateInto(t *testing.T, file string, from, until time.Time, seed uint64,
	incidents ...simulate.Incident) {
	t.Helper()
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		t.Fatal(err)
	}
	profile, err := simulate.NewProfile(simulate.ProfileConfig{Plazas: plazas, Location: time.UTC,
		Start: from, End: until, Seed: seed, Incidents: incidents})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	buffered := bufio.NewWriter(out)
	var e toll.Event
	for {
		if _, ok := profile.Next(&e); !ok {
			break
		}
		fmt.Fprintf(buffered, "%s,%d,%s,%d\n", e.Time.Format(time.ANSIC), e.Vehicle, e.Type, e.Plaza)
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
}

// shoot writes a picture of the window, into a folder that is removed where the flag names none.
func (w *window) shoot(name string, s size) {
	w.t.Helper()
	eval[bool](w, "document.fonts.ready.then(() => new Promise(f => setTimeout(() => f(true), 600)))")
	png, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cmp.Or(*shots, w.t.TempDir()), name), png, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%s: %d KB, %d x %d", name, len(png)>>10, s.width, s.height)
}
