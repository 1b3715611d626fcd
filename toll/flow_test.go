package toll

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestFlowPerHour(t *testing.T) {
	for _, c := range []struct {
		n    int64
		span time.Duration
		want float64
	}{
		{12, time.Minute, 720},
		{12, 15 * time.Minute, 48},
		{12, time.Hour, 12},
		{12, 24 * time.Hour, 0.5},
		{0, time.Minute, 0},
		{12, 0, 0},
	} {
		if got := FlowPerHour(c.n, c.span); got != c.want {
			t.Errorf("%d in %v: %v per hour, want %v", c.n, c.span, got, c.want)
		}
	}
}

func TestLastMinutes(t *testing.T) {
	if w := LastMinutes(100, 15); w != (Window{86, 101}) || w.Span() != 15*time.Minute {
		t.Errorf("%v of %v", w, w.Span())
	}
	if w := LastMinutes(math.MaxInt32, 60); w.End != math.MaxInt32 || w.Span() != time.Hour {
		t.Errorf("at the end of time: %v", w)
	}
	if w := LastMinutes(math.MinInt32, 60); w.Start != math.MinInt32 || w.Span() != time.Minute {
		t.Errorf("at the beginning of time: %v", w)
	}
}

func TestWindowsOfState(t *testing.T) {
	s := State{Minutes: Panes{List: []Pane{
		{Start: 40, Types: []TypeCount{{"car", 9}}},
		{Start: 99, Types: []TypeCount{{"car", 3}, {"van", 1}}},
		{Start: 100, Types: []TypeCount{{"car", 2}}},
		{Start: 103, Types: []TypeCount{{"car", 5}}},
	}}}
	if got := s.In(LastMinutes(100, 60)); !slices.Equal(got, []TypeCount{{"car", 5}, {"van", 1}}) {
		t.Errorf("in the window: %v", got)
	}
	if got := s.PerMinute(LastMinutes(100, 3)); !slices.Equal(got, []int64{0, 4, 2}) {
		t.Errorf("minutes %v", got)
	}
	if got := s.After(100); got != 5 {
		t.Errorf("%d after", got)
	}
	if got := s.PerMinute(Window{5, 5}); len(got) != 0 {
		t.Errorf("minutes of an empty window: %v", got)
	}
}

func TestStreamTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	at := func(clock string) WallTime {
		w, err := time.Parse(time.DateTime, "2022-02-10 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return WallTimeOf(w)
	}
	state := func(merged ...Merged) *State {
		s := &State{Merged: merged}
		for _, m := range merged {
			s.Events++
			s.Latest = max(s.Latest, m.Latest)
		}
		return s
	}
	for _, c := range []struct {
		name   string
		states map[int16]*State
		stream string // in UTC
	}{
		{name: "nothing"},
		{name: "gaps only", states: map[int16]*State{1: {Gaps: 2}}},
		{"one", map[int16]*State{1: state(Merged{0, 10, at("10:23:02")})}, "09:23:00"},
		{"two", map[int16]*State{
			1: state(Merged{0, 10, at("10:23:59")}),
			2: state(Merged{0, 12, at("10:24:10")}),
		}, "09:24:00"},
		{"partitions", map[int16]*State{
			1: state(Merged{0, 10, at("10:20:00")}, Merged{1, 10, at("10:10:30")}),
			2: state(Merged{0, 12, at("10:24:10")}, Merged{1, 9, at("10:10:00")}),
			3: state(Merged{0, 14, at("10:25:00")}),
		}, "09:24:00"},
		{"two clocks of five are wrong", map[int16]*State{
			1: state(Merged{0, 10, at("10:23:02")}),
			2: state(Merged{0, 10, at("10:23:12")}),
			3: state(Merged{0, 10, at("10:23:22")}),
			4: state(Merged{1, 10, MaxWallTime}),
			5: state(Merged{1, 10, at("23:00:00")}),
		}, "09:23:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone := NewZone(berlin)
			stream := ""
			if m, ok := StreamTime(c.states, zone); ok {
				stream = m.Time().Format(time.TimeOnly)
			}
			if stream != c.stream {
				t.Errorf("stream time %q, want %q", stream, c.stream)
			}
		})
	}
}
