package main

import (
	"context"
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
	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology"
)

// traces sends spans to a collector, by OTLP over HTTP: of batches, of transactions of results, and
// of requests. A nil one sends nothing and costs nothing.
//
// Spans are made from what is known once a step is done, so nothing is carried through the steps.
// They wait in a queue of some 2,000 and are sent every few seconds; what the collector does not
// take is dropped.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	topic    string
}

func otelFlag() cli.Flag {
	return &cli.StringFlag{Name: "otel-endpoint", EnvVars: env("otel-endpoint"),
		Category: metricsCategory,
		Usage:    "send traces to the OpenTelemetry collector at `URL`, by OTLP over HTTP, as http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT does too"}
}

// tracesPath is where a collector takes traces, below the address that is given.
const tracesPath = "v1/traces"

// tracesStop bounds how long the end waits for a collector to take what is left. Sending it needs a
// while on a busy machine.
const tracesStop = 4 * time.Second

// openTraces returns nil where no endpoint is given, neither to us nor in OpenTelemetry's own
// variables, which also set all else: headers, certificates, sampling, names.
func openTraces(c *cli.Context, service, topic string, log *slog.Logger) (*traces, error) {
	endpoint := setting(c, "otel-endpoint", "")
	standard := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	off := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") ||
		os.Getenv("OTEL_TRACES_EXPORTER") == "none"
	if endpoint == "" && !standard || off {
		return nil, nil
	}
	var options []otlptracehttp.Option
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// it may hold a secret
			return nil, hint.Usagef("--otel-endpoint: want a URL such as http://127.0.0.1:4318")
		}
		options = append(options, otlptracehttp.WithEndpointURL(u.JoinPath(tracesPath).String()))
	}
	if p := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		log.Warn("traces go by OTLP over HTTP, whatever OTEL_EXPORTER_OTLP_PROTOCOL says", "protocol", p)
	}
	otel.SetLogger(logr.Discard()) // what matters comes to the error handler
	var told onceIn
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if told.allows(time.Now()) {
			log.Warn("traces are lost", "error", text.OneLine(err.Error()))
		}
	}))
	exporter, err := otlptracehttp.New(c.Context, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	// Detectors that come later go first, so the standard variables can set another name.
	about, err := resource.New(c.Context, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", service),
		attribute.String("service.version", buildVersion()),
		attribute.String("service.instance.id", setting(c, "instance", hostName())),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("send traces: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return newTraces(sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(about)), topic), nil
}

func newTraces(provider *sdktrace.TracerProvider, topic string) *traces {
	return &traces{provider: provider, tracer: provider.Tracer("tollstream"), topic: topic}
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// onceIn allows something once a minute: a collector that is away fails every few seconds.
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

// close sends what is left.
func (t *traces) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracesStop)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // told by the error handler
}

// processor returns what a processor is to tell its steps to; nil for nobody.
func (t *traces) processor() topology.Tracer {
	if t == nil {
		return nil // and not a Tracer that holds nil
	}
	return t
}

// Batch implements topology.Tracer.
func (t *traces) Batch(b topology.BatchTrace) {
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

// Results implements topology.Tracer.
func (t *traces) Results(r topology.ResultsTrace) {
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
		span.SetStatus(codes.Error, text.OneLine(topology.Brief(err)))
	}
}

// requests returns what traces the requests of a server, nil for nothing. A request that comes with
// a trace of its own, from a proxy, continues that.
func (t *traces) requests() func(*http.Request) (context.Context, func(path string, status int)) {
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
