package report

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// Formats are the forms of a report.
var Formats = []string{"html", "csv", "csv-hours", "tmg-volume", "tmg-class"}

// Form is how a report is written.
type Form struct {
	Format string
	// of the plazas file, with their stations; only for the formats that begin with tmg
	Stations map[int16]codecs.Station
	Classes  map[string]int // of vehicle types, where the plazas file has none
}

// CheckFormat returns a usage error for a format that is none.
func CheckFormat(format string) error {
	if slices.Contains(Formats, format) {
		return nil
	}
	return hint.Usagef("--format %q is none of %s", format, strings.Join(Formats, ", "))
}

// Write writes a report and returns what its reader should know, a sentence each.
func Write(w io.Writer, r *Report, form Form) (warnings []string, err error) {
	var tmg *tmgWarnings
	switch form.Format {
	case "html":
		err = writeHTML(w, r)
	case "csv":
		err = writeCSV(w, r)
	case "csv-hours":
		err = writeHours(w, r)
	case "tmg-volume":
		tmg, err = writeVolume(w, r, form.Stations)
	case "tmg-class":
		tmg, err = writeClasses(w, r, form.Stations, form.Classes)
	}
	if err != nil {
		return nil, err
	}
	if missing := r.Missing(); missing != "" {
		warnings = append(warnings, missing)
	}
	if tmg != nil {
		warnings = append(warnings, tmg.sentences()...)
	}
	return warnings, nil
}

// writeCSV writes a row for each plaza. What is not known is empty.
func writeCSV(w io.Writer, r *Report) error {
	return writeRows(w, []string{"plaza", "name", "road", "from", "to", "vehicles",
		"vehicles_per_day", "by_type", "peak_hour", "peak_vehicles", "phf", "incidents",
		"incident_minutes", "hours", "hours_counted", "hours_without_vehicles", "late", "too_late"},
		func(row func(...string)) {
			for i := range r.Plazas {
				p := &r.Plazas[i]
				peak, vehicles, phf := "", "", ""
				if p.Peak != nil {
					peak, vehicles = stamp(p, p.Peak.Window.Start), number(p.Peak.Vehicles)
				}
				if p.PHF != nil {
					phf = strconv.FormatFloat(*p.PHF, 'f', 3, 64)
				}
				row(strconv.Itoa(int(p.ID)), p.Name, p.Road, r.Period.From.Format(time.DateOnly),
					(r.Period.To - secondsPerDay).Format(time.DateOnly), number(p.Vehicles),
					strconv.FormatFloat(p.PerDay(), 'f', 0, 64), typeList(p.Types), peak, vehicles, phf,
					strconv.Itoa(len(p.Incidents)), number(p.InIncidents()), strconv.Itoa(p.Hours),
					strconv.Itoa(p.Counted), strconv.Itoa(p.Empty), number(p.Late), number(p.TooLate))
			}
		})
}

// writeHours writes a row for each hour of each plaza. The counts of hours that are not counted are
// empty.
func writeHours(w io.Writer, r *Report) error {
	return writeRows(w, []string{"plaza", "name", "road", "start", "end", "coverage", "vehicles",
		"by_type", "late", "too_late"}, func(row func(...string)) {
		for i := range r.Plazas {
			p := &r.Plazas[i]
			for j := range p.ByHour {
				h := &p.ByHour[j]
				vehicles, types, late, tooLate := "", "", "", ""
				if h.Coverage == Counted {
					vehicles, types, late, tooLate = number(h.Vehicles), typeList(h.Types), number(h.Late),
						number(h.TooLate)
				}
				row(strconv.Itoa(int(p.ID)), p.Name, p.Road, stamp(p, h.Window.Start),
					stamp(p, h.Window.End), string(h.Coverage), vehicles, types, late, tooLate)
			}
		}
	})
}

// writeRows writes CSV (RFC 4180) with a header, whose cells no spreadsheet takes for formulas.
func writeRows(w io.Writer, header []string, rows func(row func(cells ...string))) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write(header) // Error has the first failure
	rows(func(cells ...string) {
		for i, cell := range cells {
			cells[i] = text.CSVCell(cell)
		}
		_ = out.Write(cells)
	})
	out.Flush()
	return out.Error()
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// stamp returns a minute on the plaza's clock, with its offset.
func stamp(p *Plaza, m toll.Minute) string {
	return m.Time().In(p.Location).Format(time.RFC3339)
}

// typeList returns counts as car=117 truck=11.
func typeList(types []toll.TypeCount) string {
	all := make([]string, len(types))
	for i, t := range types {
		all[i] = t.Type + "=" + number(t.Count)
	}
	return strings.Join(all, " ")
}
