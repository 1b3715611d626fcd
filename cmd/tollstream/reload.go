package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/toll"
)

// reloader applies what can change while a command runs, at each SIGHUP.
type reloader struct {
	c          *cli.Context
	log        *slog.Logger
	plazasFile string
	plazas     chan []toll.Plaza // of the plazas file, nil where the command reads none
}

// newReloader returns the reloader of a command, which takes plazas if it reads a plazas file.
func newReloader(c *cli.Context, log *slog.Logger) *reloader {
	r := &reloader{c: c, log: log}
	if command.Has(c, "plazas-file") {
		r.plazasFile = command.Setting(c, "plazas-file", "")
		r.plazas = make(chan []toll.Plaza)
	}
	return r
}

// start reloads until stop is called. At a terminal SIGHUP ends the command as ever: the terminal
// was closed.
func (r *reloader) start(terminal bool) (stop func()) {
	if terminal {
		return func() {}
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(r.c.Context)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-hangups:
				r.reload(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		cancel()
		running.Wait()
	}
}

// reload reads the configuration file and the plazas file once more. What is wrong in one of them
// changes nothing.
func (r *reloader) reload(ctx context.Context) {
	changes, err := config.Reload(r.c)
	if err != nil {
		for _, problem := range config.Problems(err) {
			r.log.Error("the configuration file is not reloaded", "err", problem)
		}
		return
	}
	for _, change := range changes {
		value := config.Hide(change.Value)
		switch change.Name {
		case command.LogLevelFlag:
			if err := command.SetLogLevel(r.c, change.Value); err == nil {
				r.log.Info("setting reloaded", "setting", change.Name, "value", value)
			}
		case "plazas-file":
			r.plazasFile = change.Value
		default:
			r.log.Warn("setting changed in the configuration file; it takes effect at the next start",
				"setting", change.Name, "value", value, "at", change.At)
		}
	}
	if r.plazasFile != "" && r.plazas != nil {
		plazas, err := readPlazasFile(r.plazasFile)
		if err != nil {
			r.log.Error("the plazas file is not reloaded", "err", err)
			return
		}
		select {
		case r.plazas <- plazas:
		case <-ctx.Done():
			return
		}
	}
	r.log.Info("reloaded")
}
