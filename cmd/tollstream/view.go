package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
)

func viewCommand() *cli.Command {
	return &cli.Command{
		Name:  "view",
		Usage: "shows the congestion at each plaza, with the verification",
		Description: `Lists all plazas with their state of congestion: saturated, busy, free, below
			or above usual. With --plaza it shows one plaza: its state, since when and why; vehicles by type,
			in the last minute, quarter of an hour and hour of event time, and minute by minute; the
			windows that closed last; and how many vehicles came late. The counts are those of the
			group table, next to the rows of livetolldata. Windows and congestion are those of the
			tables toll_window and toll_congestion.

			The stream's time is the median of the plazas' latest minutes of event time, so a few
			wrong clocks don't move it. A window is final once the watermark has passed its end. One
			plaza is shown in its own timezone, if the plazas file has it.

			A count of rows that takes longer than 3 s is cut off, and the figures are then not
			verified; the optional indexes in sql/indexes.sql make it fast. With --exit-code the exit
			status is the verdict: 0 exact or in flight, 1 a mismatch or a failure, 3 not verified.

			On a terminal, --watch fills the screen with a table that is updated every second: the
			keys ↑ ↓ and Enter open a plaza, a letter sorts, / filters, Space pauses, ? lists all
			keys, q quits. The most urgent plazas come first, unless --sort names another order. With
			--plain, or without a terminal, it prints the view as text every second.

			With --listen it serves the same as a page, until interrupted: with an API for JSON and
			CSV at /api/v1, metrics for Prometheus at /metrics, and /healthz and /readyz. A loopback
			address, as 127.0.0.1, needs no authentication. Any other needs --token-file, or
			--allow-anyone. With --metrics-listen the metrics and probes have an address of their own
			too. The settings of logs and metrics are for --listen alone.`,
		UsageText: strings.Join([]string{"tollstream view", "tollstream view --sort vc --top 10",
			"tollstream view --plaza 4856", "tollstream view --watch",
			"tollstream view --plaza 4856 --watch", "tollstream view --json",
			"tollstream view --exit-code",
			"tollstream view --listen 127.0.0.1:8080"}, "\n"),
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "plaza", Usage: "only this plaza"},
			&cli.StringFlag{Name: "sort", Value: board.ByState,
				Usage: "`ORDER` of the plazas, the highest first: state (the worst first), total, flow, vc " +
					"(throughput over capacity) or deviation (from what is usual, either way)"},
			&cli.IntFlag{Name: "top", Usage: "only the first `K` plazas"},
			&cli.BoolFlag{Name: "watch",
				Usage: "stay live until quit: on a terminal as a full screen with keys, " +
					"else as text every second"},
			&cli.BoolFlag{Name: "plain", Usage: "with --watch, print text on a terminal too"},
			&cli.BoolFlag{Name: "deep",
				Usage: "compare the checksums of the rows too, however long that takes"},
			&cli.BoolFlag{Name: "exit-code",
				Usage: "exit with the verdict: 0 exact or in flight, 1 mismatch, 3 not verified"},
			holidaysFlag(""),
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
				return viewListen(c, s, *listen, metrics)
			}
			if s.watch && fullScreen(c.App, s) {
				return watchScreen(c, s)
			}
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			r, err := live.Open(c.Context, live.Config{Connection: con,
				Log: command.Warnings(c.App.ErrWriter), Plaza: s.plaza, Deep: s.deep, Repeated: s.watch,
				Holidays: s.holidays})
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

// view prints what there is once.
func view(c *cli.Context, r *live.Reader, s viewSettings) error {
	b, err := r.Read(c.Context)
	if err != nil {
		return err
	}
	if s.plaza != nil && b.Plazas[0].Unknown() {
		return unknownPlaza(*s.plaza, b.Known)
	}
	if err := s.print(c.App.Writer, b); err != nil || !s.exitCode {
		return err
	}
	return verdictExit(b.Verification.Status)
}

// verdictExit returns the verdict as an exit status.
func verdictExit(s board.Status) error {
	switch s {
	case board.Mismatch:
		return command.ErrReported
	case board.NotVerified:
		return command.Exit(exitNotVerified)
	}
	return nil
}

// exitNotVerified is the exit status of view --exit-code where the rows were not read; 2 is a usage
// error.
const exitNotVerified = 3
