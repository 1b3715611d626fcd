package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tollstream/internal/simulate"
	"tollstream/sql"
	"tollstream/toll"
	"tollstream/topology"
)

// What bench measures, by the names of --only.
const (
	benchEmit    = "emit"
	benchLoad    = "load"
	benchProcess = "process"
	benchLatency = "latency"
	benchRead    = "read"
	benchStart   = "start"
)

var (
	benchParts        = []string{benchEmit, benchLoad, benchProcess, benchLatency, benchRead, benchStart}
	defaultBenchParts = []string{benchEmit, benchLoad, benchProcess, benchLatency}
)

func (a *app) benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measures the speed from topic to table beside LOAD DATA of the same rows",
		Description: `Starts a Kafka and a MariaDB of its own in a temporary folder (both must be installed; see make kafka), fills a
			topic, and measures in rounds what --only lists; the median of the rounds is shown beside the figure that is wanted.

			emit: tollstream emit as fast as it goes, and franz-go's producer with the same events and settings.

			load: LOAD DATA LOCAL of the same rows from a file, by one connection and by four; with --load insert the bare INSERT.

			process: load, and tollstream process on the whole topic.

			latency: how long a stored batch waits for its merge while the topic is worked off; then, at a steady --rate, the time
			from the production of a batch's oldest event until it is merged, and until a running view has it.

			read: view of one plaza beyond the bare count of its rows; verify beside the bare query, while a processor
			runs and events come at --rate; both without and with the optional indexes.

			start: process, with the whole topic stored before, to the first row of new events.`,
		UsageText: `tollstream bench
			tollstream bench --events 2000000 --rounds 5
			tollstream bench --only process --partitions 8 --json
			tollstream bench --only read --plazas 1000 --events 10000000`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "events", Value: 1_000_000, Usage: "`EVENTS` in the topic"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "`ROUNDS` that take turns; the medians are shown"},
			&cli.StringFlag{Name: "only", Value: strings.Join(defaultBenchParts, ","), Usage: "what to measure, a `LIST` of " + strings.Join(benchParts, ", ")},
			&cli.IntFlag{Name: "partitions", Value: 4, Usage: "`PARTITIONS` of the topic"},
			&cli.IntFlag{Name: "plazas", Value: len(simulate.DefaultPlazas()), Usage: "`PLAZAS` in the topic"},
			&cli.IntFlag{Name: "stored", Usage: "`ROWS` that livetolldata holds before"},
			&cli.IntFlag{Name: "instances", Value: 1, Usage: "`PROCESSES` that share the topic"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: env("batch-rows"), Value: topology.DefaultBatchRows, Usage: "most `ROWS` that one transaction stores"},
			&cli.DurationFlag{Name: "latency", EnvVars: env("latency"), Value: topology.DefaultLatency,
				Usage: "`TIME` that an event may take until it is stored"},
			&cli.StringFlag{Name: "load", EnvVars: env("load"), Value: "auto", Usage: "how rows are loaded: auto, local or insert"},
			&cli.IntFlag{Name: "rate", Value: 20_000, Usage: "`EVENTS` per second while latency is measured, and verify; 0 leaves them out"},
			&cli.DurationFlag{Name: "for", Value: 15 * time.Second, Usage: "how long latency is measured in each round"},
			&cli.BoolFlag{Name: "json", Usage: "print the figures as JSON"},
		},
		Action: func(c *cli.Context) error {
			b, err := newBench(a, c)
			if err != nil {
				return err
			}
			report, err := b.run(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(a.stdout, report)
			}
			report.print(a.stdout)
			return nil
		},
	}
}

// bench measures on servers of its own.
type bench struct {
	app      *app
	settings benchSettings
	parts    []string
	mode     sql.LoadMode

	benchServers
	con    connection
	report *benchReport
}

func newBench(a *app, c *cli.Context) (*bench, error) {
	b := &bench{app: a, settings: benchSettings{
		Events: c.Int("events"), Rounds: c.Int("rounds"), Partitions: c.Int("partitions"), Plazas: c.Int("plazas"),
		Stored: c.Int("stored"), Instances: c.Int("instances"), BatchRows: c.Int("batch-rows"),
		LatencySeconds: c.Duration("latency").Seconds(), latency: c.Duration("latency"), Load: setting(c, "load", "auto"),
		Rate: c.Int("rate"), ForSeconds: c.Duration("for").Seconds(), length: c.Duration("for"),
	}}
	s := &b.settings
	var err error
	if b.mode, err = sql.ParseLoadMode(s.Load); err != nil {
		return nil, usagef("--load: %v", err)
	}
	for part := range strings.SplitSeq(c.String("only"), ",") {
		if part = strings.TrimSpace(part); !slices.Contains(benchParts, part) {
			return nil, usagef("--only: %q is none of %s", part, strings.Join(benchParts, ", "))
		}
		b.parts = append(b.parts, part)
	}
	for _, atLeast := range []struct {
		flag     string
		n, least int
	}{{"events", s.Events, 1}, {"rounds", s.Rounds, 1}, {"partitions", s.Partitions, 1}, {"plazas", s.Plazas, 1},
		{"stored", s.Stored, 0}, {"instances", s.Instances, 1}, {"rate", s.Rate, 0}} {
		if atLeast.n < atLeast.least {
			return nil, usagef("--%s: %d is below %d", atLeast.flag, atLeast.n, atLeast.least)
		}
	}
	switch {
	case s.Plazas > toll.MaxPlaza:
		return nil, usagef("--plazas: there are %d at most", toll.MaxPlaza)
	case s.Instances > s.Partitions:
		return nil, usagef("--instances: %d processes can't share %s", s.Instances, counted(int64(s.Partitions), "partition"))
	case s.length <= 0:
		return nil, usagef("--for: %v is no length of time", s.length)
	}
	b.con = connection{
		cluster: topology.Cluster{Brokers: []string{defaultBrokers}, ClientID: "tollstream-bench"}, // known once it runs
		topic:   "toll", group: "bench", location: time.UTC,
	}
	cfg := b.config("state")
	if err := cfg.Validate(); err != nil {
		return nil, usagef("%v", err)
	}
	return b, nil
}

// config returns the configuration of a processor inside of this process.
func (b *bench) config(stateDir string) topology.Config {
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = b.con.cluster, b.con.topic, b.con.group
	cfg.Instance, cfg.StateDir = benchInstance(0), stateDir
	cfg.BatchRows, cfg.Latency = b.settings.BatchRows, b.settings.latency
	cfg.NewToken, cfg.Log = sql.NewToken, quietLog()
	return cfg
}

func (b *bench) wants(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(b.parts, p) })
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.app.stderr, format+"\n", args...) }

// run measures in the order in which each part leaves to the next what that needs: first what begins with an empty
// database in each round, then what goes on with all of the topic stored and adds events.
func (b *bench) run(ctx context.Context) (_ *benchReport, err error) {
	b.report = newBenchReport(b.settings, b.parts)
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	for round := range b.settings.Rounds {
		if b.wants(benchEmit, benchLoad, benchProcess, benchLatency) {
			b.say("round %d of %d …", round+1, b.settings.Rounds)
		}
		if err := b.round(ctx, round); err != nil {
			return nil, err
		}
	}
	if !b.wants(benchProcess, benchLatency, benchRead, benchStart) {
		return b.report, nil
	}
	if err := b.catchUp(ctx); err != nil {
		return nil, err
	}
	if b.wants(benchLatency) && b.settings.Rate > 0 {
		for range b.settings.Rounds {
			if err := b.latency(ctx); err != nil {
				return nil, fmt.Errorf("latency: %w", err)
			}
		}
	}
	if b.wants(benchRead) {
		if err := b.read(ctx); err != nil {
			return nil, err
		}
	}
	if b.wants(benchStart) {
		if err := b.starts(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.catchUp(ctx); err != nil {
		return nil, err
	}
	b.report.Verified, err = b.verify(ctx)
	return b.report, err
}

// round measures once what takes turns.
func (b *bench) round(ctx context.Context, round int) error {
	if b.wants(benchEmit) {
		if err := b.emit(ctx, round); err != nil {
			return fmt.Errorf("emit: %w", err)
		}
	}
	var limit float64
	if b.wants(benchLoad, benchProcess) {
		var err error
		if limit, err = b.loadBare(ctx); err != nil {
			return err
		}
	}
	if b.wants(benchProcess) {
		if err := b.processAll(ctx, limit); err != nil {
			return err
		}
	}
	if b.wants(benchLatency) {
		if err := b.behind(ctx); err != nil {
			return err
		}
	}
	return nil
}

// benchPlazas returns n plazas, the course's where it has as many.
func benchPlazas(n int) []int16 {
	if course := simulate.DefaultPlazas(); n <= len(course) {
		return course[:n]
	}
	plazas := make([]int16, n)
	for i := range plazas {
		plazas[i] = int16(i + 1)
	}
	return plazas
}

// quietLog returns a logger for what runs inside another command.
func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
