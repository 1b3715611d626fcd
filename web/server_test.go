package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTakenPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Listen: l.Addr().String()}, newNetwork(1).source())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("run: %v", err)
	}
	if s.Addr() != nil {
		t.Errorf("address %v", s.Addr())
	}
}

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
	r := start(t, source, func(_ *Config, tune *tuning) { tune.stop = 2 * patience })
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
	if err := r.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	took = time.Since(began)
	for _, e := range streams {
		if err := e.ended(); err != nil {
			t.Errorf("a stream ended with %v", err)
		}
	}
	if _, err := http.Get(r.base); err == nil {
		t.Error("it still answers")
	}
	return took
}

// A source that does not return when it is told to is named, and does not keep the process.
func TestStopDoesNotWaitForever(t *testing.T) {
	release := make(chan struct{})
	source := &stubbornSource{fakeSource: newNetwork(1).source(), release: release}
	r := start(t, source, func(_ *Config, tune *tuning) { tune.join = 200 * time.Millisecond })
	eventually(t, "a read", func() bool { return source.boards.Load() == 1 })
	began := time.Now()
	err := r.stop()
	if err == nil || !strings.Contains(err.Error(), "did not return") {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(began); took > patience { // the source would keep it for ever
		t.Errorf("it took %v to stop", took)
	}
	close(release)
	r.stop = func() error { return nil } // said already
}

type stubbornSource struct {
	*fakeSource
	release chan struct{}
}

func (s *stubbornSource) Board(context.Context) (*Board, error) {
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
	settled := func() {
		eventually(t, "the read ends", func() bool { return f.reads.Load() == f.begun.Load() })
	}
	reads := func(seconds int) int64 {
		settled()
		before := f.begun.Load()
		for range 4 * seconds {
			r.clock.advance(250 * time.Millisecond)
			r.clock.ticks <- r.clock.now() // the one before was taken
			settled()
		}
		return f.begun.Load() - before
	}
	reads(6) // what the start counted as a client has gone
	if n := reads(20); n != 4 && n != 5 {
		t.Errorf("%d boards in 20 s without clients, want 4 or 5", n)
	}
	for range 100 {
		r.get("/api/v1/plazas")
	}
	if n := reads(4); n < 3 || n > 5 {
		t.Errorf("%d boards in 4 s after 100 requests", n)
	}
	reads(6)
	for reads(1) == 0 {
	}
	reads(1) // the next one is due in some seconds
	before := f.begun.Load()
	r.get("/api/v1/plazas")
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
	r.want(503, r.get("/api/v1/plazas"))
	r.want(503, r.get("/readyz"))
	if n := source.boards.Load(); n != 1 {
		t.Errorf("%d boards were asked for", n)
	}
	r.Server.tuning.firstBoard = patience
	done := make(chan answer)
	go func() { done <- r.get("/api/v1/plazas") }()
	time.Sleep(20 * time.Millisecond)
	close(hold)
	if a := <-done; a.status != 200 {
		t.Errorf("status %d", a.status)
	}
}

func TestLimits(t *testing.T) {
	const cut = 2 * time.Second // enough for a whole header, however busy the machine is
	r := start(t, newNetwork(1).source(), func(c *Config, tune *tuning) {
		c.MaxConnections = 3
		tune.readHeader, tune.idleConn = cut, cut
	})
	r.awaitBoard()
	large, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if _, err := io.WriteString(large, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: "+
		strings.Repeat("x", 24<<10)+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(large).ReadString('\n'); !strings.Contains(line, "431") {
		t.Errorf("large header: %q, %v, want 431", line, err)
	}
	large.Close()

	// Who sends its header byte by byte is cut off, and the first of them at once where another one
	// comes.
	var slow []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c,
			"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	r.want(200, r.get("/healthz"))
	for _, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a slow connection is not cut off: %v", err)
		}
	}
}

// TestStreamOutlivesTimeouts has the timeouts of requests pass while a stream goes on.
func TestStreamOutlivesTimeouts(t *testing.T) {
	cert, key := certificate(t)
	// in which even a busy machine shakes hands, and writes what there is
	const timeout = 2 * time.Second
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", tls), func(t *testing.T) {
			t.Parallel() // it waits most of the time
			r := start(t, newNetwork(2).source(), func(c *Config, tune *tuning) {
				tune.read, tune.write, tune.idleConn, tune.streamWrite = timeout, timeout, timeout, timeout
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

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	r := start(t, newNetwork(1).source(),
		func(c *Config, _ *tuning) { c.TLSCert, c.TLSKey, c.Token = cert, key, testToken })
	r.awaitBoard()
	if !strings.HasPrefix(r.URL(), "https://127.0.0.1:") {
		t.Errorf("URL %s", r.URL())
	}
	a := r.want(303, r.get("/?token="+testToken))
	if c := (&http.Response{Header: a.header}).Cookies()[0]; !c.Secure {
		t.Errorf("cookie %v", c)
	}
	plain, err := http.Get(strings.Replace(r.base, "https:", "http:", 1))
	if err == nil {
		plain.Body.Close()
		if plain.StatusCode != 400 {
			t.Errorf("plain HTTP: status %d", plain.StatusCode)
		}
	}
	s, err := New(Config{Listen: "127.0.0.1:0", TLSCert: key, TLSKey: cert}, newNetwork(1).source())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "TLS certificate") {
		t.Errorf("listen with the wrong files: %v", err)
	}
}

// certificate writes a certificate and its key and returns their files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}),
			0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, newNetwork(2).source(),
		func(c *Config, _ *tuning) { c.Gatherer, c.Registerer = registry, registry })
	r.awaitBoard()
	e := r.stream()
	e.next("board")
	r.get("/api/v1/plazas/4000")
	r.get("/api/v1/plazas/4001")
	r.get("/whatever/is/asked/for")
	got := string(r.want(200, r.get("/metrics")).body)
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
	open := r.get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(open.header.Get("Content-Type"), "application/openmetrics-text") ||
		!strings.HasSuffix(string(open.body), "# EOF\n") {
		t.Errorf("%s: %s", open.header.Get("Content-Type"), open.body)
	}
}

func TestMetricsServer(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "answer"},
		func() float64 {
			return 42
		}))
	var ill error
	s, err := NewMetrics(Config{Listen: "127.0.0.1:0", Gatherer: registry, Registerer: registry},
		Probes{Ready: func() error {
			return ill
		}})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t}
	r.run(s)
	if got := string(r.want(200, r.get("/metrics")).body); !strings.Contains(got, "answer 42\n") ||
		!strings.Contains(got, "# TYPE tollstream_web_requests_total") &&
			strings.Contains(got, "tollstream_web_streams") {
		t.Errorf("metrics %s", got)
	}
	r.want(200, r.get("/healthz"))
	r.want(200, r.get("/readyz"))
	ill = errors.New("the broker is away")
	r.want(200, r.get("/healthz"))
	if a := r.get("/readyz"); a.status != 503 ||
		!strings.Contains(string(a.body), "the broker is away") {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	for _, target := range []string{"/", "/api/v1/plazas", "/api/v1/openapi.json"} {
		r.want(404, r.get(target))
	}
	if _, err := NewMetrics(Config{Listen: "127.0.0.1:0"}, Probes{}); err == nil {
		t.Error("there is no gatherer, and yet a server")
	}
	if _, err := NewMetrics(Config{Listen: ":0", Gatherer: registry}, Probes{}); err == nil {
		t.Error("it listens everywhere without a token")
	}
}

// TestFailingCollector has one that fails: the others are shown.
func TestFailingCollector(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "answer"},
		func() float64 {
			return 42
		}), brokenCollector{})
	s, err := NewMetrics(Config{Listen: "127.0.0.1:0", Gatherer: registry}, Probes{})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t}
	r.run(s)
	if got := string(r.want(200, r.get("/metrics")).body); !strings.Contains(got, "answer 42\n") {
		t.Errorf("metrics %s", got)
	}
}

type brokenCollector struct{}

var brokenDesc = prometheus.NewDesc("broken", "fails", nil, nil)

func (brokenCollector) Describe(d chan<- *prometheus.Desc) { d <- brokenDesc }
func (brokenCollector) Collect(m chan<- prometheus.Metric) {
	m <- prometheus.NewInvalidMetric(brokenDesc, errors.New("away"))
}

// TestOldClient speaks HTTP/1.0 and names no host.
func TestOldClient(t *testing.T) {
	r := start(t, newNetwork(1).source(), nil)
	r.awaitBoard()
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /api/v1/plazas HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "421") {
		t.Errorf("%q, %v", line, err)
	}
}

func TestURL(t *testing.T) {
	s, err := New(Config{Listen: ":0", AllowAnyone: true, Log: slog.New(slog.DiscardHandler)},
		newNetwork(1).source())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	if got := s.URL(); !strings.HasPrefix(got, "http://localhost:") {
		t.Errorf("URL %s", got)
	}
}

// TestTrueClock runs a server as New makes it.
func TestTrueClock(t *testing.T) {
	s, err := New(Config{Listen: "localhost:0", Refresh: 100 * time.Millisecond},
		newNetwork(2).source())
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t}
	r.run(s)
	began := time.Now()
	e := r.stream()
	for range 5 {
		e.next("board")
	}
	// as long as without clients
	if took := time.Since(began); took < 250*time.Millisecond || took > 18*time.Second {
		t.Errorf("5 boards took %v, of one each 100ms", took)
	}
	r.want(200, r.get("/api/v1/plazas"))
}
