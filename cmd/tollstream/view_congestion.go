package main

import (
	"cmp"
	"math"
	"slices"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// severity is the order in which states are told, the most severe first.
var severity = []traffic.State{traffic.Saturated, traffic.BelowUsual, traffic.Busy, traffic.Free,
	traffic.NoData}

// troubled reports whether a state asks for someone to look at the plaza.
func troubled(s traffic.State) bool { return s == traffic.Saturated || s == traffic.BelowUsual }

// staleAfter is how many minutes the assessment of a plaza may be behind the watermark and still
// tell of now.
const staleAfter = toll.MeasureSpan

// stale reports whether a plaza was assessed, but not for the last hour: its state is one of the
// past.
func (b *viewBoard) stale(p *plazaBoard) bool {
	return p.congestion != nil && !b.watermark.IsZero() &&
		int64(p.congestion.Until)+staleAfter < int64(toll.MinuteAt(b.watermark.Unix()))
}

// measure returns a plaza's figures of now, nil where it was not assessed lately.
func (b *viewBoard) measure(p *plazaBoard) *traffic.Measure {
	if p.congestion == nil || b.stale(p) {
		return nil
	}
	return &p.congestion.Last
}

// flow returns the vehicles an hour in the last quarter of an hour: the one that was assessed, or
// else the one up to the stream's time. It returns false where that is not known.
func (b *viewBoard) flow(p *plazaBoard) (float64, bool) {
	if m := b.measure(p); m != nil {
		return m.FlowPerHour, true
	}
	count, known := b.rolling(p, toll.Quarter)
	return toll.FlowPerHour(count, toll.LastMinutes(b.now, toll.Quarter).Span()), known
}

// rolling returns the vehicles in the last n minutes up to the stream's time, and false where the
// state can't tell.
func (b *viewBoard) rolling(p *plazaBoard, n int) (count int64, known bool) {
	if !b.started {
		return 0, p.state.Events == 0
	}
	w := toll.LastMinutes(b.now, n)
	return toll.SumTypes(p.state.In(w)), p.knows(w)
}

// knows reports whether the state holds all minutes of a window. It gives some up when a plaza runs
// far ahead of what has closed, as in a replay; they are in toll_window all the same.
func (p *plazaBoard) knows(w toll.Window) bool {
	return p.state.Events == 0 || p.state.Minutes.Complete(w)
}

// sort puts the plazas in an order. Those without the figure come last, and ties go to the one with
// more vehicles.
func (b *viewBoard) sort(order string) {
	slices.SortStableFunc(b.plazas, func(p, q plazaBoard) int {
		return cmp.Or(cmp.Compare(q.state.Events, p.state.Events), cmp.Compare(p.plaza, q.plaza))
	})
	if order == sortTotal {
		return
	}
	measures := make([]traffic.Measure, 0, len(b.plazas))
	for i := range b.plazas {
		p := &b.plazas[i]
		if p.plaza == nullPlaza {
			continue
		}
		m := traffic.Measure{}
		if now := b.measure(p); now != nil {
			m = *now
		}
		m.Plaza = int16(p.plaza)
		m.FlowPerHour, _ = b.flow(p)
		measures = append(measures, m)
	}
	ranking := traffic.Rank(measures, len(measures))
	ranked := map[string][]traffic.Measure{sortFlow: ranking.ByFlow, sortVC: ranking.ByVC,
		sortDeviation: ranking.ByDeviation}[order]
	place := make(map[int]int, len(ranked))
	for i := range ranked {
		place[int(ranked[i].Plaza)] = i
	}
	placeOf := func(p *plazaBoard) int {
		if i, ok := place[p.plaza]; ok {
			return i
		}
		return math.MaxInt
	}
	slices.SortStableFunc(b.plazas, func(p, q plazaBoard) int {
		return cmp.Compare(placeOf(&p), placeOf(&q))
	})
}

// top returns the first plazas, as many as were asked for.
func (v *viewer) top(b *viewBoard) []plazaBoard {
	if n := v.settings.top; n > 0 && n < len(b.plazas) {
		return b.plazas[:n]
	}
	return b.plazas
}
