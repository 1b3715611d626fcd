package main

import (
	"time"

	"tollstream/sql"
	"tollstream/toll"
)

// boardJSON is what view --json prints for all plazas.
type boardJSON struct {
	Status     string      `json:"status"` // of all plazas
	Total      int64       `json:"total"`
	InFlight   int64       `json:"in_flight"`
	StreamTime *string     `json:"stream_time"`
	Watermark  *string     `json:"watermark"`
	Plazas     []plazaJSON `json:"plazas"` // the busiest first
}

// plazaJSON is what view --json prints of one plaza. Times are RFC 3339 in the database's timezone, null where there is
// no event.
type plazaJSON struct {
	Plaza        int              `json:"plaza"`
	Total        int64            `json:"total"`
	ByType       map[string]int64 `json:"by_type"`
	FirstEvent   *string          `json:"first_event"`
	LastEvent    *string          `json:"last_event"`
	StreamTime   *string          `json:"stream_time"`
	Watermark    *string          `json:"watermark"`
	Windows      []windowJSON     `json:"windows,omitzero"`
	Verification verificationJSON `json:"verification"`
}

// windowJSON is one window of event time, [start, end).
type windowJSON struct {
	Kind        string           `json:"kind"` // rolling: ends with the stream's current minute
	Start       string           `json:"start"`
	End         string           `json:"end"`
	Count       int64            `json:"count"`
	ByType      map[string]int64 `json:"by_type"`
	FlowPerHour float64          `json:"flow_per_hour"` // count · 3600 / (end − start in seconds)
	Final       bool             `json:"final"`         // whether the watermark has passed the end
	Revision    int              `json:"revision"`
}

type verificationJSON struct {
	TableCount int64         `json:"table_count"`
	StoredRows *int64        `json:"stored_rows"` // those from before included; null where not counted
	Baseline   int64         `json:"baseline"`    // rows from before
	InFlight   int64         `json:"in_flight"`
	ChecksumOK *bool         `json:"checksum_ok"` // null where not computed
	Status     string        `json:"status"`
	Note       string        `json:"note,omitempty"`
	Problems   []sql.Problem `json:"problems,omitempty"`
}

// json returns what is printed of a board.
func (v *viewer) json(b *board) any {
	if v.settings.plaza != nil {
		p := v.plazaJSON(b, &b.plazas[0])
		p.Windows = b.windows(b.plazas[0].state)
		return p
	}
	status, inFlight, _ := b.status()
	all := boardJSON{Status: status, Total: b.events, InFlight: inFlight, Plazas: []plazaJSON{}}
	all.StreamTime, all.Watermark = b.streamTimes()
	for i := range b.plazas {
		all.Plazas = append(all.Plazas, v.plazaJSON(b, &b.plazas[i]))
	}
	return all
}

func (v *viewer) plazaJSON(b *board, p *plazaBoard) plazaJSON {
	j := plazaJSON{
		Plaza: p.plaza, Total: p.state.Events, ByType: byType(p.state.Types),
		Verification: verificationJSON{
			TableCount: p.check.TableCount, StoredRows: p.check.StoredRows, Baseline: p.check.Baseline, InFlight: p.check.InFlight,
			ChecksumOK: p.check.ChecksumOK, Status: p.status(), Note: p.check.Note, Problems: p.problems(),
		},
	}
	j.StreamTime, j.Watermark = b.streamTimes()
	if p.state.Events > 0 {
		j.FirstEvent = timeText(time.Unix(v.zone.Unix(p.state.Earliest), 0), b.location)
		j.LastEvent = timeText(time.Unix(v.zone.Unix(p.state.Latest), 0), b.location)
	}
	return j
}

// windows returns the rolling windows of a plaza.
func (b *board) windows(s *toll.State) []windowJSON {
	windows := []windowJSON{}
	if !b.started {
		return windows
	}
	for _, n := range rollingMinutes {
		w := toll.LastMinutes(b.now, n)
		types := s.In(w)
		count := toll.SumTypes(types)
		windows = append(windows, windowJSON{
			Kind: "rolling", Start: *timeText(w.Start.Time(), b.location), End: *timeText(w.End.Time(), b.location),
			Count: count, ByType: byType(types), FlowPerHour: toll.FlowPerHour(count, w.Span()),
			Final: !b.watermark.Before(w.End.Time()), Revision: 1,
		})
	}
	return windows
}

func (b *board) streamTimes() (now, watermark *string) {
	if !b.started {
		return nil, nil
	}
	return timeText(b.now.Time(), b.location), timeText(b.watermark, b.location)
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
