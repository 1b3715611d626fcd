package toll

import (
	"math"
	"slices"
	"time"
)

// FlowPerHour returns the flow of n vehicles that passed within a span, in vehicles per hour: q =
// 3600·n/T with T in seconds. It is the flow rate of the Highway Capacity Manual: the equivalent
// hourly rate at which vehicles pass a point during an interval, which may be shorter or longer
// than an hour.
func FlowPerHour(n int64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return 3600 * float64(n) / span.Seconds()
}

// Window is the minutes [Start, End) of event time.
type Window struct {
	Start, End Minute
}

// LastMinutes returns the window of n minutes of which the last one is m.
func LastMinutes(m Minute, n int) Window {
	end := min(int64(m)+1, math.MaxInt32)
	return Window{Start: Minute(max(end-int64(n), math.MinInt32)), End: Minute(end)}
}

// Span returns the window's length.
func (w Window) Span() time.Duration {
	return time.Duration(int64(w.End)-int64(w.Start)) * time.Minute
}

// In returns the events by type in a window, as far as panes are kept.
func (s *State) In(w Window) []TypeCount {
	types, _ := SumPanes(s.Minutes.In(w))
	return types
}

// After returns the events after a minute, as far as panes are kept: those of a clock that runs
// ahead of it.
func (s *State) After(m Minute) int64 {
	var n int64
	for i := range s.Minutes.List {
		if s.Minutes.List[i].Start > m {
			n += s.Minutes.List[i].Count()
		}
	}
	return n
}

// PerMinute returns the events of each minute of a window, as far as panes are kept.
func (s *State) PerMinute(w Window) []int64 {
	counts := make([]int64, max(int64(w.End)-int64(w.Start), 0))
	for i := range s.Minutes.List {
		if p := &s.Minutes.List[i]; p.Start >= w.Start && p.Start < w.End {
			counts[int64(p.Start)-int64(w.Start)] += p.Count()
		}
	}
	return counts
}

// StreamTime returns the minute that the stream has come to, and false where there are no events:
// the median of the plazas' latest minutes, the later of the two in the middle. Fewer than half of
// the plazas can therefore not move it, however wrong their clocks are. That many plazas may also
// be quiet; what is busy then runs ahead of the stream.
func StreamTime(states map[int16]*State, zone *Zone) (Minute, bool) {
	latest := make([]Minute, 0, len(states))
	for _, s := range states {
		if s.Events > 0 {
			latest = append(latest, zone.Minute(s.Latest))
		}
	}
	if len(latest) == 0 {
		return 0, false
	}
	slices.Sort(latest)
	return latest[len(latest)/2], true
}
