package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/telemetry"
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

// processMetricsFlags returns the flags that [metricsConfigFrom] and [openTraces] read.
func processMetricsFlags() []cli.Flag {
	return append([]cli.Flag{metricsListenFlag(), otelFlag(), pprofFlag()},
		guardFlags(metricsCategory, "metrics")...)
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
	return []cli.Flag{
		metricsListenFlag(),
		&cli.IntFlag{Name: "metrics-plazas", EnvVars: command.Env("metrics-plazas"),
			Value:    telemetry.DefaultPlazaSeries,
			Category: metricsCategory,
			Usage:    "how many `PLAZAS` have metrics of their own: those with the most vehicles so far"},
		otelFlag(),
	}
}

func otelFlag() cli.Flag {
	return &cli.StringFlag{Name: "otel-endpoint", EnvVars: command.Env("otel-endpoint"),
		Category: metricsCategory,
		Usage: "send traces to the OpenTelemetry collector at `URL`, by OTLP over HTTP, " +
			"as http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT does too"}
}

func pprofFlag() cli.Flag {
	return &cli.StringFlag{Name: "pprof", EnvVars: command.Env("pprof"), Category: metricsCategory,
		Usage: "serve profiles for go tool pprof at the loopback address `HOST:PORT`, " +
			"as 127.0.0.1:6060"}
}

// serveProfiles serves profiles where the flags say, until stop is called.
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

// serveProcessMetrics serves the metrics of process where the flags say, until stop is called.
func serveProcessMetrics(c *cli.Context, p *telemetry.Process, log *slog.Logger) (stop func(),
	err error) {
	cfg, err := metricsConfigFrom(c)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		return func() {}, nil
	}
	registry, err := telemetry.NewRegistry(buildVersion(), p)
	if err != nil {
		return nil, err
	}
	stop, err = telemetry.ServeMetrics(*cfg, registry, telemetry.Probes(c.Context, p.Stats), log)
	return stop, hintPort(err, "metrics-listen")
}

// openTraces opens traces to where the flags say.
func openTraces(c *cli.Context, service, topic string, log *slog.Logger) (*telemetry.Traces,
	error) {
	cfg := telemetry.TracesConfig{Service: service, Version: buildVersion(),
		Instance: command.Setting(c, "instance", ""), Topic: topic, Log: log}
	if endpoint := command.Setting(c, "otel-endpoint", ""); endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// it may hold a secret
			return nil, hint.Usagef("--otel-endpoint: want a URL such as http://127.0.0.1:4318")
		}
		cfg.Endpoint = u
	}
	return telemetry.OpenTraces(c.Context, cfg)
}

// guardNames are the names of the flags of [guardFlags].
var guardNames = []string{"token-file", "allow-anyone", "tls-cert", "tls-key", "allowed-host"}

// guardFlags returns the flags that [guardedFrom] reads: authentication and TLS of a server.
func guardFlags(category, what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-file", EnvVars: command.Env("token-file"), Category: category,
			Usage: fmt.Sprintf(
				"`FILE` with a bearer token, %d characters or more, that clients must present",
				serve.MinToken)},
		&cli.BoolFlag{Name: "allow-anyone", EnvVars: command.Env("allow-anyone"), Category: category,
			Usage: "serve without authentication: everyone who reaches the address may read"},
		&cli.StringFlag{Name: "tls-cert", EnvVars: command.Env("tls-cert"), Category: category,
			Usage: "PEM `FILE` of a certificate, for HTTPS; with --tls-key"},
		&cli.StringFlag{Name: "tls-key", EnvVars: command.Env("tls-key"), Category: category,
			Usage: "PEM `FILE` of its key"},
		&cli.StringSliceFlag{Name: "allowed-host", EnvVars: command.Env("allowed-host"),
			Category: category,
			Usage: "`NAME` that browsers may call the " + what +
				" by, besides localhost and addresses: that of a proxy; several, separated by commas"},
	}
}

// guardedFrom returns the configuration of a server at the address that a flag names, nil for none.
func guardedFrom(c *cli.Context, flag string) (*serve.Config, error) {
	cfg := serve.Config{
		Listen: command.Setting(c, flag, ""), NoAuth: c.Bool("allow-anyone"),
		TLSCert: command.Setting(c, "tls-cert", ""), TLSKey: command.Setting(c, "tls-key", ""),
	}
	if cfg.Listen == "" {
		return nil, nil
	}
	for _, host := range c.StringSlice("allowed-host") {
		if host = strings.TrimSpace(host); host != "" {
			cfg.Hosts = append(cfg.Hosts, host)
		}
	}
	if name := command.Setting(c, "token-file", ""); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
		// it must not mean that there is none
		if cfg.Token = strings.TrimSpace(string(text)); cfg.Token == "" {
			return nil, hint.With(hint.Usagef("--token-file: %s is empty", name), tokenHint)
		}
	}
	err := cfg.Validate()
	if err == nil {
		return &cfg, nil
	}
	advice := ""
	if open := cfg; open.Token == "" && !open.NoAuth {
		open.NoAuth = true
		if open.Validate() == nil {
			advice =
				"--token-file names a file with a bearer token; --allow-anyone serves without authentication"
		}
	} else if open.Token != "" {
		advice = tokenHint
	}
	return nil, hint.With(hint.Usagef("--%s: %v", flag, err), advice)
}

const tokenHint = "generate a token: openssl rand -hex 16"

// hintPort adds what to do about a port in use.
func hintPort(err error, flag string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return hint.With(err, fmt.Sprintf(
		"the port is in use: set another one with --%s, or 0 for a free one", flag))
}
