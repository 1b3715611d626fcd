package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql/verify"
)

// Verification prints the report of verify for a person: the verdict first.
func Verification(w io.Writer, r *verify.Report) error {
	var b strings.Builder
	b.WriteString(verdictOf(r) + "\n\n")
	reportFigures(&b, r)
	if len(r.Partitions) > 0 {
		b.WriteByte('\n')
		reportPartitions(&b, r)
	}
	if len(r.Problems) > 0 {
		b.WriteString("\nProblems:\n")
		var problems []board.Problem
		for _, p := range r.Problems {
			problems = append(problems, board.Problem(p))
			fmt.Fprintf(&b, "  %s\n", text.OneLine(p.Text))
		}
		if r.MoreProblems > 0 {
			fmt.Fprintf(&b, "  and %s more\n", text.Number(r.MoreProblems))
		}
		b.WriteString("\nWhat to do:\n")
		for _, step := range board.NextSteps(problems) {
			fmt.Fprintf(&b, "  %s\n", step)
		}
	}
	b.WriteByte('\n')
	for _, l := range r.AcceptedLogs {
		fmt.Fprintf(&b, "note: partition %d continues in a replaced log since %s, as accepted: %s\n",
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

func verdictOf(r *verify.Report) string {
	switch {
	case r.Status == verify.Mismatch:
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
			"exact but for a log that was replaced and accepted (see the note): each of %s is one row and "+
				"counted once", text.Count(r.Events, "event"))
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
func reportFigures(b *strings.Builder, r *verify.Report) {
	type line struct {
		name    string
		n       int64
		meaning string
	}
	batches := text.Count(r.Batches, "batch", "batches")
	if r.BatchRows < r.Batches {
		batches += ", compacted into " + text.Count(r.BatchRows, "row")
	}
	if r.Records != r.Events {
		batches += ", of " + text.Count(r.Records, "record")
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

// windowsChecked reports which windows were checked, which were not and why, and how many have yet
// to count what is stored.
func windowsChecked(r *verify.Report) string {
	out := "checked, of the last two days"
	if r.Deep {
		out = "checked, which are all"
		if r.WindowsFolded > 0 || len(r.RetiredUntil) > 0 {
			out = "checked"
		}
		if r.MinutesFolded {
			out = "checked; of the time whose minutes were rolled up, those that are stored"
		}
	}
	if r.WindowsFolded > 0 {
		out += "; " + text.Number(r.WindowsFolded) + " older ones can't be, their minutes were rolled up"
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

func reportPartitions(b *strings.Builder, r *verify.Report) {
	t := table.New(b, table.Right("partition"), table.Right("stored from"), table.Right("up to"),
		table.Right("events"),
		table.Right("rejected"), table.Right("skipped"), table.Right("unpublished"))
	for _, p := range r.Partitions {
		t.AppendRow([]any{p.Partition, text.Number(p.Start), text.Number(p.Next), text.Number(p.Events),
			text.Number(p.Rejected), text.Number(p.Skipped),
			text.Number(p.Unpublished)})
	}
	_ = t.Render() // a builder takes all
}
