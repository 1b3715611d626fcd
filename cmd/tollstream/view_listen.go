package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/serve"
)

// listenFlags returns the flags that [listenConfigFrom] reads.
func listenFlags() []cli.Flag {
	const category = "Live view"
	return append([]cli.Flag{
		&cli.StringFlag{Name: "listen", EnvVars: env("listen"), Category: category,
			Usage: "serve the view as a page at `HOST:PORT`, as in " + serve.DefaultListen +
				"; port 0 is a free one"},
	}, guardFlags(category, "page")...)
}

// guardNames are the names of the flags of [guardFlags].
var guardNames = []string{"token-file", "allow-anyone", "tls-cert", "tls-key", "allowed-host"}

// guardFlags returns the flags that [guardedFrom] reads: who may look at what is served, and how.
func guardFlags(category, what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-file", EnvVars: env("token-file"), Category: category,
			Usage: fmt.Sprintf("`FILE` that holds a token, %d characters or more, which who looks must know",
				serve.MinToken)},
		&cli.BoolFlag{Name: "allow-anyone", EnvVars: env("allow-anyone"), Category: category,
			Usage: "let everyone look who reaches the address"},
		&cli.StringFlag{Name: "tls-cert", EnvVars: env("tls-cert"), Category: category,
			Usage: "PEM `FILE` of a certificate, for HTTPS; with --tls-key"},
		&cli.StringFlag{Name: "tls-key", EnvVars: env("tls-key"), Category: category,
			Usage: "PEM `FILE` of its key"},
		&cli.StringSliceFlag{Name: "allowed-host", EnvVars: env("allowed-host"), Category: category,
			Usage: "`NAME` that browsers may call the " + what +
				" by, besides localhost and addresses: that of a proxy; several, separated by commas"},
	}
}

// listenConfigFrom returns how the view is served, and its metrics beside it: nil for not at all.
// What it refuses is a usage error.
func listenConfigFrom(c *cli.Context) (page, metrics *serve.Config, err error) {
	if setting(c, "listen", "") == "" {
		if given(c, "metrics-listen") {
			return nil, nil, hint.With(hint.Usagef("--metrics-listen is for --listen"),
				"tollstream process has metrics of its own")
		}
		for _, name := range guardNames {
			if given(c, name) {
				return nil, nil, hint.Usagef("--%s is for --listen", name)
			}
		}
		return nil, nil, nil
	}
	for _, name := range []string{"plaza", "json", "watch", "sort", "top", "deep"} {
		switch {
		case !c.IsSet(name):
		case given(c, "listen"), given(c, "metrics-listen"):
			return nil, nil, hint.Usagef("--%s is not for --listen, whose page shows all plazas", name)
		default:
			return nil, nil, nil // the command line asks for something else than the environment
		}
	}
	if page, err = guardedFrom(c, "listen"); err != nil {
		return nil, nil, err
	}
	metrics, err = guardedFrom(c, "metrics-listen")
	return page, metrics, err
}

// guardedFrom returns how something is served at the address that a flag names, nil for no address.
func guardedFrom(c *cli.Context, flag string) (*serve.Config, error) {
	cfg := serve.Config{
		Listen: setting(c, flag, ""), NoAuth: c.Bool("allow-anyone"),
		TLSCert: setting(c, "tls-cert", ""), TLSKey: setting(c, "tls-key", ""),
	}
	if cfg.Listen == "" {
		return nil, nil
	}
	for _, host := range c.StringSlice("allowed-host") {
		if host = strings.TrimSpace(host); host != "" {
			cfg.Hosts = append(cfg.Hosts, host)
		}
	}
	if name := setting(c, "token-file", ""); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
		// it must not mean that there is none
		if cfg.Token = strings.TrimSpace(string(text)); cfg.Token == "" {
			return nil, hint.With(hint.Usagef("--token-file: %s is empty", name), tokenHint)
		}
	}
	err := cfg.Validate()
	if err == nil {
		return &cfg, nil
	}
	advice := ""
	if open := cfg; open.Token == "" && !open.NoAuth {
		open.NoAuth = true
		if open.Validate() == nil {
			advice = "--token-file names a file with a token; --allow-anyone goes without"
		}
	} else if open.Token != "" {
		advice = tokenHint
	}
	return nil, hint.With(hint.Usagef("--%s: %v", flag, err), advice)
}

const tokenHint = "this makes a token: openssl rand -hex 16"

// viewListen serves the view until ctx ends.
func (a *app) viewListen(c *cli.Context, cfg serve.Config, metrics *serve.Config) error {
	con, err := connectionFrom(c)
	if err != nil {
		return err
	}
	log, err := a.loggerFrom(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	source := newViewSource(stop)
	if source.plazaSeries = c.Int("metrics-plazas"); source.plazaSeries < 0 ||
		source.plazaSeries > mostPlazaSeries {
		return hint.Usagef("--metrics-plazas: %d is not between 0 and %s", source.plazaSeries,
			text.Number(mostPlazaSeries))
	}
	registry, err := newRegistry(source)
	if err != nil {
		return err
	}
	traces, err := openTraces(c, "tollstream-view", "", log)
	if err != nil {
		return err
	}
	defer traces.close()
	cfg.Gatherer, cfg.Registerer, cfg.Log, cfg.Trace = registry, registry, log, traces.requests()
	server, err := web.New(web.Config{Config: cfg}, source)
	if err != nil {
		return err
	}
	// A taken port is an error before anything is waited for.
	if err := server.Listen(); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = hint.With(err,
				"something else listens there: name another port with --listen, or 0 for a free one")
		}
		return err
	}
	if metrics != nil {
		stopMetrics, err := serveMetrics(*metrics, registry, server.Probes(), log)
		if err != nil {
			_ = server.Close()
			return err
		}
		defer stopMetrics()
	}
	err = a.serveView(ctx, server, source, con, fixesTimezone(c), log)
	if c.Context.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serveView opens what the source reads, and serves it.
func (a *app) serveView(ctx context.Context, server *web.Server, source *viewSource, con connection,
	fixedTimezone bool, log *slog.Logger) error {
	r, err := openReader(ctx, con, fixedTimezone, log)
	if err != nil {
		_ = server.Close()
		return err
	}
	v := newViewer(r, viewSettings{sort: sortTotal, watch: true})
	defer closeView(v)
	r.start()
	defer context.AfterFunc(ctx, r.stop)() // its last fetch ends while the server does
	source.open(v)
	if _, err := fmt.Fprintf(a.stdout, "view at %s\n", server.URL()); err != nil {
		return err
	}
	err = server.Run(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errTableEnded) {
		return cause
	}
	return err
}

// viewClosePatience is how long the connections of a view may take to close. All that they would do
// is to say goodbye; a server that is away makes them wait.
const viewClosePatience = 300 * time.Millisecond

func closeView(v *viewer) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		v.Close()
		v.reader.Close()
	}()
	select {
	case <-closed:
	case <-time.After(viewClosePatience):
	}
}
