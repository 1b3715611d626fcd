package traffic

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Equivalents is how many passenger cars a vehicle of a type counts (E_T), by type in lower
// case. A type that is not in it is a car.
type Equivalents map[string]float64

// heavyCars is E_T of heavy vehicles in level terrain: HCM 2016 (Highway Capacity Manual, 6th
// edition), chapter 12. In rolling terrain it is 3.
const heavyCars = 2.0

// Bounds of an equivalent: a motorcycle is a part of a car, and no vehicle takes the place of more
// than a few.
const (
	minCars = 0.1
	maxCars = 20
)

// DefaultEquivalents returns 2.0 for each of the usual names of a heavy vehicle. Vans and pickups
// drive as cars do.
func DefaultEquivalents() Equivalents {
	return Equivalents{
		"truck": heavyCars, "lorry": heavyCars, "hgv": heavyCars, "semi": heavyCars, "tractor": heavyCars,
		"trailer": heavyCars, "bus": heavyCars, "coach": heavyCars, "rv": heavyCars,
	}
}

// ParseEquivalents reads a setting as truck=2.5,bus=1.8. What it names changes [DefaultEquivalents]
// or adds to them; a type at 1 is a car. It reports every violation at once.
func ParseEquivalents(text string) (Equivalents, error) {
	all := DefaultEquivalents()
	if strings.TrimSpace(text) == "" {
		return all, nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]bool{}
	for entry := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			bad("equivalent %q, want type=cars, as in truck=2.5", strings.TrimSpace(entry))
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if err := toll.ValidateType(name); err != nil {
			bad("equivalent %q: %w", strings.TrimSpace(entry), err)
			continue
		}
		name = strings.ToLower(name)
		if seen[name] {
			bad("equivalent of %q is given twice", name)
		}
		seen[name] = true
		cars, err := strconv.ParseFloat(value, 64)
		if err != nil || !(cars >= minCars && cars <= maxCars) {
			bad("equivalent of %q is %q, want a number from %v to %v", name, value, minCars, maxCars)
			continue
		}
		all[name] = cars
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

// String returns the form that [ParseEquivalents] reads, ascending by type.
func (e Equivalents) String() string {
	entries := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		entries = append(entries, name+"="+strconv.FormatFloat(e[name], 'f', -1, 64))
	}
	return strings.Join(entries, ",")
}

// PassengerCars returns as how many cars vehicles count.
func (e Equivalents) PassengerCars(types []toll.TypeCount) (cars float64) {
	for _, t := range types {
		cars += float64(t.Count) * e.Of(t.Type)
	}
	return cars
}

// Of returns as how many cars a vehicle counts. Here, and only here, the case of a type does not
// matter: a TRUCK is as long as a truck.
func (e Equivalents) Of(vehicleType string) float64 {
	cars, ok := e[strings.ToLower(vehicleType)]
	if !ok || !(cars > 0) || math.IsInf(cars, 1) {
		return 1
	}
	return cars
}

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
	// Vehicles in passenger cars: n/f_HV = n·(1 + ΣP_i(E_i−1)) = n + Σn_i(E_i−1). Converting each
	// product keeps compilers from fusing it with the sum, which would give other digits on other
	// machines.
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

// ImpossibleVC is the throughput over capacity above which the capacity is wrong. Crossings are
// what a plaza discharges, so they never exceed what it can; the tenth allows for a quarter of an
// hour in which chance lets more pass, and for a lane that is opened for a while.
const ImpossibleVC = 1.1

// Overrun is the proof that a configured capacity is too low: so much more than that passed in a
// quarter of an hour that chance does not explain it. Between [ImpossibleVC] and that the capacity
// is doubtful, and a plaza at which so much passes is saturated by it.
type Overrun struct {
	Capacity float64     `json:"capacity"` // that was configured, passenger cars per hour
	VC       float64     `json:"vc"`       // the highest throughput over it
	At       toll.Minute `json:"at"`       // the last end of a quarter of an hour with too much
}

// String is what an operator should do about it, to follow a sentence on a state; empty for nil.
func (o *Overrun) String() string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("; the capacity of %s pc/h looks wrong: throughput was up to %s %% of it, "+
		"so correct lanes and capacity_per_lane in the plazas file", grouped(o.Capacity),
		grouped(math.Floor(o.VC*100+1e-9)))
}

const (
	// overrunMinutes is how long a capacity counts as wrong after the last time. It is a week, so that
	// a peak of every Monday keeps it wrong and a burst of events that were sent twice is forgotten.
	overrunMinutes = 7 * 24 * 60
	// overrunDeviations of a Poisson distribution are what chance does not explain.
	overrunDeviations = 3
)

// followOverrun takes the measure of one more minute.
func (a *Assessment) followOverrun(m *Measure) {
	if o := a.Overrun; o != nil && (m.Capacity == nil || *m.Capacity != o.Capacity ||
		int64(m.End)-int64(o.At) > overrunMinutes) {
		a.Overrun = nil
	}
	if m.VC == nil {
		return
	}
	full := *m.Capacity * float64(m.minutes()) / 60 // what can pass meanwhile
	if *m.VC <= ImpossibleVC+overrunDeviations/math.Sqrt(full) {
		return
	}
	next := Overrun{Capacity: *m.Capacity, VC: *m.VC, At: m.End}
	if a.Overrun != nil {
		next.VC = max(next.VC, a.Overrun.VC)
	}
	a.Overrun = &next
}

// CapacityWrong reports whether more than the configured capacity passes, or did in the last week.
func (a *Assessment) CapacityWrong() bool {
	return a.Overrun != nil || a.Last.overCapacity()
}

// overCapacity reports whether more passed in a whole quarter of an hour than the capacity allows.
// Of a few minutes, chance may have it so.
func (m *Measure) overCapacity() bool {
	return m.VC != nil && *m.VC > ImpossibleVC && m.Observed == 0
}

// vc returns throughput over capacity where that means something: nil where the capacity is not
// known, or known to be wrong.
func (a *Assessment) vc(m *Measure) *float64 {
	if a.Overrun != nil {
		return nil
	}
	return m.VC
}

// QuarterFlow is what passed in a quarter of an hour.
type QuarterFlow struct {
	Start toll.Minute
	Cars  float64 // passenger cars
}

// CapacityBound is what a plaza's capacity is at least, as far as its crossings show.
type CapacityBound struct {
	CarsPerHour float64 `json:"passenger_cars_per_hour"`
	// on how many days an hour of that, or up to 5 % less, passed
	Days int `json:"days"`
}

const (
	plateauQuarters = 4    // an hour
	plateauSpread   = 0.05 // how far a quarter of it may be from their mean, where more is no chance
	plateauDays     = 5    // that must reach the bound
)

// LearnCapacity returns a lower bound of a plaza's capacity from the quarters of an hour of some
// weeks, ascending; false where they show none.
//
// A plaza that has a queue discharges as much as it can, which shows as a plateau: the flow stays
// the same for long, day after day. So a plateau is an hour, of four quarters in a row, of which
// each is within 5 % of their mean, or within two standard deviations of a Poisson distribution
// where that is more. Each day's highest one counts, and the bound is what five days reach. This is
// the selected maxima method (Minderhoud, Botma, Bovy: Assessment of Roadway Capacity Estimation
// Methods, Transportation Research Record 1572, 1997), with a low order statistic in place of the
// mean, so that one day with wrong clocks or events that were sent twice moves nothing.
//
// It is a bound and no estimate: crossings don't show whether there was a queue, and a peak that
// never fills the plaza has a plateau too. So it must never raise a state: otherwise every daily
// peak would be at capacity. What it does show is a configured capacity that is too low.
func LearnCapacity(z *toll.Zone, quarters []QuarterFlow) (b CapacityBound, ok bool) {
	highest := map[int64]float64{} // of a date, passenger cars per hour
	for i := range len(quarters) - plateauQuarters + 1 {
		hour := quarters[i : i+plateauQuarters]
		if hour[plateauQuarters-1].Start-hour[0].Start != (plateauQuarters-1)*toll.Quarter {
			continue
		}
		sum := 0.0
		for _, q := range hour {
			sum += q.Cars
		}
		mean := sum / plateauQuarters
		allowed := max(plateauSpread*mean, 2*math.Sqrt(mean))
		if !slices.ContainsFunc(hour, func(q QuarterFlow) bool {
			return math.Abs(q.Cars-mean) > allowed
		}) {
			day := DayOf(z, hour[0].Start)
			highest[day] = max(highest[day], sum)
		}
	}
	if len(highest) < plateauDays {
		return b, false
	}
	var daily []float64
	for _, flow := range highest {
		daily = append(daily, flow)
	}
	slices.Sort(daily)
	slices.Reverse(daily)
	b.CarsPerHour = daily[plateauDays-1]
	for _, flow := range daily {
		if flow >= b.CarsPerHour*(1-plateauSpread) {
			b.Days++
		}
	}
	return b, b.CarsPerHour > 0
}

// Cars returns how many passenger cars vehicles count for.
func (e Equivalents) Cars(types []toll.TypeCount) (cars float64) {
	for _, t := range types {
		cars += float64(float64(t.Count) * e.Of(t.Type))
	}
	return cars
}
