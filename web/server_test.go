package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/web/serve"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

// TestStopEndsEverything stops a server with streams, with requests that hang, and with connections
// that say nothing.
func TestStopEndsEverything(t *testing.T) {
	// Nothing here has a reason to wait: not until requests are cut off, and not the 5 s that
	// http.Server gives a connection that says nothing. A machine may be too busy to show it, but not
	// each time.
	for try := range 5 {
		took := stopEverything(t)
		if took < 4*time.Second {
			return
		}
		if took > patience || try == 4 {
			t.Fatalf("it took %v to stop", took)
		}
	}
}

func stopEverything(t *testing.T) (took time.Duration) {
	t.Helper()
	source := newNetwork(3).source()
	r := start(t, source, func(c *Config, _ *tuning) { c.Timeouts.Shutdown = 2 * patience })
	r.awaitBoard()
	streams := []*eventStream{r.stream(), r.stream("Accept-Encoding", "gzip")}
	for _, e := range streams {
		e.next("board")
	}
	silent, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hold := make(chan struct{})
	source.set(func(f *fakeSource) { f.hold = hold }) // until its context ends
	r.clock.advance(time.Second)
	began := time.Now()
	if err := r.Stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	took = time.Since(began)
	for _, e := range streams {
		if err := e.ended(); err != nil {
			t.Errorf("a stream ended with %v", err)
		}
	}
	if _, err := http.Get(r.Base); err == nil {
		t.Error("it still answers")
	}
	return took
}

// A source that does not return when its context ends is named, and does not keep the process.
func TestStopDoesNotWaitForever(t *testing.T) {
	release := make(chan struct{})
	source := &stubbornSource{fakeSource: newNetwork(1).source(), release: release}
	r := start(t, source, func(_ *Config, tune *tuning) { tune.join = 200 * time.Millisecond })
	eventually(t, "a read", func() bool { return source.boards.Load() == 1 })
	began := time.Now()
	err := r.Stop()
	if err == nil || !strings.Contains(err.Error(), "did not return") {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(began); took > patience { // the source would never let it go
		t.Errorf("it took %v to stop", took)
	}
	close(release)
	r.Stop = func() error { return nil } // said already
}

type stubbornSource struct {
	*fakeSource
	release chan struct{}
}

func (s *stubbornSource) Board(context.Context) (*board.Board, error) {
	s.boards.Add(1)
	<-s.release
	return nil, errors.New("at last")
}

// TestRefreshPace holds how often the board is read: once in a second while there are clients, once
// in five without, and at once for the first one who comes.
func TestRefreshPace(t *testing.T) {
	source := newNetwork(2).source()
	r := start(t, source, nil)
	r.awaitBoard()
	f := r.refresher
	read := func() {
		eventually(t, "the read ends", func() bool { return f.reads.Load() == f.begun.Load() })
	}
	reads := func(seconds int) int64 {
		read()
		before := f.begun.Load()
		for range 4 * seconds {
			r.clock.advance(250 * time.Millisecond)
			r.clock.ticks <- r.clock.now() // the one before was taken
			read()
		}
		return f.begun.Load() - before
	}
	reads(6) // what the start counted as a client has gone
	if n := reads(20); n != 4 && n != 5 {
		t.Errorf("%d boards in 20 s without clients, want 4 or 5", n)
	}
	for range 100 {
		r.Get("/api/v1/plazas")
	}
	if n := reads(4); n < 3 || n > 5 {
		t.Errorf("%d boards in 4 s after 100 requests", n)
	}
	reads(6)
	for reads(1) == 0 {
	}
	reads(1) // the next one is due in some seconds
	before := f.begun.Load()
	r.Get("/api/v1/plazas")
	e := r.stream()
	eventually(t, "a board for who has just come", func() bool { return f.begun.Load() > before })
	if n := reads(10); n < 9 || n > 12 {
		t.Errorf("%d boards in 10 s with a stream", n)
	}
	e.close()
}

// TestRequestsWaitForTheFirstBoard has many come before there is one.
func TestRequestsWaitForTheFirstBoard(t *testing.T) {
	source := newNetwork(2).source()
	hold := make(chan struct{})
	source.hold = hold
	r := start(t, source, func(_ *Config, tune *tuning) { tune.firstBoard = 100 * time.Millisecond })
	r.Want(503, r.Get("/api/v1/plazas"))
	r.Want(503, r.Get("/readyz"))
	if n := source.boards.Load(); n != 1 {
		t.Errorf("%d boards were asked for", n)
	}
	r.Server.tuning.firstBoard = patience
	done := make(chan servetest.Response)
	go func() { done <- r.Get("/api/v1/plazas") }()
	time.Sleep(20 * time.Millisecond)
	close(hold)
	if a := <-done; a.Status != 200 {
		t.Errorf("status %d", a.Status)
	}
}

// TestStreamOutlivesTimeouts has the timeouts of requests pass while a stream goes on.
func TestStreamOutlivesTimeouts(t *testing.T) {
	cert, key := servetest.Certificate(t)
	// in which even a busy machine shakes hands, and writes what there is
	const timeout = 2 * time.Second
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", tls), func(t *testing.T) {
			t.Parallel() // it waits most of the time
			r := start(t, newNetwork(2).source(), func(c *Config, tune *tuning) {
				c.Timeouts.Read, c.Timeouts.Write, c.Timeouts.Idle = timeout, timeout, timeout
				tune.streamWrite = timeout
				if tls {
					c.TLSCert, c.TLSKey = cert, key
				}
			})
			r.awaitBoard()
			e := r.stream("Accept-Encoding", "gzip")
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[tls]; e.response.Proto != want {
				t.Errorf("%s, want %s", e.response.Proto, want)
			}
			e.next("board")
			for range 2 {
				time.Sleep(timeout * 5 / 4) // nothing is written for longer than any write may take
				r.nextBoard()
				e.next("board")
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, newNetwork(2).source(),
		func(c *Config, _ *tuning) { c.Gatherer, c.Registerer = registry, registry })
	r.awaitBoard()
	e := r.stream()
	e.next("board")
	r.Get("/api/v1/plazas/4000")
	r.Get("/api/v1/plazas/4001")
	r.Get("/whatever/is/asked/for")
	got := string(r.Want(200, r.Get("/metrics")).Body)
	for _, want := range []string{
		"tollstream_web_streams 1\n", "tollstream_web_boards_total ",
		"tollstream_web_board_age_seconds 0\n", "tollstream_web_stream_bytes_total ",
		`tollstream_web_requests_total{path="/api/v1/plazas/{id}",status="200"} 1`,
		`tollstream_web_requests_total{path="/api/v1/plazas/{id}",status="404"} 1`,
		`tollstream_web_requests_total{path="other",status="404"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	open := r.Get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(open.Header.Get("Content-Type"), "application/openmetrics-text") ||
		!strings.HasSuffix(string(open.Body), "# EOF\n") {
		t.Errorf("%s: %s", open.Header.Get("Content-Type"), open.Body)
	}
}

// TestTrueClock runs a server as New makes it.
func TestTrueClock(t *testing.T) {
	s, err := New(Config{Config: serve.Config{Listen: "localhost:0"}, Refresh: 100 * time.Millisecond},
		newNetwork(2).source())
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, Server: s, Client: servetest.Run(t, s)}
	began := time.Now()
	e := r.stream()
	for range 5 {
		e.next("board")
	}
	// as long as without clients
	if took := time.Since(began); took < 250*time.Millisecond || took > 18*time.Second {
		t.Errorf("5 boards took %v, of one each 100ms", took)
	}
	r.Want(200, r.Get("/api/v1/plazas"))
}

func TestValidate(t *testing.T) {
	cfg := Config{Config: serve.Config{Listen: "nowhere", MaxConnections: -1}, Refresh: 1,
		MaxStreams: -1}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	for _, want := range []string{`"nowhere"`, "connections -1", "1ns", "streams -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if _, err := New(cfg, newNetwork(1).source()); err == nil {
		t.Error("New takes it")
	}
}

// TestNotFound answers a browser with the page, which says that there is nothing, and others with a
// problem.
func TestNotFound(t *testing.T) {
	r := start(t, newNetwork(2).source(), nil)
	for _, target := range []string{"/nothing", "/plazas/Harbour", "/plazas/99999", "/static/x.js"} {
		a := r.Want(404, r.Get(target, "Accept", "text/html,*/*"))
		if !strings.Contains(string(a.Body), `<main id="main"`) {
			t.Errorf("%s: %s", target, a.Body)
		}
		a = r.Want(404, r.Get(target, "Accept", "application/json"))
		if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: %s", target, got)
		}
	}
	for target, want := range map[string]string{"/plaza/4856": "/plazas/4856",
		"/plaza/%2F%2Fevil.com": "/plazas/%2F%2Fevil.com"} {
		if got := r.Want(308, r.Get(target)).Header.Get("Location"); got != want {
			t.Errorf("%s leads to %q, want %q", target, got, want)
		}
	}
}

const testToken = "correct-horse-battery"

func TestHeadersOfEveryAnswer(t *testing.T) {
	r := start(t, newNetwork(1).source(), nil)
	r.awaitBoard()
	for _, target := range []string{"/", "/api/v1/plazas", "/api/v1/nothing", "/static/index.html",
		"/healthz", "/api/v1/plazas/x"} {
		a := r.Get(target)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; " +
				"img-src 'self' data:; connect-src 'self'; " +
				"base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin":  "",
			"Server":                       "",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", target, name, got, want)
			}
		}
	}
}

func TestOnlyGet(t *testing.T) {
	r := start(t, newNetwork(1).source(), nil)
	r.awaitBoard()
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
		for _, target := range []string{"/", "/api/v1/plazas", "/api/v1/events", "/nothing", "/healthz"} {
			a := r.Do(method, target, nil)
			if a.Status != 405 || a.Header.Get("Allow") != "GET, HEAD" ||
				a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: status %d, Allow %q", method, target, a.Status, a.Header.Get("Allow"))
			}
		}
	}
	a := r.Do("POST", "/api/v1/plazas", strings.NewReader(strings.Repeat("x", 1<<20)))
	if a.Status != 405 {
		t.Errorf("POST with a body: status %d", a.Status)
	}
	if a := r.Do("GET", "/api/v1/plazas", strings.NewReader("{}")); a.Status != 413 {
		t.Errorf("GET with a body: status %d", a.Status)
	}
	if a := r.Do("GET", "/api/v1/plazas",
		struct{ *strings.Reader }{strings.NewReader("chunked")}); a.Status != 413 {
		t.Errorf("GET with a body in chunks: status %d", a.Status)
	}
}

func TestHostOfLoopback(t *testing.T) {
	r := start(t, newNetwork(1).source(),
		func(c *Config, _ *tuning) { c.Hosts = []string{"Toll.Example.com"} })
	r.awaitBoard()
	for host, want := range map[string]int{
		"localhost": 200, "localhost:9000": 200, "LOCALHOST": 200, "localhost.": 200,
		"toll.localhost": 200, "127.0.0.1": 200, "127.0.0.1:1": 200, "[::1]:80": 200, "[::1]": 200,
		"10.1.2.3":         200,
		"toll.example.com": 200, "toll.example.com:443": 200,
		"evil.com": 421, "evil.com:8080": 421, "localhost.evil.com": 421, "127.0.0.1.evil.com": 421,
		"example.com": 421, "evil-localhost": 421, "1": 421,
	} {
		for _, target := range []string{"/api/v1/plazas", "/", "/healthz"} {
			if a := r.Get(target, "Host", host); a.Status != want {
				t.Errorf("Host %s at %s: status %d, want %d", host, target, a.Status, want)
			}
		}
	}
}

func TestToken(t *testing.T) {
	r := start(t, newNetwork(1).source(), func(c *Config, _ *tuning) {
		c.Token = testToken
		c.Gatherer = prometheus.NewRegistry()
	})
	r.awaitBoard()
	all := []string{"/", "/plazas/1", "/static/index.html", "/api/v1/plazas", "/api/v1/plazas.csv",
		"/api/v1/plazas/4000", "/api/v1/plazas/4000/windows",
		"/api/v1/verification", "/api/v1/dead-letters", "/api/v1/openapi.json", "/metrics"}
	for _, target := range append(all, "/api/v1/events", "/nothing", "/healthz/x", "//healthz") {
		for _, headers := range [][]string{nil, {"Authorization", "Bearer wrong"},
			{"Authorization", "Bearer"}, {"Authorization", testToken}, {"Authorization",
				"Basic " + testToken},
			{"Authorization", "Bearer " + testToken + "x"}, {"Cookie", "tollstream=" + testToken}, {"Cookie",
				r.cookieName() + "=" + testToken}} {
			if a := r.Get(target, headers...); a.Status != 401 ||
				a.Header.Get("WWW-Authenticate") != `Bearer realm="tollstream"` {
				t.Errorf("%s with %q: status %d", target, headers, a.Status)
			}
		}
	}
	for _, target := range all {
		r.Want(200, r.Get(target, "Authorization", "Bearer "+testToken))
		r.Want(200, r.Get(target, "Authorization", "bearer  "+testToken))
	}
	r.Want(200, r.Get("/healthz"))
	r.Want(200, r.Get("/readyz"))
	if a := r.Get("/", "Accept", "text/html,*/*"); a.Status != 401 ||
		!strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") ||
		!strings.Contains(string(a.Body), "needs a token") {
		t.Errorf("status %d: %s", a.Status, a.Body)
	}

	// Once as a part of the address.
	a := r.Want(303, r.Get("/plazas/1?token="+testToken+"&q=a+b"))
	if got := a.Header.Get("Location"); got != "/plazas/1?q=a+b" {
		t.Errorf("Location %q", got)
	}
	cookies := (&http.Response{Header: a.Header}).Cookies()
	if len(cookies) != 1 || cookies[0].Name != r.cookieName() || !cookies[0].HttpOnly ||
		cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Secure || cookies[0].Path != "/" {
		t.Fatalf("cookies %+v", cookies)
	}
	if strings.Contains(cookies[0].Value, testToken) {
		t.Error("the cookie is the token")
	}
	cookie := cookies[0].Name + "=" + cookies[0].Value
	for _, target := range all {
		r.Want(200, r.Get(target, "Cookie", "other=1; "+cookie))
	}
	for _, changed := range []string{cookie + "0", cookie[:len(cookie)-1], strings.ToUpper(cookie)} {
		r.Want(401, r.Get("/", "Cookie", changed))
	}
	r.Want(401, r.Get("/?token=wrong", "Cookie", cookie))
	r.Want(401, r.Get("/?token="))
	e := r.stream("Cookie", cookie)
	e.next("board")

	// Never to another server.
	for path, want := range map[string]string{"//evil.com/x": "/evil.com/x",
		"/%5Cevil.com": "/evil.com", `/\evil.com`: "/evil.com", "///": "/", "/.//evil.com": "/evil.com",
		"/a/..//evil.com": "/evil.com"} {
		a := r.Get(path + "?token=" + testToken)
		if got := a.Header.Get("Location"); a.Status != 303 || got != want {
			t.Errorf("%s: status %d, Location %q, want %q", path, a.Status, got, want)
		}
	}
	for _, text := range []string{r.logged.String(), r.cfg.String()} {
		if strings.Contains(text, testToken) {
			t.Errorf("the token is in %s", text)
		}
	}
}

// cookieName returns the name of the cookie of a server that runs.
func (r *running) cookieName() string {
	addr := r.Addr().String()
	return "tollstream-" + addr[strings.LastIndex(addr, ":")+1:]
}

// TestBelowABasePath requests what names addresses of the server, as a proxy does that serves it
// below a path.
func TestBelowABasePath(t *testing.T) {
	r := start(t, newNetwork(2).source(), func(c *Config, _ *tuning) {
		c.TrustedProxies = []string{"127.0.0.1"}
	})
	r.awaitBoard()
	address := regexp.MustCompile(`(?:href|src|"url"|"instance")(?:=|:) ?"(/[^"]*)"`)
	for target, accept := range map[string]string{"/": "text/html", "/plazas/1": "text/html",
		"/nothing": "text/html", "/incidents.atom": "", "/api/v1/openapi.json": "", "/api/v1/x": ""} {
		plain := string(r.Get(target, "Accept", accept).Body)
		below := string(r.Get(target, "Accept", accept, "X-Forwarded-Prefix", "/toll").Body)
		was, is := address.FindAllStringSubmatch(plain, -1), address.FindAllStringSubmatch(below, -1)
		if len(was) == 0 || len(is) != len(was) {
			t.Errorf("%s: %d addresses, below a base path %d", target, len(was), len(is))
			continue
		}
		for i := range is {
			if want := strings.TrimSuffix("/toll"+was[i][1], "/"); strings.TrimSuffix(is[i][1],
				"/") != want {
				t.Errorf("%s has the address %s, want %s", target, is[i][1], want)
			}
		}
	}
	if got := r.Want(308, r.Get("/plaza/1", "X-Forwarded-Prefix", "/toll")).Header.Get(
		"Location"); got != "/toll/plazas/1" {
		t.Errorf("/plaza/1 leads to %s", got)
	}
}

// TestScriptsKnowNoRoot looks for addresses in the page's scripts that would leave the base path:
// they begin with base, of dom.js.
func TestScriptsKnowNoRoot(t *testing.T) {
	rooted := regexp.MustCompile("['\"`]/(api|static|[a-z]+\\.atom|plazas?|incidents|journeys)\\b|" +
		"(href|fetch|EventSource|location)[^\\n]{0,3}['\"`]/")
	err := fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".js") {
			return err
		}
		body, err := fs.ReadFile(staticFiles, name)
		for _, found := range rooted.FindAllString(string(body), -1) {
			t.Errorf("%s has %s, want base + …", name, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
