package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
)

// Before is which rows are old: those from before a wall clock, or from some time before now.
type Before struct {
	Text string // as it was given
	at   toll.WallTime
	ago  time.Duration // 0 for at
}

// ParseBefore reads a date, a date and a time, or how far back from now.
func ParseBefore(text string) (Before, error) {
	b := Before{Text: strings.TrimSpace(text)}
	if b.Text == "" {
		return b, hint.Usagef("--before is missing: which rows are old?")
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02T15:04",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, b.Text); err == nil {
			b.at = toll.WallTimeOf(t)
			return b, nil
		}
	}
	var err error
	if b.ago, err = command.ParseAge(b.Text); err != nil || b.ago == 0 {
		return b, hint.Usagef("--before: %q is no time such as 2022-02-10, \"2022-02-10 10:00\" or 90d",
			b.Text)
	}
	return b, nil
}

// String describes which rows are old.
func (b Before) String() string {
	if b.ago > 0 {
		return "from more than " + b.Text + " ago"
	}
	return "from before " + b.at.String()
}

// resolve returns the wall clock before which rows are old. What is given as some time ago is
// counted from the earliest of the clocks, and nothing after the wall clocks is old.
func (b Before) resolve(location *time.Location, clocks toll.Clocks) (toll.WallTime, error) {
	now, known := clocks.Now()
	if !known {
		return 0, errors.New("prune: no clock is known")
	}
	if b.ago > 0 {
		return toll.WallTimeOf(now.In(location).Add(-b.ago)), nil
	}
	if wall := toll.WallTimeOf(clocks.Wall().In(location)); b.at > wall {
		return 0, hint.Usagef("--before: %s is in the future; it is %s there now", b.Text, wall)
	}
	return b.at, nil
}

// Pruned is what a prune did.
type Pruned struct {
	Before      string  `json:"before"`
	DryRun      bool    `json:"dry_run"`
	Old         int64   `json:"old"`  // rows from before it, when the command began
	Rows        int64   `json:"rows"` // all rows then
	Pruned      int64   `json:"pruned"`
	TookSeconds float64 `json:"took_seconds"`
}

// PruneOptions are what a prune may do, and where it reports.
type PruneOptions struct {
	Before    Before
	BatchRows int // most that one transaction deletes
	DryRun    bool
	Out, Err  io.Writer // progress, and warnings
}

// Prune deletes old rows of livetolldata, in batches.
func Prune(ctx context.Context, con endpoint.Connection, store *sql.Store,
	o PruneOptions) (*Pruned, error) {
	meta, err := store.Check(ctx, con.Identity(""))
	if err != nil {
		return nil, err
	}
	cursors, err := store.Writer(meta.TopicID).Cursors(ctx)
	if err != nil {
		return nil, err
	}
	now, _, err := clocks.Read(ctx, store, cursors, meta.Lateness, toll.DefaultIdle)
	if err != nil {
		return nil, err
	}
	before, err := o.Before.resolve(con.Location, now)
	if err != nil {
		return nil, err
	}
	for _, warning := range clocks.Warnings(now.Skews()) {
		fmt.Fprintf(o.Err, "tollstream: warning: %s; --before counts back from the earliest clock\n",
			warning)
	}
	began := time.Now()
	p := &Pruned{Before: before.String(), DryRun: o.DryRun}
	if p.Old, p.Rows, err = store.PruneCount(ctx, before); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Out, "livetolldata holds %s, %s from before %s\n", text.Count(p.Rows, "row"),
		text.Number(p.Old), p.Before)
	if !o.DryRun && p.Old > 0 {
		reported := time.Now()
		progress := func(rows int64) {
			if now := time.Now(); now.Sub(reported) >= progressEvery {
				reported = now
				fmt.Fprintf(o.Out, "deleted %s of %s, %s rows/s\n", text.Number(rows), text.Number(p.Old),
					text.Rate(rows, now.Sub(began)))
			}
		}
		p.Pruned, err = store.Prune(ctx, retention.PruneOptions{Before: before, BatchRows: o.BatchRows,
			Progress: progress})
		if ctx.Err() != nil {
			return nil, hint.With(
				fmt.Errorf("prune was interrupted after %s; what was deleted is noted, and verify is exact",
					text.Count(p.Pruned, "row")), "run it again to go on")
		}
		if err != nil {
			return nil, hint.Then(err,
				fmt.Sprintf("%s deleted so far are noted, and verify is exact; run it again to go on",
					text.Count(p.Pruned, "row")))
		}
	}
	p.TookSeconds = time.Since(began).Seconds()
	if o.DryRun {
		_, err = fmt.Fprintln(o.Out, "nothing was deleted (--dry-run)")
	} else {
		_, err = fmt.Fprintf(o.Out, "deleted %s in %s\n", text.Count(p.Pruned, "row"),
			text.Seconds(time.Since(began)))
	}
	return p, err
}

// progressEvery is how often a prune reports how far it is.
const progressEvery = 2 * time.Second
