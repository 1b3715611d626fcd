// Package telemetry shows operators what process and view do: metrics for Prometheus, metrics and
// traces for OpenTelemetry, and profiles.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/pprof"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

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
