package traffic

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Calm reports whether a plaza in this state is in no incident. Busy is calm in this sense: many
// plazas are near their capacity at every peak. So is no data: where vehicles are to be expected,
// their absence is below usual.
func (s State) Calm() bool { return s.Grave() == 0 }

// Grave is the order of states by how grave they are in an incident; 0 for the calm ones.
func (s State) Grave() int {
	return slices.Index([]State{AboveUsual, BelowUsual, Saturated}, s) + 1
}

// Severity returns how urgent a state is, in the words that alerting uses: critical where a queue
// grows, warning where traffic is far from usual.
func (s State) Severity() string {
	switch {
	case s.Calm():
		return "none"
	case s == Saturated:
		return "critical"
	}
	return "warning"
}

// IncidentID names an incident: a plaza, and the minute in which its first change was detected.
type IncidentID struct {
	Plaza    int16
	Detected toll.Minute
}

// incidentTime is how an ID writes its minute, in UTC.
const incidentTime = "20060102T1504Z"

// String returns the ID as 20220210T0813Z-4856, so that IDs sort by time.
func (id IncidentID) String() string {
	return id.Detected.Time().Format(incidentTime) + "-" + strconv.Itoa(int(id.Plaza))
}

// ParseIncidentID reads what String writes.
func ParseIncidentID(text string) (IncidentID, error) {
	at, plaza, _ := strings.Cut(text, "-")
	t, errTime := time.Parse(incidentTime, at)
	n, errPlaza := strconv.ParseInt(plaza, 10, 16)
	id := IncidentID{Plaza: int16(n), Detected: toll.MinuteAt(t.Unix())}
	if errTime != nil || errPlaza != nil || id.String() != text {
		return IncidentID{}, fmt.Errorf("%q is no incident, as 20220210T0813Z-4856 is one", text)
	}
	return id, nil
}

// Incident is an episode of a plaza whose state is not calm: from the change that leaves the calm
// states to the one that returns to them. A change between other states goes on with it.
type Incident struct {
	IncidentID
	Began toll.Minute  // the end of the first minute that asked for its first state
	Ended *toll.Minute // the same of the calm state that followed; nil while it is open
	// the minute in which that state, or the last one while it is open, was detected
	Changed toll.Minute
	States  []State // in their order
	Worst   State   // the gravest of them
	Why     string  // what spoke for that
	Peak    Peak
}

// Peak is the figure that an incident is remembered by.
type Peak struct {
	FlowPerHour float64     // vehicles an hour: the highest; of one below usual the lowest
	At          toll.Minute // the end of the quarter of an hour that it was measured in
}

// Last returns the state of an open incident, or the last one of an incident that has ended.
func (i *Incident) Last() State { return i.States[len(i.States)-1] }

// IncidentOf returns the incident that changes of one plaza make: its first leaves a calm state,
// and only the last may return to one.
func IncidentOf(changes []Transition) Incident {
	first := &changes[0]
	i := Incident{IncidentID: IncidentID{first.Plaza, first.Detected}, Began: first.Since}
	for c := range changes {
		t := &changes[c]
		i.Changed = t.Detected
		if t.To.Calm() {
			i.Ended = new(t.Since)
			break
		}
		i.States = append(i.States, t.To)
		if t.To.Grave() > i.Worst.Grave() {
			i.Worst, i.Why = t.To, t.Why
		}
	}
	for c := range changes {
		if t := &changes[c]; t.To == i.Worst {
			i.Saw(t.Measure.FlowPerHour, t.Detected)
		}
	}
	return i
}

// Saw takes the flow of the quarter of an hour that ends at a minute into account for the peak.
func (i *Incident) Saw(flowPerHour float64, end toll.Minute) {
	more := flowPerHour > i.Peak.FlowPerHour
	if i.Worst == BelowUsual {
		more = flowPerHour < i.Peak.FlowPerHour
	}
	if more || i.Peak.At == 0 {
		i.Peak = Peak{flowPerHour, end}
	}
}
