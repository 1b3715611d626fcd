package toll

import (
	"math"
	"time"
)

// Minute is a minute of event time: whole minutes of UTC since 1970-01-01.
type Minute int32

// Time returns the start of the minute.
func (m Minute) Time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// Zone turns wall times into instants, and back. Of two wall times the later one never has the
// earlier instant, whatever the clock does, so a range of minutes is a range of wall times:
//
//   - A time that is shown twice, when clocks are set back, is the first of the two.
//   - A time that is never shown, when clocks are set forward, is the last second before the
//     change. The same holds for one that is shown only after a later one was.
//
// A Zone remembers what it was asked for last, so it is not for concurrent use; take a [Zone.Clone]
// per goroutine.
type Zone struct {
	loc      *time.Location
	clock    wallClock
	from, to int64 // wall times [from, to) are all shown for the first time with offset
	offset   int64 // seconds east of UTC
}

// NewZone returns the zone of a location.
func NewZone(loc *time.Location) *Zone { return &Zone{loc: loc, clock: wallClock{loc: loc}} }

// Clone returns a zone of its own for another goroutine.
func (z *Zone) Clone() *Zone { return NewZone(z.loc) }

// Location returns the zone's location.
func (z *Zone) Location() *time.Location { return z.loc }

// Unix returns the instant of a wall time, in seconds since 1970-01-01 00:00:00 UTC.
func (z *Zone) Unix(w WallTime) int64 {
	t, _ := z.Instant(w)
	return t
}

// Instant returns the same as [Zone.Unix], and false for a wall time that the clock does not show
// then.
func (z *Zone) Instant(w WallTime) (unix int64, shown bool) {
	wall := int64(w)
	if wall < z.from || wall >= z.to {
		// From a bit before, since events are not quite in order.
		const before = 3600
		t, s := z.clock.reach(wall - before)
		if wall-s.offset < t || wall-s.offset >= s.to {
			if t, s = z.clock.reach(wall); t+s.offset > wall {
				return t - 1, false
			}
		}
		z.from, z.to, z.offset = t+s.offset, s.to+s.offset, s.offset
	}
	return wall - z.offset, true
}

// Minute returns the minute of event time in which a wall time lies. From the year 6053 on, where
// only a wrong clock can be, all are the last one that a Minute holds.
func (z *Zone) Minute(w WallTime) Minute { return MinuteAt(z.Unix(w)) }

// Boundary returns the first minute in which the clock shows a wall time or a later one.
func (z *Zone) Boundary(w WallTime) Minute {
	t, _ := z.clock.reach(int64(w))
	return MinuteAt(t)
}

// Since returns the first wall time that is of minute m or a later one. So the wall times of the
// minutes [start, end) are those from Since(start) to before Since(end).
//
// That is what the clock shows when the minute begins, unless the clock was set back before. Then
// it is the first time that had not been shown by then, and many minutes have the same.
func (z *Zone) Since(m Minute) WallTime {
	t := int64(m) * 60
	return WallTime(max(z.clock.latest(t)+1, t+z.clock.at(t).offset))
}

// MinuteAt returns the minute of event time in which an instant lies, given in seconds since
// 1970-01-01 00:00:00 UTC.
func MinuteAt(u int64) Minute {
	return ClampMinute(floorTo(u, 60) / 60)
}

// ClampMinute returns m, or the first or last minute where a Minute can't hold it.
func ClampMinute(m int64) Minute { return Minute(min(max(m, math.MinInt32), math.MaxInt32)) }

// Wall returns what a clock in the zone shows at an instant.
func (z *Zone) Wall(t time.Time) WallTime { return WallTimeOf(t.In(z.loc)) }

// Skipped returns the ranges [start, end) of wall times that the clock never shows, or only after
// later ones, because it is set forward within some minutes. They ascend.
func (z *Zone) Skipped(w Window) [][2]WallTime {
	var all [][2]WallTime
	end := int64(w.End) * 60
	for s := z.clock.at(int64(w.Start) * 60); s.to < end; {
		s = z.clock.at(s.to)
		if first, shown := z.clock.latest(s.from)+1, s.from+s.offset; first < shown {
			all = append(all, [2]WallTime{WallTime(first), WallTime(shown)})
		}
	}
	return all
}

// Changes returns the minutes of a window in which the clock is set, ascending.
func (z *Zone) Changes(w Window) []Minute {
	var all []Minute
	end := int64(w.End) * 60
	for s := z.clock.at(int64(w.Start) * 60); s.to < end; s = z.clock.at(s.to) {
		all = append(all, MinuteAt(s.to))
	}
	return all
}

// ZoneSet gives each plaza the zone that its windows align to: its own, or else the database's.
// Like a [Zone] it is for one goroutine.
type ZoneSet struct {
	usual *Zone
	own   map[int16]*Zone
	named map[string]*Zone // clones of own's, one for all plazas of the same name
}

// NewZoneSet returns the zones of plazas that have one of their own, and usual for all others. It
// uses neither itself, but clones of them, so several sets may share both.
func NewZoneSet(usual *Zone, own map[int16]*Zone) *ZoneSet {
	return &ZoneSet{usual: usual.Clone(), own: own, named: map[string]*Zone{}}
}

// Of returns the zone of a plaza.
func (s *ZoneSet) Of(plaza int16) *Zone {
	own := s.own[plaza]
	if own == nil {
		return s.usual
	}
	name := own.Location().String()
	if s.named[name] == nil {
		s.named[name] = own.Clone()
	}
	return s.named[name]
}
