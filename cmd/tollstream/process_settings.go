package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/monitor"
)

// processConfig reads the settings of process, and starts nothing.
func processConfig(c *cli.Context) (cfg pipeline.Config, con endpoint.Connection, err error) {
	if con, err = endpoint.From(c); err != nil {
		return cfg, con, err
	}
	log, err := command.LoggerFrom(c)
	if err != nil {
		return cfg, con, err
	}
	cfg = pipeline.Config{Maintenance: maintenance.NewStats(), UntilEnd: c.Bool("until-end"),
		Version: buildVersion()}
	if cfg.Windows, err = windowsFrom(c); err != nil {
		return cfg, con, err
	}
	if cfg.Retention, err = retentionFrom(c); err != nil {
		return cfg, con, err
	}
	if cfg.Notify, err = notifyFrom(c); err != nil {
		return cfg, con, err
	}
	if cfg.Topology, err = topologyFrom(c, con); err != nil {
		return cfg, con, err
	}
	cfg.Topology.Log, cfg.Topology.Stats = log, monitor.NewStats()
	if con.Load, err = ingest.ParseLoadMode(command.Setting(c, "load", "auto")); err != nil {
		return cfg, con, hint.Usagef("--load: %v", err)
	}
	return cfg, con, nil
}

// topologyFrom reads the settings of the processor.
func topologyFrom(c *cli.Context, con endpoint.Connection) (topology.Config, error) {
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = con.Cluster, con.Topic, con.Group
	cfg.Zone = toll.NewZone(con.Location)
	cfg.BatchRows, cfg.Latency = c.Int("batch-rows"), c.Duration("latency")
	cfg.SkipGone = c.Bool("skip-gone")
	cfg.SessionTimeout, cfg.HotStandby = c.Duration("session-timeout"), c.Bool("hot-standby")
	cfg.Reconcile = c.Duration("reconcile")
	cfg.Lateness, cfg.Idle = c.Duration("lateness"), c.Duration("idle")
	cfg.Replication = c.Int("replication")
	cfg.MinRetention = c.Duration("min-retention")
	cfg.NewToken = sql.NewToken
	var err error
	if err = eventsFrom(c, &cfg); err != nil {
		return cfg, err
	}
	if cfg.Instance, cfg.StateDir, err = instanceSettings(c, con.Group); err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, hint.Usagef("%v", err)
	}
	return cfg, nil
}

// instanceSettings returns the name of this process in the group and where it keeps its state.
func instanceSettings(c *cli.Context, group string) (instance, stateDir string, err error) {
	if instance = command.Setting(c, "instance", ""); instance == "" {
		if instance, err = os.Hostname(); err != nil || instance == "" {
			return "", "", hint.With(hint.Usagef("--instance: the host has no name"),
				"give this process a name with --instance")
		}
	}
	if err := endpoint.CheckName("instance", instance); err != nil {
		return "", "", err
	}
	if stateDir = command.Setting(c, "state-dir", ""); stateDir == "" {
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", "", hint.With(hint.Usagef("--state-dir: %v", err),
					"give the state folder with --state-dir")
			}
			base = filepath.Join(home, ".local", "state")
		}
		stateDir = filepath.Join(base, "tollstream", group)
	}
	return instance, stateDir, nil
}

// retentionFlags returns the flags that [retentionFrom] reads.
func retentionFlags() []cli.Flag {
	const category = "Retention"
	flag := func(name string, value time.Duration, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: command.Env(name), Value: command.FormatAge(value),
			Category: category,
			Usage:    usage + ", 0 to keep all"}
	}
	usual := maintenance.DefaultRetention()
	return []cli.Flag{
		flag("keep-batches", usual.Batches,
			"`TIME` that a batch is kept in toll_batch as it is; older ones are rolled up"),
		flag("keep-minutes", usual.Minutes,
			"`TIME` of events for which the batches keep minutes, so that windows can be recounted"),
		flag("keep-windows", usual.Windows,
			"`TIME` that windows of a quarter of an hour and more are kept, shorter ones a tenth of it, "+
				"days ten times as long"),
		flag("keep-dead-letters", usual.DeadLetters, "`TIME` that dead letters are kept"),
		&cli.DurationFlag{Name: "maintenance-every", EnvVars: command.Env("maintenance-every"),
			Value: usual.Every, Category: category,
			Usage: "`TIME` between rounds of maintenance: each compacts batches, every 60th deletes " +
				"what is old"},
	}
}

func retentionFrom(c *cli.Context) (maintenance.Retention, error) {
	r := maintenance.DefaultRetention()
	for _, f := range []struct {
		name  string
		least time.Duration
		value *time.Duration // the default at first
	}{
		{"keep-batches", maintenance.MinBatches, &r.Batches},
		{"keep-minutes", toll.MinKeptMinutes, &r.Minutes},
		{"keep-windows", retention.MinKeepWindows, &r.Windows},
		{"keep-dead-letters", maintenance.MinDeadLetters, &r.DeadLetters},
	} {
		d, err := command.ParseAge(command.Setting(c, f.name, command.FormatAge(*f.value)))
		if err != nil {
			return r, hint.Usagef("--%s: %v", f.name, err)
		}
		if d != 0 && d < f.least {
			return r, hint.Usagef("--%s is %s, want at least %s, or 0 to keep all", f.name,
				command.FormatAge(d),
				command.FormatAge(f.least))
		}
		*f.value = d
	}
	if r.Every = c.Duration("maintenance-every"); r.Every <= 0 {
		return r, hint.Usagef("--maintenance-every is %v, want more than 0", r.Every)
	}
	return r, nil
}
