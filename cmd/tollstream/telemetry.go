package main

import (
	"log/slog"
	"net/url"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/web/serve"
)

const metricsCategory = "Metrics"

// defaultMetricsListen is an address to show: the port is the one that exporters of OpenTelemetry
// use for Prometheus.
const defaultMetricsListen = "127.0.0.1:9464"

func metricsListenFlag() cli.Flag {
	return &cli.StringFlag{Name: "metrics-listen", EnvVars: command.Env("metrics-listen"),
		Category: metricsCategory,
		Usage: "serve metrics for Prometheus at `HOST:PORT`, as in " + defaultMetricsListen +
			", with /healthz and /readyz; port 0 is a free one"}
}

// processMetricsFlags returns the flags that [metricsConfigFrom] and [openExporter] read.
func processMetricsFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{metricsListenFlag(), pprofFlag()}, otelFlags(),
		guardFlags(metricsCategory, "metrics"))
}

// metricsConfigFrom returns how metrics are served, nil where they are not.
func metricsConfigFrom(c *cli.Context) (*serve.Config, error) {
	cfg, err := guardedFrom(c, "metrics-listen")
	if cfg == nil && err == nil {
		for _, name := range guardNames {
			if command.Given(c, name) {
				return nil, hint.Usagef("--%s is for --metrics-listen", name)
			}
		}
	}
	return cfg, err
}

// viewMetricsFlags returns the flags of the view's metrics, next to its page.
func viewMetricsFlags() []cli.Flag {
	return append([]cli.Flag{
		metricsListenFlag(),
		&cli.IntFlag{Name: "metrics-plazas", EnvVars: command.Env("metrics-plazas"),
			Value:    telemetry.DefaultPlazaSeries,
			Category: metricsCategory,
			Usage:    "how many `PLAZAS` have metrics of their own: those with the most vehicles so far"},
	}, otelFlags()...)
}

func otelFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: command.Env(name), Category: metricsCategory,
			Usage: usage}
	}
	return []cli.Flag{
		text("otel-endpoint", "send metrics and traces to the OpenTelemetry collector at `URL`, by OTLP "+
			"over HTTP, as http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT does too"),
		text("otel-ca", "PEM `FILE` of the authorities that sign the collector's certificate, in place "+
			"of the system's"),
		text("otel-cert", "PEM `FILE` of our own certificate, for a collector that wants one"),
		text("otel-key", "PEM `FILE` of its key"),
		text("otel-server-name",
			"`NAME` in the collector's certificate, where it is not the host of the URL"),
		&cli.BoolFlag{Name: "otel-plaintext", EnvVars: command.Env("otel-plaintext"),
			Category: metricsCategory,
			Usage: "send OTEL_EXPORTER_OTLP_HEADERS without TLS to other hosts too, across a network " +
				"that can read them"},
	}
}

func pprofFlag() cli.Flag {
	return &cli.StringFlag{Name: "pprof", EnvVars: command.Env("pprof"), Category: metricsCategory,
		Usage: "serve profiles for go tool pprof at the loopback address `HOST:PORT`, " +
			"as 127.0.0.1:6060"}
}

// serveProfiles serves profiles as the flags set, until stop is called.
func serveProfiles(c *cli.Context, log *slog.Logger) (stop func(), err error) {
	addr := command.Setting(c, "pprof", "")
	if addr == "" {
		return func() {}, nil
	}
	addr, err = command.LoopbackAddr("pprof", addr, "profiles disclose the memory: use 127.0.0.1")
	if err != nil {
		return nil, err
	}
	stop, err = telemetry.ServeProfiles(addr, log)
	return stop, hintPort(err, "pprof")
}

// serveProcessMetrics serves the metrics of process as the flags set, until stop is called.
func serveProcessMetrics(c *cli.Context, stats *monitor.Stats, registry *prometheus.Registry,
	log *slog.Logger) (stop func(), err error) {
	cfg, err := metricsConfigFrom(c)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		return func() {}, nil
	}
	stop, err = telemetry.ServeMetrics(*cfg, registry, telemetry.Probes(c.Context, stats), log)
	return stop, hintPort(err, "metrics-listen")
}

// openExporter sends metrics and traces as the flags set.
func openExporter(c *cli.Context, service, topic string, metrics prometheus.Gatherer,
	log *slog.Logger) (*telemetry.Exporter, error) {
	cfg := telemetry.ExporterConfig{Metrics: metrics, Service: service, Version: buildVersion(),
		Instance: command.Setting(c, "instance", ""), Topic: topic, Log: log}
	var err error
	if cfg.TLS, err = endpoint.TLSFrom(c, "otel", false); err != nil {
		return nil, err
	}
	if text := command.Setting(c, "otel-endpoint", ""); text != "" {
		u, err := url.Parse(text)
		// Names and passwords in it would not be sent.
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			// it may hold a secret
			return nil, hint.With(hint.Usagef("--otel-endpoint: want a URL such as http://127.0.0.1:4318"),
				"what the collector wants to know goes into OTEL_EXPORTER_OTLP_HEADERS")
		}
		cfg.Endpoint = u
	}
	if cfg.TLS != nil && (cfg.Endpoint == nil || cfg.Endpoint.Scheme == "http") {
		return nil, hint.Usagef("certificates of the collector are for an --otel-endpoint with https:")
	}
	for _, host := range cfg.Plaintext() {
		if err := endpoint.CheckPlaintext(c, "otel", "OTEL_EXPORTER_OTLP_HEADERS", host,
			"use https"); err != nil {
			return nil, err
		}
	}
	return telemetry.OpenExporter(c.Context, cfg)
}
