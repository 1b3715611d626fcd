package board

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Incident is an episode of a plaza that is saturated or far from usual, see [traffic.Incident].
type Incident struct {
	ID       string `json:"id"`
	Plaza    int    `json:"plaza"`
	Name     string `json:"name"` // of the plazas file, as the road; empty for not known
	Road     string `json:"road"`
	Timezone string `json:"timezone"` // IANA name, of the plaza's clock

	State    traffic.State   `json:"state"`    // the gravest that it went through
	States   []traffic.State `json:"states"`   // in their order
	Severity string          `json:"severity"` // of State: critical or warning
	Why      string          `json:"why"`      // what spoke for it

	Began    time.Time  `json:"began"` // event time, as those below
	Detected time.Time  `json:"detected"`
	Ended    *time.Time `json:"ended"` // nil while it is open
	// vehicles per hour in a quarter of an hour: the most, or of one below usual the fewest
	PeakFlow float64   `json:"peak_flow_per_hour"`
	PeakAt   time.Time `json:"peak_at"` // the end of that quarter

	Acknowledged bool           `json:"acknowledged"`
	Notes        []IncidentNote `json:"notes"` // ascending by time
	// how far its notifications are: sent, pending or given_up; nil where there are none
	Notified *string `json:"notified"`
}

// IncidentNote is what somebody noted about an incident.
type IncidentNote struct {
	At           time.Time `json:"at"` // wall clock
	Author       string    `json:"author"`
	Acknowledged bool      `json:"acknowledged"` // whether the author takes care of it
	Note         string    `json:"note"`
}

// NewNote is a note to add to an incident.
type NewNote struct {
	Incident     traffic.IncidentID
	Author       string
	Source       string // where from: an address
	Acknowledged bool
	Note         string // MaxNote characters at most
}

// MaxNote is how many characters a note has at most.
const MaxNote = 1000

// ErrNoIncident is what a source returns, wrapped or not, for a note on what is no incident.
var ErrNoIncident = errors.New("no such incident")

// Duration returns how long an incident took, and false while it is open.
func (i *Incident) Duration() (time.Duration, bool) {
	if i.Ended == nil {
		return 0, false
	}
	return i.Ended.Sub(i.Began), true
}

// PeakWord returns what a peak is: highest or lowest.
func (i *Incident) PeakWord() string {
	if i.State == traffic.BelowUsual {
		return "lowest"
	}
	return "highest"
}

// AckedBy returns who acknowledged an incident last, empty for nobody.
func (i *Incident) AckedBy() (author string) {
	for _, n := range i.Notes {
		if n.Acknowledged {
			author = n.Author
		}
	}
	return author
}

// IncidentQuery selects incidents: those that had not ended before the range, and began before it
// ended.
type IncidentQuery struct {
	Range
	ID     *traffic.IncidentID
	Plaza  *int16
	Road   string         // as the plazas file names it; empty for all
	State  *traffic.State // one of those that it went through
	Open   bool           // those that have not ended
	Limit  int            // at least 1
	Before *IncidentPosition
}

// IncidentPosition is where an incident is in the list: descending by when it began, then by plaza.
type IncidentPosition struct {
	Began time.Time
	Plaza int16
}

// IncidentPage is a part of a list, the newest first.
type IncidentPage struct {
	Incidents []Incident
	More      bool // whether others follow
	// Database is the random id of the database, without which an incident's id is not the only one.
	Database string
}

// incidentColumns are the columns of the CSV, with their names and cells.
var incidentColumns = []text.CSVColumn[Incident]{
	{"id", func(i *Incident) string { return i.ID }},
	{"plaza", func(i *Incident) string { return strconv.Itoa(i.Plaza) }},
	{"name", func(i *Incident) string { return text.CSVCell(i.Name) }},
	{"road", func(i *Incident) string { return text.CSVCell(i.Road) }},
	{"state", func(i *Incident) string { return code(i.State) }},
	{"states", func(i *Incident) string {
		var all []string
		for _, s := range i.States {
			all = append(all, code(s))
		}
		return strings.Join(all, " ")
	}},
	{"severity", func(i *Incident) string { return i.Severity }},
	{"began", func(i *Incident) string { return i.Began.Format(time.RFC3339) }},
	{"detected", func(i *Incident) string { return i.Detected.Format(time.RFC3339) }},
	{"ended", func(i *Incident) string {
		if i.Ended == nil {
			return ""
		}
		return i.Ended.Format(time.RFC3339)
	}},
	{"minutes", func(i *Incident) string {
		took, ended := i.Duration()
		if !ended {
			return ""
		}
		return strconv.Itoa(int(took / time.Minute))
	}},
	{"why", func(i *Incident) string { return text.CSVCell(i.Why) }},
	{"peak_flow_per_hour", func(i *Incident) string {
		return strconv.FormatFloat(i.PeakFlow, 'f', -1, 64)
	}},
	{"peak_at", func(i *Incident) string { return i.PeakAt.Format(time.RFC3339) }},
	{"acknowledged_by", func(i *Incident) string { return text.CSVCell(i.AckedBy()) }},
	{"notes", func(i *Incident) string {
		var all []string
		for _, n := range i.Notes {
			if n.Note != "" {
				all = append(all, n.Author+": "+n.Note)
			}
		}
		return text.CSVCell(strings.Join(all, "; "))
	}},
	{"notified", func(i *Incident) string {
		if i.Notified == nil {
			return ""
		}
		return *i.Notified
	}},
}

func code(s traffic.State) string {
	text, err := s.MarshalText()
	if err != nil {
		return "" // there is no such state
	}
	return string(text)
}

// WriteIncidents writes incidents as CSV (RFC 4180), below a line of names where head is set.
func WriteIncidents(w io.Writer, incidents []Incident, head bool) error {
	return text.WriteCSV(w, incidentColumns, len(incidents),
		func(i int) *Incident { return &incidents[i] }, head)
}
