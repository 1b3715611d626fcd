package board

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/internal/text"
)

// JourneyStatus says whether there are journeys to show.
type JourneyStatus string

// The statuses. Of all but HasJourneys there are no figures.
const (
	HasJourneys JourneyStatus = "journeys"
	// the vehicles' ids look random, so pairs of rows are no journeys
	RandomIDs JourneyStatus = "random_ids"
	TooFew    JourneyStatus = "too_few" // too few vehicles to say
	// reading the rows takes too long for a live view
	NotRead JourneyStatus = "not_read"
)

// JourneyWindow is what journeys are of: those that ended in [From, Until).
type JourneyWindow struct {
	At       time.Time     `json:"at"`   // wall clock when they were read
	From     time.Time     `json:"from"` // event time
	Until    time.Time     `json:"to"`   // exclusive
	Timezone string        `json:"timezone"`
	Status   JourneyStatus `json:"status"`
	Why      string        `json:"why"` // a sentence where there are none, else empty
}

// Journeys is how long vehicles take from plaza to plaza.
type Journeys struct {
	JourneyWindow
	Sections []Section `json:"sections"` // see [Journeys.Sort]
}

// Section is two plazas that vehicles pass one after the other, in this direction. Of its measures
// see the package journeys, which has their formulas. What is not known is nil.
type Section struct {
	From     int      `json:"from"`
	To       int      `json:"to"`
	FromName string   `json:"from_name"` // of the plazas file, as the next two; empty for not known
	ToName   string   `json:"to_name"`
	Road     string   `json:"road"` // of both; empty where they are on two
	LengthKm *float64 `json:"length_km"`

	// that arrived in the window, without those that stopped; 0 of fewer than five, whose times are
	// not shown
	Vehicles int64 `json:"vehicles"`
	// that stopped on the way or were not read between; the figures leave them out
	Stopped int64 `json:"stopped"`
	// of their travel times: the median, with its 95 % confidence interval, and percentiles
	MedianSeconds *float64 `json:"median_seconds"`
	LowSeconds    *float64 `json:"median_low_seconds"`
	HighSeconds   *float64 `json:"median_high_seconds"`
	P85Seconds    *float64 `json:"p85_seconds"`
	P95Seconds    *float64 `json:"p95_seconds"`
	UsualSeconds  *float64 `json:"usual_seconds"`
	UsualOf       string   `json:"usual_of"` // when that was, in words; empty for not known
	FreeSeconds   *float64 `json:"free_flow_seconds"`
	FreeOf        string   `json:"free_flow_of"`
	SpeedKmh      *float64 `json:"speed_kmh"` // space-mean speed
	// travel time index, planning time index, buffer index, level of travel time reliability
	TTI         *float64 `json:"travel_time_index"`
	PTI         *float64 `json:"planning_time_index"`
	BufferIndex *float64 `json:"buffer_index"`
	Reliability *float64 `json:"reliability_ratio"`
	// vehicle-hours that the vehicles of the window took longer than in free flow
	DelayHours *float64 `json:"delay_vehicle_hours"`
	// vehicles that left and were not seen at the other end in 1.3 times the usual time: at least
	// those beyond what usually goes elsewhere, at most all of them
	OverdueLow  *int64 `json:"overdue_low"`
	OverdueHigh *int64 `json:"overdue_high"`
	// vehicles take longer than usual, or are overdue, beyond chance
	Slow bool `json:"slow"`
}

// Slower is how much longer than usual vehicles take, as a share of that; nil where not known.
func (s *Section) Slower() *float64 {
	if s.MedianSeconds == nil || s.UsualSeconds == nil || *s.UsualSeconds <= 0 {
		return nil
	}
	return new(*s.MedianSeconds / *s.UsualSeconds - 1)
}

// Sort puts the sections with the worst delay first, those that are slow before the others.
func (j *Journeys) Sort() {
	slices.SortFunc(j.Sections, func(a, b Section) int {
		if a.Slow != b.Slow {
			if a.Slow {
				return -1
			}
			return 1
		}
		return cmp.Or(CompareFigures(orNaN(a.DelayHours), orNaN(b.DelayHours), true),
			cmp.Compare(b.Vehicles, a.Vehicles), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}

// Through is where the vehicles that pass a plaza come from and go to.
type Through struct {
	JourneyWindow
	Plaza    int    `json:"plaza"`
	Name     string `json:"name"`
	Vehicles int64  `json:"vehicles"` // that passed it in the window
	// where they were seen first and last on their trip, which may be this plaza itself: the largest
	// first, what is hidden last
	Origins      []Stream `json:"origins"`
	Destinations []Stream `json:"destinations"`
}

// Stream is the vehicles that come from a plaza, or go to it.
type Stream struct {
	// nil for several plazas together, each of which has too few vehicles to be shown
	Plaza    *int    `json:"plaza"`
	Name     string  `json:"name"`
	Vehicles int64   `json:"vehicles"`
	Share    float64 `json:"share"` // of all vehicles, 0 to 1
}

// sectionColumns are the columns of the CSV. What is not known is empty.
var sectionColumns = func() []text.CSVColumn[Section] {
	number := func(x *float64, decimals int) string {
		if x == nil {
			return ""
		}
		return strconv.FormatFloat(*x, 'f', decimals, 64)
	}
	count := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	return []text.CSVColumn[Section]{
		{"from", func(s *Section) string { return strconv.Itoa(s.From) }},
		{"to", func(s *Section) string { return strconv.Itoa(s.To) }},
		{"from_name", func(s *Section) string { return text.CSVCell(s.FromName) }},
		{"to_name", func(s *Section) string { return text.CSVCell(s.ToName) }},
		{"road", func(s *Section) string { return text.CSVCell(s.Road) }},
		{"length_km", func(s *Section) string { return number(s.LengthKm, 3) }},
		{"vehicles", func(s *Section) string { return strconv.FormatInt(s.Vehicles, 10) }},
		{"stopped", func(s *Section) string { return strconv.FormatInt(s.Stopped, 10) }},
		{"median_seconds", func(s *Section) string { return number(s.MedianSeconds, 1) }},
		{"median_low_seconds", func(s *Section) string { return number(s.LowSeconds, 1) }},
		{"median_high_seconds", func(s *Section) string { return number(s.HighSeconds, 1) }},
		{"p85_seconds", func(s *Section) string { return number(s.P85Seconds, 1) }},
		{"p95_seconds", func(s *Section) string { return number(s.P95Seconds, 1) }},
		{"usual_seconds", func(s *Section) string { return number(s.UsualSeconds, 1) }},
		{"usual_of", func(s *Section) string { return s.UsualOf }},
		{"free_flow_seconds", func(s *Section) string { return number(s.FreeSeconds, 1) }},
		{"free_flow_of", func(s *Section) string { return s.FreeOf }},
		{"speed_kmh", func(s *Section) string { return number(s.SpeedKmh, 1) }},
		{"travel_time_index", func(s *Section) string { return number(s.TTI, 3) }},
		{"planning_time_index", func(s *Section) string { return number(s.PTI, 3) }},
		{"buffer_index", func(s *Section) string { return number(s.BufferIndex, 3) }},
		{"reliability_ratio", func(s *Section) string { return number(s.Reliability, 3) }},
		{"delay_vehicle_hours", func(s *Section) string { return number(s.DelayHours, 2) }},
		{"overdue_low", func(s *Section) string { return count(s.OverdueLow) }},
		{"overdue_high", func(s *Section) string { return count(s.OverdueHigh) }},
		{"slow", func(s *Section) string { return strconv.FormatBool(s.Slow) }},
	}
}()

// WriteSections writes sections as CSV (RFC 4180), below a line of names.
func WriteSections(w io.Writer, sections []Section) error {
	return text.WriteCSV(w, sectionColumns, len(sections),
		func(i int) *Section { return &sections[i] }, true)
}

// streamRow is a line of the CSV of a plaza's streams.
type streamRow struct {
	direction string
	*Stream
}

var streamColumns = []text.CSVColumn[streamRow]{
	{"direction", func(r *streamRow) string { return r.direction }},
	{"plaza", func(r *streamRow) string {
		if r.Plaza == nil {
			return "other"
		}
		return strconv.Itoa(*r.Plaza)
	}},
	{"name", func(r *streamRow) string { return text.CSVCell(r.Name) }},
	{"vehicles", func(r *streamRow) string { return strconv.FormatInt(r.Vehicles, 10) }},
	{"share", func(r *streamRow) string { return fmt.Sprintf("%.4f", r.Share) }},
}

// WriteStreams writes where vehicles come from and go to as CSV (RFC 4180), below a line of names.
func WriteStreams(w io.Writer, t *Through) error {
	var rows []streamRow
	for i := range t.Origins {
		rows = append(rows, streamRow{"from", &t.Origins[i]})
	}
	for i := range t.Destinations {
		rows = append(rows, streamRow{"to", &t.Destinations[i]})
	}
	return text.WriteCSV(w, streamColumns, len(rows), func(i int) *streamRow { return &rows[i] }, true)
}
