package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
)

// Incidents prints a page of incidents as a table of a width, each in the time of its plaza.
func Incidents(w io.Writer, page board.IncidentPage, width int) error {
	if len(page.Incidents) == 0 {
		_, err := fmt.Fprintln(w, "no incidents")
		return err
	}
	table.Write(w, IncidentFields(page.Incidents), width)
	if page.More {
		fmt.Fprintln(w, "older ones follow: list more with --limit, or others with --to")
	}
	for i := range page.Incidents {
		in := &page.Incidents[i]
		for _, n := range in.Notes {
			done := "noted"
			if n.Acknowledged {
				done = "acknowledged"
			}
			fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%s %s by %s at %s UTC  %s", in.ID, done,
				text.Cell(n.Author), n.At.UTC().Format("2006-01-02 15:04"), text.Cell(n.Note))))
		}
	}
	return nil
}

// IncidentFields returns the columns of a table of incidents.
func IncidentFields(incidents []board.Incident) []table.Field {
	fields := []table.Field{
		{Column: table.Left("began")}, {Column: table.Right("plaza")},
		{Column: table.Left("name"), Rank: 2}, {Column: table.Left("state")},
		{Column: table.Right("lasted")}, {Column: table.Right("peak veh/h"), Rank: 1},
		{Column: table.Left("acknowledged"), Rank: 3}, {Column: table.Left("notified"), Rank: 5},
		{Column: table.Left("incident")}, {Column: table.Left("why"), Rank: 6},
	}
	for i := range incidents {
		in := &incidents[i]
		lasted := "open"
		if took, ended := in.Duration(); ended {
			lasted = text.Minutes(int64(took / time.Minute))
		}
		notified := ""
		if in.Notified != nil {
			notified = strings.ReplaceAll(*in.Notified, "_", " ")
		}
		for n, cell := range []string{in.Began.Format("2006-01-02 15:04"), strconv.Itoa(in.Plaza),
			text.Cell(in.Name), in.State.String(), lasted, text.Round(in.PeakFlow),
			text.Cell(in.AckedBy()), notified, in.ID, text.Cell(in.Why)} {
			fields[n].Cells = append(fields[n].Cells, cell)
		}
	}
	return dropEmpty(fields)
}

// dropEmpty leaves out columns of a rank without any cell to show.
func dropEmpty(fields []table.Field) []table.Field {
	kept := fields[:0]
	for _, f := range fields {
		if f.Rank == 0 || strings.Join(f.Cells, "") != "" {
			kept = append(kept, f)
		}
	}
	return kept
}
