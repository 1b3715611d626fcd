package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/internal/text"
)

// collected is a collector of OpenTelemetry that keeps the spans that it gets.
type collected struct {
	t      *testing.T
	server *httptest.Server

	mu    sync.Mutex
	spans []*tracepb.Span
	about map[string]map[string]string // attributes of the resource, by service
}

func collect(t *testing.T) *collected {
	c := &collected{t: t, about: map[string]map[string]string{}}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.server.Close)
	return c
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" ||
		r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		about := attributes(resource.Resource.Attributes)
		c.about[about["service.name"]] = about
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	empty, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	_, _ = w.Write(empty)
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

// noTelemetry clears what the environment sets for traces.
func noTelemetry(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER",
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",
		"OTEL_EXPORTER_OTLP_COMPRESSION", "TOLLSTREAM_OTEL_ENDPOINT"} {
		t.Setenv(name, "")
	}
}

// TestTraces follows batches, results and requests to a collector.
func TestTraces(t *testing.T) {
	noTelemetry(t)
	c := collect(t)
	p := newPipeline(t, time.UTC)
	var out bytes.Buffer
	if code, stderr := p.command(t.Context(), testEvents+"rubbish\n", &out, "emit", "--from", "-",
		"--raw"); code != 0 {
		t.Fatal(stderr)
	}
	p.expect(0, "process", "--until-end", "--instance", "one", "--state-dir",
		filepath.Join(p.dir, "state"), "--otel-endpoint", c.server.URL+"/")
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

	// By the standard variables, with another name.
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.server.URL)
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

// openedTraces opens traces by a command line.
func openedTraces(t *testing.T, log *slog.Logger, args ...string) (traces *telemetry.Traces,
	err error) {
	t.Helper()
	app := &cli.App{Name: "x", Flags: []cli.Flag{otelFlag()}, Action: func(c *cli.Context) error {
		traces, err = openTraces(c, "service", "toll", log)
		return nil
	}}
	if err := app.RunContext(t.Context(), append([]string{"x"}, args...)); err != nil {
		t.Fatal(err)
	}
	return traces, err
}

// TestTracesOff asks for no traces, or for some that can't be.
func TestTracesOff(t *testing.T) {
	noTelemetry(t)
	log := slog.New(slog.DiscardHandler)
	off := func(args ...string) {
		t.Helper()
		traces, err := openedTraces(t, log, args...)
		if err != nil || traces != nil || traces.Processor() != nil || traces.Requests() != nil {
			t.Errorf("%v: %v, %v", args, traces, err)
		}
		traces.Close()
	}
	off()
	t.Setenv("OTEL_SDK_DISABLED", "TRUE")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	off()
	off("--otel-endpoint", "http://127.0.0.1:1")
	t.Setenv("OTEL_SDK_DISABLED", "")
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	off()
	t.Setenv("OTEL_TRACES_EXPORTER", "")
	for _, endpoint := range []string{"127.0.0.1:4318", "grpc://x:4317", "http://",
		"http://user:pass%word@x"} {
		_, err := openedTraces(t, log, "--otel-endpoint", endpoint)
		if err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: %v", endpoint, err)
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
