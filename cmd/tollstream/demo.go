package main

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/demo"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/serve"
)

// defaultDemoSpeed is four minutes a second.
const defaultDemoSpeed = 240

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "runs the whole pipeline in one process, on servers of its own",
		Description: "Starts a broker and a database on free ports and lets a weekday's morning pass, " +
			"four minutes a second: the rush hour builds up, " +
			"one plaza gets far more traffic than it can take, and at another one a blockage makes " +
			"the sections before it slow. A page shows it live. Vehicles are " +
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

// openPage opens the live view of a demo. If its usual port is taken it takes a free one.
func openPage(ctx context.Context, con endpoint.Connection) (*demo.Page, error) {
	source := live.NewSource(func(error) {}) // whose boards then fail
	var server *web.Server
	var err error
	for _, address := range []string{serve.DefaultListen, "127.0.0.1:0"} {
		if server, err = web.New(web.Config{Config: serve.Config{Listen: address}}, source); err != nil {
			return nil, err
		}
		if err = server.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	con.TimezoneSet = true
	r, err := live.Open(ctx, live.Config{Connection: con, Log: slog.New(slog.DiscardHandler),
		Silent: true, Repeated: true, JourneysEvery: 2 * time.Second})
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	source.Open(r)
	return &demo.Page{URL: server.URL(), Board: source.Board, Journeys: source.Journeys,
		Run: func(ctx context.Context) error {
			defer r.Close()
			return server.Run(ctx)
		}}, nil
}
