package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/demo"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// defaultDemoSpeed is four minutes a second.
const defaultDemoSpeed = 240

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "runs the whole pipeline in one process, on servers of its own",
		Description: "Starts a broker and a database on free ports and lets a weekday's morning pass, " +
			"four minutes a second: the rush hour builds up, " +
			"and one plaza gets far more traffic than it can take. A page shows it live. Vehicles are " +
			"stored and counted, windows close, congestion is noticed, and table and counts agree. " +
			"Ctrl-C ends it with the verdict. Without a terminal, or with --for, it ends by itself; the " +
			"exit status is 0 if all was exact, 1 if not.",
		UsageText: "tollstream demo\ntollstream demo --for 30s --speed 600",
		Flags: append([]cli.Flag{
			&cli.DurationFlag{Name: "for", DefaultText: "until interrupted, on a terminal",
				Usage: "end after this `TIME`"},
			&cli.Float64Flag{Name: "speed", Value: defaultDemoSpeed,
				Usage: "event time goes `N` times as fast as the clock"},
		}, command.LogFlags()...),
		Action: runDemo,
	}
}

func runDemo(c *cli.Context) error {
	const maxSpeed = 3600
	cfg := demo.Config{Speed: c.Float64("speed"), Length: c.Duration("for"), Out: c.App.Writer,
		OpenPage: openPage}
	if cfg.Speed < 1 || cfg.Speed > maxSpeed {
		return hint.Usagef("--speed: %v is not between 1 and %s", cfg.Speed, text.Number(maxSpeed))
	}
	if cfg.Length < 0 {
		return hint.Usagef("--for: %v is negative", cfg.Length)
	}
	if cfg.Length == 0 && !text.IsTerminal(cfg.Out) {
		cfg.Length = 25 * time.Second // nobody is there to interrupt it
	}
	exact, err := demo.Run(c.Context, cfg)
	if err == nil && !exact {
		return command.ErrReported
	}
	return err
}
