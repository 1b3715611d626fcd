package traffic

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

func TestIncidents(t *testing.T) {
	for _, c := range []struct {
		changes string // state:minute:flow, each from the state before it
		want    string // began, ended, states, worst, peak and its time
	}{
		{"", ""},
		{"no data:1:0 free:5:100 no data:9:0", ""},
		{"free:1:0 above usual:10:800 free:30:300", "10-30 above usual; above usual; 800 at 12\n"},
		{"free:1:0 busy:10:800 saturated:20:1200 busy:30:900",
			"20-30 saturated; saturated; 1200 at 22\n"},
		{"free:1:0 above usual:10:800", "10-… above usual; above usual; 800 at 12\n"},
		{"no data:1:0 saturated:10:1200 above usual:20:900 saturated:30:1300 no data:40:0",
			"10-40 saturated above usual saturated; saturated; 1300 at 32\n"},
		{"free:1:0 below usual:10:40 free:20:300 below usual:30:60 below usual:40:20",
			"10-20 below usual; below usual; 40 at 12\n" +
				"30-… below usual below usual; below usual; 20 at 42\n"},
		// what began before the first change that is kept
		{"above usual:1:700 saturated:3:900 free:8:100 above usual:20:800",
			"20-… above usual; above usual; 800 at 22\n"},
		{"free:1:0 below usual:10:40 saturated:20:900",
			"10-… below usual saturated; saturated; 900 at 22\n"},
	} {
		var changes []Transition
		before := AboveUsual
		for _, part := range splitChanges(c.changes) {
			state, figures, _ := strings.Cut(part, ":")
			var minute, flow int
			if _, err := fmt.Sscanf(figures, "%d:%d", &minute, &flow); err != nil {
				t.Fatal(err)
			}
			to := NoData
			for s := range stateWords {
				if stateWords[s] == state {
					to = State(s)
				}
			}
			changes = append(changes, Transition{Plaza: 7, From: before, To: to,
				Since: toll.Minute(minute), Detected: toll.Minute(minute + 2), Why: state,
				Measure: Measure{FlowPerHour: float64(flow)}})
			before = to
		}
		var got strings.Builder
		for _, i := range episodes(changes) {
			end := "…"
			if i.Ended != nil {
				end = fmt.Sprint(*i.Ended)
			}
			var states []string
			for _, s := range i.States {
				states = append(states, s.String())
			}
			fmt.Fprintf(&got, "%d-%s %s; %v; %v at %d\n", i.Began, end, strings.Join(states, " "), i.Worst,
				i.Peak.FlowPerHour, i.Peak.At)
			if i.Why != i.Worst.String() || i.Detected != i.Began+2 {
				t.Errorf("%s: got %+v", c.changes, i)
			}
		}
		if got.String() != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.changes, &got, c.want)
		}
	}
}

// splitChanges splits at the blanks that follow a number.
func splitChanges(text string) (parts []string) {
	for word := range strings.FieldsSeq(text) {
		if n := len(parts); n > 0 && !strings.Contains(parts[n-1], ":") {
			parts[n-1] += " " + word
		} else {
			parts = append(parts, word)
		}
	}
	return parts
}

func TestIncidentID(t *testing.T) {
	for _, id := range []IncidentID{{4856, 27_408_493}, {-5, 0}, {32767, 1}} {
		if got, err := ParseIncidentID(id.String()); err != nil || got != id {
			t.Errorf("%v: got %v, %v", id, got, err)
		}
	}
	for _, text := range []string{"", "-", "20220210T0813Z", "20220210T0813Z-", "20220210T0813Z-04856",
		"20220210T0813Z-40000", "20220210T0813-1", "20229910T0813Z-1", "20220210T0813Z-1 "} {
		if id, err := ParseIncidentID(text); err == nil {
			t.Errorf("%q is read as %v", text, id)
		}
	}
	if got := (IncidentID{-5, 27_408_013}).String(); got != "20220210T0813Z--5" {
		t.Errorf("got %s", got)
	}
}

func TestSeverity(t *testing.T) {
	for s, want := range map[State]string{NoData: "none", Free: "none", CatchingUp: "none",
		Busy: "none", AboveUsual: "warning",
		BelowUsual: "warning", Saturated: "critical"} {
		if got := s.Severity(); got != want || s.Calm() != (want == "none") {
			t.Errorf("%v: got %s, calm %v", s, got, s.Calm())
		}
	}
}

// episodes cuts the changes of one plaza, ascending, into its incidents. Changes before the first
// that leaves a calm state belong to none.
func episodes(changes []Transition) []Incident {
	var all []Incident
	for len(changes) > 0 {
		if !changes[0].From.Calm() || changes[0].To.Calm() {
			changes = changes[1:]
			continue
		}
		n := len(changes)
		if end := slices.IndexFunc(changes, func(t Transition) bool { return t.To.Calm() }); end >= 0 {
			n = end + 1
		}
		all = append(all, IncidentOf(changes[:n]))
		changes = changes[n:]
	}
	return all
}
