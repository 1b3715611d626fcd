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
		a := r.get(target)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
				"base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin":  "",
			"Server":                       "",
		} {
			if got := a.header.Get(name); got != want {
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
			a := r.do(method, target, nil)
			if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" ||
				a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: status %d, Allow %q", method, target, a.status, a.header.Get("Allow"))
			}
		}
	}
	a := r.do("POST", "/api/v1/plazas", strings.NewReader(strings.Repeat("x", 1<<20)))
	if a.status != 405 {
		t.Errorf("POST with a body: status %d", a.status)
	}
	if a := r.do("GET", "/api/v1/plazas", strings.NewReader("{}")); a.status != 413 {
		t.Errorf("GET with a body: status %d", a.status)
	}
	if a := r.do("GET", "/api/v1/plazas",
		struct{ *strings.Reader }{strings.NewReader("chunked")}); a.status != 413 {
		t.Errorf("GET with a body in chunks: status %d", a.status)
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
			if a := r.get(target, "Host", host); a.status != want {
				t.Errorf("Host %s at %s: status %d, want %d", host, target, a.status, want)
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
			if a := r.get(target, headers...); a.status != 401 ||
				a.header.Get("WWW-Authenticate") != `Bearer realm="tollstream"` {
				t.Errorf("%s with %q: status %d", target, headers, a.status)
			}
		}
	}
	for _, target := range all {
		r.want(200, r.get(target, "Authorization", "Bearer "+testToken))
		r.want(200, r.get(target, "Authorization", "bearer  "+testToken))
	}
	r.want(200, r.get("/healthz"))
	r.want(200, r.get("/readyz"))
	if a := r.get("/", "Accept", "text/html,*/*"); a.status != 401 ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "text/html") ||
		!strings.Contains(string(a.body), "needs a token") {
		t.Errorf("status %d: %s", a.status, a.body)
	}

	// Once as a part of the address.
	a := r.want(303, r.get("/plazas/1?token="+testToken+"&q=a+b"))
	if got := a.header.Get("Location"); got != "/plazas/1?q=a+b" {
		t.Errorf("Location %q", got)
	}
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 1 || cookies[0].Name != r.cookieName() || !cookies[0].HttpOnly ||
		cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Secure || cookies[0].Path != "/" {
		t.Fatalf("cookies %+v", cookies)
	}
	if strings.Contains(cookies[0].Value, testToken) {
		t.Error("the cookie is the token")
	}
	cookie := cookies[0].Name + "=" + cookies[0].Value
	for _, target := range all {
		r.want(200, r.get(target, "Cookie", "other=1; "+cookie))
	}
	for _, changed := range []string{cookie + "0", cookie[:len(cookie)-1], strings.ToUpper(cookie)} {
		r.want(401, r.get("/", "Cookie", changed))
	}
	r.want(401, r.get("/?token=wrong", "Cookie", cookie))
	r.want(401, r.get("/?token="))
	e := r.stream("Cookie", cookie)
	e.next("board")

	// Never to another server.
	for path, want := range map[string]string{"//evil.com/x": "/evil.com/x",
		"/%5Cevil.com": "/evil.com", `/\evil.com`: "/evil.com", "///": "/", "/.//evil.com": "/evil.com",
		"/a/..//evil.com": "/evil.com"} {
		a := r.get(path + "?token=" + testToken)
		if got := a.header.Get("Location"); a.status != 303 || got != want {
			t.Errorf("%s: status %d, Location %q, want %q", path, a.status, got, want)
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

// A cookie stands for one token and ends with it.
func TestCookieEndsWithTheToken(t *testing.T) {
	one, other := guard{token: []byte("one"), cookie: "c"}, guard{token: []byte("two"), cookie: "c"}
	request := &http.Request{Header: http.Header{"Cookie": {"c=" + one.cookieValue()}}}
	if !one.allows(request) || other.allows(request) {
		t.Errorf("%t, %t", one.allows(request), other.allows(request))
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
		"everywhere":   {Config{Listen: ":8080"}, []string{`":8080" is not this machine alone`}},
		"zero":         {Config{Listen: "0.0.0.0:8080"}, []string{"needs a token"}},
		"v6 zero":      {Config{Listen: "[::]:8080"}, []string{"needs a token"}},
		"a name":       {Config{Listen: "toll.example.com:8080"}, []string{"needs a token"}},
		"mapped":       {Config{Listen: "[::ffff:10.0.0.1]:8080"}, []string{"needs a token"}},
		"with a token": {Config{Listen: ":8080", Token: testToken}, nil},
		"anyone":       {Config{Listen: ":8080", AllowAnyone: true}, nil},
		"both": {Config{Listen: ":8080", AllowAnyone: true, Token: testToken},
			[]string{"anyone is allowed, and yet there is a token"}},
		"short token": {Config{Listen: DefaultListen, Token: "hunter2"},
			[]string{"token has 7 characters"}},
		"token with blank": {Config{Listen: DefaultListen, Token: "correct horse battery"},
			[]string{"token has blanks"}},
		"key without cert": {Config{Listen: DefaultListen, TLSKey: "key.pem"},
			[]string{`"" and key "key.pem"`}},
		"all at once": {Config{Listen: "nowhere", Token: "hunter2\n", TLSCert: "c",
			Hosts: []string{"https://x"}, Refresh: 1, MaxStreams: -1, MaxConnections: -1},
			[]string{`"nowhere"`, "8 characters", "blanks", `"c"`, `"https://x"`, "1ns", "streams -1",
				"connections -1"}},
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
			if _, err := New(test.config, newNetwork(1).source()); err == nil {
				t.Error("New takes it")
			}
		})
	}
}
