package main

import (
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/hint"
)

func TestPprof(t *testing.T) {
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	stop, err := servePprof("127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://\S+/debug/pprof/`).FindString(string(out.bytes()))
	get := func(path, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"", "heap", "goroutine?debug=1", "allocs", "profile?seconds=1"} {
		if code, body := get(path, ""); code != http.StatusOK || body == "" {
			t.Errorf("%s: status %d, %d bytes", path, code, len(body))
		}
	}
	if code, body := get("goroutine?debug=1", "localhost:6060"); code != http.StatusOK ||
		!strings.Contains(body, "servePprof") {
		t.Errorf("goroutines: status %d: %s", code, body)
	}
	for _, host := range []string{"evil.example", "evil.example:6060", "10.0.0.1",
		"127.0.0.1.evil.example:80"} {
		if code, body := get("heap", host); code != http.StatusForbidden {
			t.Errorf("as %s: status %d, %d bytes, want it refused", host, code, len(body))
		}
	}
	if code, _ := get("cmdline", ""); code == http.StatusOK { // it may hold what is secret
		t.Error("the command line is served")
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/debug/pprof/")
	if _, err := servePprof(addr, log); err == nil || !strings.Contains(hint.Of(err), "--pprof") {
		t.Errorf("a taken port: %v", err)
	}

	long := make(chan struct{})
	go func() {
		defer close(long)
		if resp, err := http.Get(url + "profile?seconds=300"); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	stop() // doesn't wait for a profile
	<-long
}

func TestPprofSetting(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:6060", ":x", "192.0.2.1:6060", "6060"} {
		var stdout, stderr lockedBuffer
		code := run(t.Context(), []string{"tollstream", "process", "--pprof", addr},
			strings.NewReader(""), &stdout, &stderr)
		if text := string(stderr.bytes()); code != 2 || !strings.Contains(text, "--pprof") {
			t.Errorf("--pprof %s: exit status %d: %s", addr, code, text)
		}
	}
}
