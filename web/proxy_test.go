package web

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

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
