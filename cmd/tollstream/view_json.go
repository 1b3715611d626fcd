package main

import (
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// boardJSON is what view --json prints for all plazas.
type boardJSON struct {
	Status   string `json:"status"` // of all plazas
	Total    int64  `json:"total"`
	InFlight int64  `json:"in_flight"`
	Waiting  int64  `json:"waiting"`  // records of the topic that are not stored yet
	Rejected int64  `json:"rejected"` // records that are dead letters

	RecentRejects recentRejectsJSON `json:"recent_rejects"`

	OpenTransactions []transactionOpenJSON `json:"open_transactions,omitzero"`
	// clocks that disagree by more than an hour, a sentence each
	Warnings []string `json:"warnings"`

	StreamTime *string     `json:"stream_time"`
	Watermark  *string     `json:"watermark"`
	Plazas     []plazaJSON `json:"plazas"` // in the order of --sort, as many as --top
}

// recentRejectsJSON is how many of the last records of the topic are dead letters.
type recentRejectsJSON struct {
	Records  int64 `json:"records"`
	Rejected int64 `json:"rejected"`
	High     bool  `json:"high"` // so many that somebody should look
}

// transactionOpenJSON is a producer's transaction that keeps the records of a partition from an
// offset on from being read.
type transactionOpenJSON struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Seconds   int64 `json:"seconds"` // since it was first seen by this command
}

func (b *viewBoard) transactionsJSON() (open []transactionOpenJSON) {
	for _, t := range b.backlog.Open {
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

	OpenTransactions []transactionOpenJSON `json:"open_transactions,omitzero"`

	// up to 2 hours behind the watermark: in all windows
	Late int64 `json:"late"`
	// up to 2 days: in windows of whole quarters of an hour
	LateQuarter  int64            `json:"late_quarter"`
	TooLate      int64            `json:"too_late"`     // in no window
	Ahead        int64            `json:"ahead"`        // ran ahead of the clock of their partition
	LeadSeconds  int64            `json:"lead_seconds"` // by how much the last of these did
	Congestion   *congestionJSON  `json:"congestion"`   // null as long as no minute was judged
	Transitions  []transitionJSON `json:"transitions,omitzero"`
	Windows      []windowJSON     `json:"windows,omitzero"`
	Verification verificationJSON `json:"verification"`
}

// congestionJSON is how a plaza stands. Figures are of the 15 minutes before until, phf of the
// hour; null is not known.
type congestionJSON struct {
	State          traffic.State  `json:"state"` // no_data, free, busy, saturated, below_usual
	Since          string         `json:"since"`
	Until          string         `json:"until"` // minutes before it are judged
	Why            string         `json:"why"`
	FlowPerHour    float64        `json:"flow_per_hour"` // vehicles an hour
	VC             *float64       `json:"vc"`            // demand by capacity
	PHF            *float64       `json:"phf"`
	HeavyShare     *float64       `json:"heavy_share"` // 0 to 1
	HeadwaySeconds *float64       `json:"headway_seconds"`
	Demand         float64        `json:"demand"`   // passenger cars an hour
	Capacity       *float64       `json:"capacity"` // the same
	Usual          *traffic.Usual `json:"usual"`    // vehicles in 15 minutes
	Z              *float64       `json:"z"`        // how far from usual
}

// transitionJSON is a change of congestion.
type transitionJSON struct {
	From     traffic.State `json:"from"`
	To       traffic.State `json:"to"`
	Since    string        `json:"since"`    // when it began
	Detected string        `json:"detected"` // when that was certain
	Why      string        `json:"why"`
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

type verificationJSON struct {
	TableCount int64         `json:"table_count"`
	StoredRows *int64        `json:"stored_rows"` // those from before included; null where not counted
	Baseline   int64         `json:"baseline"`    // rows from before
	Pruned     int64         `json:"pruned"`      // rows that tollstream prune deleted
	InFlight   int64         `json:"in_flight"`
	ChecksumOK *bool         `json:"checksum_ok"` // null where not computed
	Status     string        `json:"status"`
	Note       string        `json:"note,omitempty"`
	Problems   []sql.Problem `json:"problems,omitempty"`
}

// json returns what is printed of a board.
func (v *viewer) json(b *viewBoard) any {
	if v.settings.plaza != nil {
		p := &b.plazas[0]
		j := v.plazaJSON(b, p)
		j.Windows, j.Transitions = b.windows(p), []transitionJSON{}
		for i := range p.transitions {
			t := &p.transitions[i]
			j.Transitions = append(j.Transitions,
				transitionJSON{t.From, t.To, *timeText(t.Since.Time(), p.location),
					*timeText(t.Detected.Time(), p.location), t.Why})
		}
		return j
	}
	status, inFlight, _ := b.status()
	all := boardJSON{Status: status, Total: b.events, InFlight: inFlight, Waiting: b.backlog.Offsets,
		OpenTransactions: b.transactionsJSON(), Rejected: b.letters, Plazas: []plazaJSON{}}
	all.Warnings = append([]string{}, clocks.Warnings(b.skews)...)
	all.RecentRejects = recentRejectsJSON{b.recent.Records, b.recent.Rejected, b.recent.High()}
	all.StreamTime, all.Watermark = b.streamTimes(b.location)
	shown := v.top(b)
	for i := range shown {
		all.Plazas = append(all.Plazas, v.plazaJSON(b, &shown[i]))
	}
	return all
}

func (v *viewer) plazaJSON(b *viewBoard, p *plazaBoard) plazaJSON {
	s := p.state
	j := plazaJSON{
		Plaza: p.plaza, Name: p.about.Name, Road: p.about.Road, Lanes: p.about.Lanes, Total: s.Events,
		ByType: byType(s.Types), Waiting: b.backlog.Offsets, OpenTransactions: b.transactionsJSON(),
		Late: s.Late, LateQuarter: s.LateQuarter, TooLate: s.TooLate, Ahead: s.Ahead, LeadSeconds: s.Lead,
		Congestion: p.congestionJSON(),
		Verification: verificationJSON{
			TableCount: p.check.TableCount, StoredRows: p.check.StoredRows, Baseline: p.check.Baseline,
			Pruned: p.check.Pruned, InFlight: p.check.InFlight,
			ChecksumOK: p.check.ChecksumOK, Status: p.status(), Note: p.check.Note, Problems: p.problems(),
		},
	}
	j.StreamTime, j.Watermark = b.streamTimes(p.location)
	if s.Events > 0 {
		j.FirstEvent = timeText(time.Unix(v.zone.Unix(s.Earliest), 0), p.location)
		j.LastEvent = timeText(time.Unix(v.zone.Unix(s.Latest), 0), p.location)
	}
	return j
}

func (p *plazaBoard) congestionJSON() *congestionJSON {
	if p.congestion == nil {
		return nil
	}
	a, m := p.congestion, &p.congestion.Last
	return &congestionJSON{
		State: a.State, Since: *timeText(a.Since.Time(), p.location), Until: *timeText(a.Until.Time(),
			p.location), Why: a.Why,
		FlowPerHour: m.FlowPerHour, VC: m.VC, PHF: m.PHF, HeavyShare: m.HeavyShare,
		HeadwaySeconds: m.HeadwaySeconds,
		Demand:         m.Demand, Capacity: m.Capacity, Usual: m.Usual, Z: m.Z,
	}
}

// windows returns the rolling windows of a plaza, and then those that closed last, of each kind the
// newest first.
func (b *viewBoard) windows(p *plazaBoard) []windowJSON {
	windows := []windowJSON{}
	add := func(w windowJSON, span toll.Window, types []toll.TypeCount, late int64) {
		w.Start, w.End = *timeText(span.Start.Time(), p.location), *timeText(span.End.Time(), p.location)
		w.Count, w.ByType, w.Late = toll.SumTypes(types), byType(types), late
		w.FlowPerHour, w.OnTime = toll.FlowPerHour(w.Count, span.Span()), w.Count-late
		windows = append(windows, w)
	}
	if b.started {
		for _, n := range rollingMinutes {
			span := toll.LastMinutes(b.now, n)
			types, late := toll.SumPanes(p.state.Minutes.In(span))
			add(windowJSON{Kind: "rolling", Final: !b.watermark.Before(span.End.Time()), Revision: 1,
				Partial: !p.knows(span)}, span, types, late)
		}
	}
	for i := range p.windows {
		w := &p.windows[i]
		add(windowJSON{Kind: w.Kind, Final: w.Whole && w.Revision > 0, Revision: w.Revision,
			TooLate: w.TooLateNow, Reason: string(w.Reason)},
			toll.Window{Start: w.Start, End: w.End}, w.Types, w.Late)
	}
	return windows
}

func (b *viewBoard) streamTimes(loc *time.Location) (now, watermark *string) {
	if !b.started {
		return nil, nil
	}
	now = timeText(b.now.Time(), loc)
	if !b.watermark.IsZero() {
		watermark = timeText(b.watermark, loc)
	}
	return now, watermark
}

func timeText(t time.Time, loc *time.Location) *string {
	text := t.In(loc).Format(time.RFC3339)
	return &text
}

func byType(types []toll.TypeCount) map[string]int64 {
	m := make(map[string]int64, len(types))
	for _, t := range types {
		m[t.Type] = t.Count
	}
	return m
}
