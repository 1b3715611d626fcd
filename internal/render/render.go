// Package render writes boards as text for a terminal or a file, and as the JSON of the command
// line. Text that is not ours comes out escaped.
package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
)

// knownZones are well-known timezones, from west to east. Of those with the same rules, one or two
// are enough.
var knownZones = []string{
	"Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles", "America/Denver",
	"America/Phoenix", "America/Chicago", "America/Mexico_City",
	"America/New_York", "America/Bogota", "America/Halifax", "America/St_Johns", "America/Sao_Paulo",
	"Atlantic/Azores", "UTC", "Europe/London",
	"Europe/Berlin", "Europe/Paris", "Africa/Lagos", "Europe/Athens", "Africa/Johannesburg",
	"Europe/Istanbul", "Europe/Moscow", "Asia/Tehran",
	"Asia/Dubai", "Asia/Kabul", "Asia/Karachi", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Dhaka",
	"Asia/Yangon", "Asia/Bangkok", "Asia/Jakarta",
	"Asia/Shanghai", "Asia/Singapore", "Asia/Tokyo", "Asia/Seoul", "Australia/Adelaide",
	"Australia/Brisbane", "Australia/Sydney",
	"Pacific/Auckland", "Pacific/Chatham", "Pacific/Tongatapu", "Pacific/Kiritimati",
}

// Bounds of what a timezone explains.
const (
	zoneStep = 15 * time.Minute // offsets are multiples of it
	// how far from one a lead may be: clocks of one partition are not quite together
	zoneSlack   = 5 * time.Minute
	minOffset   = -12 * time.Hour // from UTC
	maxOffset   = 14 * time.Hour
	zonesNamed  = 2
	longestLead = int64(1 << 31) // seconds; what is longer is no timezone's anyway
)

// explainLead describes how far the last event ran ahead, and in which timezone its plaza's clock
// would be right. lead is in seconds.
func explainLead(b *board.Board, lead int64) (length, zone string) {
	lead = min(lead, longestLead)
	length = "the last of them by " + text.Minutes((lead+30)/60)
	offset, ok := clockOffset(b.Now().Time().In(b.Location), time.Duration(lead)*time.Second)
	if !ok {
		return length, "no timezone explains a clock that is ahead as far as that"
	}
	zone = "as if its clock ran on " + offsetName(offset)
	if names := zonesAt(b.Now().Time(), offset); len(names) > 0 {
		zone += " (" + strings.Join(names, ", ") + ")"
	}
	return length, zone + ", not on " + b.Location.String()
}

// clockOffset returns the offset from UTC of a clock that shows lead more than the clock of t's
// timezone, to a quarter of an hour; false where no timezone has it.
func clockOffset(t time.Time, lead time.Duration) (time.Duration, bool) {
	near := lead.Round(zoneStep)
	_, seconds := t.Zone()
	offset := time.Duration(seconds)*time.Second + near
	return offset, (lead-near).Abs() <= zoneSlack && near != 0 && offset >= minOffset &&
		offset <= maxOffset
}

// zonesAt returns well-known timezones whose clocks are at an offset from UTC at an instant.
func zonesAt(t time.Time, offset time.Duration) []string {
	var names []string
	for _, name := range knownZones {
		location, err := time.LoadLocation(name)
		if err != nil {
			continue
		}
		if _, seconds := t.In(location).Zone(); time.Duration(seconds)*time.Second == offset {
			if names = append(names, name); len(names) == zonesNamed {
				break
			}
		}
	}
	return names
}

// offsetName writes an offset from UTC: UTC+09:00.
func offsetName(offset time.Duration) string {
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	return fmt.Sprintf("UTC%c%02d:%02d", sign, int(offset.Hours()), int(offset.Minutes())%60)
}

// textColumn holds text that may well look like a number, or like SQL's NULL.
const textColumn = "vehicle_type"

const sqlNull = "NULL"

// isNumeric reports whether a column holds whole numbers only.
func isNumeric(columns []string, rows [][]string, i int) bool {
	if columns[i] == textColumn || len(rows) == 0 {
		return false
	}
	for _, row := range rows {
		if _, err := strconv.ParseInt(row[i], 10, 64); err != nil && row[i] != sqlNull {
			return false
		}
	}
	return true
}

// Rows prints the result of a query as a table, with numbers as SQL writes them.
func Rows(w io.Writer, columns []string, rows [][]string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no rows")
		return err
	}
	var heads []table.Column
	for i, name := range columns {
		heads = append(heads, table.Column{Name: text.Escape(name), Number: isNumeric(columns, rows, i)})
	}
	t := table.New(w, heads...)
	for _, row := range rows {
		var cells []any
		for _, cell := range row {
			cells = append(cells, text.Escape(cell))
		}
		t.AppendRow(cells)
	}
	return t.Render()
}

// RowsJSON prints the result of a query as a list of objects, whose members are in the order of the
// columns.
func RowsJSON(w io.Writer, columns []string, rows [][]string) error {
	objects := []orderedObject{}
	for _, row := range rows {
		objects = append(objects, orderedObject{columns, row})
	}
	return text.WriteJSON(w, objects)
}

type orderedObject struct{ names, values []string }

// MarshalJSON implements json.Marshaler.
func (o orderedObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		var value any = o.values[i]
		if n, err := strconv.ParseInt(o.values[i], 10, 64); name != textColumn && err == nil {
			value = n
		} else if name != textColumn && o.values[i] == sqlNull {
			value = nil
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Incidents prints a page of incidents as a table of a width, each in the time of its plaza.
func Incidents(w io.Writer, page board.IncidentPage, width int) error {
	if len(page.Incidents) == 0 {
		_, err := fmt.Fprintln(w, "no incidents")
		return err
	}
	if err := table.Write(w, IncidentFields(page.Incidents), width); err != nil {
		return err
	}
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
