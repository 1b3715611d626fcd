package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web/serve"
)

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
