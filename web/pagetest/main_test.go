// Package pagetest looks at the page as people do: the real server on made-up plazas, in a real
// headless Chromium.
package pagetest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/incidents"
)

var shots = flag.String("screenshots", "", "write the README's screenshots into this `folder`")

// patience is how long anything may take that takes a second on a machine that has nothing else to
// do.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	testkit.MostlyWait(4)
	code := m.Run()
	if browser.stop != nil {
		browser.stop()
	}
	if command.folder != "" {
		_ = os.RemoveAll(command.folder)
	}
	os.Exit(code)
}

// browser is one Chromium for all tests, each of which has a window with a profile of its own.
var browser struct {
	sync.Once
	ctx  context.Context
	stop func()
	err  error
}

// chromium returns the path of a Chromium, and false where there is none.
func chromium() (string, bool) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome",
		"google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

// startBrowser starts Chromium with a fresh profile.
func startBrowser(path string) {
	dir, err := os.MkdirTemp("", "tollstream-page-")
	if err != nil {
		browser.err = err
		return
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoFirstRun, chromedp.NoSandbox,
		chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update",
			true), chromedp.Flag("disable-sync", true),
		// A window that another one covers draws once a second, or never: no window is covered for us.
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		// names of sites that a proxy serves on this machine
		chromedp.Flag("host-resolver-rules", "MAP *.example.org 127.0.0.1"),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars",
			true), chromedp.Flag("lang", "en-US"),
		chromedp.WSURLReadTimeout(patience))
	ctx, _ = chromedp.NewContext(ctx)
	browser.ctx, browser.err = ctx, chromedp.Do(ctx)
	browser.stop = func() {
		ending, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		_ = chromedp.Cancel(ending)
		stop()
		_ = os.RemoveAll(dir)
	}
}

// window is a window of the browser, in which a test looks at the page.
type window struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string // what the page threw and what the console and the browser complained about
}

type size struct{ width, height int64 }

var (
	desk  = size{1440, 1000}
	phone = size{390, 844}
	wall  = size{2560, 1440}
)

// open opens a window. It needs Chromium.
func open(t *testing.T, s size) *window {
	t.Helper()
	path, ok := chromium()
	testkit.NeedService(t, "Chromium", ok)
	browser.Do(func() { startBrowser(path) })
	if browser.err != nil {
		t.Fatalf("start Chromium: %v", browser.err)
	}
	w := &window{t: t}
	ctx, cancel := chromedp.NewContext(browser.ctx, chromedp.WithNewBrowserContext(),
		chromedp.WithListener(w.hear))
	t.Cleanup(cancel)
	w.ctx = ctx
	w.do(chromedp.EmulateViewport(s.width, s.height))
	// Tests run in parallel, and only one window at a time would have the focus.
	if _, err := chromedp.Call(w.ctx, emulation.SetFocusEmulationEnabled,
		emulation.SetFocusEmulationEnabledParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	w.ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	return w
}

// hear notes what the page throws and what is complained about.
func (w *window) hear(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		w.errors = append(w.errors,
			fmt.Sprint(e.ExceptionDetails.Text, " ", e.ExceptionDetails.Exception.Description))
	case *runtime.EventConsoleAPICalled:
		for _, arg := range e.Args {
			w.errors = append(w.errors, string(arg.Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			w.errors = append(w.errors, e.Entry.Text)
		}
	}
}

// do runs actions, which must succeed.
func (w *window) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, actions...); err != nil {
		w.t.Fatal(err)
	}
}

// visit opens an address and waits for the figures.
func (w *window) visit(url, selector string) {
	w.t.Helper()
	w.do(chromedp.Navigate(url))
	w.wait(fmt.Sprintf("document.querySelector(%q) !== null", selector))
}

// eval runs JavaScript in the page; a promise is awaited.
func eval[T any](w *window, script string) T {
	w.t.Helper()
	result, err := chromedp.Run(w.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		w.t.Fatalf("%s: %v", script, err)
	}
	return result
}

// wait waits until an expression holds in the page.
func (w *window) wait(condition string) {
	w.t.Helper()
	w.when(condition, "''")
}

// when waits for a condition and returns what an expression, a string, is at that very moment: a
// page that changes by itself would have gone on before a second call.
func (w *window) when(condition, expression string) string {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := eval[[]string](w, "("+condition+") ? ["+expression+"] : []")
		if len(got) > 0 {
			return got[0]
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s\n%v\n%.1500s", patience, condition, w.complaints(),
				eval[string](w, "document.body.innerText"))
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// text returns the text of the first element that a selector finds.
func (w *window) text(selector string) string {
	w.t.Helper()
	return eval[string](w, fmt.Sprintf("document.querySelector(%q)?.innerText ?? 'there is no ' + %q",
		selector, selector))
}

// texts returns the texts of all of them.
func (w *window) texts(selector string) []string {
	w.t.Helper()
	return eval[[]string](w, fmt.Sprintf("[...document.querySelectorAll(%q)].map(e => e.innerText)",
		selector))
}

// press sends a key to what has the focus.
func (w *window) press(keys string) {
	w.t.Helper()
	w.do(chromedp.KeyEvent(keys))
}

func (w *window) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.errors...)
}

// quiet fails the test where the page threw anything or the browser complained, as of a breach of
// the content policy.
func (w *window) quiet() {
	w.t.Helper()
	for _, e := range w.complaints() {
		w.t.Errorf("the browser complains: %s", e)
	}
}

// prefer makes the browser prefer something, as prefers-color-scheme: dark.
func (w *window) prefer(features ...string) {
	w.t.Helper()
	var media emulation.SetEmulatedMediaParams
	for i := 0; i < len(features); i += 2 {
		media.Features = append(media.Features,
			&emulation.MediaFeature{Name: features[i], Value: features[i+1]})
	}
	if _, err := chromedp.Call(w.ctx, emulation.SetEmulatedMedia, media); err != nil {
		w.t.Fatal(err)
	}
}

// live is a running server.
type live struct {
	t      *testing.T
	source web.Source
	addr   string
	token  string
	// who may acknowledge incidents
	acknowledgers []incidents.Acknowledger
	// what is in front of it
	hosts, trusted []string
	basePath       string
	url            string
	stop           func()
}

// serve runs a server until the test ends.
func serve(t *testing.T, source web.Source) *live {
	t.Helper()
	l := &live{t: t, source: source, addr: "127.0.0.1:0"}
	l.start()
	t.Cleanup(func() { l.stop() })
	return l
}

// start starts the server, after stop at the same address.
func (l *live) start() {
	l.t.Helper()
	var cfg web.Config
	cfg.Listen, cfg.Token = l.addr, l.token
	cfg.Acknowledgers = l.acknowledgers
	cfg.Hosts, cfg.TrustedProxies, cfg.BasePath = l.hosts, l.trusted, l.basePath
	s, err := web.New(cfg, l.source)
	if err != nil {
		l.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err = s.Listen(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			l.t.Fatal(err)
		}
	}
	l.addr, l.url = s.Addr().String(), strings.TrimSuffix(s.URL(), "/")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("the server ends with %v", err)
		}
	})
}

// get returns what the API answers.
func get[T any](l *live, path string) T {
	l.t.Helper()
	var answer T
	if err := json.Unmarshal(l.body(path), &answer); err != nil {
		l.t.Fatalf("%s: %v", path, err)
	}
	return answer
}

func (l *live) body(path string) []byte {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(l.url + path)
		if err != nil {
			l.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil && response.StatusCode == http.StatusOK {
			return body
		}
		// A busy server may have no figures yet.
		if err != nil || response.StatusCode != http.StatusServiceUnavailable ||
			time.Now().After(deadline) {
			l.t.Fatalf("%s: %s, %v\n%s", path, response.Status, err, body)
		}
	}
}
