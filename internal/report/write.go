package report

import (
	"io"
	"strings"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
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
	for _, known := range Formats {
		if format == known {
			return nil
		}
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
