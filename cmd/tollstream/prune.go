package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tollstream/sql"
	"tollstream/toll"
)

func (a *app) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "deletes old rows of livetolldata, and keeps verify exact",
		Description: `Deletes the rows of livetolldata with a timestamp before a time, some at a time, while processes run or not. Each
			transaction notes what it deletes, count and checksum, so verify is exact at every moment; a row that someone else
			deletes is missed as before. Counts, windows and the group table stay as they are.

			The time is on the clock of the database's timezone: a date, a date and a time, or how far back from now, in days or
			hours. A prune that was interrupted goes on when it is run again. The rows are gone for good.`,
		UsageText: `tollstream prune --before 90d --dry-run
			tollstream prune --before 2022-02-10 --yes
			tollstream prune --before "2022-02-10 10:00" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "before", Usage: "delete rows from before this `TIME`: 2022-02-10, \"2022-02-10 10:00\", or 90d"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: env("batch-rows"), Value: sql.DefaultPruneRows, Usage: "most `ROWS` that one transaction deletes"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only count the rows"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, connectionFlags()...),
		Action: func(c *cli.Context) error {
			con, err := connectionFrom(c)
			if err != nil {
				return err
			}
			before, err := parseBefore(c.String("before"), con.location, time.Now())
			if err != nil {
				return err
			}
			o := sql.PruneOptions{Before: before, BatchRows: c.Int("batch-rows")}
			if o.BatchRows < 1 || o.BatchRows > maxPruneRows {
				return usagef("--batch-rows is %d, want 1 to %s", o.BatchRows, number(maxPruneRows))
			}
			if !c.Bool("yes") && !c.Bool("dry-run") {
				return withHint(usagef("--yes is missing: prune deletes the rows of livetolldata in %s from before %s, for good", con.address(), before),
					fmt.Sprintf("to see how many, run: tollstream prune --before %q --dry-run", c.String("before")))
			}
			return withServersHint(a.prune(c.Context, con, o, c.Bool("dry-run"), c.Bool("json")))
		},
	}
}

// maxPruneRows bounds a transaction of a prune.
const maxPruneRows = 1_000_000

// parseBefore reads a date, a date and a time, or how far back from now.
func parseBefore(text string, location *time.Location, now time.Time) (toll.WallTime, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, usagef("--before is missing: which rows are old?")
	}
	now = now.In(location)
	wallNow := toll.WallTimeOf(now)
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			if before := toll.WallTimeOf(t); before <= wallNow {
				return before, nil
			}
			return 0, usagef("--before: %s is in the future; it is %s there now", text, wallNow)
		}
	}
	d, err := parseKeep(text)
	if err != nil || d == 0 {
		return 0, usagef("--before: %q is no time such as 2022-02-10, \"2022-02-10 10:00\" or 90d", text)
	}
	return toll.WallTimeOf(now.Add(-d)), nil
}

// pruned is what prune prints as JSON.
type pruned struct {
	Before      string  `json:"before"`
	DryRun      bool    `json:"dry_run"`
	Old         int64   `json:"old"`  // rows from before it, when the command began
	Rows        int64   `json:"rows"` // all rows then
	Pruned      int64   `json:"pruned"`
	TookSeconds float64 `json:"took_seconds"`
}

func (a *app) prune(ctx context.Context, con connection, o sql.PruneOptions, dryRun, asJSON bool) error {
	log, err := newLogger(a.stderr, logText, "warn")
	if err != nil {
		return err
	}
	store, err := con.openStore(sql.LoadAuto, log)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Check(ctx, con.identity("")); err != nil {
		return err
	}
	began := time.Now()
	p := pruned{Before: o.Before.String(), DryRun: dryRun}
	if p.Old, p.Rows, err = store.PruneCount(ctx, o.Before); err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(a.stdout, "livetolldata holds %s, %s from before %s\n", counted(p.Rows, "row"), number(p.Old), p.Before)
	}
	if !dryRun && p.Old > 0 {
		told := time.Now()
		o.Progress = func(rows int64) {
			if now := time.Now(); !asJSON && now.Sub(told) >= pruneTellEvery {
				told = now
				fmt.Fprintf(a.stdout, "deleted %s of %s, %s rows/s\n", number(rows), number(p.Old), perSecond(rows, now.Sub(began)))
			}
		}
		p.Pruned, err = store.Prune(ctx, o)
		if ctx.Err() != nil {
			return withHint(fmt.Errorf("prune was interrupted after %s; what was deleted is noted, and verify is exact", counted(p.Pruned, "row")), "run it again to go on")
		}
		if err != nil {
			return thenHint(err, fmt.Sprintf("%s deleted so far are noted, and verify is exact; run it again to go on", counted(p.Pruned, "row")))
		}
	}
	p.TookSeconds = time.Since(began).Seconds()
	switch {
	case asJSON:
		return writeJSON(a.stdout, p)
	case dryRun:
		_, err = fmt.Fprintln(a.stdout, "nothing was deleted (--dry-run)")
	default:
		_, err = fmt.Fprintf(a.stdout, "deleted %s in %s\n", counted(p.Pruned, "row"), seconds(time.Since(began)))
	}
	return err
}

// pruneTellEvery is how often prune says how far it is.
const pruneTellEvery = 2 * time.Second
