package serve

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/web/serve/servetest"
)

const testToken = "correct-horse-battery"

// running is a server that runs, and a client of it.
type running struct {
	*Server
	*servetest.Client
}

// start runs a server on a free port. Only what a test configures is a test of how fast a busy
// machine is.
func start(t *testing.T, cfg Config, routes ...Route) *running {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	limits := &cfg.Timeouts
	limits.ReadHeader = cmp.Or(limits.ReadHeader, servetest.Patience)
	limits.Read, limits.Write = servetest.Patience, servetest.Patience
	s, err := New(cfg, Probes{}, routes...)
	if err != nil {
		t.Fatal(err)
	}
	return &running{s, servetest.Run(t, s)}
}

func TestPortInUseIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Listen: l.Addr().String()}, Probes{})
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

func TestLimits(t *testing.T) {
	const cut = 2 * time.Second // enough for a whole header, however busy the machine is
	r := start(t, Config{MaxConnections: 3, Timeouts: Timeouts{ReadHeader: cut, Idle: cut}})
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
	r.Want(200, r.Get("/healthz"))
	for _, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(servetest.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a slow connection is not cut off: %v", err)
		}
	}
}

func TestTLS(t *testing.T) {
	cert, key := servetest.Certificate(t)
	r := start(t, Config{TLSCert: cert, TLSKey: key, Token: testToken})
	if !strings.HasPrefix(r.URL(), "https://127.0.0.1:") {
		t.Errorf("URL %s", r.URL())
	}
	a := r.Want(303, r.Get("/?token="+testToken))
	if c := (&http.Response{Header: a.Header}).Cookies()[0]; !c.Secure {
		t.Errorf("cookie %v", c)
	}
	plain, err := http.Get(strings.Replace(r.Base, "https:", "http:", 1))
	if err == nil {
		plain.Body.Close()
		if plain.StatusCode != 400 {
			t.Errorf("plain HTTP: status %d", plain.StatusCode)
		}
	}
	s, err := New(Config{Listen: "127.0.0.1:0", TLSCert: key, TLSKey: cert}, Probes{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "TLS certificate") {
		t.Errorf("listen with the wrong files: %v", err)
	}
}

func TestMetricsAndProbes(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "answer"},
		func() float64 {
			return 42
		}))
	var ill error
	s, err := New(Config{Listen: "127.0.0.1:0", Gatherer: registry, Registerer: registry},
		Probes{Ready: func() error { return ill }})
	if err != nil {
		t.Fatal(err)
	}
	r := servetest.Run(t, s)
	if got := string(r.Want(200, r.Get("/metrics")).Body); !strings.Contains(got, "answer 42\n") ||
		!strings.Contains(got, "# TYPE tollstream_web_requests_total") &&
			strings.Contains(got, "tollstream_web_streams") {
		t.Errorf("metrics %s", got)
	}
	r.Want(200, r.Get("/healthz"))
	r.Want(200, r.Get("/readyz"))
	ill = errors.New("the broker is unavailable")
	r.Want(200, r.Get("/healthz"))
	if a := r.Get("/readyz"); a.Status != 503 ||
		!strings.Contains(string(a.Body), "the broker is unavailable") {
		t.Errorf("status %d: %s", a.Status, a.Body)
	}
	for _, target := range []string{"/", "/api/v1/plazas", "/api/v1/openapi.json"} {
		r.Want(404, r.Get(target))
	}
	if _, err := New(Config{Listen: ":0", Gatherer: registry}, Probes{}); err == nil {
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
	r := start(t, Config{Gatherer: registry})
	if got := string(r.Want(200, r.Get("/metrics")).Body); !strings.Contains(got, "answer 42\n") {
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
	r := start(t, Config{})
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
	s, err := New(Config{Listen: ":0", NoAuth: true}, Probes{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.URL(); !strings.HasPrefix(got, "http://localhost:") {
		t.Errorf("URL %s", got)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		want   []string // parts of the error, in order; none where it is valid
	}{
		"default":      {Config{Listen: DefaultListen}, nil},
		"localhost":    {Config{Listen: "localhost:80"}, nil},
		"v6":           {Config{Listen: "[::1]:8080"}, nil},
		"127.1.2.3":    {Config{Listen: "127.1.2.3:0"}, nil},
		"everywhere":   {Config{Listen: ":8080"}, []string{`":8080" is not a loopback address`}},
		"zero":         {Config{Listen: "0.0.0.0:8080"}, []string{"needs a token"}},
		"v6 zero":      {Config{Listen: "[::]:8080"}, []string{"needs a token"}},
		"a name":       {Config{Listen: "toll.example.com:8080"}, []string{"needs a token"}},
		"mapped":       {Config{Listen: "[::ffff:10.0.0.1]:8080"}, []string{"needs a token"}},
		"with a token": {Config{Listen: ":8080", Token: testToken}, nil},
		"anyone":       {Config{Listen: ":8080", NoAuth: true}, nil},
		"both": {Config{Listen: ":8080", NoAuth: true, Token: testToken},
			[]string{"no authentication is set together with a token"}},
		"short token": {Config{Listen: DefaultListen, Token: "hunter2"},
			[]string{"token has 7 characters"}},
		"token with blank": {Config{Listen: DefaultListen, Token: "correct horse battery"},
			[]string{"token has blanks"}},
		"key without cert": {Config{Listen: DefaultListen, TLSKey: "key.pem"},
			[]string{`"" and key "key.pem"`}},
		"all at once": {Config{Listen: "nowhere", Token: "hunter2\n", TLSCert: "c",
			Hosts: []string{"https://x"}, MaxConnections: -1},
			[]string{`"nowhere"`, "8 characters", "blanks", `"c"`, `"https://x"`, "connections -1"}},
		"behind proxies": {Config{Listen: DefaultListen, BasePath: "/a/b-c/", TrustedProxies: []string{
			"127.0.0.1", "::1", "10.0.0.0/8"}}, nil},
		"another server": {Config{Listen: DefaultListen, BasePath: "//toll"}, []string{`"//toll"`}},
		"no path":        {Config{Listen: DefaultListen, BasePath: "toll"}, []string{`"toll"`}},
		"a proxy's name": {Config{Listen: DefaultListen, TrustedProxies: []string{"nginx"}},
			[]string{`"nginx"`}},
		"port": {Config{Listen: "127.0.0.1:99999"}, []string{`"99999"`}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it is valid")
			}
			rest := err.Error()
			for _, part := range test.want {
				_, after, ok := strings.Cut(rest, part)
				if !ok {
					t.Fatalf("%q is not in %q, or not in this order", part, err)
				}
				rest = after
			}
			if test.config.Token != "" && strings.Contains(err.Error(), test.config.Token) {
				t.Errorf("the error shows the token: %v", err)
			}
			if _, err := New(test.config, Probes{}); err == nil {
				t.Error("New takes it")
			}
		})
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false,
		"gzip;q=0.001": true, "*": true, "*;q=0": false,
		"gzip;q=0, *": false, "*, gzip;q=0": false, "identity": false, "gzip;q=x": false, "x-gzip": false,
		"br;q=1.0, gzip ; q=0.5": true,
	} {
		if got := AcceptsGzip(http.Header{"Accept-Encoding": {header}}); got != want {
			t.Errorf("%q: %t, want %t", header, got, want)
		}
	}
}

// TestKeptAnswersAreBounded asks many questions at once.
func TestKeptAnswersAreBounded(t *testing.T) {
	q := NewQueries(t.Context(), time.Minute, time.Minute, time.Now)
	for i := range 3 * maxKept {
		if _, err := q.Do(t.Context(), fmt.Sprint(i), func(context.Context) (*Representation, error) {
			return NewRepresentation("text/plain", nil), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.kept); n > maxKept {
		t.Errorf("%d answers are kept", n)
	}
}

// ask sends a request on a connection and returns the status of the answer.
func ask(t *testing.T, c net.Conn, path string) int {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(servetest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// untilIdle waits until no request is in progress. The server learns that one has ended after the
// client has its answer, so the order of answers is not that of idle connections.
func (r *running) untilIdle(t *testing.T) {
	t.Helper()
	busy := func() bool {
		r.clients.mu.Lock()
		defer r.clients.mu.Unlock()
		for c := range r.clients.open {
			if c.idle.IsZero() {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(servetest.Patience); busy(); time.Sleep(time.Millisecond / 10) {
		if time.Now().After(deadline) {
			t.Fatal("a request is still in progress")
		}
	}
}

// TestProbesWhileClientsTakeAllConnections has clients take all connections that there are for
// them, in each way that there is. Probes are answered at once all the same.
func TestProbesWhileClientsTakeAllConnections(t *testing.T) {
	cert, key := servetest.Certificate(t)
	const limit = 520
	figures := Route{Path: "/api/v1/plazas", Serve: func(http.ResponseWriter, *http.Request) {}}
	for _, secure := range []bool{false, true} {
		dial := func(r *running) net.Conn {
			c, err := net.Dial("tcp", r.Addr().String())
			if err == nil && secure {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		t.Run(fmt.Sprintf("idle, tls=%t", secure), func(t *testing.T) {
			cfg := Config{Timeouts: Timeouts{Idle: time.Hour}}
			if secure {
				cfg.TLSCert, cfg.TLSKey = cert, key
			}
			r := start(t, cfg, figures)
			var all []net.Conn
			for range limit {
				c := dial(r)
				if status := ask(t, c, "/healthz"); status != 200 {
					t.Fatalf("connection %d: status %d", len(all), status)
				}
				all = append(all, c)
				r.untilIdle(t)
			}
			began := time.Now()
			for _, path := range []string{"/healthz", "/readyz", "/api/v1/plazas"} {
				if status := ask(t, dial(r), path); status != 200 {
					t.Errorf("%s: status %d", path, status)
				}
			}
			if took := time.Since(began); took > servetest.Patience/2 {
				t.Errorf("it took %v", took)
			}
			if status := ask(t, all[len(all)-1], "/healthz"); status != 200 {
				t.Errorf("the newest connection was closed: status %d", status)
			}
			if status := ask(t, all[0], "/healthz"); status != 0 {
				t.Errorf("the oldest connection was kept: status %d", status)
			}
		})
	}

	t.Run("silent", func(t *testing.T) {
		r := start(t, Config{Timeouts: Timeouts{ReadHeader: time.Hour}})
		for range limit + 2*probeConnections {
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		r.Want(200, r.Get("/healthz"))
		r.Want(200, r.Get("/readyz"))
	})

	t.Run("busy", func(t *testing.T) {
		begun := make(chan struct{})
		var r *running
		r = start(t, Config{MaxConnections: 3}, figures, Route{Path: "/api/v1/events",
			Serve: func(_ http.ResponseWriter, request *http.Request) {
				begun <- struct{}{}
				select {
				case <-request.Context().Done():
				case <-r.Stopping():
				}
			}})
		for range 3 {
			go func() {
				if resp, err := r.HTTP.Get(r.Base + "/api/v1/events"); err == nil {
					_ = resp.Body.Close()
				}
			}()
			<-begun
		}
		dial := func() net.Conn {
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		for range 2 * probeConnections { // each is closed after its answer
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/api/v1/plazas": 503,
				"/": 503} {
				c := dial()
				if status := ask(t, c, path); status != want {
					t.Fatalf("%s: status %d, want %d", path, status, want)
				}
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("%s: the connection is kept: %v", path, err)
				}
			}
		}
		for range probeConnections + 3 { // silent ones take no place for long
			dial()
		}
		if status := ask(t, dial(), "/readyz"); status != 200 {
			t.Errorf("behind silent ones: status %d", status)
		}
	})
}

// A cookie stands for one token and ends with it.
func TestCookieEndsWithTheToken(t *testing.T) {
	one, other := guard{token: []byte("one"), cookie: "c"}, guard{token: []byte("two"), cookie: "c"}
	request := &http.Request{Header: http.Header{"Cookie": {"c=" + one.cookieValue()}}}
	if !one.allows(request) || other.allows(request) {
		t.Errorf("%t, %t", one.allows(request), other.allows(request))
	}
}

// TestLoginForm logs in as a browser does: with the token typed into the form.
func TestLoginForm(t *testing.T) {
	r := start(t, Config{Token: testToken}, Route{Path: "/", Serve: notFound})
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	post := func(form url.Values, headers ...string) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, r.Base+"/login",
			strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		response, err := browser.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}

	page := r.Get(`/plazas/7?q="><b>`, "Accept", "text/html")
	if page.Status != 401 || !strings.Contains(string(page.Body), `action="/login"`) ||
		!strings.Contains(string(page.Body), `name="to" value="/plazas/7?q=%22%3E%3Cb%3E"`) {
		t.Errorf("status %d: %s", page.Status, page.Body)
	}
	if p := page.Header.Get("Content-Security-Policy"); !strings.Contains(p, "form-action 'self'") {
		t.Errorf("policy %q", p)
	}
	for to, want := range map[string]string{"/plazas/7?kind=15m": "/plazas/7?kind=15m", "": "/",
		"//evil.com/x": "/x", "https://evil.com/x": "/x", `\\evil.com`: "/evil.com",
		"%zz": "/"} {
		response, _ := post(url.Values{"token": {" " + testToken + "\n"}, "to": {to}},
			"Sec-Fetch-Site", "same-origin")
		cookies := response.Cookies()
		if got := response.Header.Get("Location"); response.StatusCode != 303 || got != want ||
			len(cookies) != 1 || !cookies[0].HttpOnly ||
			cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("%s: status %d, Location %q, want %q, cookies %v", to, response.StatusCode, got,
				want, cookies)
		}
		r.Want(404, r.Get("/", "Cookie", cookies[0].Name+"="+cookies[0].Value))
	}
	response, body := post(url.Values{"token": {"wrong"}, "to": {"/plazas/7"}})
	if response.StatusCode != 401 || len(response.Cookies()) != 0 ||
		!strings.Contains(body, "not the token") || !strings.Contains(body, `value="/plazas/7"`) {
		t.Errorf("a wrong token: status %d: %s", response.StatusCode, body)
	}
	if response, _ = post(url.Values{"token": {testToken}}, "Sec-Fetch-Site",
		"cross-site"); response.StatusCode != 403 || len(response.Cookies()) != 0 {
		t.Errorf("from another site: status %d", response.StatusCode)
	}
	if response, _ = post(url.Values{"token": {strings.Repeat("x", maxForm)}}); response.
		StatusCode != 413 {
		t.Errorf("a large form: status %d", response.StatusCode)
	}
	without := start(t, Config{})
	r.Base = without.Base
	if response, _ = post(url.Values{"token": {""}}); response.StatusCode != 405 {
		t.Errorf("without a token there is no login: status %d", response.StatusCode)
	}
}
