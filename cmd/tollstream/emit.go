package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/web/serve"
)

const (
	defaultRate   = 10
	defaultPlazas = "4000-4010,4856"
)

func emitCommand() *cli.Command {
	return &cli.Command{
		Name:  "emit",
		Usage: "sends simulated events, or those of a file",
		Description: `Sends events of vehicles that pass toll plazas to the topic, keyed by plaza, until
			it is interrupted or --count is reached. What is acknowledged is in the topic exactly once;
			while Kafka is unavailable emit waits.

			With --from it sends the events of a file, and keeps their times: CSV as in RFC 4180, with or
			without a header row, or JSON in lines or a list, plain or gzipped, in UTF-8 or UTF-16. Other
			columns, names and times are read by --mapping, which tollstream events check proposes; their
			events are sent in the usual form. Lines that are no events are reported and left out, which
			makes the exit status 1, or 0 with --skip-bad; --raw sends them too, as they are. What is
			longer than 4 MiB is always left out.
			` + profileDescription,
		UsageText: `tollstream emit
			tollstream emit --count 100000 --rate 0
			tollstream emit --plazas 4856 --rate 2 --verbose
			tollstream emit --seed 1 --start "2022-02-10 10:23:02" --count 1000
			tollstream emit --from tolldata.csv.gz
			tollstream emit --from tolldata.csv --mapping "time=3 toll_plaza_id=1 time_format=day_first"
			tollstream emit --profile day
			tollstream emit --profile day --speed 60x --days 1 --start 2026-03-02
			tollstream emit --profile day --speed 60x --incident 4007,+7h30m,20m,blockage` +
			` --labels labels.ndjson
			tollstream emit --profile trips --speed max --days 1 --truth truth.csv`,
		Flags: slices.Concat([]cli.Flag{
			&cli.Int64Flag{Name: "count", Usage: "stop after `N` events"},
			&cli.Float64Flag{Name: "rate", EnvVars: command.Env("rate"), Value: defaultRate,
				Usage: "events per second; 0 is as fast as possible, which is the default for files"},
			&cli.StringFlag{Name: "plazas", EnvVars: command.Env("plazas"), Value: defaultPlazas,
				Usage: "simulated plazas, numbers and ranges: `PLAZA,…`"},
			command.ChoiceFlag("format", "", "", "`FORMAT` of the records: csv, json or protobuf; "+
				"simulated events are csv by default, files stay as they are",
				"auto", "csv", "json", "protobuf"),
			&cli.Uint64Flag{Name: "seed",
				Usage: "the same `N`, --start, --rate and --count make the same events; with --profile, the " +
					"same plazas, --peak and --incident"},
			&cli.StringFlag{Name: "start",
				Usage: "`TIME` of the first simulated event, as 2022-02-10 10:23:02 or RFC 3339; it advances " +
					"by 1/rate each, 0.1 s with --rate 0. Without it events happen now"},
			&cli.StringFlag{Name: "from", Usage: "send the lines of `FILE`, - for standard input"},
			mappingFlag(nil, "with --from: `TEXT` that says where fields stand, such as "+
				"time=Timestamp time_format=day_first"),
			&cli.BoolFlag{Name: "raw", Usage: "with --from: send bad lines too, without a key"},
			&cli.BoolFlag{Name: "skip-bad", Usage: "with --from: exit with 0 although lines were left out"},
			&cli.BoolFlag{Name: "verbose", Usage: "print a sentence for each vehicle"},
		}, profileFlags(), endpoint.KafkaFlags()),
		Action: func(c *cli.Context) error {
			cfg, err := emitConfig(c)
			if err != nil {
				return err
			}
			cfg.Progress = &emit.Progress{}
			defer telemetry.NotifySystemd(c.Context, serve.Probes{},
				cfg.Progress.Status(cfg.Topic, time.Now()), command.Warnings(c.App.ErrWriter))()
			return emit.Run(c.Context, cfg)
		},
	}
}

func emitConfig(c *cli.Context) (emit.Config, error) {
	con, err := endpoint.From(c)
	cfg := emit.Config{
		Cluster: con.Cluster, Topic: con.Topic, Location: con.Location,
		Count: c.Int64("count"), Rate: c.Float64("rate"), Seed: c.Uint64("seed"),
		From: c.String("from"), Raw: c.Bool("raw"), SkipBad: c.Bool("skip-bad"),
		Verbose: c.Bool("verbose"),
		Stdin:   c.App.Reader, Stdout: c.App.Writer, Stderr: c.App.ErrWriter,
	}
	if err != nil {
		return cfg, err
	}
	if command.Given(c, "count") && cfg.Count < 1 {
		return cfg, hint.Usagef("--count: %d is not above 0", cfg.Count)
	}
	if cfg.Rate < 0 || math.IsNaN(cfg.Rate) || math.IsInf(cfg.Rate, 0) {
		return cfg, hint.Usagef("--rate: %v is not a rate of 0 or more", cfg.Rate)
	}
	if cfg.Plazas, err = emit.ParsePlazas(command.Setting(c, "plazas", defaultPlazas)); err != nil {
		return cfg, hint.Usagef("--plazas: %v", err)
	}
	if cfg.Format, err = codecs.ParseFormat(command.Setting(c, "format", "")); err != nil {
		return cfg, hint.Usagef("--format: %v", err)
	}
	if !command.Given(c, "seed") {
		cfg.Seed = rand.Uint64()
	}
	if text := c.String("start"); text != "" {
		if cfg.Start, err = emit.ParseTime(text, con.Location); err != nil {
			return cfg, hint.Usagef("--start: %v", err)
		}
	}
	if cfg.Mapping, err = mappingFrom(c); err != nil {
		return cfg, err
	}
	if cfg.From == "" {
		for _, name := range []string{"raw", "skip-bad", "mapping"} {
			if command.Given(c, name) {
				return cfg, hint.Usagef("--%s is for --from", name)
			}
		}
		cfg.Profile, err = profileFrom(c, &cfg)
		if cfg.Profile != nil {
			cfg.Rate = 0 // each event has a time of its own
		}
		return cfg, err
	}
	for _, name := range []string{"plazas", "seed", "start", "profile"} {
		if command.Given(c, name) {
			return cfg, hint.Usagef("--%s is for simulated events, not for --from", name)
		}
	}
	if !command.Given(c, "rate") {
		cfg.Rate = 0
	}
	return cfg, refuseProfileFlags(c)
}
