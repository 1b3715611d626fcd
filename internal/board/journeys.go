package board

import (
	"cmp"
	"io"
	"slices"
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
	// of so many weeks before the same time was read to say what is usual: where reading takes long,
	// fewer than four
	UsualWeeks int       `json:"usual_weeks"`
	Sections   []Section `json:"sections"` // see [Journeys.Sort]
}

// Section is two plazas that vehicles pass one after the other, in this direction. Of its measures
// see the package journeys, which has their formulas. What is not known is nil.
type Section struct {
	From     int      `json:"from"`
	To       int      `json:"to"`
	FromName string   `json:"from_name"` // of the plazas file, as the next two; empty for not known
	ToName   string   `json:"to_name"`
	Road     string   `json:"road"` // of both; empty where they are on two
	LengthKm *float64 `json:"length_km" decimals:"3"`

	// that arrived in the window, without those that stopped; 0 of fewer than five, whose times are
	// not shown
	Vehicles int64 `json:"vehicles"`
	// that stopped on the way or were not read between; the figures leave them out
	Stopped int64 `json:"stopped"`
	// of their travel times: the median, with its 95 % confidence interval, and percentiles
	MedianSeconds *float64 `json:"median_seconds" decimals:"1"`
	LowSeconds    *float64 `json:"median_low_seconds" decimals:"1"`
	HighSeconds   *float64 `json:"median_high_seconds" decimals:"1"`
	P85Seconds    *float64 `json:"p85_seconds" decimals:"1"`
	P95Seconds    *float64 `json:"p95_seconds" decimals:"1"`
	UsualSeconds  *float64 `json:"usual_seconds" decimals:"1"`
	UsualOf       string   `json:"usual_of"` // when that was, in words; empty for not known
	FreeSeconds   *float64 `json:"free_flow_seconds" decimals:"1"`
	FreeOf        string   `json:"free_flow_of"`
	SpeedKmh      *float64 `json:"speed_kmh" decimals:"1"` // space-mean speed
	// travel time index, planning time index, buffer index, level of travel time reliability
	TTI         *float64 `json:"travel_time_index" decimals:"3"`
	PTI         *float64 `json:"planning_time_index" decimals:"3"`
	BufferIndex *float64 `json:"buffer_index" decimals:"3"`
	Reliability *float64 `json:"reliability_ratio" decimals:"3"`
	// vehicle-hours that the vehicles of the window took longer than in free flow
	DelayHours *float64 `json:"delay_vehicle_hours" decimals:"2"`
	// vehicles that left and were not seen at the other end in 1.3 times the usual time: at least
	// those beyond what usually goes elsewhere, at most all of them
	OverdueLow  *int64 `json:"overdue_low"`
	OverdueHigh *int64 `json:"overdue_high"`
	// vehicles take longer than usual, or are overdue, beyond chance
	Slow bool `json:"slow"`
}

// Sort puts the sections with the worst delay first, those that are slow before the others.
func (j *Journeys) Sort() {
	order := []bool{true, false}
	slices.SortFunc(j.Sections, func(a, b Section) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Slow), slices.Index(order, b.Slow)),
			CompareFigures(orNaN(a.DelayHours), orNaN(b.DelayHours), true),
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

// WriteSections writes sections as CSV (RFC 4180), below a line of names. What is not known is
// empty.
func WriteSections(w io.Writer, sections []Section) error { return text.WriteStructs(w, sections) }

// streamRow is a line of the CSV of a plaza's streams.
type streamRow struct {
	Direction string  `json:"direction"`
	Plaza     any     `json:"plaza"` // its number, or other
	Name      string  `json:"name"`
	Vehicles  int64   `json:"vehicles"`
	Share     float64 `json:"share" decimals:"4"`
}

// WriteStreams writes where vehicles come from and go to as CSV (RFC 4180), below a line of names.
func WriteStreams(w io.Writer, t *Through) error {
	var rows []streamRow
	add := func(direction string, streams []Stream) {
		for _, s := range streams {
			row := streamRow{direction, "other", s.Name, s.Vehicles, s.Share}
			if s.Plaza != nil {
				row.Plaza = *s.Plaza
			}
			rows = append(rows, row)
		}
	}
	add("from", t.Origins)
	add("to", t.Destinations)
	return text.WriteStructs(w, rows)
}
