package board

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Derive fills in what follows from what was read: the figures and the verification of each plaza,
// then those of the network. It may be called again after more was read.
func (b *Board) Derive() {
	zone := toll.NewZone(b.Location)
	b.Timezone = b.Location.String()
	for i := range b.Plazas {
		b.derive(&b.Plazas[i], zone)
	}
	b.judge()
	b.verify()
	b.Summary = Summarize(b.Plazas)
}

// derive fills in a plaza's figures; zone is of the database's clock.
func (b *Board) derive(p *Plaza, zone *toll.Zone) {
	s := p.Counts
	p.Timezone, p.Total = p.Location.String(), s.Events
	p.Late, p.LateQuarter, p.TooLate = s.Late, s.LateQuarter, s.TooLate
	p.Ahead, p.LeadSeconds = s.Ahead, s.Lead
	if s.Events > 0 {
		p.FirstEvent = new(time.Unix(zone.Unix(s.Earliest), 0))
		p.LastEvent = new(time.Unix(zone.Unix(s.Latest), 0))
	}
	p.Sparkline = b.sparkline(p)
	p.verify()

	var rolling int64
	rolling, p.FlowKnown = b.Rolling(p, toll.Quarter)
	observed := b.observed(p)
	p.FlowPerHour = Flow(toll.FlowPerHour(rolling, time.Duration(observed)*time.Minute))
	if p.ObservedMinutes = nil; observed < toll.Quarter {
		p.ObservedMinutes = &observed
	}
	p.State, p.Since, p.Why = traffic.NoData, nil, ""
	p.Measure, p.Measures, p.Usual, p.Aged, p.CapacityWrong = nil, Measures{}, nil, false, false
	m := &traffic.Measure{}
	switch a := p.Assessment; {
	case a == nil:
	case b.outdated(a):
		p.Since = new(a.Until.Time())
		p.Why = fmt.Sprintf("judged up to %s only, as %s", ClockTime(p.Location, *p.Since, b.Now()),
			a.State)
	default:
		m = &a.Last
		p.CapacityWrong = a.CapacityWrong()
		p.Measure, p.State, p.Since, p.Why = m, a.State, new(a.Since.Time()), a.Why
		if p.ObservedMinutes != nil && m.Count15 == 0 { // it was judged before its first event
			m = &traffic.Measure{Capacity: m.Capacity}
			break
		}
		if p.ObservedMinutes = nil; m.Observed > 0 {
			p.ObservedMinutes = &m.Observed
		}
		p.FlowPerHour, p.FlowKnown, p.Measures = Flow(m.FlowPerHour), true, MeasuresOf(m)
	}
	if m.Usual != nil && m.Usual.Known() {
		p.Usual = m.Usual
	}
	if m.Capacity != nil {
		p.Capacity = m.Capacity
	}
}

// observed returns for how many minutes of the last quarter of an hour the plaza was observed: all,
// or those since its first event.
func (b *Board) observed(p *Plaza) int {
	if b.StreamTime == nil || p.FirstEvent == nil {
		return toll.Quarter
	}
	minutes := int64(b.Now()) - int64(toll.MinuteAt(p.FirstEvent.Unix())) + 1
	return int(min(max(minutes, 1), toll.Quarter))
}

// outdatedAfter is how many minutes the assessment of a plaza may be behind the watermark and still
// describe the present.
const outdatedAfter = toll.MeasureSpan

// outdated reports whether an assessment is not of the last hour: its state is one of the past.
func (b *Board) outdated(a *traffic.Assessment) bool {
	return b.Watermark != nil &&
		int64(a.Until)+outdatedAfter < int64(toll.MinuteAt(b.Watermark.Unix()))
}

// Outdated reports whether the plaza was assessed, but not for the last hour.
func (p *Plaza) Outdated() bool { return p.Assessment != nil && p.Measure == nil && !p.Aged }

// Describe adds the facts of the plazas file.
func (p *Plaza) Describe(about toll.Plaza) {
	p.Name, p.Road, p.Lanes = about.Name, about.Road, about.Lanes
	if about.PositionKm != 0 {
		p.PositionKm = new(about.PositionKm)
	}
	if capacity, ok := about.Capacity(); ok {
		p.Capacity = new(capacity)
	}
	if about.Timezone == "" {
		return
	}
	// process refuses a timezone that it does not know
	if location, err := time.LoadLocation(about.Timezone); err == nil {
		p.Location = location
	}
}

// Now returns the stream's time, 0 before the first event.
func (b *Board) Now() toll.Minute {
	if b.StreamTime == nil {
		return 0
	}
	return toll.MinuteAt(b.StreamTime.Unix())
}

// Passed reports whether the watermark has passed the end of a window.
func (b *Board) Passed(w toll.Window) bool {
	return b.Watermark != nil && !b.Watermark.Before(w.End.Time())
}

// Rolling returns the vehicles in the last n minutes up to the stream's time, and false where the
// group table does not hold all of these minutes.
func (b *Board) Rolling(p *Plaza, n int) (count int64, known bool) {
	if b.StreamTime == nil {
		return 0, p.Counts.Events == 0
	}
	w := toll.LastMinutes(b.Now(), n)
	return toll.SumTypes(p.Counts.In(w)), p.Holds(w)
}

// Holds reports whether the group table holds all minutes of a window. It drops some when a plaza
// runs far ahead of what has closed, as in a replay; they are in toll_window all the same.
func (p *Plaza) Holds(w toll.Window) bool {
	return p.Counts.Events == 0 || p.Counts.Minutes.Complete(w)
}

// sparkline returns the vehicles in the last quarters of an hour up to the stream's time, nil where
// the group table does not hold them and before the plaza's first event.
func (b *Board) sparkline(p *Plaza) []*int64 {
	known := make([]*int64, SparklineQuarters)
	if b.StreamTime == nil || p.FirstEvent == nil {
		return known
	}
	last := toll.QuarterOf(b.Now())
	first := toll.QuarterOf(toll.MinuteAt(p.FirstEvent.Unix()))
	counts := make([]int64, SparklineQuarters)
	for i := range counts {
		start := last - toll.Minute(SparklineQuarters-1-i)*toll.Quarter
		w := toll.Window{Start: start, End: start + toll.Quarter}
		if start >= first && p.Counts.Quarters.Complete(w) {
			known[i] = &counts[i]
		}
	}
	for i := range p.Counts.Quarters.List {
		pane := &p.Counts.Quarters.List[i]
		if before := int64(last-pane.Start) / toll.Quarter; pane.Start <= last &&
			before < SparklineQuarters {
			counts[SparklineQuarters-1-before] += pane.Count()
		}
	}
	return known
}

// CompleteQuarters returns the vehicles in the last n quarters of an hour of the sparkline that are
// over, or in fewer; -1 where that is not known. The one that still runs would look like a
// collapse.
func (p *Plaza) CompleteQuarters(n int) []int64 {
	complete := p.Sparkline[:max(len(p.Sparkline)-1, 0)]
	complete = complete[max(len(complete)-n, 0):]
	counts := make([]int64, len(complete))
	for i, count := range complete {
		counts[i] = -1
		if count != nil {
			counts[i] = *count
		}
	}
	return counts
}

// Verified returns the check that the verdict and the figures of the plaza come from: the last one
// that read the rows, unless a later one found a mismatch without them.
func (p *Plaza) Verified() *Check {
	last := p.Counted
	if p.Check.StoredRows == nil && last != nil && (last.Status == Mismatch ||
		last.StoredRows != nil && p.Check.Status != Mismatch) {
		return last
	}
	return &p.Check
}

// verify fills in the verdict on a plaza.
func (p *Plaza) verify() {
	c := p.Verified()
	p.Verification = PlazaVerification{Status: c.Status, TableCount: c.TableCount,
		StoredRows: c.StoredRows, InFlight: c.InFlight, ChecksumOK: c.ChecksumOK}
}

// Problems returns what is wrong at the plaza.
func (p *Plaza) Problems() []Problem { return p.Verified().Problems }

// verify fills in the verification of all figures. They are those of the last check that read the
// rows: what has come since is not in them, such as a plaza that has its first vehicles.
func (b *Board) verify() {
	v := Verification{Status: Exact}
	b.Events, b.InFlight = 0, 0
	counted := len(b.Plazas) == 0 || slices.ContainsFunc(b.Plazas, func(p Plaza) bool {
		return p.Verification.StoredRows != nil
	})
	var events, rows int64
	var problems []Problem
	for i := range b.Plazas {
		p := &b.Plazas[i]
		b.Events += p.Total
		b.InFlight += p.Check.InFlight
		check := &p.Verification
		problems = append(problems, p.Problems()...)
		if counted && check.Status == NotVerified {
			continue // it is new
		}
		if check.Status.doubt() > v.Status.doubt() {
			v.Status = check.Status
		}
		events += check.TableCount
		v.InFlight += check.InFlight
		if check.StoredRows != nil {
			rows += *check.StoredRows
		}
	}
	for i := range problems {
		v.Problems = append(v.Problems, problems[i].Text)
	}
	v.Next, v.Events = NextSteps(problems), &events
	if counted && !b.RowsAt.IsZero() {
		v.Rows, v.CheckedAt = &rows, new(b.RowsAt)
	}
	b.Verification = v
}

// Mismatches returns the plazas whose rows and counts disagree, in the order of the board.
func (b *Board) Mismatches() (ids []int) {
	for i := range b.Plazas {
		if b.Plazas[i].Verification.Status == Mismatch {
			ids = append(ids, b.Plazas[i].ID)
		}
	}
	return ids
}

// NextSteps returns what to do about problems, each step once, in the order of the problems.
func NextSteps(problems []Problem) []string {
	var steps []string
	for i := range problems {
		if next := problems[i].Next; next != "" && !slices.Contains(steps, next) {
			steps = append(steps, next)
		}
	}
	return steps
}

// Unknown reports whether nothing is known of the plaza.
func (p *Plaza) Unknown() bool {
	c := &p.Check
	return p.Counts.Events == 0 && c.InFlight == 0 && c.Baseline == 0 && c.Pruned == 0 &&
		(c.StoredRows == nil || *c.StoredRows == 0) && len(c.Problems) == 0
}

// Types returns the events of all plazas by type, the most frequent first.
func (b *Board) Types() []toll.TypeCount {
	var types []toll.TypeCount
	for i := range b.Plazas {
		types = toll.AddTypes(types, b.Plazas[i].Counts.Types)
	}
	return ByCount(types)
}

// ClockTime writes a time as a clock shows it, with the date where that is not the one of today's
// minute.
func ClockTime(clock *time.Location, at time.Time, today toll.Minute) string {
	at = at.In(clock)
	if at.Format(time.DateOnly) != today.Time().In(clock).Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04")
	}
	return at.Format("15:04")
}

// ClockSpan writes a window as a clock shows it, with the date where that is not the one of today's
// minute: 07:00–08:00, 2026-03-23 23:00–24:00. A whole date is 2026-03-23.
func ClockSpan(clock *time.Location, from, until time.Time, today toll.Minute) string {
	start, end := ClockTime(clock, from, today), until.In(clock).Format("15:04")
	if end == "00:00" && until.After(from) {
		end = "24:00"
	}
	if date, ok := strings.CutSuffix(start, " 00:00"); ok && end == "24:00" {
		return date
	}
	return start + "–" + end
}

// Flow is vehicles per hour. What is not known is NaN, and null in JSON: it must not look like an
// empty road.
type Flow float64

// UnknownFlow returns the flow of which nothing is known.
func UnknownFlow() Flow { return Flow(math.NaN()) }

// Known reports whether it is known.
func (f Flow) Known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// String returns it as text shows it.
func (f Flow) String() string {
	if !f.Known() {
		return "–"
	}
	return text.Round(float64(f))
}

// MarshalJSON implements [json.Marshaler].
func (f Flow) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (f *Flow) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*f = UnknownFlow()
		return nil
	}
	return json.Unmarshal(text, (*float64)(f))
}
