package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

// collected is what reached the end behind a collector of OpenTelemetry.
type collected struct {
	t        *testing.T
	endpoint string // of the collector
	ca       string // file of the authority that signed its certificate

	mu      sync.Mutex
	spans   []*tracepb.Span
	metrics map[string]*metricspb.Metric // those sent last, by name
	about   map[string]map[string]string // attributes of the resource, by service
}

// collect starts a real collector, of OpenTelemetry's own parts, that passes on what it takes.
func collect(t *testing.T) *collected {
	c := &collected{t: t, about: map[string]map[string]string{},
		metrics: map[string]*metricspb.Metric{}}
	program, err := filepath.Abs("../../.cache/bin/collector")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(program)
	testkit.NeedService(t, "an OpenTelemetry collector (make collector)", err == nil)
	end := httptest.NewServer(c)
	t.Cleanup(end.Close)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	var key string
	c.ca, key = servetest.Certificate(t)
	c.endpoint = "https://" + addr
	config := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, collectorConfig, addr, c.ca, key, end.URL),
		0o600); err != nil {
		t.Fatal(err)
	}
	var log testkit.Buffer
	cmd := exec.CommandContext(t.Context(), program, "--config", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { <-ended }) // since the context of the test has ended
	eventually(t, "collector", func() bool {
		select {
		case <-ended:
			t.Fatalf("the collector ended: %s", log.Bytes())
		default:
		}
		return strings.Contains(log.String(), "Everything is ready")
	})
	return c
}

// collectorConfig passes on at once, so that what was acknowledged has arrived.
const collectorConfig = `
receivers:
  otlp: {protocols: {http: {endpoint: %q, tls: {cert_file: %q, key_file: %q}}}}
exporters:
  otlp_http: {endpoint: %q, compression: none, sending_queue: {enabled: false}}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
  telemetry: {metrics: {level: none}}
`

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = c.take(r.URL.Path, body)
	}
	if err != nil {
		c.t.Errorf("%s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer: all was taken
}

// take keeps what was sent to a path.
func (c *collected) take(path string, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := func(r *resourcepb.Resource) {
		about := attributes(r.GetAttributes())
		c.about[about["service.name"]] = about
	}
	switch path {
	case "/v1/traces":
		var sent tracepb.TracesData // the same fields as a request of it
		if err := proto.Unmarshal(body, &sent); err != nil {
			return err
		}
		for _, resource := range sent.ResourceSpans {
			of(resource.Resource)
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	case "/v1/metrics":
		var sent metricspb.MetricsData
		if err := proto.Unmarshal(body, &sent); err != nil {
			return err
		}
		for _, resource := range sent.ResourceMetrics {
			of(resource.Resource)
			for _, scope := range resource.ScopeMetrics {
				for _, m := range scope.Metrics {
					c.metrics[m.Name] = m
				}
			}
		}
	default:
		return errors.New("unknown path")
	}
	return nil
}

// named returns the spans of a name.
func (c *collected) named(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*tracepb.Span
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

func attributes(list []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			all[kv.Key] = text.Number(v.IntValue)
		case *common.AnyValue_BoolValue:
			all[kv.Key] = map[bool]string{true: "yes", false: "no"}[v.BoolValue]
		}
	}
	return all
}

// noTelemetry clears what the environment sets for OpenTelemetry.
func noTelemetry(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_CERTIFICATE",
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER",
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",
		"OTEL_EXPORTER_OTLP_COMPRESSION", "TOLLSTREAM_OTEL_ENDPOINT"} {
		t.Setenv(name, "")
	}
}

// TestOpenTelemetry follows batches, results, requests and metrics to a collector.
func TestOpenTelemetry(t *testing.T) {
	noTelemetry(t)
	c := collect(t)
	p := newPipeline(t, time.UTC)
	var out bytes.Buffer
	if code, stderr := p.command(t.Context(), testEvents+"rubbish\n", &out, "emit", "--from", "-",
		"--raw"); code != 0 {
		t.Fatal(stderr)
	}
	p.expect(0, "process", "--until-end", "--instance", "one", "--state-dir",
		filepath.Join(p.dir, "state"), "--otel-endpoint", c.endpoint+"/", "--otel-ca", c.ca)
	var rows, rejected int
	batches := c.named("batch")
	for _, b := range batches {
		a := attributes(b.Attributes)
		if a["messaging.system"] != "kafka" || a["messaging.destination.name"] != "toll" ||
			a["tollstream.resent"] != "no" || len(b.ParentSpanId) != 0 ||
			b.Kind != tracepb.Span_SPAN_KIND_CONSUMER ||
			b.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("%v", b)
		}
		events, err1 := strconv.Atoi(a["tollstream.events"])
		refused, err2 := strconv.Atoi(a["tollstream.rejected"])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		rows, rejected = rows+events, rejected+refused
		last := b.StartTimeUnixNano
		for _, step := range []string{"build", "store", "publish"} {
			steps := slices.DeleteFunc(c.named(step), func(s *tracepb.Span) bool {
				return !bytes.Equal(s.ParentSpanId, b.SpanId)
			})
			if len(steps) != 1 || !bytes.Equal(steps[0].TraceId, b.TraceId) ||
				steps[0].StartTimeUnixNano < last || steps[0].EndTimeUnixNano < steps[0].StartTimeUnixNano {
				t.Fatalf("%s of %v: %v", step, b, steps)
			}
			if step == "store" && attributes(steps[0].Attributes)["tollstream.attempts"] != "1" {
				t.Errorf("%v", steps[0])
			}
			last = steps[0].EndTimeUnixNano
		}
		if b.EndTimeUnixNano != last {
			t.Errorf("a batch ends at %d, and its last step at %d", b.EndTimeUnixNano, last)
		}
	}
	if rows != 6 || rejected != 1 || len(c.named("results")) == 0 {
		t.Errorf("%d batches of %d rows and %d dead letters; %d transactions of results", len(batches),
			rows, rejected, len(c.named("results")))
	}
	if about := c.about["tollstream-process"]; about["service.version"] == "" ||
		about["service.instance.id"] != "one" || about["telemetry.sdk.name"] == "" {
		t.Errorf("%v", c.about)
	}

	c.wantMetrics()

	// By the standard variables, with another name.
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.endpoint)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", c.ca)
	t.Setenv("OTEL_SERVICE_NAME", "control-room")
	l := p.listen(t)
	l.until("api/v1/verification", func(v map[string]any) bool { return v["status"] == "exact" })
	l.get(http.StatusBadRequest, "api/v1/plazas/77?token=secret")
	l.get(http.StatusOK, "healthz")
	l.stop()
	if err := <-l.ended; err != nil {
		t.Fatal(err)
	}
	found := c.named("GET /api/v1/plazas/{id}")
	if len(found) != 1 || len(c.named("GET /api/v1/verification")) == 0 ||
		len(c.named("GET /healthz")) != 0 || len(c.about["control-room"]) == 0 {
		t.Fatalf("%v; %v", c.spans, c.about)
	}
	a := attributes(found[0].Attributes)
	if a["http.response.status_code"] != "400" || a["url.path"] != "/api/v1/plazas/77" ||
		a["http.route"] != "/api/v1/plazas/{id}" || strings.Contains(found[0].String(), "secret") {
		t.Errorf("%v", found[0])
	}
}

// wantMetrics checks what process sent at its end: the same metrics as Prometheus scrapes.
func (c *collected) wantMetrics() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := c.metrics["tollstream_rows_stored_total"]
	if p := rows.GetSum().GetDataPoints(); len(p) != 1 || p[0].GetAsDouble() != 6 ||
		!rows.GetSum().IsMonotonic || rows.GetSum().AggregationTemporality !=
		metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		c.t.Errorf("rows: %v", rows)
	}
	commits := c.metrics["tollstream_commit_duration_seconds"]
	if p := commits.GetHistogram().GetDataPoints(); len(p) != 1 || p[0].Count == 0 ||
		p[0].GetSum() <= 0 || len(p[0].BucketCounts) != len(p[0].ExplicitBounds)+1 {
		c.t.Errorf("commits: %v", commits)
	}
	for _, p := range c.metrics["tollstream_records_rejected_total"].GetSum().GetDataPoints() {
		want := 0.
		if attributes(p.Attributes)["kind"] == "format" {
			want = 1
		}
		if p.GetAsDouble() != want {
			c.t.Errorf("rejected: %v", p)
		}
	}
	for name, unit := range map[string]string{"tollstream_commit_duration_seconds": "s",
		"tollstream_rows_stored_total": "", "process_cpu_seconds_total": "s",
		"process_resident_memory_bytes": "By", "tollstream_rejected_share_ratio": "1"} {
		if m := c.metrics[name]; m.GetUnit() != unit || m.GetDescription() == "" {
			c.t.Errorf("%s has the unit %q, want %q; %q", name, m.GetUnit(), unit, m.GetDescription())
		}
	}
}

// openedExporter opens an exporter by a command line.
func openedExporter(t *testing.T, log *slog.Logger, args ...string) (e *telemetry.Exporter,
	err error) {
	t.Helper()
	app := &cli.App{Name: "x", Flags: otelFlags(), Action: func(c *cli.Context) error {
		e, err = openExporter(c, "service", "toll", prometheus.NewRegistry(), log)
		return nil
	}}
	if err := app.RunContext(t.Context(), append([]string{"x"}, args...)); err != nil {
		t.Fatal(err)
	}
	return e, err
}

// TestOpenTelemetryOff asks for nothing, for one of two, or for what can't be.
func TestOpenTelemetryOff(t *testing.T) {
	noTelemetry(t)
	log := slog.New(slog.DiscardHandler)
	open := func(args ...string) *telemetry.Exporter {
		t.Helper()
		e, err := openedExporter(t, log, args...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return e
	}
	off := func(args ...string) {
		t.Helper()
		if e := open(args...); e != nil || e.Processor() != nil || e.Requests() != nil {
			t.Errorf("%v: %v", args, e)
		}
	}
	off()
	t.Setenv("OTEL_SDK_DISABLED", "TRUE")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	off()
	off("--otel-endpoint", "http://127.0.0.1:1")
	t.Setenv("OTEL_SDK_DISABLED", "")
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	metrics := open()
	if metrics == nil || metrics.Processor() != nil || metrics.Requests() != nil {
		t.Errorf("metrics alone: %v", metrics)
	}
	metrics.Close()
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	off()
	t.Setenv("OTEL_TRACES_EXPORTER", "")
	traces := open()
	if traces == nil || traces.Processor() == nil || traces.Requests() == nil {
		t.Errorf("traces alone: %v", traces)
	}
	traces.Close()
	for _, args := range [][]string{{"127.0.0.1:4318"}, {"grpc://x:4317"}, {"http://"},
		{"http://user:pass%word@x"}, {"https://user:pass@x"}, {"http://x", "--otel-server-name", "y"},
		{"https://x", "--otel-ca", "/none"}, {"https://x", "--otel-cert", "/none"}} {
		_, err := openedExporter(t, log, append([]string{"--otel-endpoint"}, args...)...)
		if err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestPprofSetting(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:6060", ":x", "192.0.2.1:6060", "6060"} {
		var stdout, stderr testkit.Buffer
		code := run(t.Context(), []string{"tollstream", "process", "--pprof", addr},
			strings.NewReader(""), &stdout, &stderr)
		if text := stderr.String(); code != 2 || !strings.Contains(text, "--pprof") {
			t.Errorf("--pprof %s: exit status %d: %s", addr, code, text)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var stdout, stderr testkit.Buffer
	code := run(t.Context(), []string{"tollstream", "process", "--pprof", taken.Addr().String()},
		strings.NewReader(""), &stdout, &stderr)
	if text := stderr.String(); code != 1 || !strings.Contains(text, "hint: ") ||
		!strings.Contains(text, "--pprof") {
		t.Errorf("a port in use: exit status %d: %s", code, text)
	}
}
