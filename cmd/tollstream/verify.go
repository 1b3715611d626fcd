package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
)

func (a *app) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "proves that every event is one row and counted once",
		Description: `Compares rows, batches, dead letters, windows and the group table with each other in one snapshot of the
			database. It is right at any time, also while processes run at full speed, and changes nothing. Exit status 0 says
			that all holds; events that are stored and not yet counted are in flight, which is healthy.

			The windows are those of the last two days before the newest that closed. With --deep it checks all windows, counts
			the rows minute by minute, and computes the checksum of all rows, and so finds rows that were changed.`,
		UsageText: "tollstream verify\ntollstream verify --deep\ntollstream verify --json",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "deep",
				Usage: "compare the checksums of all rows too, and check all windows; reads livetolldata whole"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			steps := command.NewSteps(a.stderr, "connecting to Kafka and MySQL")
			report, err := a.verify(c, steps)
			steps.End()
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = text.WriteJSON(a.stdout, report)
			} else {
				err = writeReport(a.stdout, report)
			}
			if err == nil && report.Status == sql.Mismatch {
				err = command.ErrReported
			}
			return err
		},
	}
}

// verify verifies what a command line names.
func (a *app) verify(c *cli.Context, steps *command.Steps) (*sql.Report, error) {
	con, err := endpoint.From(c)
	if err != nil {
		return nil, err
	}
	log, err := command.NewLogger(a.stderr, command.LogText, "warn")
	if err != nil {
		return nil, err
	}
	var cfg live.Config
	if err := readsFrom(&cfg, con, endpoint.FixesTimezone(c), log); err != nil {
		return nil, err
	}
	r := &reader{con: con, store: cfg.Store}
	defer func() { _ = r.store.Close() }()
	scan, location, err := live.Check(c.Context, cfg, func() (*topology.TableScan, error) {
		return topology.NewTableScan(c.Context, con.Cluster, con.Group)
	})
	if err != nil {
		return nil, err
	}
	defer scan.Close()
	r.con.Location = location
	began := time.Now()
	report, err := verify(c.Context, r, scan, c.Bool("deep"), steps)
	if err != nil {
		return nil, err
	}
	report.TookSeconds = time.Since(began).Seconds()
	return report, nil
}

// verify compares the group table and the database while processes may go on to write. Each step
// reads only what the step before makes certain:
//
//  1. what is published by now, from the database
//  2. whether the group has consumed the loop up to its present end; then all of 1 is in the group
//     table's topic
//  3. the group table, up to that topic's present end; most of it was read before, in parallel with
//     1 and 2
//  4. the database in one snapshot, which holds all that 3 has merged
func verify(ctx context.Context, r *reader, scan *topology.TableScan, deep bool,
	steps *command.Steps) (*sql.Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	table := begin(func() (struct{}, error) { return struct{}{}, scan.Advance(ctx) })
	logs := begin(func() (map[int32]sql.LogCheck, error) { return checkLogs(ctx, r) })
	steps.Begin("reading from MySQL what is published")
	published, err := r.store.Published(ctx)
	if err != nil {
		return nil, err
	}
	loop := begin(func() (bool, error) {
		if len(published.Next) == 0 {
			return true, nil // there may be no group yet
		}
		return r.con.Cluster.LoopConsumed(ctx, r.con.Group)
	})
	progress, err := r.store.Progress(ctx)
	if err != nil {
		return nil, err
	}
	meta, err := r.store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	now, passed, err := clocks.NewReader(r.store, meta.Lateness, toll.DefaultIdle).Read(ctx,
		live.Cursors(progress))
	if err != nil {
		return nil, err
	}
	in := sql.VerifyInput{Deep: deep, Passed: passed}
	if in.Windows, in.Zones, err = pipeline.StoredWindows(ctx, r.store, r.con.Location); err != nil {
		return nil, err
	}
	steps.Begin("comparing the topic's log with what is stored")
	if in.Logs, err = await(ctx, logs); err != nil {
		return nil, err
	}
	steps.Begin("asking Kafka how far the group has come")
	consumed, err := await(ctx, loop)
	if err != nil {
		return nil, err
	}
	if consumed {
		in.Settled = published
	}
	steps.Begin("reading the group table from Kafka")
	if _, err := await(ctx, table); err != nil {
		return nil, err
	}
	if err := scan.Advance(ctx); err != nil {
		return nil, err
	}
	if in.States, err = scan.States(); err != nil {
		return nil, err
	}
	steps.Begin("reading and comparing what MySQL holds")
	report, err := r.store.Verify(ctx, in)
	if err != nil {
		return nil, err
	}
	report.Notes = append(report.Notes, clocks.Warnings(now.Skews())...)
	if !consumed {
		report.Notes = append(report.Notes, fmt.Sprintf(
			"the group has not consumed %s to its end: that a delta is lost can be told once it has",
			kafka.LoopTopic(r.con.Group)))
	}
	return report, nil
}

// writeReport prints a report for a person: the verdict first.
func writeReport(w io.Writer, r *sql.Report) error {
	var b strings.Builder
	b.WriteString(verdictOf(r) + "\n\n")
	reportFigures(&b, r)
	if len(r.Partitions) > 0 {
		b.WriteByte('\n')
		reportPartitions(&b, r)
	}
	if len(r.Problems) > 0 {
		b.WriteString("\nProblems:\n")
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "  %s\n", text.OneLine(p.Text))
		}
		if r.MoreProblems > 0 {
			fmt.Fprintf(&b, "  and %s more\n", text.Number(r.MoreProblems))
		}
		b.WriteString("\nWhat to do:\n")
		for _, step := range sql.NextSteps(r.Problems) {
			fmt.Fprintf(&b, "  %s\n", step)
		}
	}
	b.WriteByte('\n')
	for _, l := range r.AcceptedLogs {
		fmt.Fprintf(&b, "note: partition %d goes on in another log since %s, as was decided: %s\n",
			l.Partition, l.AcceptedAt[:16], text.OneLine(l.String()))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", text.OneLine(note))
	}
	checksums := "checksums of the rows not compared (--deep does)"
	if r.Deep {
		checksums = "checksums of all rows compared"
	}
	fmt.Fprintf(&b, "took %s; %s\n", text.Seconds(time.Duration(r.TookSeconds*float64(time.Second))),
		checksums)
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictOf(r *sql.Report) string {
	switch {
	case r.Status == sql.Mismatch:
		return "MISMATCH: " + text.Count(int64(len(r.Problems))+r.MoreProblems, "problem")
	case r.InFlight > 0:
		return fmt.Sprintf("in flight: %s stored and not yet counted; all else is exact",
			text.Count(r.InFlight, "event"))
	case r.Events == 0 && r.Rejected == 0:
		return "exact: nothing is stored yet"
	case r.Events == 1:
		return "exact: the 1 event is one row and counted once"
	}
	if len(r.AcceptedLogs) > 0 {
		return fmt.Sprintf(
			"exact but for a log that was replaced and accepted (see the note): each of %s is one row and counted once", text.Count(r.Events, "event"))
	}
	was := ""
	if r.Pruned > 0 {
		was = ", or was until it was pruned,"
	}
	return fmt.Sprintf("exact: each of %s is one row%s and counted once",
		text.Count(r.Events, "event"),
		was)
}

// reportFigures prints the sums with what they mean.
func reportFigures(b *strings.Builder, r *sql.Report) {
	type line struct {
		name    string
		n       int64
		meaning string
	}
	batches := text.Count(r.Batches, "batch", "batches")
	if r.BatchRows < r.Batches {
		batches += ", compacted into " + text.Count(r.BatchRows, "row")
	}
	lines := []line{
		{"events", r.Events, "stored, by " + batches},
		{"rows", r.Rows, "in livetolldata"},
	}
	if r.Baseline != 0 {
		lines = append(lines, line{"baseline", r.Baseline, "of these rows are from before tollstream"})
	}
	if r.Pruned != 0 {
		lines = append(lines, line{"pruned", r.Pruned, "rows deleted by tollstream prune"})
	}
	rejected := "dead letters"
	if r.Rejected > 0 {
		rejected += ", see: tollstream dead-letters"
	}
	lines = append(lines,
		line{"rejected", r.Rejected, rejected},
		line{"skipped", r.Skipped, "offsets that held no record"})
	if r.Gone > 0 {
		lines = append(lines,
			line{"gone", r.Gone,
				"records deleted by the topic's retention before they were stored (--skip-gone)"})
	}
	lines = append(lines,
		line{"merged", r.Merged, "counted in the group table"},
		line{"in flight", r.InFlight, "stored and not yet counted"})
	if r.Windows > 0 || len(r.RetiredUntil) > 0 {
		lines = append(lines, line{"windows", r.Windows, windowsChecked(r)})
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(text.Number(l.n)))
	}
	for _, l := range lines {
		fmt.Fprintf(b, "%-9s  %*s  %s\n", l.name, width, text.Number(l.n), l.meaning)
	}
}

// windowsChecked says which windows were checked, which were not and why, and how many have yet to
// count what is stored.
func windowsChecked(r *sql.Report) string {
	out := "checked, of the last two days"
	if r.Deep {
		out = "checked, which are all"
		if r.WindowsFolded > 0 || len(r.RetiredUntil) > 0 {
			out = "checked"
		}
		if r.MinutesFolded {
			out = "checked; of the time whose minutes were added up, those that are stored"
		}
	}
	if r.WindowsFolded > 0 {
		out += "; " + text.Number(r.WindowsFolded) + " older ones can't be, their minutes were added up"
	}
	if len(r.RetiredUntil) > 0 {
		gone := "older ones"
		if r.WindowsRetired > 0 {
			gone = text.Number(r.WindowsRetired) + " older ones"
		}
		var until []string
		for _, kind := range slices.Sorted(maps.Keys(r.RetiredUntil)) {
			until = append(until, kind+" up to "+r.RetiredUntil[kind].UTC().Format("2006-01-02 15:04 MST"))
		}
		out += "; " + gone + " can't be, they were deleted for their age (" + strings.Join(until, ", ") +
			")"
	}
	if r.WindowsWaiting > 0 {
		out += "; " + text.Number(r.WindowsWaiting) + " are open, or in flight"
		if r.WindowsDue > 0 {
			out += ", of which " + text.Number(r.WindowsDue) + " are due"
		}
	}
	return out
}

func reportPartitions(b *strings.Builder, r *sql.Report) {
	t := table.New(b, table.Right("partition"), table.Right("stored from"), table.Right("up to"),
		table.Right("events"),
		table.Right("rejected"), table.Right("skipped"), table.Right("unpublished"))
	for _, p := range r.Partitions {
		t.AppendRow([]any{p.Partition, text.Number(p.Start), text.Number(p.Next), text.Number(p.Events),
			text.Number(p.Rejected), text.Number(p.Skipped),
			text.Number(p.Unpublished)})
	}
	t.Render()
}

// reader is what verify reads, but for the group table.
type reader struct {
	con   endpoint.Connection
	store *sql.Store
}

// await returns what do returns, or ctx's error as soon as ctx ends: Kafka's clients take no
// context. What was begun then ends by itself.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// begin does something in parallel. The function that it returns waits for its end, once.
func begin[T any](do func() (T, error)) (end func() (T, error)) {
	ended := make(chan struct{})
	var value T
	var err error
	go func() {
		defer close(ended)
		value, err = do()
	}()
	return func() (T, error) {
		<-ended
		return value, err
	}
}
