// Package board is the view model: the toll plazas as they are at one moment, with what follows
// from their events, windows and verification. The text, the JSON, the terminal and the page all
// show it. It is pure: it reaches neither Kafka nor MySQL, and has no clock.
package board

import (
	"errors"
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// ErrNotFound is what a source of boards returns, wrapped or not, for a plaza that is not known.
var ErrNotFound = errors.New("no such plaza")

// UnknownKindError is what a source of boards returns for windows of a kind that is not counted.
type UnknownKindError struct {
	Kinds []string // those that are
}

func (e *UnknownKindError) Error() string {
	if len(e.Kinds) == 0 {
		return "no windows are counted yet"
	}
	return "want one of the kinds of windows that are counted: " + strings.Join(e.Kinds, ", ")
}

// ErrEnded is what a source of boards returns, wrapped or not, once there is nothing left to read.
var ErrEnded = errors.New("the reader of the group table has ended")

// OutageError is what a source of boards returns where a server does not answer.
type OutageError struct {
	Server string // Kafka or MySQL
	Err    error
}

// Error returns the text of the error alone: it names the server, and more.
func (e *OutageError) Error() string { return e.Err.Error() }

func (e *OutageError) Unwrap() error { return e.Err }

// OutageOf returns which server an error is about, empty for none that is known.
func OutageOf(err error) (server string) {
	if e := (*OutageError)(nil); errors.As(err, &e) {
		return e.Server
	}
	return ""
}

// The JSON is that of the API: every member is there, and null for what is not known. Times are RFC
// 3339; the server shows those of a plaza by the plaza's clock and those of the stream by the
// database's, whatever location they are given in.

// Board is all plazas as they were at one moment. A reader fills in what it read, and Derive the
// rest.
type Board struct {
	At         time.Time  `json:"at"`          // wall clock when it was read
	StreamTime *time.Time `json:"stream_time"` // event time: the median of the plazas' latest minutes
	Watermark  *time.Time `json:"watermark"`   // windows that end at or before it have closed
	Waiting    int64      `json:"waiting"`     // records of the topic that are not stored yet

	// OpenTransactions of producers, which keep records from being read.
	OpenTransactions []OpenTransaction `json:"open_transactions"`
	// Warnings are clocks that disagree, a sentence each.
	Warnings []string `json:"warnings"`

	RecentRejects RecentRejects `json:"recent_rejects"`

	Feed       Feed       `json:"feed"`
	Processing Processing `json:"processing"`
	Notices    []Notice   `json:"notices"` // derived; the most severe are not always first

	Timezone     string       `json:"timezone"`     // the database's, an IANA name; empty for UTC
	Verification Verification `json:"verification"` // derived
	Summary      Summary      `json:"summary"`      // derived, see [Summarize]
	// in any order, no id twice; the server sorts them by id
	Plazas []Plaza `json:"plazas"`

	// What follows is not in the API's JSON.

	Limits      Limits            `json:"-"` // zero for [DefaultLimits]
	Location    *time.Location    `json:"-"` // of the database's clock
	Kinds       []toll.WindowKind `json:"-"` // of windows that are counted
	Known       []int16           `json:"-"` // all plazas of the group table, ascending
	Events      int64             `json:"-"` // counted by the group table at the plazas; derived
	InFlight    int64             `json:"-"` // of now, as Events; derived
	DeadLetters int64             `json:"-"` // rejected records; of a board of all plazas
	RowsAt      time.Time         `json:"-"` // when the rows were counted last, zero for never
	History     *History          `json:"-"` // of a board of one plaza
}

// NullPlaza is the ID of the rows without a plaza, which only others insert. A board for the API or
// a screen does not have it.
const NullPlaza = toll.MinPlaza - 1

// RecentRejects is how many of the last records of the topic were rejected.
type RecentRejects struct {
	Records  int64 `json:"records"`
	Rejected int64 `json:"rejected"`
	High     bool  `json:"high"` // so many that somebody should look
}

// OpenTransaction is a producer's transaction that is open: the records of a partition from an
// offset on can't be read before it ends.
type OpenTransaction struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Since     time.Time `json:"since"` // wall clock when it was first seen
}

// Status is the verdict of a verification.
type Status string

// The verdicts, from good to bad.
const (
	// every invariant holds, and the group table has counted all that is stored
	Exact Status = "exact"
	// every invariant holds, and some events are stored and not yet counted, which is healthy
	InFlight Status = "in_flight"
	// no invariant is known to be broken, but the rows were not read, so nothing is proved
	NotVerified Status = "not_verified"
	Mismatch    Status = "mismatch" // an invariant does not hold
)

// Verification is the proof of the figures: whether each event is stored and counted exactly once.
// Its figures are those of one check, in one snapshot of the database.
type Verification struct {
	Status Status `json:"status"`
	Events *int64 `json:"events"` // that the group table counts
	// of livetolldata; nil where counting them took too long
	Rows     *int64 `json:"rows"`
	InFlight int64  `json:"in_flight"` // events that are stored and not yet counted
	// wall clock of the check; nil where it did not read the rows
	CheckedAt *time.Time `json:"checked_at"`
	Problems  []string   `json:"problems"` // a sentence each; the server shows the first 100
	Next      []string   `json:"next"`     // what to do about them, each step once
}

// PlazaVerification is the proof of one plaza's figures, which are those of one check.
type PlazaVerification struct {
	Status     Status `json:"status"`
	TableCount int64  `json:"table_count"` // events that the group table counts
	StoredRows *int64 `json:"stored_rows"` // rows of livetolldata; nil where not counted
	InFlight   int64  `json:"in_flight"`
	// whether the rows are the ones that were stored; nil where not computed
	ChecksumOK *bool `json:"checksum_ok"`
}

// Check is how a plaza's rows and counts compare. Its JSON is that of the command line.
type Check struct {
	TableCount int64     `json:"table_count"` // events that the group table counts
	StoredRows *int64    `json:"stored_rows"` // with the baseline; nil where not counted
	Baseline   int64     `json:"baseline"`    // rows from before tollstream
	Pruned     int64     `json:"pruned"`      // rows that tollstream prune deleted
	InFlight   int64     `json:"in_flight"`   // events that are stored and not yet counted
	ChecksumOK *bool     `json:"checksum_ok"` // nil where not computed
	Status     Status    `json:"status"`
	Note       string    `json:"note,omitempty"`
	Problems   []Problem `json:"problems,omitempty"`
}

// Problem is an invariant that does not hold.
type Problem struct {
	Kind      string `json:"kind"`
	Partition *int32 `json:"partition,omitempty"`
	Plaza     *int   `json:"plaza,omitempty"`
	Window    string `json:"window,omitempty"` // the kind and the start in UTC
	Want      int64  `json:"want"`
	Got       int64  `json:"got"`
	Text      string `json:"text"` // one sentence
	Next      string `json:"next"` // what to do about it
}

// Summary is the network in figures.
type Summary struct {
	Plazas      int         `json:"plazas"`
	FlowPerHour Flow        `json:"flow_per_hour"` // of the plazas of which it is known
	States      StateCounts `json:"states"`
}

// StateCounts counts the plazas in each state of congestion.
type StateCounts struct {
	Free       int `json:"free"`
	Busy       int `json:"busy"`
	Saturated  int `json:"saturated"`
	BelowUsual int `json:"below_usual"`
	AboveUsual int `json:"above_usual"`
	NoData     int `json:"no_data"`
	CatchingUp int `json:"catching_up"`
	WarmingUp  int `json:"warming_up"`
}

// Of returns the count of a state.
func (c *StateCounts) Of(s traffic.State) *int {
	switch s {
	case traffic.Free:
		return &c.Free
	case traffic.Busy:
		return &c.Busy
	case traffic.Saturated:
		return &c.Saturated
	case traffic.BelowUsual:
		return &c.BelowUsual
	case traffic.AboveUsual:
		return &c.AboveUsual
	case traffic.CatchingUp:
		return &c.CatchingUp
	case traffic.WarmingUp:
		return &c.WarmingUp
	}
	return &c.NoData
}

// Summarize returns the summary of plazas.
func Summarize(plazas []Plaza) (s Summary) {
	known := len(plazas) == 0
	for i := range plazas {
		p := &plazas[i]
		if p.ID == NullPlaza {
			continue
		}
		s.Plazas++
		if p.FlowPerHour.Known() {
			s.FlowPerHour, known = s.FlowPerHour+p.FlowPerHour, true
		}
		*s.States.Of(p.State)++
	}
	if !known {
		s.FlowPerHour = UnknownFlow()
	}
	return s
}

// SparklineQuarters is how many quarters of an hour a sparkline has: half a day.
const SparklineQuarters = 48

// Measures are those of a plaza that go out of date together. Nil is not known; for their formulas
// see [traffic.Measure].
type Measures struct {
	VC         *float64 `json:"vc"`          // throughput over capacity
	PHF        *float64 `json:"phf"`         // peak-hour factor, 0.25 to 1
	HeavyShare *float64 `json:"heavy_share"` // 0 to 1
	// how far the last quarter is from usual: a robust z-score
	Z              *float64 `json:"z"`
	HeadwaySeconds *float64 `json:"headway_seconds"`
	Throughput     *float64 `json:"demand"` // passenger cars per hour
}

// MeasuresOf returns what a board shows of a measure.
func MeasuresOf(m *traffic.Measure) Measures {
	return Measures{VC: m.VC, PHF: m.PHF, HeavyShare: m.HeavyShare, Z: m.Z,
		HeadwaySeconds: m.HeadwaySeconds, Throughput: new(m.Throughput)}
}

// Plaza is one row of the board.
type Plaza struct {
	ID int `json:"id"`
	// of the plazas file, as the next four; empty for not known
	Name       string   `json:"name"`
	Road       string   `json:"road"`
	PositionKm *float64 `json:"position_km"` // along the road
	Lanes      int      `json:"lanes"`       // 0 for not known
	Timezone   string   `json:"timezone"`    // IANA name; where empty, the server sets the board's

	State traffic.State `json:"state"`
	Since *time.Time    `json:"since"` // event time; nil where it was never assessed
	Why   string        `json:"why"`   // a sentence with the figures

	Total int64 `json:"total"` // events since the beginning
	// vehicles per hour, of the last quarter of an hour
	FlowPerHour Flow `json:"flow_per_hour"`
	Measures
	Capacity *float64 `json:"capacity"` // passenger cars per hour
	// more than the capacity passes, or did in the last week, so it is too low; see [traffic.Overrun]
	CapacityWrong bool           `json:"capacity_wrong"`
	Usual         *traffic.Usual `json:"usual"` // vehicles per quarter of an hour
	LastEvent     *time.Time     `json:"last_event"`
	// of a plaza's first quarter of an hour: for how many minutes it was observed, which its flow is
	// of; else nil
	ObservedMinutes *int `json:"observed_minutes"`
	// vehicles in each of the last 48 quarters of an hour, the oldest first; the last is still
	// running. nil where the group table does not hold them, or the plaza had no event yet
	Sparkline []*int64 `json:"sparkline"`

	Late int64 `json:"late"` // events that came late and count in all windows
	// late, and counted in windows of whole quarters of an hour alone
	LateQuarter int64 `json:"late_quarter"`
	TooLate     int64 `json:"too_late"`     // in no window
	Ahead       int64 `json:"ahead"`        // ahead of their partition's clock
	LeadSeconds int64 `json:"lead_seconds"` // by how much the last of these was ahead

	Verification PlazaVerification `json:"verification"`

	// What follows is not in the API's JSON: what was read of the plaza, and more that is derived.

	Location   *time.Location      `json:"-"` // of its clock
	Counts     *toll.State         `json:"-"` // of the group table, never nil
	Check      Check               `json:"-"`
	Counted    *Check              `json:"-"` // the last that counted rows, nil for none
	Assessment *traffic.Assessment `json:"-"` // the last, nil for none

	FirstEvent *time.Time       `json:"-"`
	FlowKnown  bool             `json:"-"` // false where the group table lacks some of its minutes
	Measure    *traffic.Measure `json:"-"` // of now; nil where it was not assessed lately
	// Aged is whether its state was taken back: nothing arrives any more, or nothing is stored.
	Aged bool `json:"-"`
}

// History is what has changed and closed at a plaza.
type History struct {
	// what the capacity is at least; nil where the last weeks show no bound
	CapacityBound *traffic.CapacityBound `json:"capacity_bound"`
	// of the state of congestion, the newest first
	Changes []Change `json:"changes"`
	// closed ones, the newest first; see also [Board.SortWindows]
	RecentWindows []Window `json:"recent_windows"`
}

// Detail is one plaza with its history.
type Detail struct {
	Plaza
	// wall clock when it was read; where zero, the server sets it
	At time.Time `json:"at"`
	// of the plaza's local date so far and to come, ascending
	Quarters         []Quarter `json:"quarters"`
	LastWeek         []Quarter `json:"last_week"`            // of the same date a week before
	DaySoFar         *int64    `json:"day_so_far"`           // events since local midnight
	DaySoFarLastWeek *int64    `json:"day_so_far_last_week"` // up to the same time of day
	History
}

// Quarter is a quarter of an hour, [Start, Start + 15 min).
type Quarter struct {
	Start time.Time `json:"start"`
	// nil where it has not begun, or nothing is known of it
	Count  *int64           `json:"count"`
	ByType map[string]int64 `json:"by_type"` // of Count, by vehicle type
	// of Count; nil where it is not known how many cars a vehicle of a type counts for
	PassengerCars *float64 `json:"passenger_cars"`
	// vehicles, at the level of the hours before; nil with too few weeks, as the next two
	UsualMedian *float64 `json:"usual_median"`
	UsualLow    *float64 `json:"usual_low"`  // below it, it is below usual: see [traffic.Usual.Band]
	UsualHigh   *float64 `json:"usual_high"` // above it, above usual
	Capacity    *float64 `json:"capacity"`   // passenger cars in a quarter of an hour
}

// Change is a change of the state of congestion.
type Change struct {
	From     traffic.State `json:"from"`
	To       traffic.State `json:"to"`
	Since    time.Time     `json:"since"`    // when it began, in event time
	Detected time.Time     `json:"detected"` // when it was decided
	Why      string        `json:"why"`

	Measure traffic.Measure `json:"-"` // the figures that decided it
}

// Window is the last revision of a closed window, [Start, End).
type Window struct {
	Kind        string           `json:"kind"` // a [toll.WindowKind]'s name
	Start       time.Time        `json:"start"`
	End         time.Time        `json:"end"`           // of a day so far, how far it was counted
	Count       int64            `json:"count"`         // OnTime + Late
	ByType      map[string]int64 `json:"by_type"`       // of Count, by vehicle type
	FlowPerHour float64          `json:"flow_per_hour"` // vehicles per hour
	Final       bool             `json:"final"`         // false of a day so far
	Revision    int64            `json:"revision"`      // from 1; 0 where all events came too late
	Reason      toll.CloseReason `json:"reason"`        // why it closed first
	OnTime      int64            `json:"on_time"`
	Late        int64            `json:"late"`
	TooLate     int64            `json:"too_late"` // events of the window that are not in Count
	// Count/(Count + TooLate), set by the server; nil of an empty window
	Completeness *float64 `json:"completeness"`
}

// Range is a stretch of event time, [From, Until). An end that is nil is open.
type Range struct {
	From, Until *time.Time
}

// Holds reports whether a time lies in the range.
func (r Range) Holds(t time.Time) bool {
	return (r.From == nil || !t.Before(*r.From)) && (r.Until == nil || t.Before(*r.Until))
}

// LongestSeries bounds a series: a week in which clocks may be set back.
const LongestSeries = 8 * 24 * time.Hour

// Series is what passed a plaza by quarters of an hour.
type Series struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"to"` // exclusive
	// all that begin in [From, Until), ascending; what is not known of one is nil
	Quarters []Quarter `json:"quarters"`
}

// ChangeQuery selects changes of congestion.
type ChangeQuery struct {
	Range     // of Detected
	Limit int // at least 1
	// those that were detected before, which is where a page ends; nil for the newest
	Before *time.Time
}

// ChangePage is a part of a list.
type ChangePage struct {
	Changes []Change
	More    bool // whether others follow
}

// WindowQuery selects windows.
type WindowQuery struct {
	Range                  // of Start
	Kind   string          // a kind's name; empty for all kinds
	Limit  int             // at least 1
	Before *WindowPosition // those behind it in the order of a page; nil for the newest
}

// WindowPosition is where a window is among a plaza's.
type WindowPosition struct {
	Start time.Time
	Kind  string
}

// WindowPage is a part of a list.
type WindowPage struct {
	Windows []Window
	Kinds   []string // all kinds that are kept, whatever was asked for, in the order to show them
	More    bool     // whether others follow
}

// PageQuery selects dead letters.
type PageQuery struct {
	Limit int          // at least 1
	After *toll.Origin // those behind it; nil for the first
}

// DeadLetter is a record that can't be a row.
type DeadLetter struct {
	Partition    int32
	Offset       int64
	Time         time.Time // of the record
	Kind         toll.RejectKind
	Reason       string
	SQLState     string // where the database refused it, else empty
	Number       uint16 // of the database's error where it refused it, else 0
	Key          []byte // nil for none
	Payload      []byte // nil for a tombstone; its first 4 KiB are enough
	PayloadBytes int64  // as received
	RejectedAt   time.Time
	Retried      bool // its repaired event was stored
}

// DeadLetterPage is a part of a list.
type DeadLetterPage struct {
	DeadLetters []DeadLetter
	Total       int64 // of all pages
	More        bool  // whether others follow
}
