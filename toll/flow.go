package toll

import (
	"math"
	"slices"
	"time"
)

// Lateness is how far behind the highest event time of its partition an event may be before it counts as late.
const Lateness = time.Minute

// FlowPerHour returns the flow of n vehicles that passed within a span, in vehicles per hour: q = 3600·n/T with T in
// seconds. It is the flow rate of the Highway Capacity Manual: the equivalent hourly rate at which vehicles pass a
// point during an interval, which may be shorter or longer than an hour.
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
func (w Window) Span() time.Duration { return time.Duration(int64(w.End)-int64(w.Start)) * time.Minute }

// In returns the events by type in a window, as far as panes are kept.
func (s *State) In(w Window) []TypeCount { return s.Between(w.Start, w.End) }

// After returns the events after a minute, as far as panes are kept: those of a clock that runs ahead of it.
func (s *State) After(m Minute) int64 {
	var n int64
	for i := range s.Panes {
		if s.Panes[i].Start > m {
			n += s.Panes[i].Count()
		}
	}
	return n
}

// Minutes returns the events of each minute of a window, as far as panes are kept.
func (s *State) Minutes(w Window) []int64 {
	counts := make([]int64, max(int64(w.End)-int64(w.Start), 0))
	for i := range s.Panes {
		if p := &s.Panes[i]; p.Start >= w.Start && p.Start < w.End {
			counts[int64(p.Start)-int64(w.Start)] += p.Count()
		}
	}
	return counts
}

// StreamTime returns the minute that the stream has come to, and false where there are no events: the median of the
// plazas' latest minutes, the later of the two in the middle. Fewer than half of the plazas can therefore not move it,
// however wrong their clocks are. That many plazas may also be quiet; what is busy then runs ahead of the stream.
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

// Watermark returns the instant up to which all events are taken to have come, and false where there are no events: per
// source partition the highest event time less [Lateness], then the lowest of the partitions.
//
// An idle partition holds it back for now, and one wrong clock moves a partition's; that is for the rules of windows.
func Watermark(states map[int16]*State, zone *Zone) (time.Time, bool) {
	highest := map[int32]WallTime{}
	for _, s := range states {
		for _, m := range s.Merged {
			if h, ok := highest[m.Partition]; !ok || m.Latest > h {
				highest[m.Partition] = m.Latest
			}
		}
	}
	lowest, found := int64(0), false
	for _, h := range highest {
		if u := zone.Unix(h); !found || u < lowest {
			lowest, found = u, true
		}
	}
	return time.Unix(lowest, 0).Add(-Lateness).UTC(), found
}
