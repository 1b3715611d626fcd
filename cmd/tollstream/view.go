package main

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/ingest"
)

func viewCommand() *cli.Command {
	return &cli.Command{
		Name:  "view",
		Usage: "shows the congestion at each plaza, with the verification",
		Description: `Without --plaza it lists all plazas, the busiest first, and how they stand: saturated, busy, free, below
			usual. With it, one plaza: its congestion with since when and why, vehicles by type, in the last minute, quarter of an
			hour and hour of event time, minute by minute, the windows that closed last, and how many vehicles came late. The
			counts come from the group table, windows and congestion from the tables toll_window and toll_congestion; next
			to them is what the rows in livetolldata add up to.

			Event time is that of the events themselves. The stream's time is the median of the plazas' latest minutes, so a few
			wrong clocks don't move it. A window is final once the watermark has passed its end. One plaza is shown by its own
			clock, where the plazas file names its timezone.

			A count of rows that takes longer than 3 s is cut off; the optional indexes in sql/indexes.sql make it fast.

			On a terminal, --watch fills the screen with a table that stays live: the keys ↑ ↓ and Enter open a plaza, a letter sorts, /
			filters, Space pauses, ? explains all of it, q quits. What needs someone to look comes first, unless --sort says
			otherwise. With --plain, and where there is no terminal, it prints what it would print once, every second.

			With --listen it serves all of that as a page that stays live, until interrupted: with an API for JSON and CSV at
			/api/v1, metrics for Prometheus at /metrics, and /healthz and /readyz. Only this machine reaches 127.0.0.1. At
			another address everyone does who reaches the machine, so it needs --token-file, or --allow-anyone. With
			--metrics-listen the metrics and probes have an address of their own too. The log and metrics settings are for --listen
			alone.`,
		UsageText: "tollstream view\ntollstream view --sort vc --top 10\ntollstream view --plaza 4856\ntollstream view --watch\ntollstream view --plaza 4856 --watch\ntollstream view --json\ntollstream view --listen 127.0.0.1:8080",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "plaza", Usage: "this plaza alone"},
			&cli.StringFlag{Name: "sort", Value: board.ByTotal,
				Usage: "`ORDER` of the plazas, the highest first: total, flow, vc (demand by capacity) or deviation (from what is usual, either way)"},
			&cli.IntFlag{Name: "top", Usage: "the first `K` plazas alone"},
			&cli.BoolFlag{Name: "watch",
				Usage: "go on until quit: on a terminal as a full screen with keys, elsewhere as lines every second"},
			&cli.BoolFlag{Name: "plain", Usage: "with --watch, print lines on a terminal too"},
			&cli.BoolFlag{Name: "deep",
				Usage: "compare the checksums of the rows too, however long that takes"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON; with --watch one line a second"},
		}, slices.Concat(listenFlags(), viewMetricsFlags(), endpoint.Flags(), command.LogFlags())...),
		Action: func(c *cli.Context) error {
			s, err := viewSettingsFrom(c)
			if err != nil {
				return err
			}
			listen, metrics, err := listenConfigFrom(c)
			if err != nil {
				return err
			}
			if listen != nil {
				return viewListen(c, *listen, metrics)
			}
			if s.watch && fullScreen(c.App, s) {
				return watchScreen(c, s)
			}
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			r, err := openReader(c.Context, con, command.Warnings(c.App.ErrWriter), s.reading())
			if err != nil {
				return err
			}
			defer r.Close()
			if s.watch {
				return watch(c, r, s)
			}
			return view(c, r, s)
		},
	}
}

// openReader opens a reader of what a connection describes.
func openReader(ctx context.Context, con endpoint.Connection, log *slog.Logger,
	cfg live.Config) (*live.Reader, error) {
	if err := readsFrom(&cfg, con, log); err != nil {
		return nil, err
	}
	return live.Open(ctx, cfg)
}

// readsFrom fills in where a reader reads. Who calls it closes the store.
func readsFrom(cfg *live.Config, con endpoint.Connection, log *slog.Logger) (err error) {
	cfg.Cluster, cfg.Topic, cfg.Group, cfg.Log = con.Cluster, con.Topic, con.Group, log
	if con.TimezoneSet {
		cfg.Timezone = con.Location.String()
	}
	cfg.Store, err = con.OpenStore(ingest.LoadAuto, log)
	return err
}

// view prints what there is once.
func view(c *cli.Context, r *live.Reader, s viewSettings) error {
	b, err := r.Read(c.Context)
	if err != nil {
		return err
	}
	if s.plaza != nil && b.Plazas[0].Unknown() {
		return unknownPlaza(*s.plaza, b.Known)
	}
	if s.json {
		return text.WriteJSON(c.App.Writer, s.asJSON(b))
	}
	_, err = io.WriteString(c.App.Writer, s.asText(b, c.App.Writer))
	return err
}
