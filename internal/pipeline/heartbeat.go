package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// heartbeatEvery is how often a process reports itself in the database. Who looks on takes it for
// dead after three that it missed.
const heartbeatEvery = 10 * time.Second

// lastBeat bounds the last heartbeat: an unavailable server must not delay the end of the process.
const lastBeat = 2 * time.Second

// heart reports the process in the database.
type heart struct {
	*pipeline
	started time.Time
	lag     int64     // at the last heartbeat
	at      time.Time // of the last heartbeat; zero for none
}

// beat stores a heartbeat.
func (h *heart) beat(ctx context.Context, stopped, ended bool) error {
	t, now := &h.cfg.Topology, time.Now()
	b := &sql.Heartbeat{Instance: t.Instance, Version: h.cfg.Version, Now: now, Started: h.started,
		Stopped: stopped, Ended: ended}
	if err := t.Stats.Ready(); err != nil {
		b.Problem = text.OneLine(err.Error())
	}
	b.Stalled, b.StalledKnown = t.Stats.StalledSince(now)
	b.Arrived, b.ArrivalShare = t.Stats.Arrived()
	lag := t.Stats.Read().Lag
	if !h.at.IsZero() {
		b.DrainPerSecond = max(0, float64(h.lag-lag)/now.Sub(h.at).Seconds())
	}
	h.lag, h.at = lag, now
	if err := h.cfg.Store.Beat(ctx, b); err != nil {
		return err
	}
	usual, err := h.cfg.Store.UsualFlow(ctx, toll.MinuteAt(b.Arrived.Unix()))
	if err == nil {
		t.Stats.SetUsual(usual)
	}
	return err
}

// start stores the first heartbeat, and deletes those of processes that ended long ago.
func (h *heart) start(ctx context.Context) error {
	if err := h.beat(ctx, false, false); err != nil {
		return err
	}
	return h.cfg.Store.ForgetProcesses(ctx)
}

// run stores a heartbeat now and then until ctx ends. An outage of MySQL is logged by others.
func (h *heart) run(ctx context.Context) {
	for range wait.Every(ctx, heartbeatEvery) {
		beating, cancel := context.WithTimeout(ctx, heartbeatEvery)
		h.log(h.beat(beating, false, false))
		cancel()
	}
}

// end stores the last heartbeat of a process that stops, at the end of the topic or before.
func (h *heart) end(ctx context.Context, reached bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastBeat)
	defer cancel()
	h.log(h.beat(ctx, true, reached))
}

func (h *heart) log(err error) {
	if err != nil {
		h.cfg.Topology.Log.Debug("store the heartbeat", "error", text.OneLine(kafka.Brief(err)))
	}
}

// statusEvery is how often the status line is written.
const statusEvery = 2 * time.Second

// showStatus keeps one line about a processor on a terminal until ctx ends, and clears it then.
func showStatus(ctx context.Context, line *text.StatusLine, stats *monitor.Stats) {
	defer line.Set("")
	status := Status(stats, time.Now())
	for now := range wait.Every(ctx, statusEvery) {
		line.Set(status(now))
	}
}

// Status returns a func that describes what a processor has done since the last call.
func Status(stats *monitor.Stats, start time.Time) func(now time.Time) string {
	before, at := stats.Read(), start
	return func(now time.Time) string {
		s := stats.Read()
		last := "never"
		if !s.LastStored.IsZero() {
			last = text.Seconds(now.Sub(s.LastStored)) + " ago"
		}
		rate := text.Rate(s.Events-before.Events, now.Sub(at))
		before, at = s, now
		return fmt.Sprintf("%s rows/s · %s stored · lag %s · last commit %s", rate,
			text.Number(s.Events), text.Number(s.Lag), last)
	}
}

// retryOutage calls do, retrying with backoff until it succeeds, fails with a permanent error, or
// ctx ends, for which it returns nil. It logs the first failure.
func retryOutage(ctx context.Context, log *slog.Logger, do func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 200 * time.Millisecond
	pauses.MaxInterval = 5 * time.Second
	warned := false
	err := wait.Retry(ctx, pauses, func() error {
		err := do()
		switch {
		case err == nil:
			if warned {
				log.Info("the servers recovered")
			}
		case !warned && ctx.Err() == nil && !toll.IsPermanent(err):
			warned = true
			log.Warn("waiting for the servers", "error", text.OneLine(kafka.Brief(err)))
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
