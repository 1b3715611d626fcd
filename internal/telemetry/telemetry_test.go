package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
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

// TestExporterLost sends spans to a collector that is unavailable: the log reports it once, and the
// end does not wait.
func TestExporterLost(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // ms between attempts to send
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	log := new(testkit.Buffer)
	endpoint, err := url.Parse(down.URL)
	if err != nil {
		t.Fatal(err)
	}
	traces, err := OpenExporter(t.Context(), ExporterConfig{Endpoint: endpoint, Service: "service",
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(log, nil))})
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
	if strings.Count(text, "sending to the OpenTelemetry collector failed") != 1 ||
		strings.Count(text, "\n") != 1 || strings.Contains(text, "secret") {
		t.Error(text)
	}
}

// TestViewMetricsBound has more plazas than metrics of their own.
func TestViewMetricsBound(t *testing.T) {
	const most = 7
	var last *board.Board
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(&View{Last: func() *board.Board { return last },
		Plazas: most}); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("before the first board: %v, %v", families, err)
	}
	now := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	b := &board.Board{At: now, Location: time.UTC, StreamTime: &now, Watermark: &now}
	for id := range most + 1 {
		b.Plazas = append(b.Plazas, board.Plaza{ID: id, Location: time.UTC,
			Counts: &toll.State{Events: 1}, Check: board.Check{Status: board.Exact, TableCount: 1}})
	}
	b.Plazas[most].Counts.Events++ // the busiest, with the highest number
	b.Derive()
	last = b
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	shown := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				shown[l.GetName()+" "+l.GetValue()] = true
			}
		}
		got[f.GetName()] = len(f.GetMetric())
	}
	if got["tollstream_view_plaza_flow_vehicles_per_hour"] != most ||
		!shown[fmt.Sprintf("plaza %d", b.Plazas[most].ID)] ||
		shown[fmt.Sprintf("plaza %d", b.Plazas[most-1].ID)] ||
		got["tollstream_view_plazas"] != len(board.Severity) ||
		got["tollstream_view_verification"] != 4 {
		t.Error(fmt.Sprint(got))
	}
}

func TestMaintenanceMetrics(t *testing.T) {
	stats := maintenance.NewStats()
	at := time.Now()
	stats.Ran(maintenance.Join, maintenance.Done, at)
	stats.Ran(maintenance.Rollup, maintenance.Blocked, at)
	stats.Ran(maintenance.Expire, maintenance.Failed, at)
	stats.Compacted(retention.Compacted{Before: 20, After: 3})
	stats.Retired(retention.Retired{Windows: 5, Transitions: 6, DeadLetters: 7})
	ch := make(chan prometheus.Metric, 100)
	collectMaintenance(metrics{ch, "tollstream"}, stats.Read())
	close(ch)
	if n := len(ch); n != 3*3+3+4+3 {
		t.Errorf("%d series", n)
	}
	got := map[string]float64{}
	for m := range ch {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			t.Fatal(err)
		}
		var labels []string
		for _, l := range d.GetLabel() {
			labels = append(labels, l.GetValue())
		}
		if v := d.GetCounter().GetValue() + d.GetGauge().GetValue(); v != 0 {
			got[strings.Join(labels, " ")] = v
		}
	}
	if want := map[string]float64{"pack": unixSeconds(at), "success pack": 1, "blocked add_up": 1,
		"failure retire": 1, "toll_batch": 17, "toll_window": 5, "toll_transition": 6,
		"toll_dead_letter": 7}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPlaintext(t *testing.T) {
	const prefix = "OTEL_EXPORTER_OTLP_"
	for _, c := range []struct {
		name, endpoint string
		env            map[string]string // without the prefix
		want           string
	}{
		{"no headers", "http://c:4318", nil, ""},
		{"a flag", "http://c:4318", map[string]string{"HEADERS": "a=b"}, "c:4318 c:4318"},
		{"https", "https://c:4318", map[string]string{"HEADERS": "a=b", "INSECURE": "true"}, ""},
		{"a variable", "", map[string]string{"HEADERS": "a=b", "ENDPOINT": "HTTP://c"}, "c c"},
		{"another endpoint for traces", "", map[string]string{"HEADERS": "a=b", "ENDPOINT": "https://c",
			"TRACES_ENDPOINT": "http://d/v1"}, "d"},
		{"headers of metrics", "http://c", map[string]string{"METRICS_HEADERS": "a=b"}, "c"},
		{"https that is turned off", "", map[string]string{"HEADERS": "a=b", "ENDPOINT": "https://c",
			"TRACES_INSECURE": "true"}, "c"},
		{"no endpoint", "", map[string]string{"HEADERS": "a=b"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, signal := range []string{"", "METRICS_", "TRACES_"} {
				for _, name := range []string{"HEADERS", "ENDPOINT", "INSECURE"} {
					t.Setenv(prefix+signal+name, c.env[signal+name])
				}
			}
			var cfg ExporterConfig
			if c.endpoint != "" {
				var err error
				if cfg.Endpoint, err = url.Parse(c.endpoint); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(cfg.Plaintext(), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestSystemdWatchdog leaves the watchdog out only where a restart helps, and waits for servers
// no longer than a start may take.
func TestSystemdWatchdog(t *testing.T) {
	var sent []string
	var ready, healthy error
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	s := &systemd{watchdog: true, started: start, log: slog.New(slog.DiscardHandler),
		send:   func(state string) { sent = append(sent, state) },
		status: func(time.Time) string { return "12 rows/s" },
		probes: serve.Probes{Ready: func() error { return ready },
			Healthy: func() error { return healthy }}}
	for _, c := range []struct {
		what           string
		after          time.Duration
		ready, healthy error
		want           []string
	}{
		{"MySQL is down at the start", 0, errors.New("mysql: no\nanswer"), nil,
			[]string{"STATUS=waiting: mysql: no; answer", "WATCHDOG=1"}},
		{"and still is", 30 * time.Second, errors.New("mysql: no\nanswer"), nil,
			[]string{"READY=1", "WATCHDOG=1"}},
		{"it answers", time.Minute, nil, nil, []string{"STATUS=12 rows/s", "WATCHDOG=1"}},
		{"a loop stalls", 2 * time.Minute, nil, errors.New("stalled"), nil},
		{"it goes on", 3 * time.Minute, nil, nil, []string{"WATCHDOG=1"}},
	} {
		sent, ready, healthy = nil, c.ready, c.healthy
		s.report(start.Add(c.after))
		if !slices.Equal(sent, c.want) {
			t.Errorf("%s: sent %q, want %q", c.what, sent, c.want)
		}
	}
}

// TestNotifySystemd sends to a socket as systemd opens it.
func TestNotifySystemd(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	status := func(time.Time) string { return "view at http://localhost:8080/" }
	t.Setenv("NOTIFY_SOCKET", "")
	NotifySystemd(t.Context(), serve.Probes{}, status, log)() // nobody listens

	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skipf("no sockets as systemd's: %v", err)
	}
	defer socket.Close()
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := NotifySystemd(ctx, serve.Probes{}, status, log)
	defer stop()
	var got []string
	buf := make([]byte, 4096)
	for {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("%v, after %q", err, got)
		}
		got = append(got, strings.Split(string(buf[:n]), "\n")...)
		beats := strings.Count(strings.Join(got, " "), "WATCHDOG=1")
		if beats == 3 {
			cancel()
		}
		if slices.Contains(got, "STOPPING=1") {
			break
		}
	}
	for _, want := range []string{"READY=1", "STATUS=view at http://localhost:8080/"} {
		if !slices.Contains(got, want) {
			t.Errorf("systemd got %q, want %q in it", got, want)
		}
	}
}
