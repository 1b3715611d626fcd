package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tollstream/tollstream/internal/testkit"
)

// serving is a command that runs and serves metrics.
type serving struct {
	t      *testing.T
	url    string // with a slash at its end
	out    *testkit.Buffer
	log    *testkit.Buffer
	client *http.Client
	stop   func()
	ended  chan int // its exit status
}

var servedAt = regexp.MustCompile(`serving metrics url=(http\S+)metrics`)

// runServing runs a command with --metrics-listen until stop or the end of the test.
func runServing(t *testing.T, brokers, dsn string, args ...string) *serving {
	t.Helper()
	quietLibraries()
	ctx, stop := context.WithCancel(t.Context())
	s := &serving{t: t, stop: stop, out: new(testkit.Buffer), log: new(testkit.Buffer),
		ended: make(chan int, 1), client: &http.Client{Timeout: time.Minute,
			Transport: &http.Transport{}}}
	args = append([]string{"tollstream", args[0], "--metrics-listen", "127.0.0.1:0", "--brokers",
		brokers, "--mysql", dsn}, args[1:]...)
	go func() { s.ended <- run(ctx, args, strings.NewReader(""), s.out, s.log) }()
	t.Cleanup(func() {
		stop()
		s.client.CloseIdleConnections()
		select {
		case <-s.ended:
		case <-time.After(time.Minute):
			t.Error("it does not end")
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", s.log.Bytes())
		}
	})
	eventually(t, "address", func() bool {
		found := servedAt.FindStringSubmatch(s.log.String())
		if found != nil {
			s.url = found[1]
		}
		return found != nil
	})
	return s
}

// serveMetrics runs a command on the stack.
func (p *testbed) serveMetrics(t *testing.T, args ...string) *serving {
	t.Helper()
	con := p.Connection()
	if args[0] == "process" {
		args = append(args, "--instance", "test", "--state-dir", filepath.Join(p.dir, "state"))
	}
	return runServing(t, con.Cluster.Brokers[0], con.DSN, args...)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after a minute", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *serving) get(path string) (status int, body string) {
	s.t.Helper()
	answer, err := s.client.Get(s.url + path)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.log.Bytes())
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func (s *serving) ready() bool {
	status, _ := s.get("readyz")
	return status == http.StatusOK
}

// families returns what is scraped.
func (s *serving) families() map[string]*dto.MetricFamily {
	s.t.Helper()
	status, body := s.get("metrics")
	if status != http.StatusOK {
		s.t.Fatalf("status %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return families
}

// metricValue returns the sum of a metric's values whose labels contain some, written as
// name=value.
func metricValue(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	sum := 0.
	for _, m := range families[name].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		matches := true
		for _, l := range labels {
			matches = matches && has[l]
		}
		if matches {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestProcessMetrics compares what process reports of itself with what was sent and stored.
func TestProcessMetrics(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	plazas := filepath.Join(p.dir, "plazas.csv")
	if err := os.WriteFile(plazas, []byte("id,name,lanes,capacity_per_lane\n4010,Forest,2,\n"+
		"4012,Bridge,1,300\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	notified := make(chan string, 10)
	webhook := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		notified <- string(body)
	}))
	t.Cleanup(webhook.Close)
	authority := filepath.Join(p.dir, "webhook.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: webhook.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	// The group has patience with a busy machine, so that there is one session.
	s := p.serveMetrics(t, "process", "--lateness", "5m", "--plazas-file", plazas, "--session-timeout",
		"2m", "--notify-url", webhook.URL, "--notify-ca", authority)
	eventually(t, "readiness", s.ready)
	if status, body := s.get("healthz"); status != http.StatusOK {
		t.Error(status, body)
	}
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	var lines strings.Builder
	for n := range 40 * 6 {
		for plaza := 4010; plaza <= 4012; plaza++ {
			fmt.Fprintf(&lines, "%s,%d,car,%d\n",
				start.Add(time.Duration(n)*10*time.Second).Format(time.ANSIC), n, plaza)
		}
	}
	// late, and too late
	for at, n := range map[time.Duration]int{10 * time.Minute: 2, -72 * time.Hour: 3} {
		for range n {
			fmt.Fprintf(&lines, "%s,7,car,4010\n", start.Add(at).Format(time.ANSIC))
		}
	}
	const rows = 40*6*3 + 5
	var out bytes.Buffer
	if code, stderr := p.command(t.Context(), lines.String(), &out, "emit", "--from", "-"); code != 0 {
		t.Fatal(stderr)
	}
	const rubbish = "rubbish\nMon Mar  2 07:00:00 2026,x,car,1\nMon Mar  2 07:00:00 2026,1,a much " +
		"too long type of vehicle,1\n"
	if code, stderr := p.command(t.Context(), rubbish, &out, "emit", "--from", "-",
		"--raw"); code != 0 {
		t.Fatal(stderr)
	}
	watermark := float64(start.Add(34*time.Minute + 50*time.Second).Unix())
	var families map[string]*dto.MetricFamily
	eventually(t, "end of the work", func() bool {
		families = s.families()
		return metricValue(families, "tollstream_rows_stored_total") == rows &&
			metricValue(families, "tollstream_records_rejected_total") == 3 &&
			metricValue(families, "tollstream_unpublished_events") == 0 &&
			metricValue(families, "tollstream_results_published_total", "kind=window") > 40 &&
			metricValue(families, "tollstream_partition_lag_records") == 0 &&
			metricValue(families, "tollstream_unmerged_deltas") == 0 &&
			metricValue(families, "tollstream_notifications_total", "outcome=sent") > 0 &&
			metricValue(families, "tollstream_watermark_timestamp_seconds") == watermark
	})
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{rows + 3, "tollstream_records_read_total", nil},
		{1, "tollstream_records_rejected_total", []string{"kind=format"}},
		{1, "tollstream_records_rejected_total", []string{"kind=vehicle_id"}},
		{1, "tollstream_records_rejected_total", []string{"kind=vehicle_type"}},
		{3, "tollstream_too_late_events_total", nil},
		{2, "tollstream_late_events_total", nil},
		{0, "tollstream_offsets_skipped_total", nil},
		{0, "tollstream_deltas_total", []string{"outcome=gap"}},
		{0, "tollstream_restarts_total", nil},
		{1, "tollstream_rebalances_total", nil},
		{2, "tollstream_partitions", nil},
		{2, "tollstream_partitions_owned", nil},
		{4, "tollstream_ready", nil},
		{0, "tollstream_load_mode", []string{"mode=auto"}},
		{1, "tollstream_load_mode", nil},
		{watermark, "tollstream_watermark_timestamp_seconds", nil},
	} {
		if got := metricValue(families, c.name, c.labels...); got != c.want {
			t.Errorf("%s %v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, h := range []string{"batch_rows", "commit_duration_seconds", "publish_duration_seconds",
		"merge_latency_seconds", "results_duration_seconds"} {
		if metricValue(families, "tollstream_"+h) == 0 {
			t.Errorf("tollstream_%s is empty", h)
		}
	}
	if sum := families["tollstream_batch_rows"].GetMetric()[0].GetHistogram().GetSampleSum(); sum !=
		rows {
		t.Errorf("tollstream_batch_rows sums up to %v, want %v", sum, rows)
	}
	if body := <-notified; !strings.Contains(body, `"status":"firing"`) ||
		!strings.Contains(body, "Bridge (plaza 4012) is ") {
		t.Errorf("notified of %s", body)
	}
	_, text := s.get("metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	view := p.serveMetrics(t, "view", "--listen", "127.0.0.1:0")
	eventually(t, "view", func() bool {
		families := view.families()
		return view.ready() && metricValue(families, "tollstream_view_rows") == rows &&
			families["tollstream_view_plaza_vc_ratio"] != nil // once the last windows are stored
	})
	if status, body := view.get("healthz"); status != http.StatusOK {
		t.Error(status, body)
	}
	if status, body := view.get("api/v1/plazas"); status != http.StatusNotFound { // of the page alone
		t.Error(status, body)
	}
	var page string
	eventually(t, "page", func() bool {
		_, page, _ = strings.Cut(strings.TrimSpace(view.out.String()), "view at ")
		return page != ""
	})
	answer, err := view.client.Get(page + "api/v1/verification")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	served := &scrape{process: families, view: view.families()}
	if got := metricValue(served.view, "tollstream_view_verification", "status=exact"); got != 1 {
		t.Errorf("exact is %v", got)
	}
	testMetricsDocs(t, served)
	testIncidents(t, p)
}

// testIncidents lists the incident that the process has found, acknowledges it, and shows that.
func testIncidents(t *testing.T, p *testbed) {
	t.Helper()
	run := func(wantCode int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		code, stderr := p.command(t.Context(), "", &out, append([]string{"incidents"}, args...)...)
		if code != wantCode {
			t.Errorf("%q ends with %d: %s", args, code, stderr)
		}
		return out.String() + stderr
	}
	found := regexp.MustCompile(`2026-03-02 07:\d\d +4012  saturated +open .*(2026\S+-4012)`).
		FindStringSubmatch(run(0, "--open"))
	if found == nil {
		t.Fatalf("listed\n%s", run(0))
	}
	for _, args := range [][]string{{"--plaza", "4010"}, {"--state", "below_usual"}, {"--road", "A 1"},
		{"--to", "2026-03-02"}} {
		if got := run(0, args...); got != "no incidents\n" {
			t.Errorf("%q lists %s", args, got)
		}
	}
	if got := run(0, "ack", found[1], "--note", "patrol is on its way", "--by", "Ada"); got !=
		"acknowledged "+found[1]+" by Ada\n" {
		t.Errorf("got %q", got)
	}
	for want, args := range map[string][]string{
		"acknowledged by Ada at 20":      {},
		`"note": "patrol is on its way"`: {"--json", "--from", "2026-03-02", "--to", "2026-03-03"},
		",2026-03-02T07:":                {"--csv"},
	} {
		if got := run(0, args...); !strings.Contains(got, want) {
			t.Errorf("%q shows\n%s", args, got)
		}
	}
	run(1, "ack", "20220210T0813Z-4856")
	for _, args := range [][]string{{"ack"}, {"ack", "7"}, {"--from", "today"}, {"--state", "jam"},
		{"--csv", "--json"}, {"--limit", "-1"}, {"--plaza", "40000"}} {
		run(2, args...)
	}
}
