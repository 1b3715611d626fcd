// Package telemetry shows operators what process and view do: metrics for Prometheus, traces for
// OpenTelemetry, and profiles.
package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/web/serve"
)

// NewRegistry returns a registry with the metrics of every process and those of own.
func NewRegistry(version string, own ...prometheus.Collector) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tollstream_build_info", Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	for _, c := range append([]prometheus.Collector{collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build}, own...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return registry, nil
}

// ServeMetrics serves a registry and probes in the background. stop ends that and waits for the
// end.
func ServeMetrics(cfg serve.Config, registry *prometheus.Registry, probes serve.Probes,
	log *slog.Logger) (stop func(), err error) {
	cfg.Gatherer, cfg.Log = registry, log
	return start("metrics", "metrics", cfg, probes)
}

// ServeProfiles serves the profiles of net/http/pprof in the background. They disclose the memory:
// addr must be a loopback address. stop ends that, cuts off a profile that is being taken, and
// waits for the end.
func ServeProfiles(addr string, log *slog.Logger) (stop func(), err error) {
	cfg := serve.Config{Listen: addr, Log: log,
		Timeouts: serve.Timeouts{Shutdown: time.Millisecond}}
	return start("profiles", "debug/pprof/", cfg, serve.Probes{},
		serve.Route{Path: "/debug/pprof/", Serve: pprof.Index},
		serve.Route{Path: "/debug/pprof/profile", Serve: pprof.Profile},
		serve.Route{Path: "/debug/pprof/trace", Serve: pprof.Trace},
		serve.Route{Path: "/debug/pprof/symbol", Serve: pprof.Symbol})
}

// start serves until stop is called.
func start(what, path string, cfg serve.Config, probes serve.Probes,
	routes ...serve.Route) (stop func(), err error) {
	server, err := serve.New(cfg, probes, routes...)
	if err == nil {
		err = server.Listen() // a port in use is an error before anything is waited for
	}
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", what, err)
	}
	cfg.Log.Info("serving "+what, "url", server.URL()+path)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Run(ctx); err != nil {
			cfg.Log.Error("serving "+what+" failed", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// Traces sends spans to a collector, by OTLP over HTTP: of batches, of transactions of results, and
// of requests. A nil one sends nothing.
//
// Spans are made from what is known once a step is done, so nothing is carried through the steps.
// They wait in a queue of some 2,000 and are sent every few seconds; what the collector does not
// take is dropped.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	topic    string
}

// tracesPath is where a collector takes traces, below the address that is given.
const tracesPath = "v1/traces"

// tracesStop bounds how long the end waits for a collector to take what is left. Sending it needs a
// while on a busy machine.
const tracesStop = 4 * time.Second

// TracesConfig configures [OpenTraces].
type TracesConfig struct {
	Endpoint *url.URL // of the collector, without a path; nil for what OpenTelemetry's variables name
	Service  string
	Version  string
	Instance string // default: the host name
	Topic    string // of the batches; empty for none
	Log      *slog.Logger
}

// OpenTraces returns nil if there is no endpoint, neither in the config nor in OpenTelemetry's own
// variables, which also configure all else: headers, certificates, sampling, names.
func OpenTraces(ctx context.Context, cfg TracesConfig) (*Traces, error) {
	standard := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	off := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") ||
		os.Getenv("OTEL_TRACES_EXPORTER") == "none"
	if cfg.Endpoint == nil && !standard || off {
		return nil, nil
	}
	var options []otlptracehttp.Option
	if u := cfg.Endpoint; u != nil {
		options = append(options, otlptracehttp.WithEndpointURL(u.JoinPath(tracesPath).String()))
	}
	if p := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		cfg.Log.Warn("OTEL_EXPORTER_OTLP_PROTOCOL is ignored: traces are sent by OTLP over HTTP",
			"protocol", p)
	}
	otel.SetLogger(logr.Discard()) // the error handler gets what matters
	var warned onceIn
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if warned.allows(time.Now()) {
			cfg.Log.Warn("traces are dropped", "error", err)
		}
	}))
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	// Detectors that come later go first, so the standard variables can set another name.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version),
		attribute.String("service.instance.id", cmp.Or(cfg.Instance, hostName())),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("send traces: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(about))
	return &Traces{provider, provider.Tracer("tollstream"), cfg.Topic}, nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// onceIn allows something once a minute: an unavailable collector fails every few seconds.
type onceIn struct {
	mu   sync.Mutex
	last time.Time
}

func (o *onceIn) allows(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) < time.Minute {
		return false
	}
	o.last = now
	return true
}

// Close sends what is left.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracesStop)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // reported by the error handler
}

// Processor returns the tracer of a processor; nil for none.
func (t *Traces) Processor() monitor.Tracer {
	if t == nil {
		return nil // and not a Tracer that holds nil
	}
	return t
}

// Batch implements monitor.Tracer.
func (t *Traces) Batch(b monitor.BatchTrace) {
	began := b.Began
	if began.IsZero() {
		began = b.Publishing
	}
	ctx, root := t.tracer.Start(context.Background(), "batch", trace.WithTimestamp(began),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("messaging.system", "kafka"),
			attribute.String("messaging.destination.name", t.topic),
			attribute.String("messaging.destination.partition.id", strconv.Itoa(int(b.Partition))),
			attribute.Int64("tollstream.offset.first", b.First),
			attribute.Int64("tollstream.offset.next", b.Next),
			attribute.Int("tollstream.events", b.Events),
			attribute.Int("tollstream.rejected", b.Rejected),
			attribute.Bool("tollstream.resent", b.Resent),
		))
	step := func(name string, from, to time.Time, last bool, attributes ...attribute.KeyValue) {
		if from.IsZero() {
			return
		}
		if last || to.IsZero() {
			to = b.Ended
		}
		_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from),
			trace.WithAttributes(attributes...))
		if last {
			failed(span, b.Err)
		}
		span.End(trace.WithTimestamp(to))
	}
	step("build", b.Began, b.Taken, false)
	step("store", b.Taken, b.Stored, b.Stored.IsZero(),
		attribute.Int("tollstream.attempts", b.Attempts))
	step("publish", b.Publishing, b.Ended, true, attribute.Int("tollstream.plazas", b.Plazas))
	failed(root, b.Err)
	root.End(trace.WithTimestamp(b.Ended))
}

// Results implements monitor.Tracer.
func (t *Traces) Results(r monitor.ResultsTrace) {
	_, span := t.tracer.Start(context.Background(), "results", trace.WithTimestamp(r.Began),
		trace.WithAttributes(
			attribute.Int("tollstream.plazas", r.Plazas),
			attribute.Int("tollstream.published", r.Published),
			attribute.Int("tollstream.notices", r.Notices),
		))
	failed(span, r.Err)
	span.End(trace.WithTimestamp(r.Ended))
}

func failed(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, text.OneLine(kafka.Brief(err)))
	}
}

// Requests returns what traces the requests of a server; nil for none. A request with a trace of
// its own, from a proxy, continues that.
func (t *Traces) Requests() func(*http.Request) (context.Context, func(path string, status int)) {
	if t == nil {
		return nil
	}
	return func(r *http.Request) (context.Context, func(string, int)) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(
				attribute.String("http.request.method", r.Method),
				attribute.String("url.path", r.URL.Path), // without the query, which may hold the token
			))
		return ctx, func(path string, status int) {
			span.SetName(r.Method + " " + path)
			span.SetAttributes(attribute.String("http.route", path),
				attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}
	}
}
