package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/topology/table"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "proves that every event is one row and counted once",
		Description: `Compares rows, batches, dead letters, windows and the group table with each other
			in one snapshot of the database. It is right at any time, also while processes run at full
			speed, and changes nothing. Exit status 0 means that everything is consistent; events that are
			stored and not yet counted are in flight, which is healthy.

			The windows are those of the last two days before the newest that closed. With --deep it checks
			all windows, counts the rows minute by minute, and computes the checksum of all rows, and so
			finds rows that were changed.`,
		UsageText: "tollstream verify\ntollstream verify --deep\ntollstream verify --json",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "deep",
				Usage: "compare the checksums of all rows too, and check all windows; " +
					"reads livetolldata whole"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			steps := command.NewSteps(c.App.ErrWriter, "connecting to Kafka and MySQL")
			report, err := runVerify(c, steps)
			steps.End()
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = text.WriteJSON(c.App.Writer, report)
			} else {
				err = render.Verification(c.App.Writer, report)
			}
			if err == nil && report.Status == verify.Mismatch {
				err = command.ErrReported
			}
			return err
		},
	}
}

// runVerify verifies what a command line names.
func runVerify(c *cli.Context, steps *command.Steps) (*verify.Report, error) {
	con, err := endpoint.From(c)
	if err != nil {
		return nil, err
	}
	cfg := live.Config{Connection: con, Log: command.Warnings(c.App.ErrWriter)}
	store, scan, err := live.Check(c.Context, &cfg, func(ctx context.Context) (*table.Scan, error) {
		return table.NewScan(ctx, con.Cluster, con.Group)
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	defer scan.Close()
	began := time.Now()
	report, err := admin.Verify(c.Context, cfg.Connection, store, scan, c.Bool("deep"), steps)
	if err != nil {
		return nil, err
	}
	report.TookSeconds = time.Since(began).Seconds()
	return report, nil
}
