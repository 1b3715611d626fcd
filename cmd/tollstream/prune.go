package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

func (a *app) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "deletes old rows of livetolldata, and keeps verify exact",
		Description: `Deletes the rows of livetolldata with a timestamp before a time, some at a time, while processes run or not. Each
			transaction notes what it deletes, count and checksum, so verify is exact at every moment; a row that someone else
			deletes is missed as before. Counts, windows and the group table stay as they are.

			The time is on the clock of the database's timezone: a date, a date and a time, or how far back from now, in days or
			hours. Now is the earliest of event time, the newest record's timestamp, MySQL's clock and this machine's, so one
			wrong clock deletes nothing. A prune that was interrupted goes on when it is run again. The rows are gone for good.`,
		UsageText: `tollstream prune --before 90d --dry-run
			tollstream prune --before 2022-02-10 --yes
			tollstream prune --before "2022-02-10 10:00" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "before",
				Usage: "delete rows from before this `TIME`: 2022-02-10, \"2022-02-10 10:00\", or 90d"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: command.Env("batch-rows"), Value: sql.DefaultPruneRows,
				Usage: "most `ROWS` that one transaction deletes"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only count the rows"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			before, err := parseBefore(c.String("before"))
			if err != nil {
				return err
			}
			o := sql.PruneOptions{BatchRows: c.Int("batch-rows")}
			if o.BatchRows < 1 || o.BatchRows > maxPruneRows {
				return hint.Usagef("--batch-rows is %d, want 1 to %s", o.BatchRows, text.Number(maxPruneRows))
			}
			if !c.Bool("yes") && !c.Bool("dry-run") {
				return hint.With(
					hint.Usagef("--yes is missing: prune deletes the rows of livetolldata in %s %s, for good",
						con.Address(), before.words()),
					fmt.Sprintf("to see how many, run: tollstream prune --before %q --dry-run", before.text))
			}
			return endpoint.WithHint(a.prune(c.Context, con, before, o, c.Bool("dry-run"), c.Bool("json")))
		},
	}
}

// maxPruneRows bounds a transaction of a prune.
const maxPruneRows = 1_000_000

// pruneBefore is which rows are old: those from before a wall clock, or from some time before now.
type pruneBefore struct {
	text string // as it was given
	at   toll.WallTime
	ago  time.Duration // 0 for at
}

// parseBefore reads a date, a date and a time, or how far back from now.
func parseBefore(text string) (pruneBefore, error) {
	b := pruneBefore{text: strings.TrimSpace(text)}
	if b.text == "" {
		return b, hint.Usagef("--before is missing: which rows are old?")
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02T15:04",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, b.text); err == nil {
			b.at = toll.WallTimeOf(t)
			return b, nil
		}
	}
	var err error
	if b.ago, err = parseKeep(b.text); err != nil || b.ago == 0 {
		return b, hint.Usagef("--before: %q is no time such as 2022-02-10, \"2022-02-10 10:00\" or 90d",
			b.text)
	}
	return b, nil
}

// words says which rows are old.
func (b pruneBefore) words() string {
	if b.ago > 0 {
		return "from more than " + b.text + " ago"
	}
	return "from before " + b.at.String()
}

// resolve returns the wall clock before which rows are old. What is given as some time ago is
// counted from the earliest of the clocks, and nothing after the wall clocks is old.
func (b pruneBefore) resolve(location *time.Location, clocks toll.Clocks) (toll.WallTime, error) {
	now, known := clocks.Now()
	if !known {
		return 0, errors.New("prune: it is not known how late it is")
	}
	if b.ago > 0 {
		return toll.WallTimeOf(now.In(location).Add(-b.ago)), nil
	}
	if wall := toll.WallTimeOf(clocks.Wall().In(location)); b.at > wall {
		return 0, hint.Usagef("--before: %s is in the future; it is %s there now", b.text, wall)
	}
	return b.at, nil
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

func (a *app) prune(ctx context.Context, con endpoint.Connection, before pruneBefore,
	o sql.PruneOptions,
	dryRun, asJSON bool) error {
	log, err := command.NewLogger(a.stderr, command.LogText, "warn")
	if err != nil {
		return err
	}
	store, err := con.OpenStore(sql.LoadAuto, log)
	if err != nil {
		return err
	}
	defer store.Close()
	meta, err := store.Check(ctx, con.Identity(""))
	if err != nil {
		return err
	}
	cursors, err := store.Writer(meta.TopicID).Cursors(ctx)
	if err != nil {
		return err
	}
	now, _, err := clocks.NewReader(store, meta.Lateness, toll.DefaultIdle).Read(ctx, cursors)
	if err != nil {
		return err
	}
	if o.Before, err = before.resolve(con.Location, now); err != nil {
		return err
	}
	for _, warning := range clocks.Warnings(now.Skews()) {
		fmt.Fprintf(a.stderr, "tollstream: warning: %s; --before counts back from the earliest clock\n",
			warning)
	}
	began := time.Now()
	p := pruned{Before: o.Before.String(), DryRun: dryRun}
	if p.Old, p.Rows, err = store.PruneCount(ctx, o.Before); err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(a.stdout, "livetolldata holds %s, %s from before %s\n", text.Count(p.Rows, "row"),
			text.Number(p.Old), p.Before)
	}
	if !dryRun && p.Old > 0 {
		told := time.Now()
		o.Progress = func(rows int64) {
			if now := time.Now(); !asJSON && now.Sub(told) >= pruneTellEvery {
				told = now
				fmt.Fprintf(a.stdout, "deleted %s of %s, %s rows/s\n", text.Number(rows), text.Number(p.Old),
					text.Rate(rows, now.Sub(began)))
			}
		}
		p.Pruned, err = store.Prune(ctx, o)
		if ctx.Err() != nil {
			return hint.With(
				fmt.Errorf("prune was interrupted after %s; what was deleted is noted, and verify is exact",
					text.Count(p.Pruned, "row")), "run it again to go on")
		}
		if err != nil {
			return hint.Then(err,
				fmt.Sprintf("%s deleted so far are noted, and verify is exact; run it again to go on",
					text.Count(p.Pruned, "row")))
		}
	}
	p.TookSeconds = time.Since(began).Seconds()
	switch {
	case asJSON:
		return text.WriteJSON(a.stdout, p)
	case dryRun:
		_, err = fmt.Fprintln(a.stdout, "nothing was deleted (--dry-run)")
	default:
		_, err = fmt.Fprintf(a.stdout, "deleted %s in %s\n", text.Count(p.Pruned, "row"),
			text.Seconds(time.Since(began)))
	}
	return err
}

// pruneTellEvery is how often prune says how far it is.
const pruneTellEvery = 2 * time.Second
