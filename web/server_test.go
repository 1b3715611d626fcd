package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
