package pagetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"go.yaml.in/yaml/v3"

	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

const proxyToken = "token-of-the-control-room"

// documented returns the block of a language in the documentation of reverse proxies.
func documented(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Behind a reverse proxy\n")
	_, block, ok := strings.Cut(section, "```"+language+"\n")
	block, _, closed := strings.Cut(block, "```")
	if !ok || !closed {
		t.Fatalf("docs/security.md shows no %s of a reverse proxy", language)
	}
	return block
}

// nginx runs a server block of nginx's configuration until the test ends, and returns its address.
func nginx(t *testing.T, server string) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx")
	}
	testkit.NeedService(t, "nginx", err == nil)
	dir, log := t.TempDir(), &testkit.Buffer{}
	for attempt := 0; ; attempt++ { // another program may take the port meanwhile
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		_ = free.Close()
		config := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s;
    uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
%[2]s}
`, dir, strings.Replace(server, "listen 443", "listen "+address, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		run := exec.CommandContext(ctx, path, "-p", dir, "-c", config, "-e", "stderr")
		run.Stdout, run.Stderr = log, log
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = run.Wait(); close(ended) }()
		end := func() { stop(); <-ended }
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if c, err := net.Dial("tcp", address); err == nil {
				_ = c.Close()
				t.Cleanup(end)
				return address
			}
			select {
			case <-ended:
				deadline = time.Time{}
			case <-time.After(20 * time.Millisecond):
			}
		}
		end()
		if attempt == 3 {
			t.Fatalf("nginx does not start: %s", log)
		}
	}
}

// TestReverseProxy looks at the page through nginx, which terminates TLS and serves it below a path
// and by a name, as docs/security.md has it.
func TestReverseProxy(t *testing.T) {
	t.Parallel()
	var config struct {
		View struct {
			Listen         string   `yaml:"listen"`
			AllowedHost    []string `yaml:"allowed-host"`
			BasePath       string   `yaml:"base-path"`
			TrustedProxies []string `yaml:"trusted-proxies"`
		} `yaml:"view"`
	}
	if err := yaml.Unmarshal([]byte(documented(t, "yaml")), &config); err != nil {
		t.Fatal(err)
	}
	network := highway()
	network.incidents = someIncidents()
	l := &live{t: t, source: network, addr: "127.0.0.1:0", token: proxyToken,
		hosts: config.View.AllowedHost, basePath: config.View.BasePath,
		trusted: config.View.TrustedProxies}
	l.start()
	t.Cleanup(func() { l.stop() })
	cert, key := servetest.Certificate(t)
	server := strings.NewReplacer(config.View.Listen, l.addr, "/etc/ssl/tolls.pem", cert,
		"/etc/ssl/tolls.key", key).Replace(documented(t, "nginx"))
	address := nginx(t, server)
	_, port, _ := net.SplitHostPort(address)
	site := "https://" + config.View.AllowedHost[0] + ":" + port
	base := site + config.View.BasePath

	w := open(t, desk)
	if _, err := chromedp.Call(w.ctx, security.SetIgnoreCertificateErrors,
		security.SetIgnoreCertificateErrorsParams{Ignore: true}); err != nil {
		t.Fatal(err)
	}
	w.visit(base+"plazas/4007", "#token")
	w.do(chromedp.SendKeys("#token", proxyToken+kb.Enter))
	w.wait("location.pathname == '/toll/plazas/4007' && document.querySelector('.plot svg')")
	w.do(chromedp.Click("a.back"))
	w.wait("location.pathname == '/toll/' && document.querySelectorAll('tr.row').length == 18")
	eval[bool](w, "import('/toll/static/live.js').then(m => { window.live = m.live; return true })")
	w.wait("live.connected")
	for range 2 {
		eval[bool](w, "!!(window.before = live.board.at)")
		w.wait("live.board.at > before")
	}
	w.do(chromedp.Click("tr.row a"))
	w.wait("/^.toll.plazas.\\d+$/.test(location.pathname) && document.querySelector('.plot svg')")
	w.do(chromedp.Click("header a.plain"))
	w.wait(
		"location.pathname == '/toll/incidents' && document.querySelectorAll('tbody tr').length == 4")
	for _, part := range []string{"incidents", "?kiosk", "nothing", ""} {
		w.visit(base+part, "header .fresh.on")
	}
	w.wait("document.querySelectorAll('tr.row').length == 18")
	if failed := eval[[]string](w, "performance.getEntriesByType('resource').filter(e => "+
		"!new URL(e.name).pathname.startsWith('/toll/') || e.responseStatus >= 400).map(e => "+
		"e.responseStatus + ' ' + e.name)"); len(failed) > 0 {
		t.Errorf("requested %q", failed)
	}
	if stray := eval[[]string](w, "[...document.querySelectorAll('a[href], link[href]')].map(e => "+
		"e.getAttribute('href')).filter(h => !/^(\\/toll\\/|#)/.test(h))"); len(stray) > 0 {
		t.Errorf("links %q", stray)
	}
	w.quiet()

	requestThrough(t, address, config.View.AllowedHost[0])
	// The same by a proxy that takes the path off.
	requestThrough(t, nginx(t, strings.NewReplacer(l.addr+";", l.addr+"/;",
		`X-Forwarded-Prefix "";`, "X-Forwarded-Prefix /toll;").Replace(server)),
		config.View.AllowedHost[0])
}

// requestThrough requests what names addresses from the server behind a proxy, by a host's name.
func requestThrough(t *testing.T, proxy, host string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", proxy)
		}}
	t.Cleanup(transport.CloseIdleConnections)
	request := func(url string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+proxyToken)
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto"} {
			r.Header.Set(name, "/"+host) // a client's is not believed
		}
		response, err := transport.RoundTrip(r)
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
	_, port, _ := net.SplitHostPort(proxy)
	site := "https://" + host + ":" + port
	for url, status := range map[string]int{site + "/toll/api/v1/plazas": 200,
		site + "/toll/healthz": 200, site + "/toll": 301, site + "/toll/api/v1/nothing": 404,
		"https://evil.example:" + port + "/toll/": 421} {
		if got, body := request(url); got.StatusCode != status {
			t.Errorf("%s: status %d, want %d: %.300s", url, got.StatusCode, status, body)
		}
	}
	_, feed := request(site + "/toll/incidents.atom")
	links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(feed, -1)
	if len(links) < 3 {
		t.Errorf("the feed has no links: %s", feed)
	}
	for _, link := range links {
		if got, _ := request(site + link[1]); got.StatusCode != 200 {
			t.Errorf("the feed leads to %s: status %d", link[1], got.StatusCode)
		}
	}
	got, _ := request(site + "/toll/plazas/4007?token=" + proxyToken)
	if cookies := got.Cookies(); got.Header.Get("Location") != "/toll/plazas/4007" ||
		len(cookies) != 1 || cookies[0].Path != "/toll/" || !cookies[0].Secure {
		t.Errorf("a log-in leads to %q with the cookies %v", got.Header.Get("Location"), cookies)
	}
}
