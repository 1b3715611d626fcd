package render

import (
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// boardJSON is what view --json prints for all plazas.
type boardJSON struct {
	Status   board.Status `json:"status"` // of all plazas
	Total    int64        `json:"total"`
	InFlight int64        `json:"in_flight"`
	Waiting  int64        `json:"waiting"`  // records of the topic that are not stored yet
	Rejected int64        `json:"rejected"` // records that are dead letters

	RecentRejects board.RecentRejects `json:"recent_rejects"`

	Feed       board.Feed       `json:"feed"`
	Processing board.Processing `json:"processing"`
	// what to know before the figures are trusted
	Notices []board.Notice `json:"notices"`

	OpenTransactions []transactionOpenJSON `json:"open_transactions,omitzero"`
	// clocks that disagree by more than an hour, a sentence each
	Warnings []string `json:"warnings"`

	StreamTime *string     `json:"stream_time"`
	Watermark  *string     `json:"watermark"`
	Plazas     []plazaJSON `json:"plazas"` // in the order of --sort, as many as --top
}

// transactionOpenJSON is a producer's transaction that keeps the records of a partition from an
// offset on from being read.
type transactionOpenJSON struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Seconds   int64 `json:"seconds"` // since it was first seen by this command
}

func transactionsJSON(b *board.Board) (open []transactionOpenJSON) {
	for _, t := range b.OpenTransactions {
		open = append(open,
			transactionOpenJSON{t.Partition, t.Offset, int64(time.Since(t.Since).Seconds())})
	}
	return open
}

// plazaJSON is what view --json prints of one plaza. Times are RFC 3339 with the offset of the
// plaza's clock, null where there is no event, or no watermark yet.
type plazaJSON struct {
	Plaza      int              `json:"plaza"`
	Name       string           `json:"name,omitzero"` // this and the next two as the plazas file says
	Road       string           `json:"road,omitzero"`
	Lanes      int              `json:"lanes,omitzero"`
	Total      int64            `json:"total"`
	ByType     map[string]int64 `json:"by_type"`
	FirstEvent *string          `json:"first_event"`
	LastEvent  *string          `json:"last_event"`
	StreamTime *string          `json:"stream_time"`
	Watermark  *string          `json:"watermark"`
	// records of the topic, of any plaza, that are not stored yet
	Waiting int64 `json:"waiting"`

	Feed       *board.Feed       `json:"feed,omitzero"` // this and the next two of one plaza alone
	Processing *board.Processing `json:"processing,omitzero"`
	Notices    []board.Notice    `json:"notices,omitzero"`

	OpenTransactions []transactionOpenJSON `json:"open_transactions,omitzero"`

	// up to 2 hours behind the watermark: in all windows
	Late int64 `json:"late"`
	// up to 2 days: in windows of whole quarters of an hour
	LateQuarter  int64           `json:"late_quarter"`
	TooLate      int64           `json:"too_late"`     // in no window
	Ahead        int64           `json:"ahead"`        // ran ahead of the clock of their partition
	LeadSeconds  int64           `json:"lead_seconds"` // by how much the last of these did
	Congestion   *congestionJSON `json:"congestion"`   // null before the first minute was judged
	Transitions  []board.Change  `json:"transitions,omitzero"`
	Windows      []windowJSON    `json:"windows,omitzero"`
	Verification board.Check     `json:"verification"`
}

// congestionJSON is the state of a plaza. Figures are of the 15 minutes before until, phf of the
// hour; null is not known.
type congestionJSON struct {
	// no_data, free, busy, saturated, below_usual, above_usual; catching_up and warming_up of a plaza
	// that has no state yet
	State       traffic.State `json:"state"`
	Since       string        `json:"since"`
	Until       string        `json:"until"` // minutes before it are judged
	Why         string        `json:"why"`
	FlowPerHour float64       `json:"flow_per_hour"` // vehicles an hour
	board.Measures
	Capacity *float64 `json:"capacity"` // passenger cars an hour
	// more than the capacity passes, or did in the last week: it is too low
	CapacityWrong bool `json:"capacity_wrong"`
	// what it is at least, by the last weeks; of one plaza only
	CapacityBound *traffic.CapacityBound `json:"capacity_bound,omitzero"`
	Usual         *traffic.Usual         `json:"usual"` // vehicles in 15 minutes
	Z             *float64               `json:"z"`     // hides that of Measures: z comes last
}

// windowJSON is one window of event time, [start, end).
type windowJSON struct {
	// rolling: ends with the stream's current minute; else as --windows names it
	Kind        string           `json:"kind"`
	Start       string           `json:"start"`
	End         string           `json:"end"` // of a day so far, how far it was counted
	Count       int64            `json:"count"`
	ByType      map[string]int64 `json:"by_type"`
	FlowPerHour float64          `json:"flow_per_hour"` // count · 3600 / (end − start in seconds)
	// closed at its own end; of a rolling one, whether the watermark has passed it
	Final    bool   `json:"final"`
	Revision int64  `json:"revision"`         // 0 where all events came too late
	OnTime   int64  `json:"on_time"`          // of count
	Late     int64  `json:"late"`             // of count
	TooLate  int64  `json:"too_late"`         // belong to the window and are not in count
	Reason   string `json:"reason"`           // why it closed; empty for a rolling one
	Partial  bool   `json:"partial,omitzero"` // of a rolling one: some of its minutes are not kept
}

// PlazasJSON returns what view --json prints for all plazas.
func PlazasJSON(b *board.Board, o Options) any {
	all := boardJSON{Status: b.Verification.Status, Total: b.Events,
		InFlight: b.Verification.InFlight, Waiting: b.Waiting, Rejected: b.DeadLetters,
		RecentRejects: b.RecentRejects, OpenTransactions: transactionsJSON(b),
		Feed: b.Feed, Processing: b.Processing, Notices: append([]board.Notice{}, b.Notices...),
		Warnings: append([]string{}, b.Warnings...), Plazas: []plazaJSON{}}
	all.StreamTime, all.Watermark = streamTimes(b, b.Location)
	shown := o.top(b)
	for i := range shown {
		all.Plazas = append(all.Plazas, plazaJSONOf(b, &shown[i]))
	}
	return all
}

// PlazaJSON returns what view --json prints for the plaza of a board of one.
func PlazaJSON(b *board.Board) any {
	p := &b.Plazas[0]
	j := plazaJSONOf(b, p)
	if b.History != nil && j.Congestion != nil {
		j.Congestion.CapacityBound = b.History.CapacityBound
	}
	j.Windows, j.Transitions = rollingWindows(b, p), []board.Change{}
	j.Feed, j.Processing, j.Notices = &b.Feed, &b.Processing, append([]board.Notice{}, b.Notices...)
	if b.History == nil {
		return j
	}
	for i := range b.History.RecentWindows {
		w := &b.History.RecentWindows[i]
		j.Windows = append(j.Windows, windowJSON{Kind: w.Kind, Start: clockText(w.Start, p.Location),
			End: clockText(w.End, p.Location), Count: w.Count, ByType: w.ByType,
			FlowPerHour: w.FlowPerHour, Final: w.Final, Revision: w.Revision, OnTime: w.OnTime,
			Late: w.Late, TooLate: w.TooLate, Reason: string(w.Reason)})
	}
	for _, c := range b.History.Changes {
		c.Since, c.Detected = c.Since.In(p.Location), c.Detected.In(p.Location)
		j.Transitions = append(j.Transitions, c)
	}
	return j
}

func plazaJSONOf(b *board.Board, p *board.Plaza) plazaJSON {
	j := plazaJSON{
		Plaza: p.ID, Name: p.Name, Road: p.Road, Lanes: p.Lanes, Total: p.Total,
		ByType: board.ByType(p.Counts.Types), Waiting: b.Waiting,
		OpenTransactions: transactionsJSON(b), Late: p.Late, LateQuarter: p.LateQuarter,
		TooLate: p.TooLate, Ahead: p.Ahead, LeadSeconds: p.LeadSeconds,
		Congestion: congestionJSONOf(p), Verification: *p.Verified(),
	}
	j.StreamTime, j.Watermark = streamTimes(b, p.Location)
	j.FirstEvent, j.LastEvent = timeText(p.FirstEvent, p.Location), timeText(p.LastEvent, p.Location)
	return j
}

func congestionJSONOf(p *board.Plaza) *congestionJSON {
	if p.Assessment == nil {
		return nil
	}
	a, m := p.Assessment, &p.Assessment.Last
	state, why := a.State, a.Why
	if p.State != traffic.NoData || p.Aged {
		state, why = p.State, p.Why
	}
	return &congestionJSON{
		State: state, Since: clockText(a.Since.Time(), p.Location),
		Until: clockText(a.Until.Time(), p.Location), Why: why,
		FlowPerHour: m.FlowPerHour, Measures: board.MeasuresOf(m), Capacity: m.Capacity,
		Usual: m.Usual, Z: m.Z, CapacityWrong: a.CapacityWrong(),
	}
}

// rollingWindows returns the windows of a plaza that end with the stream's time.
func rollingWindows(b *board.Board, p *board.Plaza) []windowJSON {
	windows := []windowJSON{}
	if b.StreamTime == nil {
		return windows
	}
	for _, n := range rollingMinutes {
		span := toll.LastMinutes(b.Now(), n)
		types, late := toll.SumPanes(p.Counts.Minutes.In(span))
		count := toll.SumTypes(types)
		windows = append(windows, windowJSON{Kind: "rolling", Revision: 1,
			Start: clockText(span.Start.Time(), p.Location), End: clockText(span.End.Time(), p.Location),
			Count: count, ByType: board.ByType(types), FlowPerHour: toll.FlowPerHour(count, span.Span()),
			OnTime: count - late, Late: late, Final: b.Passed(span), Partial: !p.Holds(span)})
	}
	return windows
}

func streamTimes(b *board.Board, clock *time.Location) (now, watermark *string) {
	if b.StreamTime == nil {
		return nil, nil
	}
	return timeText(b.StreamTime, clock), timeText(b.Watermark, clock)
}

func timeText(t *time.Time, clock *time.Location) *string {
	if t == nil {
		return nil
	}
	return new(clockText(*t, clock))
}

func clockText(t time.Time, clock *time.Location) string {
	return t.In(clock).Format(time.RFC3339)
}
