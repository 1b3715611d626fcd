package main

import (
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

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
	if cfg.Format, err = codecs.ParseFormat(command.Setting(c, "format", "auto")); err != nil {
		return cfg, hint.Usagef("--format: %v", err)
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
