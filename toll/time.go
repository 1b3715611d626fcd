package toll

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// WallTime is a time as a wall clock shows it, to the second: the seconds from 1970-01-01 00:00:00
// to it on that same clock. It is what livetolldata.timestamp holds, so it has no timezone of its
// own; a [Zone] turns it into an instant.
type WallTime int64

// The range of MySQL's DATETIME, inclusive.
const (
	MinWallTime WallTime = -30610224000 // 1000-01-01 00:00:00
	MaxWallTime WallTime = 253402300799 // 9999-12-31 23:59:59
)

// WallTimeOf returns what a clock in t's location shows at t, with fractions of a second cut off.
func WallTimeOf(t time.Time) WallTime {
	_, offset := t.Zone()
	return WallTime(t.Unix() + int64(offset))
}

// WallTimeFromDate returns the wall time of a date and time of day. Values out of their usual range
// are an error, not normalised: 31 February does not become 3 March.
func WallTimeFromDate(year, month, day, hour, minute, second int) (WallTime, error) {
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	switch {
	case year < 1000 || year > 9999:
		return 0, fmt.Errorf("year %d is not within 1000 to 9999", year)
	case month < 1 || month > 12:
		return 0, fmt.Errorf("month %d is not within 1 to 12", month)
	case date.Day() != day:
		return 0, fmt.Errorf("day %d does not exist in %d-%02d", day, year, month)
	case hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59:
		return 0, fmt.Errorf("%02d:%02d:%02d is not a time of day", hour, minute, second)
	}
	return WallTime(date.Unix() + int64(hour*3600+minute*60+second)), nil
}

// asUTC returns the time.Time that has the wall time's figures in UTC, for formatting.
func (w WallTime) asUTC() time.Time { return time.Unix(int64(w), 0).UTC() }

// String formats as MySQL does: 2022-02-10 10:23:02.
func (w WallTime) String() string { return w.asUTC().Format(time.DateTime) }

// AppendFormat appends the wall time in a layout of package time.
func (w WallTime) AppendFormat(dst []byte, layout string) []byte {
	return w.asUTC().AppendFormat(dst, layout)
}

// Format formats the wall time in a layout of package time.
func (w WallTime) Format(layout string) string { return w.asUTC().Format(layout) }

// Valid reports whether a DATETIME can hold it.
func (w WallTime) Valid() bool { return w >= MinWallTime && w <= MaxWallTime }

// Day returns the days from 1970-01-01 to the wall time's date, and the seconds since its midnight.
func (w WallTime) Day() (day int64, second int32) {
	midnight := floorTo(int64(w), 86400)
	return midnight / 86400, int32(int64(w) - midnight)
}

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

// Midnight returns the first minute of a date, which counts as [WallTime.Day] does.
func (z *Zone) Midnight(day int64) Minute { return z.Boundary(WallTime(day * 86400)) }

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

const day = 24 * time.Hour

// ParseDuration reads a duration as [time.ParseDuration] does, which may begin with days of 24
// hours: 90d, 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	number, rest, hasDays := strings.Cut(text, "d")
	if !hasDays {
		return time.ParseDuration(text)
	}
	invalid := fmt.Errorf("toll: invalid duration %q", text)
	days, err := strconv.ParseUint(number, 10, 32)
	if err != nil || days > uint64(math.MaxInt64/day) {
		return 0, invalid
	}
	if rest == "" {
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || strings.ContainsAny(rest, "+-") || d > math.MaxInt64-time.Duration(days)*day {
		return 0, invalid
	}
	return time.Duration(days)*day + d, nil
}
