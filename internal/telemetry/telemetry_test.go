package telemetry

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/testkit"
)

func TestServeProfiles(t *testing.T) {
	var out testkit.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	stop, err := ServeProfiles("127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://\S+/debug/pprof/`).FindString(out.String())
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
		!strings.Contains(body, "ServeProfiles") {
		t.Errorf("goroutines: status %d: %s", code, body)
	}
	for _, host := range []string{"evil.example", "evil.example:6060", "127.0.0.1.evil.example:80"} {
		if code, body := get("heap", host); code != http.StatusMisdirectedRequest {
			t.Errorf("as %s: status %d, %d bytes, want it refused", host, code, len(body))
		}
	}
	if code, _ := get("cmdline", ""); code == http.StatusOK { // it may hold what is secret
		t.Error("the command line is served")
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/debug/pprof/")
	if _, err := ServeProfiles(addr, log); !errors.Is(err, syscall.EADDRINUSE) {
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

// TestTracesLost sends spans to a collector that is unavailable: the log reports it once, and the
// end does not wait.
func TestTracesLost(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // ms between attempts to send
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	log := new(testkit.Buffer)
	endpoint, err := url.Parse(down.URL)
	if err != nil {
		t.Fatal(err)
	}
	traces, err := OpenTraces(t.Context(), TracesConfig{Endpoint: endpoint, Service: "service",
		Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for after := 0; after < 5; time.Sleep(10 * time.Millisecond) {
		_, answered := traces.Requests()(httptest.NewRequest(http.MethodGet, "/?token=secret", nil))
		answered("/", http.StatusOK)
		if log.String() != "" || time.Now().After(deadline) {
			after++
		}
	}
	traces.Close()
	text := log.String()
	if strings.Count(text, "traces are dropped") != 1 || strings.Count(text, "\n") != 1 ||
		strings.Contains(text, "secret") {
		t.Error(text)
	}
}
