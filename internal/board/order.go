package board

import (
	"cmp"
	"math"
	"slices"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Severity lists the states as they are reported, the most severe first.
var Severity = []traffic.State{traffic.Saturated, traffic.BelowUsual, traffic.AboveUsual,
	traffic.Busy, traffic.Free, traffic.WarmingUp, traffic.CatchingUp, traffic.NoData}

// Figures are what plazas are ordered by. Each returns NaN for what is not known.
var Figures = map[string]func(p *Plaza) float64{
	"id":        func(p *Plaza) float64 { return float64(p.ID) },
	"state":     func(p *Plaza) float64 { return float64(urgency(p.State)) },
	"total":     func(p *Plaza) float64 { return float64(p.Total) },
	"flow":      func(p *Plaza) float64 { return float64(p.FlowPerHour) },
	"vc":        func(p *Plaza) float64 { return orNaN(p.VC) },
	"heavy":     func(p *Plaza) float64 { return orNaN(p.HeavyShare) },
	"z":         func(p *Plaza) float64 { return orNaN(p.Z) },
	"deviation": func(p *Plaza) float64 { return math.Abs(orNaN(p.Z)) },
	"late":      func(p *Plaza) float64 { return float64(p.Late + p.LateQuarter + p.TooLate) },
	"last": func(p *Plaza) float64 {
		if p.LastEvent == nil {
			return math.NaN()
		}
		return float64(p.LastEvent.Unix())
	},
	"verification": func(p *Plaza) float64 { return float64(p.Verification.Status.doubt()) },
}

func orNaN(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

// urgency is the order of states by how soon someone should look. A plaza without data goes before
// those that are fine.
func urgency(s traffic.State) int {
	return slices.Index([]traffic.State{traffic.Free, traffic.WarmingUp, traffic.CatchingUp,
		traffic.NoData, traffic.Busy, traffic.AboveUsual, traffic.BelowUsual, traffic.Saturated}, s)
}

// Statuses lists the verdicts, from good to bad.
var Statuses = []Status{Exact, InFlight, NotVerified, Mismatch}

// Valid reports whether a status is one of the verdicts.
func (s Status) Valid() bool { return s.doubt() > 0 }

// doubt is the order of verdicts, from 1 for exact; 0 for what is none.
func (s Status) doubt() int { return slices.Index(Statuses, s) + 1 }

// CompareFigures compares two figures, NaN last either way.
func CompareFigures(x, y float64, descending bool) int {
	switch {
	case math.IsNaN(x) && math.IsNaN(y):
		return 0
	case math.IsNaN(x):
		return 1
	case math.IsNaN(y):
		return -1
	case descending:
		return cmp.Compare(y, x)
	}
	return cmp.Compare(x, y)
}

// CompareTies orders plazas whose figures are equal: by their fullness, then by flow and ID.
func CompareTies(p, q *Plaza) int {
	return cmp.Or(CompareFigures(orNaN(p.VC), orNaN(q.VC), true),
		CompareFigures(float64(p.FlowPerHour), float64(q.FlowPerHour), true), cmp.Compare(p.ID, q.ID))
}

// Orders of [Board.Sort], the highest first.
const (
	ByState     = "state" // the worst first
	ByTotal     = "total"
	ByFlow      = "flow"
	ByVC        = "vc"
	ByDeviation = "deviation"
)

// Sort puts the plazas in an order. Those without the figure come last, the ones with more vehicles
// first.
func (b *Board) Sort(order string) {
	total, figure := Figures[ByTotal], Figures[order]
	if order == ByTotal {
		figure = func(*Plaza) float64 { return math.NaN() }
	}
	slices.SortFunc(b.Plazas, func(p, q Plaza) int {
		x, y := figure(&p), figure(&q)
		if p.ID == NullPlaza {
			x = math.NaN()
		}
		if q.ID == NullPlaza {
			y = math.NaN()
		}
		if math.IsNaN(x) && math.IsNaN(y) {
			return cmp.Or(CompareFigures(total(&p), total(&q), true), cmp.Compare(p.ID, q.ID))
		}
		if order == ByState {
			return cmp.Or(CompareFigures(x, y, true), CompareTies(&p, &q))
		}
		return cmp.Or(CompareFigures(x, y, true), cmp.Compare(p.ID, q.ID))
	})
}

// SortWindows puts windows in the order of their kinds, the short ones first. Those of a kind keep
// their order.
func (b *Board) SortWindows(windows []Window) {
	size := func(kind string) toll.Minute {
		for _, k := range b.Kinds {
			if k.Name == kind {
				return k.Size
			}
		}
		return math.MaxInt32
	}
	slices.SortStableFunc(windows, func(v, w Window) int {
		return cmp.Or(cmp.Compare(size(v.Kind), size(w.Kind)), cmp.Compare(v.Kind, w.Kind))
	})
}

// ByCount returns types of vehicles, the most frequent first.
func ByCount(types []toll.TypeCount) []toll.TypeCount {
	sorted := slices.Clone(types)
	slices.SortStableFunc(sorted, func(a, b toll.TypeCount) int {
		return cmp.Compare(b.Count, a.Count)
	})
	return sorted
}

// ByType returns how many vehicles there are of each type.
func ByType(types []toll.TypeCount) map[string]int64 {
	counts := make(map[string]int64, len(types))
	for _, t := range types {
		counts[t.Type] = t.Count
	}
	return counts
}
