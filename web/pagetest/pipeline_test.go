package pagetest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
)

// pipeline is the command at work on servers of its own: Kafka and MariaDB where this machine has
// them, else those that it brings along.
type pipeline struct {
	t      testing.TB
	binary string
	env    []string
	db     *dbsql.DB
	last   *os.Process // that start started
}

// patient is how long a command may take.
const patient = 3 * time.Minute

// command is the built command, once for all tests.
var command struct {
	sync.Once
	folder, binary string
	err            error
}

// built returns the path of the command.
func built(t testing.TB) string {
	t.Helper()
	command.Do(func() {
		if command.folder, command.err = os.MkdirTemp("", "tollstream-page-"); command.err != nil {
			return
		}
		command.binary, command.err = testkit.Build(command.folder)
	})
	if command.err != nil {
		t.Fatal(command.err)
	}
	return command.binary
}

func newPipeline(t testing.TB) *pipeline {
	t.Helper()
	_ = mysql.SetLogger(&mysql.NopLogger{})
	var brokers string
	jars, kafka := devstack.FindKafka()
	if _, err := exec.LookPath("java"); err != nil {
		kafka = false
	}
	switch {
	case kafka:
		k, err := devstack.StartKafka(t.Context(), devstack.KafkaConfig{Jars: jars, Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		brokers = k.Addr()
	case testkit.ServicesRequired():
		t.Fatal("Apache Kafka (make kafka) or Java is not installed, and this run requires them")
	default:
		b, err := devstack.StartBroker(devstack.BrokerConfig{Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		brokers = b.Addr()
	}
	needDatabase(t)
	d, err := devstack.StartDatabase(t.Context(), devstack.DatabaseConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	db, err := dbsql.Open("mysql", d.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := &pipeline{t: t, binary: built(t), db: db}
	p.env = append(os.Environ(), "TOLLSTREAM_BROKERS="+brokers, "TOLLSTREAM_MYSQL="+d.DSN(),
		"TOLLSTREAM_STATE_DIR="+t.TempDir(), "TOLLSTREAM_INSTANCE=one")
	return p
}

// needDatabase makes sure that there is a database where no engine is asked for.
func needDatabase(t testing.TB) {
	t.Helper()
	engine := "mariadb"
	if !devstack.HasDatabase(engine) && !testkit.ServicesRequired() {
		engine = "embedded"
	}
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
}

// run runs a command to its end, which must be a good one.
func (p *pipeline) run(args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patient)
	defer cancel()
	c := exec.CommandContext(ctx, p.binary, args...)
	c.Env = p.env
	if text, err := c.CombinedOutput(); err != nil {
		p.t.Fatalf("tollstream %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// start starts a command in the background. It is interrupted by stop, at the end of the test at
// the latest, and must then end well.
func (p *pipeline) start(args ...string) (stdout *bufio.Reader, stop func()) {
	p.t.Helper()
	c := exec.Command(p.binary, args...)
	c.Env = p.env
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.last = c.Process
	stop = sync.OnceFunc(func() {
		_ = c.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		defer kill.Stop()
		if err := c.Wait(); err != nil {
			p.t.Errorf("tollstream %s: %v\n%s", strings.Join(args, " "), err, &stderr)
		}
	})
	p.t.Cleanup(stop)
	return bufio.NewReader(out), stop
}

// view serves the page, at an address, and returns where.
func (p *pipeline) view(listen string) (url string, stop func()) {
	p.t.Helper()
	out, stop := p.start("view", "--listen", listen)
	line, err := out.ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "view at ")
	if err != nil || !found {
		stop()
		p.t.Fatalf("view prints %q, %v", line, err)
	}
	return strings.TrimSuffix(url, "/"), stop
}

// number runs a query that gives one number.
func (p *pipeline) number(query string, args ...any) float64 {
	p.t.Helper()
	var n dbsql.NullFloat64
	if err := p.db.QueryRow(query, args...).Scan(&n); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
	return n.Float64
}

// eventually waits until something holds that is not in the page.
func (p *pipeline) eventually(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patient); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %v", what, patient)
		}
	}
}

// figure returns the number that a text of the page begins with, NaN for none.
func figure(text string) float64 {
	number, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseFloat(strings.NewReplacer(",", "", "−", "-", "+", "").Replace(number), 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// waitExact waits until the page says that all rows are there and counted.
func (p *pipeline) waitExact(w *window) {
	p.t.Helper()
	rows := p.number("SELECT COUNT(*) FROM livetolldata")
	w.wait(
		fmt.Sprintf(
			`document.querySelector('#verdict.exact') && ['events', 'rows'].every(f => document.querySelector('[data-f=' + f + ']').innerText.replaceAll(',', '') == '%.0f')`, rows))
}

// windowsDone waits until all windows that end by a time are in the database.
func (p *pipeline) windowsDone(until string) {
	p.t.Helper()
	p.eventually("windows until "+until, func() bool {
		return p.number("SELECT COUNT(*) FROM toll_congestion WHERE assessed < ?", until) == 0 &&
			p.number("SELECT COUNT(*) FROM toll_congestion") > 0
	})
}

// TestPipelineFigures compares what the page shows of a real pipeline with what SQL says of the
// rows.
func TestPipelineFigures(t *testing.T) {
	t.Parallel()
	w := open(t, size{1600, 1400})
	p := newPipeline(t)
	p.run("init", "--partitions", "4")
	_, stop := p.start("process")
	defer stop()
	// Ten events a second, from half past six until half past seven.
	p.run("emit", "--count", "36000", "--rate", "0", "--seed", "1", "--start", "2026-03-02 06:30:00")
	p.eventually("rows", func() bool {
		return p.number("SELECT COUNT(*) FROM livetolldata") == 36_000
	})
	p.windowsDone("2026-03-02 07:28:00")
	url, _ := p.view("127.0.0.1:0")
	w.visit(url+"/", "tr.row")
	p.waitExact(w)

	plazas := p.number("SELECT COUNT(DISTINCT toll_plaza_id) FROM livetolldata")
	shows(t, "plazas", w.text("[data-f=plazas]"), plazas)
	w.wait(fmt.Sprintf("document.querySelectorAll('tr.row').length == %.0f", plazas))
	const quarter = " FROM livetolldata WHERE toll_plaza_id = ? AND timestamp >= ? - INTERVAL 15 " +
		"MINUTE AND timestamp < ?"
	assessedAt := func(plaza string) (assessed string) {
		if err := p.db.QueryRow("SELECT assessed FROM toll_congestion WHERE toll_plaza_id = ?",
			plaza).Scan(&assessed); err != nil {
			t.Fatal(err)
		}
		return assessed
	}
	// The page follows the last assessments within its refresh.
	p.eventually("the last assessments on the page", func() bool {
		for _, r := range eval[[]row](w, readRows) {
			at := assessedAt(r.ID)
			if math.IsNaN(figure(r.Heavy)) ||
				figure(r.Flow) != 4*p.number("SELECT COUNT(*)"+quarter, r.ID, at, at) {
				return false
			}
		}
		return true
	})
	for _, r := range eval[[]row](w, readRows) {
		var last string
		assessed := assessedAt(r.ID)
		shows(t, r.ID+" flow", r.Flow, 4*p.number("SELECT COUNT(*)"+quarter, r.ID, assessed, assessed))
		heavy := p.number("SELECT SUM(vehicle_type IN ('truck', 'bus'))"+quarter, r.ID, assessed,
			assessed) / p.number("SELECT COUNT(*)"+quarter, r.ID, assessed, assessed)
		shows(t, r.ID+" heavy share", r.Heavy, 100*heavy)
		if err := p.db.QueryRow("SELECT TIME(MAX(timestamp)) FROM livetolldata WHERE toll_plaza_id = ?",
			r.ID).Scan(&last); err != nil {
			t.Fatal(err)
		}
		if r.Last != last {
			t.Errorf("%s: last event %q, SQL says %s", r.ID, r.Last, last)
		}
		if r.Verification != "exact" {
			t.Errorf("%s: verification %q", r.ID, r.Verification)
		}
	}

	// One plaza.
	eval[bool](w, `document.querySelector('tr.row a[href="/plazas/4005"]').click(), true`)
	w.wait("document.querySelectorAll('.windows tbody tr').length >= 20")
	facts := map[string]string{}
	terms, values := w.texts("dl.facts dt"), w.texts("dl.facts dd")
	for i := range terms {
		facts[terms[i]] = values[i]
	}
	rows := p.number("SELECT COUNT(*) FROM livetolldata WHERE toll_plaza_id = 4005")
	for _, term := range []string{"Vehicles in all", "Counted", "Rows stored"} {
		shows(t, term, facts[term], rows)
	}
	times := regexp.MustCompile(`\d\d:\d\d`)
	for kind, least := range map[string]int{"1m": 20, "5m/1m": 20, "15m": 3, "1h": 1, "day": 1} {
		eval[bool](w, "(k => (k.value = "+quoted(kind)+
			", k.dispatchEvent(new Event('change'))))(document.querySelector('[data-f=kind]'))")
		w.wait(fmt.Sprintf("(rows => rows.length >= %d && rows.every(r => r.cells[0].innerText == "+
			"%q))([...document.querySelectorAll('.windows tbody tr')])", least, kind))
		for _, r := range eval[[][]string](w, "[...document.querySelectorAll('.windows tbody "+
			"tr')].map(r => [...r.cells].map(c => c.innerText))") {
			span := times.FindAllString(r[1], -1)
			if len(span) != 2 {
				t.Errorf("a window is %v", r)
				continue
			}
			shows(t, "window "+r[0]+" "+r[1], r[2], p.number(`SELECT COUNT(*) FROM livetolldata
				WHERE toll_plaza_id = 4005
				AND timestamp >= CONCAT('2026-03-02 ', ?) AND timestamp < CONCAT('2026-03-02 ', ?)`, span[0],
				span[1]))
		}
	}
	w.quiet()
}

// TestPipelineLive has the page open while events arrive, the view is stopped and started again,
// and a row is deleted.
func TestPipelineLive(t *testing.T) {
	t.Parallel()
	w := open(t, desk)
	p := newPipeline(t)
	p.run("init", "--partitions", "2")
	_, stopProcess := p.start("process")
	defer stopProcess()
	url, stopView := p.view("127.0.0.1:0")
	w.do() // the page before there is anything to see
	w.visit(url+"/", "[data-f=plazas]")
	eval[bool](w, "window.here = true")

	p.run("emit", "--count", "2000", "--rate", "0", "--seed", "1", "--start", "2026-03-02 07:00:00",
		"--plazas", "4000-4003")
	p.eventually("rows", func() bool { return p.number("SELECT COUNT(*) FROM livetolldata") == 2000 })
	w.wait("document.querySelectorAll('tr.row').length == 4")
	p.waitExact(w)
	p.run("emit", "--count", "3000", "--rate", "0", "--seed", "2", "--start", "2026-03-02 07:04:00",
		"--plazas", "4000-4005")
	p.eventually("rows", func() bool { return p.number("SELECT COUNT(*) FROM livetolldata") == 5000 })
	w.wait("document.querySelectorAll('tr.row').length == 6")
	p.waitExact(w)

	// The view goes, and comes again at the same address.
	stopView()
	w.wait("document.querySelector('.fresh').innerText.includes('reconnecting')")
	_, _ = p.view(strings.TrimPrefix(url, "http://"))
	p.run("emit", "--count", "1000", "--rate", "0", "--seed", "3", "--start", "2026-03-02 07:10:00",
		"--plazas", "4000-4006")
	p.eventually("rows", func() bool { return p.number("SELECT COUNT(*) FROM livetolldata") == 6000 })
	w.wait("document.querySelector('.fresh.on') && document.querySelectorAll('tr.row').length == 7")
	p.waitExact(w)

	// A row is gone.
	if _, err := p.db.Exec("DELETE FROM livetolldata WHERE toll_plaza_id = 4002 LIMIT 1"); err != nil {
		t.Fatal(err)
	}
	w.wait("!document.getElementById('mismatch').hidden && document.querySelector('#verdict " +
		"strong').innerText == 'MISMATCH'")
	w.inSight("#mismatch")
	if got := w.text("#mismatch"); !strings.Contains(got, "4002") {
		t.Errorf("the banner says %q", got)
	}
	if got := eval[string](w, "document.title"); !strings.Contains(got, "MISMATCH") {
		t.Errorf("the title is %q", got)
	}
	if got := w.texts("tr.row.wrong a"); len(got) != 1 || !strings.Contains(got[0], "4002") {
		t.Errorf("rows that are marked: %q", got)
	}
	if !eval[bool](w, "window.here === true") {
		t.Error("the page was loaded again")
	}
	w.quiet()
}

// TestPipelineThousand shows a thousand plazas of a real pipeline.
func TestPipelineThousand(t *testing.T) {
	t.Parallel()
	w := open(t, wall)
	p := newPipeline(t)
	p.run("init", "--partitions", "4")
	p.run("emit", "--count", "20000", "--rate", "0", "--seed", "1", "--start", "2026-03-02 07:00:00",
		"--plazas", "1000-1999")
	_, stop := p.start("process")
	defer stop()
	p.eventually("rows",
		func() bool { return p.number("SELECT COUNT(*) FROM livetolldata") == 20_000 })
	url, _ := p.view("127.0.0.1:0")
	w.visit(url+"/", "tr.row")
	w.wait("document.querySelector('[data-f=plazas]').innerText == '1,000'")
	p.waitExact(w)
	// From end to end: each plaza is there once.
	eval[bool](w, "import('/static/live.js').then(m => { window.live = m.live; return true })")
	if n := eval[int](w, "live.plazas.size"); n != 1000 {
		t.Errorf("%d plazas", n)
	}
	if sum, want := eval[float64](w, "[...live.plazas.values()].reduce((n, p) => n + p.total, 0)"),
		p.number("SELECT COUNT(*) FROM livetolldata"); sum != want {
		t.Errorf("the plazas' totals are %v, SQL says %v", sum, want)
	}
	eval[bool](w, "scrollTo(0, document.body.scrollHeight), true")
	w.wait("document.querySelector('tr.row[aria-rowindex=\"1001\"]')")
	w.quiet()
}

// TestDemoPage follows the address that the demo prints.
func TestDemoPage(t *testing.T) {
	t.Parallel()
	w := open(t, desk)
	needDatabase(t)
	binary := built(t)
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "demo", "--for", "1h") // until interrupted below
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// the second one would kill it
	interrupt := sync.OnceFunc(func() { _ = c.Process.Signal(os.Interrupt) })
	defer func() {
		interrupt()
		if err := c.Wait(); err != nil {
			t.Errorf("demo: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	url := ""
	for url == "" && lines.Scan() {
		url, _ = strings.CutPrefix(lines.Text(), "The live view: ")
		if url == lines.Text() {
			url = ""
		}
	}
	if url == "" {
		t.Fatal("the demo prints no address", errors.Join(lines.Err()))
	}
	w.visit(url, "tr.row")
	t.Logf("first figures %v after the start", time.Since(began).Round(10*time.Millisecond))
	w.wait("document.querySelector('.fresh.on')")
	before := w.text("[data-f=events]")
	w.wait("document.querySelector('[data-f=events]').innerText != " + quoted(before))
	if got := figure(w.text("[data-f=events]")); !(got > figure(before)) {
		t.Errorf("vehicles counted: %v after %v", got, before)
	}
	interrupt()
	for lines.Scan() { // to its end
	}
	w.quiet()
}

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
	path := filepath.Join(cmp.Or(*shots, w.t.TempDir()), name)
	if err := os.WriteFile(path, png, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%s: %d KB, %d x %d", name, len(png)>>10, s.width, s.height)
}
