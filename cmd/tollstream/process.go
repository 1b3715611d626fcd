package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/web/serve"
)

func (a *app) processCommand() *cli.Command {
	return &cli.Command{
		Name:  "process",
		Usage: "stores the events as rows, exactly once, and counts them per plaza",
		Description: "Runs until interrupted; several processes share the work when each has its own --instance. " +
			"A process that was killed goes on where the database says, without losing or doubling an event. " +
			"When Kafka or MySQL is away it says so once and goes on by itself when they are back.",
		UsageText: "tollstream process\ntollstream process --until-end\ntollstream process --metrics-listen 127.0.0.1:9464\nTOLLSTREAM_MYSQL=… tollstream process --brokers kafka1:9092,kafka2:9092",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "until-end",
				Usage: "stop once all that is in the topic now is stored, published and merged; exit status 1 where it is stopped before"},
			&cli.StringFlag{Name: "format", EnvVars: env("format"), Value: "auto",
				Usage: "`FORMAT` of events without a content-type header: auto, csv, json or protobuf"},
			&cli.StringFlag{Name: "load", EnvVars: env("load"), Value: "auto",
				Usage: "how rows are loaded: auto, local (LOAD DATA LOCAL from memory) or insert"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: env("batch-rows"), Value: topology.DefaultBatchRows,
				Usage: "most `ROWS` that one transaction stores"},
			&cli.DurationFlag{Name: "latency", EnvVars: env("latency"), Value: topology.DefaultLatency,
				Usage: "`TIME` that an event may take until it is stored: the longer, the cheaper are many plazas"},
			&cli.BoolFlag{Name: "skip-gone", EnvVars: env("skip-gone"),
				Usage: "go on where retention deleted records that were never stored"},
			&cli.StringFlag{Name: "instance", EnvVars: env("instance"), DefaultText: "the host's name",
				Usage: "`NAME` of this process in the group"},
			&cli.StringFlag{Name: "state-dir", EnvVars: env("state-dir"),
				DefaultText: "in the user's state folder",
				Usage:       "`FOLDER` of the local copies of the group table"},
			&cli.DurationFlag{Name: "session-timeout", EnvVars: env("session-timeout"),
				Value: topology.DefaultSessionTimeout,
				Usage: "`TIME` without a sign of life after which the others take over this process's partitions"},
			&cli.BoolFlag{Name: "hot-standby", EnvVars: env("hot-standby"),
				Usage: "keep a local copy of the whole group table, to take over others' partitions sooner"},
			&cli.DurationFlag{Name: "reconcile", EnvVars: env("reconcile"), Value: topology.DefaultReconcile,
				Usage: "`TIME` between two looks for plazas whose counts lack what was published, which is then sent again"},
			minRetentionFlag(),
			&cli.IntFlag{Name: "replication", EnvVars: env("replication"), Value: 1,
				Usage: "`COPIES` of the group's own topics, where they are created"},
		}, slices.Concat(windowFlags(), upkeepFlags(), processMetricsFlags(), connectionFlags(),
			logFlags())...),
		Action: func(c *cli.Context) error {
			con, err := connectionFrom(c)
			if err != nil {
				return err
			}
			log, err := a.loggerFrom(c)
			if err != nil {
				return err
			}
			windows, err := windowSettingsFrom(c)
			if err != nil {
				return err
			}
			upkeep, err := upkeepSettingsFrom(c)
			if err != nil {
				return err
			}
			cfg, load, err := processSettings(c, con)
			if err != nil {
				return err
			}
			cfg.Log = log
			metrics, err := metricsConfigFrom(c)
			if err != nil {
				return err
			}
			profiles, err := pprofFrom(c)
			if err != nil {
				return err
			}
			if profiles != "" {
				stop, err := telemetry.ServeProfiles(profiles, log)
				if err != nil {
					return hintPort(err, "pprof")
				}
				defer stop()
			}
			traces, err := openTraces(c, "tollstream-process", con.topic, log)
			if err != nil {
				return err
			}
			defer traces.Close()
			cfg.Tracer = traces.Processor()
			p := &process{con: con, cfg: cfg, load: load, log: log, windows: windows, upkeep: upkeep,
				metrics: metrics}
			if text.IsTerminal(a.stderr) {
				p.status = a.stderr
			}
			return p.run(c.Context, c.Bool("until-end"))
		},
	}
}

func processSettings(c *cli.Context, con connection) (topology.Config, sql.LoadMode, error) {
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = con.cluster, con.topic, con.group
	cfg.Zone = toll.NewZone(con.location)
	cfg.BatchRows, cfg.Latency = c.Int("batch-rows"), c.Duration("latency")
	cfg.SkipGone = c.Bool("skip-gone")
	cfg.SessionTimeout, cfg.HotStandby = c.Duration("session-timeout"), c.Bool("hot-standby")
	cfg.Reconcile = c.Duration("reconcile")
	cfg.Lateness, cfg.Idle = c.Duration("lateness"), c.Duration("idle")
	cfg.Replication = c.Int("replication")
	cfg.MinRetention = c.Duration("min-retention")
	cfg.NewToken = sql.NewToken
	var err error
	if cfg.Format, err = codecs.ParseFormat(setting(c, "format", "auto")); err != nil {
		return cfg, 0, hint.Usagef("--format: %v", err)
	}
	load, err := sql.ParseLoadMode(setting(c, "load", "auto"))
	if err != nil {
		return cfg, 0, hint.Usagef("--load: %v", err)
	}
	if cfg.Instance, cfg.StateDir, err = instanceSettings(c, con.group); err != nil {
		return cfg, 0, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, 0, hint.Usagef("%v", err)
	}
	return cfg, load, nil
}

// instanceSettings returns the name of this process in the group and where it keeps its state.
func instanceSettings(c *cli.Context, group string) (instance, stateDir string, err error) {
	if instance = setting(c, "instance", ""); instance == "" {
		if instance, err = os.Hostname(); err != nil || instance == "" {
			return "", "", hint.With(hint.Usagef("--instance: the host has no name"),
				"give this process a name with --instance")
		}
	}
	if err := checkTopicName("instance", instance); err != nil {
		return "", "", err
	}
	if stateDir = setting(c, "state-dir", ""); stateDir == "" {
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

// process is the process command, also run by demo.
type process struct {
	con     connection
	cfg     topology.Config
	load    sql.LoadMode
	log     *slog.Logger
	windows windowSettings
	upkeep  upkeepSettings
	status  interface{ Write([]byte) (int, error) } // a terminal for the status line, nil for none
	ready   func(*topology.Processor)               // called before it runs; may be nil
	metrics *serve.Config                           // where metrics are served, nil for nowhere
}

// errBeforeEnd is how --until-end ends when it is stopped before: whoever waits for a job by its
// exit status must not take it for complete.
var errBeforeEnd = hint.With(
	errors.New(
		"stopped before all that was in the topic at the start was stored, published and merged"),
	"nothing is lost; start it again, and it goes on there")

// run processes until ctx ends, or until the end of the topic as it is now. Where ctx ends before
// that, it returns errBeforeEnd.
func (p *process) run(ctx context.Context, untilEnd bool) error {
	reached, err := p.work(ctx, untilEnd)
	if err == nil && untilEnd && !reached {
		return errBeforeEnd
	}
	return err
}

// work does what run is for, and reports whether the end was reached.
func (p *process) work(ctx context.Context, untilEnd bool) (reached bool, err error) {
	store, err := p.con.openStore(p.load, p.log)
	if err != nil {
		return false, err
	}
	defer store.Close()
	p.cfg.Stats = topology.NewStats()
	collector := &telemetry.Process{Stats: p.cfg.Stats, Maintenance: maintenance.NewStats()}
	if p.metrics != nil {
		registry, err := telemetry.NewRegistry(buildVersion(), collector)
		if err != nil {
			return false, err
		}
		stop, err := telemetry.ServeMetrics(*p.metrics, registry,
			telemetry.Probes(ctx, p.cfg.Stats), p.log)
		if err != nil {
			return false, hintPort(err, "metrics-listen")
		}
		defer stop()
	}
	info, err := p.waitReady(ctx, store)
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	p.cfg.TopicID = info.ID
	var results topology.Results
	err = retryOutage(ctx, p.log, func() (err error) {
		results, err = p.openResults(ctx, store, info.ID)
		return err
	})
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	p.cfg.Stalled = func(ctx context.Context, since time.Time) error {
		return store.MarkStalled(ctx, p.cfg.Instance, since)
	}
	writer := store.Writer(info.ID)
	collector.Writer.Store(writer)
	processor, err := topology.NewProcessor(p.cfg, writer, results)
	if err != nil {
		return false, err
	}
	if p.ready != nil {
		p.ready(processor)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	if untilEnd {
		var end topology.End
		err := retryOutage(ctx, p.log, func() (err error) {
			end, err = p.con.cluster.FindEnd(ctx, p.con.topic)
			return err
		})
		if err != nil || ctx.Err() != nil {
			return false, err
		}
		go func() {
			err := processor.AwaitEnd(ctx, end)
			if err == nil {
				err = processor.CloseAll(ctx)
			}
			ended <- err
			cancel()
		}()
	}
	keeping := &upkeep{con: p.con, settings: p.upkeep, kinds: p.cfg.Windows,
		clocks: newClockReader(store, p.cfg.Lateness, p.cfg.Idle),
		store:  store, writer: writer, compactor: store.Compactor(info.ID), processor: processor,
		stats: collector.Maintenance, log: p.log}
	var beside sync.WaitGroup
	beside.Go(func() { keeping.run(ctx) })
	stopStatus := showStatus(p.status, processor.Stats())
	runErr := processor.Run(ctx)
	stopStatus()
	cancel()
	beside.Wait()
	if runErr != nil {
		return false, runErr
	}
	if untilEnd {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				return false, err
			}
			reached = err == nil
		case <-time.After(endedGrace): // interrupted, while a server does not answer
		}
	}
	s := processor.Stats().Read()
	p.log.Info("stopped", "stored", text.Number(s.Events), "rejected", text.Number(s.Rejected), "late",
		text.Number(s.Late), "too_late", text.Number(s.TooLate))
	return reached, nil
}

// waitReady waits until both servers answer, and checks that they are as process needs them.
func (p *process) waitReady(ctx context.Context, store *sql.Store) (topology.TopicInfo, error) {
	var info topology.TopicInfo
	topics := topology.Topics{Topic: p.con.topic, Group: p.con.group, Partitions: 1,
		Replication: p.cfg.Replication}
	err := retryOutage(ctx, p.log, func() (err error) {
		defer func() { p.cfg.Stats.Checked(err) }()
		found, ok, err := p.con.cluster.Describe(ctx, p.con.topic)
		if err != nil {
			return err
		}
		if !ok {
			return topics.Missing()
		}
		// The processor warns; what it would refuse is refused before it creates topics of its own.
		if _, err := p.con.cluster.CheckPolicy(ctx, p.con.topic, 0); err != nil {
			return err
		}
		// The database goes first: a process of another group is refused before it makes topics of its
		// own.
		meta, err := store.Check(ctx, p.con.identity(found.ID))
		if err != nil {
			return err
		}
		if meta.TopicID == "" {
			if err := store.SetTopicID(ctx, found.ID); err != nil {
				return err
			}
		}
		store.Bind(meta)
		info, err = p.con.cluster.Check(ctx, topics)
		return err
	})
	return info, err
}

func (con connection) identity(topicID string) sql.Identity {
	return sql.Identity{Group: con.group, Topic: con.topic, TopicID: topicID,
		Timezone: con.location.String()}
}

func (con connection) openStore(load sql.LoadMode, log *slog.Logger) (*sql.Store, error) {
	return sql.Open(sql.Config{
		DSN:        con.dsn,
		TLS:        con.mysqlTLS,
		Load:       load,
		Decode:     wire.DecodePlazaDeltas,
		Encode:     encodeOutbox,
		DecodeSums: wire.DecodePlazaSums,
		Logf:       func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
	})
}

func encodeOutbox(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) }

// endedGrace bounds how long the look for the end may take to notice that it is not wanted any
// more.
const endedGrace = 300 * time.Millisecond

// statusEvery is how often the status line is written anew.
const statusEvery = 2 * time.Second
