package traffic

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Measure is what the crossings of the hour before End show of a plaza. What is unknown is nil,
// and left out of JSON.
//
// The formulas are those of HCM 2016 (Highway Capacity Manual, 6th edition), chapters 4 and 12.
// With V the vehicles of the hour and V15 those of the busiest of its four quarters, counted back
// from End:
//
//	flow                   q    = 3600·n/T            n vehicles in T seconds
//	peak-hour factor       PHF  = V/(4·V15)           1 for an even flow, 0.25 for all in one quarter
//	heavy-vehicle factor   f_HV = 1/(1 + P_T(E_T−1))  P_T heavy share, E_T cars that one is worth
//	passenger-car flow     v    = V/(PHF·f_HV)
//	mean headway           h    = T/n                 the time from one vehicle to the next
//
// With several types, each with an equivalent of its own, f_HV = 1/(1 + ΣP_i(E_i−1)).
//
// For the state of now an hour is too long, so throughput is v of the last quarter alone: for a
// single quarter PHF is 1 by its definition, which leaves 4·n15/f_HV.
//
// In the first hour of a plaza the minutes before count as empty: PHF is right after 60 minutes.
type Measure struct {
	Plaza int16 `json:"plaza"`
	// exclusive: the minutes [End−60, End) and, as the last quarter, [End−15, End)
	End toll.Minute `json:"end"`
	// for how many minutes of the last quarter the plaza was observed; 0 for all of it. What is per
	// hour, headway and throughput are of these
	Observed int `json:"observed_minutes,omitzero"`

	Count15 int64 `json:"count_15"` // vehicles in the last quarter
	Count60 int64 `json:"count_60"` // vehicles in the hour
	Heavy15 int64 `json:"heavy_15"` // those of Count15 that count as more than one car
	Heavy60 int64 `json:"heavy_60"`

	// q of the last quarter, vehicles per hour
	FlowPerHour float64 `json:"flow_per_hour"`
	// h of the last quarter; nil without a vehicle
	HeadwaySeconds *float64 `json:"headway_seconds,omitzero"`
	// P_T of the last quarter, 0 to 1; nil without a vehicle
	HeavyShare *float64 `json:"heavy_share,omitzero"`
	// f_HV of the last quarter; 1 without a vehicle
	HeavyFactor      float64  `json:"heavy_factor"`
	PHF              *float64 `json:"phf,omitzero"`       // of the hour; nil without a vehicle
	PassengerCarFlow float64  `json:"passenger_car_flow"` // v of the hour, passenger cars per hour
	// throughput: v of the last quarter, passenger cars per hour. It is what passes and not what wants
	// to pass, so it can't exceed the true capacity; see [ImpossibleVC]
	Throughput float64 `json:"demand"`
	Lanes      int     `json:"lanes,omitzero"` // of the plaza; 0 for not known
	// of the plaza, passenger cars per hour; nil where its lanes are not known
	Capacity *float64 `json:"capacity,omitzero"`
	VC       *float64 `json:"vc,omitzero"` // throughput/capacity; nil where its lanes are not known
	// of Count15 at this time of the week; nil where there was no earlier week
	Usual *Usual `json:"usual,omitzero"`
	// how far Count15 is from it, see [Usual.Z]; nil with too few weeks
	Z *float64 `json:"z,omitzero"`
}

// Against compares the last quarter with what is usual.
func (m *Measure) Against(u Usual) {
	m.Usual, m.Z = nil, nil
	if u.N > 0 {
		m.Usual = &u
	}
	if z, ok := u.Z(float64(m.Count15)); ok {
		m.Z = &z
	}
}

// ofMinutes returns the measure of a plaza that was observed in the last minutes of the quarter
// alone.
func (m Measure) ofMinutes(observed int) Measure {
	if observed < 1 || observed >= toll.Quarter {
		return m
	}
	m.Observed = observed
	scale := float64(toll.Quarter) / float64(observed)
	m.FlowPerHour, m.Throughput = m.FlowPerHour*scale, m.Throughput*scale
	if m.HeadwaySeconds != nil {
		m.HeadwaySeconds = new(*m.HeadwaySeconds / scale)
	}
	if m.VC != nil && m.Capacity != nil {
		m.VC = new(m.Throughput / *m.Capacity)
	}
	return m
}

// minutes returns for how many minutes of the last quarter the plaza was observed.
func (m *Measure) minutes() int {
	if m.Observed > 0 {
		return m.Observed
	}
	return toll.Quarter
}

// Slider returns the measures of one end after another, in steps that cost what the panes cost that
// come in and go out.
type Slider struct {
	panes []toll.Pane
	plaza toll.Plaza
	eq    Equivalents
	marks [5]int // panes[marks[q]:marks[q+1]] are those of quarter q
	sum   tally
}

// NewSlider returns a slider over panes of a minute, ascending.
func NewSlider(panes []toll.Pane, plaza toll.Plaza, eq Equivalents) *Slider {
	return &Slider{panes: panes, plaza: plaza, eq: eq}
}

// MeasureAt returns the measure of the plaza at the end of a minute. A minute without a pane is one
// without a vehicle. Ends must not descend from call to call.
func (s *Slider) MeasureAt(end toll.Minute) Measure {
	for q := len(s.marks) - 1; q >= 0; q-- {
		// of quarter q; what lies before it is of the one before
		start := int64(end) - int64(len(s.marks)-1-q)*toll.Quarter
		for ; s.marks[q] < len(s.panes) && int64(s.panes[s.marks[q]].Start) < start; s.marks[q]++ {
			p := &s.panes[s.marks[q]]
			s.sum.add(q-1, p, 1, s.eq)
			s.sum.add(q, p, -1, s.eq)
		}
	}
	return s.sum.measure(end, &s.plaza)
}

// emptyUntil returns the last end up to which no more vehicles come in than before end.
func (s *Slider) emptyUntil(end toll.Minute) int64 {
	next, _ := slices.BinarySearchFunc(s.panes, end, func(p toll.Pane, end toll.Minute) int {
		return cmp.Compare(p.Start, end)
	})
	if next == len(s.panes) {
		return math.MaxInt32
	}
	return int64(s.panes[next].Start)
}

// tally is an hour by quarters, the last of them in quarter 3. It holds whole numbers only, so that
// what was added and taken away again leaves no trace.
type tally struct {
	all quarters
	// of the types that passed, ascending: the order of the sums is always the same
	types []typeTally
}

type quarters [4]int64

type typeTally struct {
	name  string
	cars  float64 // that one vehicle counts as
	count quarters
}

// add adds a pane's vehicles to a quarter, or with −1 takes them away. Quarters outside of the hour
// are not kept.
func (t *tally) add(quarter int, p *toll.Pane, sign int64, eq Equivalents) {
	if quarter < 0 || quarter >= len(t.all) {
		return
	}
	for _, c := range p.Types {
		t.all[quarter] += sign * c.Count
		i, found := slices.BinarySearchFunc(t.types, c.Type, func(t typeTally, name string) int {
			return cmp.Compare(t.name, name)
		})
		if !found {
			t.types = slices.Insert(t.types, i, typeTally{name: c.Type, cars: eq.Of(c.Type)})
		}
		t.types[i].count[quarter] += sign * c.Count
	}
}

func (t *tally) measure(end toll.Minute, plaza *toll.Plaza) Measure {
	m := Measure{Plaza: plaza.ID, End: end, Count15: t.all[3], HeavyFactor: 1}
	for _, n := range t.all {
		m.Count60 += n
	}
	// Vehicles in passenger cars: n/f_HV = n·(1 + ΣP_i(E_i−1)) = n + Σn_i(E_i−1). Each product is
	// converted as in [Equivalents.PassengerCars].
	cars15, cars60 := float64(m.Count15), float64(m.Count60)
	for i := range t.types {
		of := &t.types[i]
		n15, n60 := of.count[3], of.count[0]+of.count[1]+of.count[2]+of.count[3]
		cars15 += float64(float64(n15) * (of.cars - 1))
		cars60 += float64(float64(n60) * (of.cars - 1))
		if of.cars > 1 {
			m.Heavy15 += n15
			m.Heavy60 += n60
		}
	}
	m.FlowPerHour = toll.FlowPerHour(m.Count15, toll.Quarter*time.Minute)
	m.Throughput = 4 * cars15
	if m.Count15 > 0 {
		n := float64(m.Count15)
		m.HeadwaySeconds = new(toll.Quarter * 60 / n)
		m.HeavyShare = new(float64(m.Heavy15) / n)
		m.HeavyFactor = n / cars15
	}
	if m.Count60 > 0 {
		peak := float64(4 * slices.Max(t.all[:]))
		m.PHF = new(float64(m.Count60) / peak)
		m.PassengerCarFlow = peak * cars60 / float64(m.Count60)
	}
	if capacity, ok := plaza.Capacity(); ok {
		m.Lanes, m.Capacity, m.VC = plaza.Lanes, &capacity, new(m.Throughput/capacity)
	}
	return m
}
