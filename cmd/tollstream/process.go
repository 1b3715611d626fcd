package main

import (
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/reconcile"
)

func processCommand() *cli.Command {
	return &cli.Command{
		Name:  "process",
		Usage: "stores the events as rows, exactly once, and counts them per plaza",
		Description: "Runs until interrupted; several processes share the work when each has its own " +
			"--instance. " +
			"A process that was killed resumes at the offset that the database holds, without losing or " +
			"doubling an event. " +
			"When Kafka or MySQL is unavailable it logs that once and retries with backoff.",
		UsageText: "tollstream process\ntollstream process --until-end\ntollstream process " +
			"--metrics-listen 127.0.0.1:9464\nTOLLSTREAM_MYSQL=… tollstream process --brokers " +
			"kafka1:9092,kafka2:9092",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "until-end",
				Usage: "stop once all that is in the topic now is stored, published and merged; " +
					"exit status 1 if it is stopped before"},
			command.ChoiceFlag("format", "", "auto", "`FORMAT` of events without a content-type header: "+
				"auto, csv, json or protobuf", "auto", "csv", "json", "protobuf"),
			mappingFlag(command.Env("mapping"), topicMapping),
			command.ChoiceFlag("load", "", "auto",
				"how rows are loaded: auto, local (LOAD DATA LOCAL from memory) or insert",
				"auto", "local", "insert"),
			&cli.IntFlag{Name: "batch-rows", EnvVars: command.Env("batch-rows"),
				Value: topology.DefaultBatchRows,
				Usage: "most `ROWS` that one transaction stores"},
			&cli.DurationFlag{Name: "latency", EnvVars: command.Env("latency"),
				Value: topology.DefaultLatency,
				Usage: "`TIME` that an event may take until it is stored: longer batches cost less with " +
					"many plazas"},
			&cli.BoolFlag{Name: "skip-gone", EnvVars: command.Env("skip-gone"),
				Usage: "continue where retention deleted records that were never stored"},
			&cli.StringFlag{Name: "instance", EnvVars: command.Env("instance"),
				DefaultText: "the host's name",
				Usage:       "`NAME` of this process in the group"},
			&cli.StringFlag{Name: "state-dir", EnvVars: command.Env("state-dir"),
				DefaultText: "in the user's state folder",
				Usage:       "`FOLDER` of the local copies of the group table"},
			&cli.DurationFlag{Name: "session-timeout", EnvVars: command.Env("session-timeout"),
				Value: topology.DefaultSessionTimeout,
				Usage: "`TIME` without a heartbeat after which other processes take over the partitions of " +
					"this one"},
			&cli.BoolFlag{Name: "hot-standby", EnvVars: command.Env("hot-standby"),
				Usage: "keep a local copy of the whole group table, to take over partitions sooner"},
			&cli.DurationFlag{Name: "reconcile", EnvVars: command.Env("reconcile"),
				Value: reconcile.DefaultInterval,
				Usage: "`TIME` between two checks for plazas whose counts lack published deltas, " +
					"which are then sent again"},
			endpoint.MinRetentionFlag(),
			&cli.IntFlag{Name: "replication", EnvVars: command.Env("replication"), Value: 1,
				Usage: "replication `FACTOR` of the group's own topics, where they are created"},
		}, slices.Concat(endpoint.SchemaFlags(), windowFlags(), retentionFlags(), notifyFlags(),
			processMetricsFlags(), endpoint.Flags(),
			command.LogFlags())...),
		Action: process,
	}
}

func process(c *cli.Context) error {
	status := text.NewStatusLine(c.App.ErrWriter)
	c.App.ErrWriter = status // the log goes above it
	cfg, con, err := processConfig(c)
	if err != nil {
		return err
	}
	log := cfg.Topology.Log
	if status.Shown() {
		cfg.Status = status
	}
	stopProfiles, err := serveProfiles(c, log)
	if err != nil {
		return err
	}
	defer stopProfiles()
	collector := &telemetry.Process{Stats: cfg.Topology.Stats, Maintenance: cfg.Maintenance}
	if cfg.Notify != nil {
		collector.Notifications = cfg.Notify.Stats
	}
	cfg.Started = func(_ *topology.Processor, w *ingest.Writer) { collector.Writer.Store(w) }
	registry, err := telemetry.NewRegistry(buildVersion(), collector)
	if err != nil {
		return err
	}
	exporter, err := openExporter(c, "tollstream-process", con.Topic, registry, log)
	if err != nil {
		return err
	}
	defer exporter.Close()
	cfg.Topology.Tracer = exporter.Processor()
	stopMetrics, err := serveProcessMetrics(c, cfg.Topology.Stats, registry, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	if cfg.Store, err = con.OpenStore(log); err != nil {
		return err
	}
	defer cfg.Store.Close()
	reload := newReloader(c, log)
	cfg.NewPlazas = reload.plazas
	defer reload.start(status.Shown())()
	defer telemetry.NotifySystemd(c.Context, telemetry.Probes(c.Context, cfg.Topology.Stats),
		pipeline.Status(cfg.Topology.Stats, time.Now()), log)()
	return pipeline.Run(c.Context, cfg)
}
