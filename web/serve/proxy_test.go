package serve

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/web/serve/servetest"
)

// echo answers what a route sees of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, Base(r)+" "+r.URL.EscapedPath()+" "+r.Host+" "+hostOf(r.RemoteAddr))
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// TestBehindProxies sends requests as proxies do, and as those do who want to be taken for one.
func TestBehindProxies(t *testing.T) {
	const loopback = "127.0.0.1"
	forwarded := []string{"X-Forwarded-Prefix", "/far/away/", "X-Forwarded-Host", "toll.example",
		"X-Forwarded-For", "192.0.2.66, 192.0.2.7, 127.0.0.1", "X-Forwarded-Proto", "https"}
	for name, test := range map[string]struct {
		base    string
		trusted []string
		path    string
		headers []string
		status  int
		want    string // what echo answers, the Location of a redirect, or a part of the problem
	}{
		"no proxy":     {path: "/x", status: 200, want: " /x HOST 127.0.0.1"},
		"not believed": {path: "/x", headers: forwarded, status: 200, want: " /x HOST 127.0.0.1"},
		"another believed": {trusted: []string{"192.0.2.0/24"}, path: "/x", headers: forwarded,
			status: 200, want: " /x HOST 127.0.0.1"},
		"believed": {trusted: []string{"192.0.2.1", "127.0.0.0/8"}, path: "/x", headers: forwarded,
			status: 200, want: "/far/away /x toll.example 192.0.2.7"},
		"not taken off": {trusted: []string{loopback}, path: "/far/away/x", headers: forwarded,
			status: 200, want: "/far/away /x toll.example 192.0.2.7"},
		"base path": {base: "/toll/", path: "/toll/x%2Fy", status: 200,
			want: "/toll /x%2Fy HOST 127.0.0.1"},
		"its own beginning": {base: "/toll", path: "/toll/toll", status: 200,
			want: "/toll /toll HOST 127.0.0.1"},
		"without a slash":  {base: "/toll/", path: "/toll?q=1", status: 308, want: "/toll/?q=1"},
		"unclean":          {base: "/toll/", path: "/toll//x/../y", status: 307, want: "/toll/y"},
		"redirected":       {base: "/toll/", path: "/toll/old", status: 308, want: "/toll/new"},
		"above it":         {base: "/toll/", path: "/x", status: 404, want: "all is below /toll/"},
		"nearly it":        {base: "/toll/", path: "/tollgate", status: 404, want: "all is below /toll/"},
		"a probe":          {base: "/toll/", path: "/healthz", status: 200, want: "ok"},
		"a probe below it": {base: "/toll/", path: "/toll/healthz", status: 200, want: "ok"},
		"another prefix": {base: "/toll/", trusted: []string{loopback}, path: "/x", headers: forwarded,
			status: 200, want: "/far/away /x toll.example 192.0.2.7"},
		"another site": {trusted: []string{loopback}, path: "/x", status: 421,
			headers: []string{"X-Forwarded-Host", "evil.example"}, want: "host name"},
		"another server": {trusted: []string{loopback}, path: "/x", status: 400,
			headers: []string{"X-Forwarded-Prefix", "//evil.example"}, want: "X-Forwarded-Prefix"},
		"a way up": {trusted: []string{loopback}, path: "/x", status: 400,
			headers: []string{"X-Forwarded-Prefix", "/a/../.."}, want: "X-Forwarded-Prefix"},
		"made up client": {trusted: []string{loopback}, path: "/x", status: 200,
			headers: []string{"X-Forwarded-For", "one, two"}, want: " /x HOST 127.0.0.1"},
		"v6 client": {trusted: []string{loopback}, path: "/x", status: 200,
			headers: []string{"X-Forwarded-For", "[2001:db8::7]:443"}, want: " /x HOST 2001:db8::7"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Config{BasePath: test.base, TrustedProxies: test.trusted,
				Hosts: []string{"toll.example"}}, Route{Path: "/", Serve: echo},
				Route{Path: "/old", Serve: func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
				}})
			r.Base = "http://" + r.Addr().String()
			a := r.Get(test.path, test.headers...)
			got := string(a.Body)
			if a.Status/100 == 3 {
				got = a.Header.Get("Location")
			}
			want := strings.ReplaceAll(test.want, "HOST", r.Addr().String())
			if a.Status != test.status || !strings.Contains(got, want) ||
				a.Status == 200 && want != "ok" && got != want {
				t.Errorf("status %d, %q, want %d, %q", a.Status, got, test.status, want)
			}
			if a.Header.Get("X-Content-Type-Options") == "" {
				t.Error("there are no policies in the response")
			}
		})
	}
}

// TestLoginBehindAProxy logs in below a base path: the cookie is for what is below it alone, and
// goes over TLS alone if the client's connection to the proxy does.
func TestLoginBehindAProxy(t *testing.T) {
	r := start(t, Config{Token: testToken, BasePath: "/toll/", TrustedProxies: []string{"127.0.0.1"}},
		Route{Path: "/", Serve: echo})
	form := string(r.Want(401, r.Get("/plazas/7", "Accept", "text/html")).Body)
	for _, part := range []string{`href="/toll/plazas/7"`, `action="/toll/login"`,
		`value="/plazas/7"`} {
		if !strings.Contains(form, part) {
			t.Errorf("%s is not in %s", part, form)
		}
	}
	for scheme, secure := range map[string]bool{"https": true, "http": false} {
		typed := url.Values{"token": {testToken}, "to": {"/plazas/7"}}
		for _, a := range []servetest.Response{
			r.Do("POST", "/login", strings.NewReader(typed.Encode()), "X-Forwarded-Proto", scheme,
				"Content-Type", "application/x-www-form-urlencoded"),
			r.Get("/plazas/7?token="+testToken, "X-Forwarded-Proto", scheme),
		} {
			cookies := (&http.Response{Header: a.Header}).Cookies()
			if a.Status != 303 || a.Header.Get("Location") != "/toll/plazas/7" || len(cookies) != 1 ||
				cookies[0].Path != "/toll/" || cookies[0].Secure != secure {
				t.Errorf("%s: status %d, Location %q, cookies %v", scheme, a.Status,
					a.Header.Get("Location"), cookies)
			}
		}
	}
}
