package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/serve"
)

// listenFlags returns the flags that [listenConfigFrom] reads.
func listenFlags() []cli.Flag {
	const category = "Live view"
	return append([]cli.Flag{
		&cli.StringFlag{Name: "listen", EnvVars: command.Env("listen"), Category: category,
			Usage: "serve the view as a page at `HOST:PORT`, as in " + serve.DefaultListen +
				"; port 0 is a free one"},
		ackTokensFlag(category),
	}, append(guardFlags(category, "page"), proxyFlags(category)...)...)
}

// listenConfigFrom returns how the view is served, and its metrics next to it: nil for not at all.
// What it refuses is a usage error.
func listenConfigFrom(c *cli.Context) (page, metrics *serve.Config, err error) {
	if command.Setting(c, "listen", "") == "" {
		if command.Given(c, "metrics-listen") {
			return nil, nil, hint.With(hint.Usagef("--metrics-listen is for --listen"),
				"tollstream process has metrics of its own")
		}
		for _, name := range slices.Concat([]string{"ack-tokens-file"}, guardNames, proxyNames) {
			if command.Given(c, name) {
				return nil, nil, hint.Usagef("--%s is for --listen", name)
			}
		}
		return nil, nil, nil
	}
	for _, name := range []string{"plaza", "json", "watch", "sort", "top", "deep", "exit-code"} {
		switch {
		case !c.IsSet(name):
		case command.Given(c, "listen"), command.Given(c, "metrics-listen"):
			return nil, nil, hint.Usagef("--%s is not for --listen, whose page shows all plazas", name)
		default:
			return nil, nil, nil // flags override environment variables
		}
	}
	if page, err = guardedFrom(c, "listen"); err != nil {
		return nil, nil, err
	}
	metrics, err = guardedFrom(c, "metrics-listen")
	return page, metrics, err
}

// viewListen serves the view until ctx ends.
func viewListen(c *cli.Context, s viewSettings, cfg serve.Config, metrics *serve.Config) error {
	con, err := endpoint.From(c)
	if err != nil {
		return err
	}
	log, err := command.LoggerFrom(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	source := live.NewSource(stop)
	figures := &telemetry.View{Last: source.Last, Plazas: c.Int("metrics-plazas")}
	if figures.Plazas < 0 || figures.Plazas > telemetry.MostPlazaSeries {
		return hint.Usagef("--metrics-plazas: %d is not between 0 and %s", figures.Plazas,
			text.Number(telemetry.MostPlazaSeries))
	}
	registry, err := telemetry.NewRegistry(buildVersion(), figures)
	if err != nil {
		return err
	}
	exporter, err := openExporter(c, "tollstream-view", "", registry, log)
	if err != nil {
		return err
	}
	defer exporter.Close()
	cfg.Gatherer, cfg.Registerer, cfg.Log, cfg.Trace = registry, registry, log, exporter.Requests()
	page := web.Config{Config: cfg}
	if page.Acknowledgers, err = acknowledgersFrom(c); err != nil {
		return err
	}
	if err := page.Validate(); err != nil {
		return hint.Usagef("--ack-tokens-file: %v", err) // the rest was checked
	}
	server, err := web.New(page, source)
	if err != nil {
		return err
	}
	// A taken port is an error before anything is waited for.
	if err := server.Listen(); err != nil {
		return hintPort(err, "listen")
	}
	if metrics != nil {
		stopMetrics, err := telemetry.ServeMetrics(*metrics, registry, server.Probes(), log)
		if err != nil {
			_ = server.Close()
			return hintPort(err, "metrics-listen")
		}
		defer stopMetrics()
	}
	defer telemetry.NotifySystemd(ctx, server.Probes(),
		func(time.Time) string { return "view at " + server.URL() }, log)()
	defer newReloader(c, log).start(text.IsTerminal(c.App.ErrWriter))()
	err = serveView(ctx, c.App.Writer, server, source,
		live.Config{Connection: con, Log: log, Silent: true, Repeated: true,
			Holidays: s.holidays})
	if c.Context.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serveView opens what the source reads, and serves it.
func serveView(ctx context.Context, out io.Writer, server *web.Server, source *live.Source,
	cfg live.Config) error {
	r, err := live.Open(ctx, cfg)
	if err != nil {
		_ = server.Close()
		return err
	}
	defer r.Close()
	r.Start()
	defer context.AfterFunc(ctx, r.Stop)() // its last fetch ends while the server does
	source.Open(r)
	if _, err := fmt.Fprintf(out, "view at %s\n", server.URL()); err != nil {
		return err
	}
	err = server.Run(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, board.ErrEnded) {
		return cause
	}
	return err
}
