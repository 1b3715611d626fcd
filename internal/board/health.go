package board

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Limits are the ages from which figures no longer describe the present. Tests set shorter ones.
type Limits struct {
	// Slot is the unit in which silence is measured: one counts once, however many events arrive in
	// it.
	Slot time.Duration
	// Silence without a known rate: a quarter of an hour, of which the flow is.
	Silence time.Duration
	// Lost is for how long a running process may go without a heartbeat: three of them.
	Lost time.Duration
	// Frozen is for how long states hold while no process runs: a restart takes less.
	Frozen time.Duration
}

// DefaultLimits returns the limits of a live view.
func DefaultLimits() Limits {
	return Limits{Slot: 10 * time.Second, Silence: 15 * time.Minute, Lost: 35 * time.Second,
		Frozen: 2 * time.Minute}
}

// rareSilence is the probability below which a silence is not chance.
const rareSilence = 1e-4

// liveLag is how far event time may be behind the arrival of events while the usual flow at that
// hour predicts how many should arrive. A replay is further behind.
const liveLag = 2 * time.Hour

// Feed is whether events arrive at the topic, in wall time, whatever their event time is.
type Feed struct {
	// wall clock when the newest event arrived; nil for never
	ArrivedAt *time.Time `json:"arrived_at"`
	// before At; nil for never
	AgeSeconds *int64 `json:"age_seconds"`
	// so long without an event that this is not chance
	Silent bool `json:"silent"`
	// of a silence as long as this one at the usual rate; nil unless silent, and where no rate is
	// known
	Probability *float64 `json:"probability"`
	// vehicles an hour at this time of the week; nil where not known, and in a replay
	UsualPerHour *float64 `json:"usual_per_hour"`

	// Share of the slots in which events arrived lately; 0 for not known.
	Share float64 `json:"-"`
	// Newest is whether ArrivedAt is of the newest event of the topic, and not only of those stored.
	Newest bool `json:"-"`
}

// ProcessState is whether events are stored and counted.
type ProcessState string

// The states of processing.
const (
	Running ProcessState = "running"
	Ended   ProcessState = "ended"   // at the end of the topic, as asked
	Stopped ProcessState = "stopped" // in good order
	Lost    ProcessState = "lost"    // without stopping in good order: killed, or without a database
	Never   ProcessState = "never"   // none has run yet
)

// Processing is whether events are stored and counted, by the heartbeats of the processes.
type Processing struct {
	State ProcessState `json:"state"`
	// wall clock of the last heartbeat; nil while running, and for never
	Since *time.Time `json:"since"`
	// those that run; of the others the last one
	Instances  []Instance  `json:"instances"`
	CatchingUp *CatchingUp `json:"catching_up"` // nil where not behind

	// All are the processes that were seen lately, by this machine's clock; nil for not read.
	All []Instance `json:"-"`
	// Behind are the records that are not stored yet of partitions whose newest stored record is old.
	Behind int64 `json:"-"`
}

// Instance is a process.
type Instance struct {
	Name      string     `json:"instance"`
	Version   string     `json:"version"`
	StartedAt time.Time  `json:"started_at"`
	SeenAt    time.Time  `json:"seen_at"`    // its last heartbeat
	StoppedAt *time.Time `json:"stopped_at"` // nil where it did not stop in good order
	Ended     bool       `json:"ended"`      // at the end of the topic, as asked
	Problem   string     `json:"problem"`    // checks that fail; empty while it does its work

	DrainPerSecond float64 `json:"-"` // by how many records a second its lag falls
}

// CatchingUp is a backlog that is being stored.
type CatchingUp struct {
	Events  int64    `json:"events"`  // records that are not stored yet
	Minutes *float64 `json:"minutes"` // about how long it takes; nil where not known yet
}

// leastBehind is the smallest backlog that is reported: less is stored within a moment.
const leastBehind = 1000

// startGrace is how long a process may take after its start until its checks pass.
const startGrace = 30 * time.Second

// Notice is what a person has to know before the figures are trusted.
type Notice struct {
	Kind   string `json:"kind"`   // first_event, feed, process, catching_up
	Severe bool   `json:"severe"` // the figures are not those of the present
	Text   string `json:"text"`   // a sentence, without a capital letter and a full stop
}

// judge derives the notices from feed and processing, once the plazas are derived; then it takes
// back the states that no longer describe the present.
func (b *Board) judge() {
	if b.Limits == (Limits{}) {
		b.Limits = DefaultLimits()
	}
	b.Notices = nil
	b.judgeFirst()
	b.judgeFeed()
	b.judgeProcessing()
	b.ageStates()
}

// judgeFirst reports what an empty database waits for.
func (b *Board) judgeFirst() {
	switch {
	case b.StreamTime != nil,
		slices.ContainsFunc(b.Plazas, func(p Plaza) bool { return p.Total > 0 }):
	case b.Waiting > 0:
		b.notice("first_event", false, "waiting for the first event to be stored: the topic holds "+
			text.Count(b.Waiting, "event"))
	default:
		b.notice("first_event", false,
			"waiting for the first event; tollstream emit --profile day sends simulated ones")
	}
}

func (b *Board) judgeFeed() {
	f := &b.Feed
	f.AgeSeconds, f.Silent, f.Probability, f.UsualPerHour = nil, false, nil, nil
	if f.ArrivedAt == nil {
		return
	}
	age := max(b.At.Sub(*f.ArrivedAt), 0)
	f.AgeSeconds = new(int64(age / time.Second))
	share := f.Share
	if usual := b.usualFlow(); usual > 0 {
		f.UsualPerHour = &usual
		share = 1 - math.Exp(-usual*b.Limits.Slot.Hours())
	}
	if !f.Newest {
		return
	}
	if share <= 0 {
		f.Silent = age > b.Limits.Silence
	} else if p := math.Exp(-share * age.Seconds() / b.Limits.Slot.Seconds()); p < rareSilence {
		f.Silent, f.Probability = true, &p
	}
	if !f.Silent {
		return
	}
	words := "no event has arrived for " + length(age)
	if f.UsualPerHour != nil {
		words += "; usual at this hour are " + text.Round(*f.UsualPerHour) + " vehicles/h"
	}
	b.notice("feed", true, words)
}

// usualFlow returns how many vehicles an hour usually pass at this time of the week, as far as it
// is known; 0 for not known, and where event time is not the time of the day.
func (b *Board) usualFlow() (perHour float64) {
	// The feed is of all plazas, and a board of one has its history.
	if b.History != nil || b.StreamTime == nil ||
		b.Feed.ArrivedAt.Sub(*b.StreamTime).Abs() > liveLag {
		return 0
	}
	for i := range b.Plazas {
		if u := b.Plazas[i].Usual; u != nil {
			perHour += 4 * u.Median
		}
	}
	return perHour
}

func (b *Board) judgeProcessing() {
	p := &b.Processing
	p.State, p.Since, p.CatchingUp, p.Instances = "", nil, nil, nil
	if p.All == nil {
		return
	}
	p.State = Never
	var last *Instance
	var drain float64
	for i := range p.All {
		in := &p.All[i]
		if in.StoppedAt == nil && b.At.Sub(in.SeenAt) <= b.Limits.Lost {
			p.State, p.Instances, drain = Running, append(p.Instances, *in), drain+in.DrainPerSecond
		}
		if last == nil || in.SeenAt.After(last.SeenAt) {
			last = in
		}
	}
	if p.State == Running {
		b.judgeRunning(drain)
		return
	}
	waiting := ""
	if b.Waiting > 0 {
		waiting = "; " + text.Count(b.Waiting, "event waits", "events wait")
	}
	if last == nil {
		b.notice("process", b.Waiting > 0, "no process has run yet"+waiting+
			"; start one with tollstream process")
		return
	}
	p.Instances, p.Since = []Instance{*last}, new(last.SeenAt)
	age := length(b.At.Sub(last.SeenAt))
	switch {
	case last.Ended:
		p.State = Ended
		if b.Waiting > 0 {
			b.notice("process", false, "process ended "+age+" ago, at the end of the topic"+waiting)
		}
	case last.StoppedAt != nil:
		p.State = Stopped
		b.notice("process", true, "process stopped "+age+" ago"+waiting+
			"; start it with tollstream process")
	default:
		p.State = Lost
		b.notice("process", true, "process was last seen "+age+
			" ago: it was killed, or can't reach MySQL"+waiting)
	}
}

// judgeRunning judges processes that run; drain is by how many records a second their lag falls.
func (b *Board) judgeRunning(drain float64) {
	p := &b.Processing
	for _, in := range p.Instances {
		if in.Problem != "" && b.At.Sub(in.StartedAt) > startGrace {
			b.notice("process", false, "process "+text.OneLine(in.Name)+" is not ready: "+
				text.OneLine(in.Problem))
		}
	}
	if p.Behind < leastBehind {
		return
	}
	p.CatchingUp = &CatchingUp{Events: b.Waiting}
	words := "catching up, " + text.Count(b.Waiting, "event") + " behind"
	if drain > 0 {
		minutes := float64(b.Waiting) / drain / 60
		p.CatchingUp.Minutes = &minutes
		words += ", about " + text.Minutes(max(int64(math.Ceil(minutes)), 1))
	}
	b.notice("catching_up", false, words)
}

func (b *Board) notice(kind string, severe bool, text string) {
	b.Notices = append(b.Notices, Notice{kind, severe, text})
}

// length writes for how long something has lasted.
func length(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", max(d, 0)/time.Second)
	}
	return text.Minutes(int64(d / time.Minute))
}

// frozen returns why the states no longer describe the present, empty where they do.
func (b *Board) frozen() string {
	p := &b.Processing
	switch {
	case b.Feed.Silent:
		return "no event has arrived for " + length(b.At.Sub(*b.Feed.ArrivedAt))
	case (p.State == Stopped || p.State == Lost) && b.At.Sub(*p.Since) > b.Limits.Frozen:
		return "no process has run for " + length(b.At.Sub(*p.Since))
	}
	return ""
}

// ageStates takes back states that no longer describe the present, and explains what plazas without
// a state wait for.
func (b *Board) ageStates() {
	why := b.frozen()
	for i := range b.Plazas {
		p := &b.Plazas[i]
		if p.ID == NullPlaza {
			continue
		}
		if why != "" {
			p.FlowPerHour, p.FlowKnown = UnknownFlow(), false
		}
		switch {
		case why != "" && p.Measure != nil:
			p.Why = why + "; before, it was " + p.State.String()
			p.State, p.Measure, p.Measures, p.Aged = traffic.NoData, nil, Measures{}, true
			p.Since = b.Feed.ArrivedAt
		case why != "" || p.State != traffic.NoData:
		case b.Processing.Behind > 0 && b.Processing.State == Running:
			p.State = traffic.CatchingUp
			p.Why = cmp.Or(p.Why, "its events are not stored yet")
		case p.ObservedMinutes != nil && p.FlowKnown:
			p.State, p.Since = traffic.WarmingUp, p.FirstEvent
			p.Why = "observed for " + text.Minutes(int64(*p.ObservedMinutes)) + " so far"
		}
	}
}
