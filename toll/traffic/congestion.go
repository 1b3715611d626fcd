// Package traffic judges how heavy the flow at a plaza is: measures of the last hour, the levels
// that are usual at that time of the week, and the congestion states that follow from both. Like
// package toll it has no clock, no I/O and no goroutine.
package traffic

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// State is how heavy the flow at a plaza is. There are no levels of service A to F: they are
// defined by density, speed or delay, and crossings alone show none of these.
type State uint8

// The states. Free, busy and saturated are levels, in this order.
const (
	// nothing passes, and whether anything should is unknown; also of a plaza that was never assessed
	NoData State = iota
	Free         // none of the others
	Busy         // throughput near capacity
	// throughput at capacity: a queue grows, whose length crossings don't show
	Saturated
	// far less than usual: a blockage upstream or at the plaza, or reports that don't arrive
	BelowUsual
	// far more than usual, below capacity: a diversion, an event, a rush
	AboveUsual

	// What follows is never judged nor stored: a view shows it of a plaza that has no state yet.

	CatchingUp // its events are not stored yet
	WarmingUp  // it was observed for too few minutes
)

var (
	stateWords = [...]string{"no data", "free", "busy", "saturated", "below usual",
		"above usual", "catching up", "warming up"}
	stateCodes = [...]string{"no_data", "free", "busy", "saturated", "below_usual",
		"above_usual", "catching_up", "warming_up"}
)

// String returns the state in words for people.
func (s State) String() string {
	if int(s) >= len(stateWords) {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return stateWords[s]
}

// MarshalText returns the state in one word, with an underscore for a blank, as JSON and the
// database hold it.
func (s State) MarshalText() ([]byte, error) {
	if int(s) >= len(stateCodes) {
		return nil, fmt.Errorf("there is no congestion %s", s)
	}
	return []byte(stateCodes[s]), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for i, code := range stateCodes {
		if string(text) == code {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("congestion state %q is none of %s", text, strings.Join(stateCodes[:], ", "))
}

// isLevel reports whether a state is free, busy or saturated.
func (s State) isLevel() bool { return s >= Free && s <= Saturated }

// The figures at which a state is entered and left, see [Assessment.asks]. A state is left at
// another figure than it is entered at, so that a flow near one does not enter and leave it all the
// time.
const (
	saturatedVC      = 1.0  // as much as can pass: from here on a queue grows
	saturatedLeaveVC = 0.90 // a queue discharges at capacity, so well below it there is none
	busyVC           = 0.75 // where capacity is known
	busyLeaveVC      = 0.65
	// for below and above usual; the year of real counts in testdata decided it, see TestScore
	deviationZ      = 3.5
	deviationLeaveZ = 2.0
	// of the usual median: what an operator would notice
	belowShare      = 0.75
	belowLeaveShare = 0.85
	aboveShare      = 1.25
	aboveLeaveShare = 1.15
	// of the day's busiest quarter: how many more must pass at least. At night a third more is a few
	// vehicles, or a stadium that empties, and the lanes carry more each day.
	aboveOfPeak      = 0.15
	aboveLeaveOfPeak = 0.05
	// per quarter of an hour; of fewer, z says little: with 8 usual, none at all is z −2.8
	fewVehicles = 8
	// minutes in a row that must ask for a state
	minutesToEnter = 3
	// and for below or above usual: what chance does to a quarter of an hour is over sooner
	minutesToDeviate = 5
)

// MaxQuiet is for how many minutes of quarters without a vehicle a state holds: two days. After
// that it is no data, for what was usual does not come back by itself.
const MaxQuiet = 2 * 24 * 60

// Assessment is the congestion state of a plaza, and what it takes to go on with the next minute.
// The zero value is a plaza that was never assessed; it has no data, and takes as many minutes as
// any to leave that.
//
// A state is entered once three minutes in a row have asked for it, five for below and above usual,
// each by the quarter of an hour before it. A minute that asks for a level beyond supports the
// nearer one too: busy, saturated, busy makes busy.
type Assessment struct {
	State State `json:"state"`
	// the end of the first minute that asked for it; of the first state, the first end assessed
	Since toll.Minute `json:"since"`
	// a sentence with the figures of the last minute that asked for the state
	Why   string      `json:"why"`
	First toll.Minute `json:"first"` // the end of the first minute with a vehicle; 0 for none yet
	Until toll.Minute `json:"until"` // minutes before it are assessed

	// What the last Streak minutes have asked for instead, the first of which ended at Asked.
	Candidate State       `json:"candidate,omitzero"`
	Streak    int         `json:"streak,omitzero"`
	Asked     toll.Minute `json:"asked,omitzero"`
	// how many minutes in a row had no vehicle in the quarter before; at most MaxQuiet
	Quiet int `json:"quiet,omitzero"`

	// of the last hours, compared with what is usual
	Level Level `json:"level,omitzero"`
	// on a holiday, the same compared with [Basis.DayOff]
	LevelOff Level `json:"level_off,omitzero"`
	// the holiday on the date of Last, by [Basis.Holidays], and what days it is like; empty for none
	Holiday string `json:"holiday,omitzero"`
	// why the configured capacity is not used, nil while it may be right
	Overrun *Overrun `json:"overrun,omitzero"`

	Last Measure `json:"last"` // at Until

	// by which it was judged, to convert vehicles of the past; nil where not known
	Equivalents Equivalents `json:"equivalents,omitempty"`
}

// Transition is a change of state.
type Transition struct {
	Plaza int16 `json:"plaza"`
	From  State `json:"from"`
	To    State `json:"to"`
	// when it began: the end of the first minute that asked for the state
	Since    toll.Minute `json:"since"`
	Detected toll.Minute `json:"detected"` // the end of the minute that decided it
	Why      string      `json:"why"`
	Measure  Measure     `json:"measure"` // at Detected
	Epoch    uint64      `json:"epoch"`   // of the state that it was judged from; 0 where not known
}

// Assessed reports whether any minute was assessed.
func (a *Assessment) Assessed() bool { return a.Why != "" }

// verdict is what a measure means for a state.
type verdict uint8

const (
	undecided verdict = iota // it asks for another one, or was assessed before
	confirmed                // it asks for the state
	changed                  // it decides for another one
)

// judge takes the measure of one more minute. What was judged before, by its end, is ignored. Where
// it confirms the state, Why stays as it is: [why] takes longer than all the rest, so the caller
// writes it once.
//
// Measures are to come minute by minute. Where minutes are left out the state stays, and no streak
// goes on across them.
func (a *Assessment) judge(m *Measure) (Transition, verdict) {
	switch {
	case !a.Assessed():
		a.Since, a.Why = m.End, "assessed for the first time just now"
	case m.End <= a.Until:
		return Transition{}, undecided
	case int64(m.End) > int64(a.Until)+1:
		a.Candidate, a.Streak, a.Asked, a.Quiet = 0, 0, 0, 0
	}
	a.Until, a.Last = m.End, *m
	if a.First == 0 && m.Count15 > 0 {
		a.First = m.End
	}
	if m.Count15 > 0 {
		a.Quiet = 0
	} else {
		a.Quiet = min(a.Quiet+1, MaxQuiet)
	}

	a.followOverrun(m)
	asked := a.asks(m)
	if asked == a.State {
		a.Candidate, a.Streak, a.Asked = 0, 0, 0
		return Transition{}, confirmed
	}
	if a.Streak > 0 {
		if both, ok := nearer(a.State, a.Candidate, asked); ok {
			asked = both
		} else {
			a.Streak = 0
		}
	}
	if a.Streak == 0 {
		a.Asked = m.End
	}
	a.Candidate = asked
	a.Streak++
	if a.Streak < enough(asked) {
		return Transition{}, undecided
	}
	change := Transition{
		Plaza: m.Plaza, From: a.State, To: asked, Since: a.Asked, Detected: m.End,
		Why: why(asked, a.Quiet, a.Overrun, m) + a.kindOfDay(asked, a.Asked, m), Measure: *m,
	}
	a.State, a.Since, a.Why = change.To, change.Since, change.Why
	a.Candidate, a.Streak, a.Asked = 0, 0, 0
	return change, changed
}

// asks returns the state that a measure asks for. The first that applies:
//
//  1. no data: no vehicle in any quarter for MaxQuiet minutes
//  2. below usual: z ≤ −3.5, less than 0.75 of the median, which is 8 or more; once in it, until z
//     > −2 or 0.85 of the median. Not in the first quarter of an hour ever assessed, of which a
//     part was before the first report
//  3. no data: no vehicle in the last quarter though 8 or more were to be expected, or none in the
//     whole hour; once in it, until a vehicle passes. To be expected is the median or, where it is
//     not known, the mean of the quarters before. A quarter without a vehicle where few pass is
//     chance, and would make a quiet night go in and out of it
//  4. saturated: v/c ≥ 1; once in it, until v/c < 0.90. Here and in what follows a capacity that
//     was proved wrong, see [Overrun], is one that is not known
//  5. above usual: z ≥ 3.5, at least 1.25 of the median, 0.15 of the day's busiest quarter more
//     than it, and 8 vehicles; once in it, until z < 2, 1.15 of the median or 0.05 of the busiest
//     quarter
//  6. busy: v/c ≥ 0.75; once in it or saturated, until v/c < 0.65
//  7. free
//
// More than usual on a road that has room is news, and a busy hour that comes each day is not: so
// above usual goes before busy. And below usual goes before saturated. Both apply only where the
// capacity is set to less than three quarters of what usually passes, and then what passes is to be
// trusted more than the setting.
func (a *Assessment) asks(m *Measure) State {
	in := func(entered, left float64, states ...State) float64 {
		if slices.Contains(states, a.State) {
			return left
		}
		return entered
	}
	n, vc := float64(m.Count15), a.vc(m)
	expected := float64(m.Count60-m.Count15) / 3
	if m.Z != nil {
		expected = m.Usual.Median
	}
	switch {
	case a.Quiet >= MaxQuiet:
		return NoData
	case a.First > 0 && int64(m.End)-int64(a.First) >= toll.Quarter-1 && m.Z != nil &&
		*m.Z <= -in(deviationZ, deviationLeaveZ, BelowUsual) &&
		n < m.Usual.Median*in(belowShare, belowLeaveShare, BelowUsual) &&
		m.Usual.Median >= in(fewVehicles, 0, BelowUsual):
		return BelowUsual
	case m.Count15 == 0 && (m.Count60 == 0 || expected >= fewVehicles || a.State == NoData):
		return NoData
	case vc != nil && *vc >= in(saturatedVC, saturatedLeaveVC, Saturated):
		return Saturated
	case m.Z != nil && *m.Z >= in(deviationZ, deviationLeaveZ, AboveUsual) &&
		n >= m.Usual.Median*in(aboveShare, aboveLeaveShare, AboveUsual) &&
		n >= m.Usual.Median+in(aboveOfPeak, aboveLeaveOfPeak, AboveUsual)*m.Usual.Peak &&
		n >= in(fewVehicles, 0, AboveUsual):
		return AboveUsual
	case vc != nil && *vc >= in(busyVC, busyLeaveVC, Busy, Saturated):
		return Busy
	}
	return Free
}

// enough returns how many minutes in a row must ask for a state.
func enough(s State) int {
	if s == BelowUsual || s == AboveUsual {
		return minutesToDeviate
	}
	return minutesToEnter
}

// nearer returns the state that two others support both, seen from state now: of two levels in the
// same direction the one that comes first. It returns false where they have nothing in common.
func nearer(now, a, b State) (State, bool) {
	switch {
	case a == b:
		return a, true
	case !a.isLevel() || !b.isLevel():
		return 0, false
	case !now.isLevel() || now < min(a, b):
		return min(a, b), true
	case now > max(a, b):
		return max(a, b), true
	}
	return 0, false
}

// why states in one sentence what speaks for a state.
func why(s State, quiet int, overrun *Overrun, m *Measure) string {
	passed := grouped(float64(m.Count15)) + " vehicles"
	switch m.Count15 {
	case 0:
		passed = "no vehicle"
	case 1:
		passed = "1 vehicle"
	}
	passed += fmt.Sprintf(" in %d min", m.minutes())
	against := ""
	if m.Z != nil {
		against = fmt.Sprintf(", usual are %s (z %s)", decimal(m.Usual.Median), decimal(*m.Z))
	}
	switch {
	case s == NoData && quiet >= MaxQuiet:
		return "no vehicle for two days"
	case s == NoData && m.Z != nil:
		return fmt.Sprintf("%s, usual are %s", passed, decimal(m.Usual.Median))
	case s == NoData:
		return passed + "; what is usual is not known yet"
	case s == BelowUsual && m.Count15 == 0:
		return passed + against + "; missing reports look the same"
	case s == BelowUsual, s == AboveUsual:
		return passed + against + overrun.String()
	case m.VC != nil && overrun == nil:
		lanes := strconv.Itoa(m.Lanes) + " lanes"
		if m.Lanes == 1 {
			lanes = "1 lane"
		}
		text := fmt.Sprintf("throughput %s pc/h is %s %% of the capacity of %s pc/h (%s)",
			grouped(m.Throughput), grouped(Percent(*m.VC)), grouped(*m.Capacity), lanes)
		switch {
		case m.overCapacity():
			text += ", which looks too low: check lanes and capacity_per_lane in the plazas file"
		case s == Saturated && *m.VC < saturatedVC:
			text += fmt.Sprintf("; saturated until it is below %.0f %%", saturatedLeaveVC*100)
		case s == Busy && *m.VC < busyVC:
			text += fmt.Sprintf("; busy until it is below %.0f %%", busyLeaveVC*100)
		}
		if s == Saturated {
			text += "; how long the queue is can't be told from crossings"
		}
		return text
	case m.Z != nil:
		return passed + against + overrun.String()
	case overrun != nil:
		return passed + "; what is usual is not known" + overrun.String()
	}
	return passed + "; lanes and what is usual are not known"
}

// From when on, in minutes, less than usual makes a day like a holiday, and at what share of the
// usual: a road that is closed has less.
const (
	likeHolidayAfter = 4 * 60
	likeHolidayShare = 0.3
)

// kindOfDay returns what explains what is usual, or a deviation from that since some minute: the
// holiday by the calendar, or that the day is like one, for calendars don't know all of them.
func (a *Assessment) kindOfDay(s State, since toll.Minute, m *Measure) string {
	switch {
	case a.Holiday != "" && m.Z != nil && s != NoData:
		return "; " + a.Holiday
	case s == BelowUsual && m.End-since >= likeHolidayAfter && m.Usual != nil &&
		float64(m.Count15) >= m.Usual.Median*likeHolidayShare:
		return fmt.Sprintf("; for %d h, like a holiday", (m.End-since)/60)
	}
	return ""
}

// grouped writes a number that is not negative rounded to a whole, with a comma before each three
// digits: 1,420.
func grouped(x float64) string {
	digits := strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// decimal writes a number with one decimal at most: 61, 61.5, −7.4.
func decimal(x float64) string {
	x = math.Round(x*10) / 10
	if x < 0 {
		return "−" + strconv.FormatFloat(-x, 'f', -1, 64)
	}
	return strconv.FormatFloat(math.Abs(x), 'f', -1, 64) // no −0
}

// Basis is what the minutes of a plaza are judged by.
type Basis struct {
	Plaza       toll.Plaza
	Zone        *toll.Zone  // the plaza's
	Equivalents Equivalents // nil for DefaultEquivalents
	// what is usual on a date, as WallTime.Day counts days, or nil; a nil func knows nothing
	Usual    func(day int64) *UsualDay
	Holidays Holidays
	// what is usual on a date that is a holiday, or nil; a nil func knows nothing
	DayOff func(day int64) *DayOff
}

// Run assesses the minutes [from, until) that were not assessed before, and returns the
// transitions, ascending. panes are those of a minute, ascending, that hold events in [from −
// MeasureSpan, until).
//
// The result does not depend on how a stretch is cut into runs. A plaza that has been quiet for
// MaxQuiet minutes stays as it is until the next vehicle, so that a leap over a year costs as
// little as one over two days.
func (a *Assessment) Run(panes []toll.Pane, from, until toll.Minute, by *Basis) []Transition {
	if a.Assessed() {
		from = max(from, a.Until)
	}
	if a.First == 0 && len(panes) > 0 {
		a.First = panes[0].Start + 1
	}
	eq := by.Equivalents
	if eq == nil {
		eq = DefaultEquivalents()
	}
	dates := by.datesOnce()
	slider := NewSlider(panes, by.Plaza, eq)
	var transitions []Transition
	// that asked for the state
	var last struct {
		measure Measure
		quiet   int
		asked   bool
	}
	for end := int64(from) + 1; end <= int64(until); end++ {
		if a.State == NoData && a.Quiet >= MaxQuiet && int64(a.Until) == end-1 {
			if empty := min(slider.emptyUntil(a.Until), int64(until)); empty > end {
				a.Until, end = toll.Minute(empty-1), empty
			}
		}
		m := slider.MeasureAt(toll.Minute(end)).ofMinutes(a.observed(end))
		a.compare(&m, by.Zone, dates)
		switch change, said := a.judge(&m); said {
		case confirmed:
			last.measure, last.quiet, last.asked = m, a.Quiet, true
		case changed:
			transitions = append(transitions, change)
			last.asked = false
		}
	}
	if last.asked {
		a.Why = why(a.State, last.quiet, a.Overrun, &last.measure) +
			a.kindOfDay(a.State, a.Since, &last.measure)
	}
	return transitions
}

// observed returns for how many minutes the plaza was observed until an end of one: since its first
// vehicle.
func (a *Assessment) observed(end int64) int {
	if a.First == 0 {
		return 0
	}
	return int(min(end-int64(a.First)+1, toll.Quarter))
}

// compare compares a measure with what is usual at the level of the last hours. At the end of a
// slot the level follows.
//
// While the flow deviates the level goes back to usual: the state is to last as long as the
// deviation does, and not until the plaza has got used to it. Without data it is forgotten.
//
// A holiday is compared with earlier ones of its name. Where there are none, it is compared with
// its weekday and with Sundays, and the nearer of the two counts.
func (a *Assessment) compare(m *Measure, z *toll.Zone, dates func(day int64) *date) {
	if a.State == NoData || int64(m.End) > int64(a.Until)+1 {
		a.Level, a.LevelOff = Level{}, Level{}
	}
	base, slot := UsualAt(z, m.End, func(day int64) *UsualDay { return dates(day).usual })
	usual := base.At(&a.Level)
	today := dates(DayOf(z, m.End-1))
	follow := slot && a.State != NoData
	if a.Holiday = today.holiday; today.off == nil {
		a.LevelOff = Level{}
	} else {
		off, _ := UsualAt(z, m.End, func(day int64) *UsualDay {
			if d := dates(day); d.off != nil {
				return &d.off.UsualDay
			}
			return dates(day).usual
		})
		switch {
		case today.off.Own:
			a.Holiday += ", compared with earlier ones"
		case a.Level.apart(base) < a.LevelOff.apart(off):
			a.Holiday += ", like a " + WeekdayOf(today.day).String()
		default:
			a.Holiday += ", like a Sunday"
		}
		usual = today.off.Or(usual, off.At(&a.LevelOff), float64(m.Count15))
		if follow {
			a.follow(&a.LevelOff, m.Count15, off)
		}
	}
	if follow {
		a.follow(&a.Level, m.Count15, base)
	}
	m.Against(usual)
}

// apart returns how far the level is from what is usual.
func (l *Level) apart(usual Usual) float64 {
	return math.Abs(math.Log(max(l.Ratio(usual.Median), 1e-3)))
}

// follow takes a quarter of an hour into account for a level.
func (a *Assessment) follow(l *Level, count int64, base Usual) {
	switch {
	case !base.Known():
	case a.State == BelowUsual || a.State == AboveUsual:
		l.Follow(base.Median, base.Median)
	default:
		l.Follow(float64(count), base.Median)
	}
}

// date is what a basis knows of a date.
type date struct {
	known   bool
	day     int64
	usual   *UsualDay
	holiday string
	off     *DayOff
}

// datesOnce returns what is known of dates, remembering the last two that were asked for: a quarter
// lies in no more.
func (b *Basis) datesOnce() func(day int64) *date {
	var last [2]date
	return func(day int64) *date {
		at := &last[day&1]
		if at.known && at.day == day {
			return at
		}
		*at = date{known: true, day: day, holiday: b.Holidays.on(day)}
		if b.Usual != nil {
			at.usual = b.Usual(day)
		}
		if b.DayOff != nil && at.holiday != "" {
			at.off = b.DayOff(day)
		}
		return at
	}
}

// Notice is a stored result that is to be published: a closed window, or a change of a plaza's
// congestion. One of the two is set.
type Notice struct {
	Ref        NoticeRef
	Window     *toll.WindowResult
	Transition *Transition
}

// NoticeRef names a notice: a revision of a window, or where Revision is 0 the plaza's transition
// of that number, which is the minute at whose end it was detected.
type NoticeRef struct {
	toll.WindowID
	Revision int64
	Number   int64
}
