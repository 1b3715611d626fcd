package telemetry

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Exporter sends metrics and spans to a collector, by OTLP over HTTP. A nil one sends nothing.
//
// The metrics are those that Prometheus scrapes, every minute by default. Spans are of batches, of
// transactions of results, and of requests; they are made from what is known once a step is done,
// so nothing is carried through the steps. They wait in a queue of some 2,000 and are sent every
// few seconds; what the collector does not take is dropped.
type Exporter struct {
	metrics *sdkmetric.MeterProvider // nil for no metrics
	spans   *sdktrace.TracerProvider // nil for no traces
	tracer  trace.Tracer
	topic   string
}

// exporterStop bounds how long the end waits for a collector to take what is left. Sending it needs
// a while on a busy machine.
const exporterStop = 4 * time.Second

// ExporterConfig configures [OpenExporter].
type ExporterConfig struct {
	// Endpoint is that of the collector, without a path; nil for what OpenTelemetry's variables name.
	Endpoint *url.URL
	TLS      *tls.Config // nil for what OpenTelemetry's variables set
	Metrics  prometheus.Gatherer
	Service  string
	Version  string
	Instance string // default: the host name
	Topic    string // of the batches; empty for none
	Log      *slog.Logger
}

// sends reports whether a signal, METRICS or TRACES, is sent: OpenTelemetry's variables can name an
// endpoint, and turn signals off.
func (cfg *ExporterConfig) sends(signal string) bool {
	named := cfg.Endpoint != nil || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
	return named && !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") &&
		os.Getenv("OTEL_"+signal+"_EXPORTER") != "none"
}

// Plaintext returns the hosts to which headers, such as a token, would go without TLS.
func (cfg *ExporterConfig) Plaintext() (hosts []string) {
	for _, signal := range []string{"METRICS", "TRACES"} {
		variable := func(name string) string {
			const prefix = "OTEL_EXPORTER_OTLP_"
			return cmp.Or(os.Getenv(prefix+signal+"_"+name), os.Getenv(prefix+name))
		}
		u, insecure := cfg.Endpoint, false
		if u == nil {
			var err error
			if u, err = url.Parse(variable("ENDPOINT")); err != nil {
				continue // and the default one is on this machine
			}
			insecure = strings.EqualFold(variable("INSECURE"), "true")
		}
		if cfg.sends(signal) && variable("HEADERS") != "" &&
			(insecure || strings.EqualFold(u.Scheme, "http")) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// OpenExporter returns nil if there is no endpoint, neither in the config nor in OpenTelemetry's
// own variables, which also configure all else: headers, certificates, intervals, sampling, names.
func OpenExporter(ctx context.Context, cfg ExporterConfig) (*Exporter, error) {
	metrics, traces := cfg.sends("METRICS"), cfg.sends("TRACES")
	if !metrics && !traces {
		return nil, nil
	}
	if p := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		cfg.Log.Warn("OTEL_EXPORTER_OTLP_PROTOCOL is ignored: OTLP is sent over HTTP", "protocol", p)
	}
	otel.SetLogger(logr.Discard()) // the error handler gets what matters
	var warned onceIn
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if warned.allows(time.Now()) {
			cfg.Log.Warn("sending to the OpenTelemetry collector failed", "error", err)
		}
	}))
	// Detectors that come later go first, so the standard variables can set another name.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version),
		attribute.String("service.instance.id", cmp.Or(cfg.Instance, hostName())),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	e := &Exporter{topic: cfg.Topic}
	if traces {
		if err := e.openTraces(ctx, &cfg, about); err != nil {
			return nil, fmt.Errorf("send traces: %w", err)
		}
	}
	if metrics {
		if err := e.openMetrics(ctx, &cfg, about); err != nil {
			e.Close()
			return nil, fmt.Errorf("send metrics: %w", err)
		}
	}
	return e, nil
}

func (e *Exporter) openTraces(ctx context.Context, cfg *ExporterConfig,
	about *resource.Resource) error {
	var options []otlptracehttp.Option
	if u := cfg.Endpoint; u != nil {
		options = append(options, otlptracehttp.WithEndpointURL(u.JoinPath("v1/traces").String()))
	}
	if cfg.TLS != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(cfg.TLS))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return err
	}
	e.spans = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(about))
	e.tracer = e.spans.Tracer("tollstream")
	return nil
}

func (e *Exporter) openMetrics(ctx context.Context, cfg *ExporterConfig,
	about *resource.Resource) error {
	var options []otlpmetrichttp.Option
	if u := cfg.Endpoint; u != nil {
		options = append(options, otlpmetrichttp.WithEndpointURL(u.JoinPath("v1/metrics").String()))
	}
	if cfg.TLS != nil {
		options = append(options, otlpmetrichttp.WithTLSClientConfig(cfg.TLS))
	}
	exporter, err := otlpmetrichttp.New(ctx, options...)
	if err != nil {
		return err
	}
	scraped := withUnits{bridge.NewMetricProducer(bridge.WithGatherer(cfg.Metrics))}
	e.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(
		sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(scraped))))
	return nil
}

// withUnits gives metrics the units that OpenTelemetry wants apart from the name, as Prometheus has
// them in it.
type withUnits struct{ sdkmetric.Producer }

// Produce implements sdkmetric.Producer.
func (p withUnits) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	scopes, err := p.Producer.Produce(ctx)
	for _, scope := range scopes {
		for i := range scope.Metrics {
			m := &scope.Metrics[i]
			name := strings.TrimSuffix(m.Name, "_total")
			m.Unit = units[name[strings.LastIndexByte(name, '_')+1:]]
		}
	}
	return scopes, err
}

// units are those of UCUM, by how names end.
var units = map[string]string{"seconds": "s", "bytes": "By", "ratio": "1"}

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
func (e *Exporter) Close() {
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), exporterStop)
	defer cancel()
	var both sync.WaitGroup
	if e.metrics != nil {
		both.Go(func() {
			if err := e.metrics.Shutdown(ctx); err != nil {
				otel.Handle(err)
			}
		})
	}
	if e.spans != nil {
		both.Go(func() { _ = e.spans.Shutdown(ctx) }) // reported by the error handler
	}
	both.Wait()
}

// Processor returns the tracer of a processor; nil for none.
func (e *Exporter) Processor() monitor.Tracer {
	if e == nil || e.spans == nil {
		return nil // and not a Tracer that holds nil
	}
	return e
}

// Batch implements monitor.Tracer.
func (e *Exporter) Batch(b monitor.BatchTrace) {
	began := b.Began
	if began.IsZero() {
		began = b.Publishing
	}
	ctx, root := e.tracer.Start(context.Background(), "batch", trace.WithTimestamp(began),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("messaging.system", "kafka"),
			attribute.String("messaging.destination.name", e.topic),
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
		_, span := e.tracer.Start(ctx, name, trace.WithTimestamp(from),
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
func (e *Exporter) Results(r monitor.ResultsTrace) {
	_, span := e.tracer.Start(context.Background(), "results", trace.WithTimestamp(r.Began),
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
func (e *Exporter) Requests() func(*http.Request) (context.Context, func(path string, status int)) {
	if e == nil || e.spans == nil {
		return nil
	}
	return func(r *http.Request) (context.Context, func(string, int)) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := e.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
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
