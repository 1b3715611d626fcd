package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

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
