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

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tollstream/tollstream/internal/text"
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

const (
	// notifyEvery is how often systemd gets a status; the watchdog, more often where it wants to.
	notifyEvery = time.Second
	// readyWait is below the 90 s that systemd waits for a start by default. A start during an outage
	// of a server is no failure, and must not hold up the machine's.
	readyWait = 30 * time.Second
)

// NotifySystemd reports the process to systemd where that started it as a service of Type=notify:
// ready, status, stopping, and to its watchdog that it is healthy. A process that is not healthy
// leaves the watchdog out, which restarts it; an outage of a server is none of that. It does so
// until ctx ends or stop is called, and does nothing where nobody listens.
func NotifySystemd(ctx context.Context, probes serve.Probes, status func(now time.Time) string,
	log *slog.Logger) (stop func()) {
	if sent, err := daemon.SdNotify(false, "STATUS=starting"); !sent {
		if err != nil {
			log.Warn("notify systemd", "error", err)
		}
		return func() {}
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("read systemd's watchdog settings", "error", err)
	}
	s := &systemd{probes: probes, status: status, watchdog: watchdog > 0, started: time.Now(),
		log: log, send: func(state string) { _, _ = daemon.SdNotify(false, state) }}
	every := notifyEvery
	if s.watchdog {
		every = min(every, watchdog/3)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx, every)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// systemd is what systemd knows of the process.
type systemd struct {
	probes   serve.Probes
	status   func(now time.Time) string
	watchdog bool // whether it waits for signs of health
	started  time.Time
	log      *slog.Logger
	send     func(state string)

	ready, unhealthy bool
	shown            string // the last status
}

func (s *systemd) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		s.report(time.Now())
		select {
		case <-ctx.Done():
			s.send("STOPPING=1\nSTATUS=stopping")
			return
		case <-ticker.C:
		}
	}
}

// report sends what has changed, and a heartbeat to the watchdog.
func (s *systemd) report(now time.Time) {
	waits := probe(s.probes.Ready)
	if !s.ready && (waits == nil || now.Sub(s.started) >= readyWait) {
		s.ready = true
		s.send("READY=1")
	}
	status := s.status(now)
	if waits != nil {
		status = "waiting: " + waits.Error()
	}
	if status = text.OneLine(status); status != s.shown {
		s.shown = status
		s.send("STATUS=" + status)
	}
	if !s.watchdog {
		return
	}
	err := probe(s.probes.Healthy)
	if err == nil {
		s.send("WATCHDOG=1")
	} else if !s.unhealthy {
		s.log.Error("only a restart helps: the watchdog of systemd is left to do it",
			"error", fmt.Sprint(err))
	}
	s.unhealthy = err != nil
}

// probe calls a probe; nil means always.
func probe(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}
