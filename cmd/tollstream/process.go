package main

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

func processCommand() *cli.Command {
	return &cli.Command{
		Name:  "process",
		Usage: "stores the events as rows, exactly once, and counts them per plaza",
		Description: "Runs until interrupted; several processes share the work when each has its own --instance. " +
			"A process that was killed goes on where the database says, without losing or doubling an event. " +
			"When Kafka or MySQL is unavailable it logs that once and continues by itself when they are back.",
		UsageText: "tollstream process\ntollstream process --until-end\ntollstream process --metrics-listen 127.0.0.1:9464\nTOLLSTREAM_MYSQL=… tollstream process --brokers kafka1:9092,kafka2:9092",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "until-end",
				Usage: "stop once all that is in the topic now is stored, published and merged; exit status 1 where it is stopped before"},
			&cli.StringFlag{Name: "format", EnvVars: command.Env("format"), Value: "auto",
				Usage: "`FORMAT` of events without a content-type header: auto, csv, json or protobuf"},
			&cli.StringFlag{Name: "load", EnvVars: command.Env("load"), Value: "auto",
				Usage: "how rows are loaded: auto, local (LOAD DATA LOCAL from memory) or insert"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: command.Env("batch-rows"),
				Value: topology.DefaultBatchRows,
				Usage: "most `ROWS` that one transaction stores"},
			&cli.DurationFlag{Name: "latency", EnvVars: command.Env("latency"),
				Value: topology.DefaultLatency,
				Usage: "`TIME` that an event may take until it is stored: the longer, the cheaper are many plazas"},
			&cli.BoolFlag{Name: "skip-gone", EnvVars: command.Env("skip-gone"),
				Usage: "go on where retention deleted records that were never stored"},
			&cli.StringFlag{Name: "instance", EnvVars: command.Env("instance"),
				DefaultText: "the host's name",
				Usage:       "`NAME` of this process in the group"},
			&cli.StringFlag{Name: "state-dir", EnvVars: command.Env("state-dir"),
				DefaultText: "in the user's state folder",
				Usage:       "`FOLDER` of the local copies of the group table"},
			&cli.DurationFlag{Name: "session-timeout", EnvVars: command.Env("session-timeout"),
				Value: topology.DefaultSessionTimeout,
				Usage: "`TIME` without a sign of life after which the others take over this process's partitions"},
			&cli.BoolFlag{Name: "hot-standby", EnvVars: command.Env("hot-standby"),
				Usage: "keep a local copy of the whole group table, to take over others' partitions sooner"},
			&cli.DurationFlag{Name: "reconcile", EnvVars: command.Env("reconcile"),
				Value: topology.DefaultReconcile,
				Usage: "`TIME` between two looks for plazas whose counts lack what was published, which is then sent again"},
			endpoint.MinRetentionFlag(),
			&cli.IntFlag{Name: "replication", EnvVars: command.Env("replication"), Value: 1,
				Usage: "`COPIES` of the group's own topics, where they are created"},
		}, slices.Concat(windowFlags(), retentionFlags(), processMetricsFlags(), endpoint.Flags(),
			command.LogFlags())...),
		Action: process,
	}
}

func process(c *cli.Context) error {
	con, err := endpoint.From(c)
	if err != nil {
		return err
	}
	log, err := command.LoggerFrom(c)
	if err != nil {
		return err
	}
	cfg := pipeline.Config{Location: con.Location, Maintenance: maintenance.NewStats(),
		UntilEnd: c.Bool("until-end"), Log: log}
	if text.IsTerminal(c.App.ErrWriter) {
		cfg.Status = c.App.ErrWriter
	}
	if cfg.Windows, err = windowsFrom(c); err != nil {
		return err
	}
	if cfg.Retention, err = retentionFrom(c); err != nil {
		return err
	}
	if cfg.Topology, err = topologyFrom(c, con); err != nil {
		return err
	}
	cfg.Topology.Log, cfg.Topology.Stats = log, topology.NewStats()
	load, err := sql.ParseLoadMode(command.Setting(c, "load", "auto"))
	if err != nil {
		return hint.Usagef("--load: %v", err)
	}
	stop, err := observeProcess(c, con, &cfg)
	if err != nil {
		return err
	}
	defer stop()
	if cfg.Store, err = con.OpenStore(load, log); err != nil {
		return err
	}
	defer cfg.Store.Close()
	return pipeline.Run(c.Context, cfg)
}

// observeProcess serves profiles and metrics and sends traces, where that is asked for, until the
// func that it returns is called.
func observeProcess(c *cli.Context, con endpoint.Connection, cfg *pipeline.Config) (stop func(),
	err error) {
	var stops []func()
	stop = func() {
		for _, stop := range slices.Backward(stops) {
			stop()
		}
	}
	all := stop // which an error's return replaces
	defer func() {
		if err != nil {
			all()
		}
	}()
	metrics, err := metricsConfigFrom(c)
	if err != nil {
		return nil, err
	}
	profiles, err := pprofFrom(c)
	if err != nil {
		return nil, err
	}
	if profiles != "" {
		stop, err := telemetry.ServeProfiles(profiles, cfg.Log)
		if err != nil {
			return nil, hintPort(err, "pprof")
		}
		stops = append(stops, stop)
	}
	traces, err := openTraces(c, "tollstream-process", con.Topic, cfg.Log)
	if err != nil {
		return nil, err
	}
	stops = append(stops, traces.Close)
	cfg.Topology.Tracer = traces.Processor()
	if metrics != nil {
		collector := &telemetry.Process{Stats: cfg.Topology.Stats, Maintenance: cfg.Maintenance}
		cfg.Started = func(_ *topology.Processor, w *sql.Writer) { collector.Writer.Store(w) }
		registry, err := telemetry.NewRegistry(buildVersion(), collector)
		if err != nil {
			return nil, err
		}
		stop, err := telemetry.ServeMetrics(*metrics, registry,
			telemetry.Probes(c.Context, cfg.Topology.Stats), cfg.Log)
		if err != nil {
			return nil, hintPort(err, "metrics-listen")
		}
		stops = append(stops, stop)
	}
	return stop, nil
}

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
