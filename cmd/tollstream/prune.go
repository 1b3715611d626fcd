package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/retention"
)

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "deletes old rows of livetolldata, and keeps verify exact",
		Description: `Deletes the rows of livetolldata with a timestamp before a time, in batches,
			whether or not processes run. Each transaction records the count and checksum of what it
			deletes, so verify is exact at every moment; a row that someone else deletes is still a
			mismatch. Counts, windows and the group table stay as they are.

			The time is on the clock of the database's timezone: a date, a date and a time, or how far back
			from now, in days or hours. Now is the earliest of event time, the newest record's timestamp,
			MySQL's clock and this machine's, so one wrong clock deletes nothing. To continue an
			interrupted prune, run it again. The rows are deleted for good.`,
		UsageText: `tollstream prune --before 90d --dry-run
			tollstream prune --before 2022-02-10 --yes
			tollstream prune --before "2022-02-10 10:00" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "before",
				Usage: "delete rows from before this `TIME`: 2022-02-10, \"2022-02-10 10:00\", or 90d"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: command.Env("batch-rows"),
				Value: retention.DefaultPruneRows,
				Usage: "most `ROWS` that one transaction deletes"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only count the rows"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, endpoint.Flags()...),
		Action: prune,
	}
}

func prune(c *cli.Context) error {
	before, err := admin.ParseBefore(c.String("before"))
	if err != nil {
		return err
	}
	rows := c.Int("batch-rows")
	if rows < 1 || rows > maxPruneRows {
		return hint.Usagef("--batch-rows is %d, want 1 to %s", rows, text.Number(maxPruneRows))
	}
	return endpoint.WithStore(c, func(con endpoint.Connection, store *sql.Store) error {
		if !c.Bool("yes") && !c.Bool("dry-run") {
			return hint.With(
				hint.Usagef("--yes is missing: prune deletes the rows of livetolldata in %s %s, for good",
					con.Address(), before),
				fmt.Sprintf("to see how many, run: tollstream prune --before %q --dry-run", before.Text))
		}
		out := c.App.Writer
		if c.Bool("json") {
			out = io.Discard
		}
		done, err := admin.Prune(c.Context, con, store,
			admin.PruneOptions{Before: before, BatchRows: rows,
				DryRun: c.Bool("dry-run"), Out: out, Err: c.App.ErrWriter})
		if err == nil && c.Bool("json") {
			err = text.WriteJSON(c.App.Writer, done)
		}
		return err
	})
}

// maxPruneRows bounds a transaction of a prune.
const maxPruneRows = 1_000_000
