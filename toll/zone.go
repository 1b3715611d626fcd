package toll

import (
	"math"
	"time"
)

// Minute is a minute of event time: whole minutes of UTC since 1970-01-01.
type Minute int32

// Time returns the start of the minute.
func (m Minute) Time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// Zone turns wall times into instants. A wall time that occurs twice, when clocks are set back, is the first of the
// two; one that never occurs, when clocks are set forward, is read with the offset from before the change.
//
// A Zone remembers the last quarter of an hour that it was asked for, so it is not for concurrent use; take a
// [Zone.Clone] per goroutine.
type Zone struct {
	loc     *time.Location
	quarter int64 // of the wall clock, for which offset holds
	offset  int64 // seconds east of UTC
	cached  bool
}

// NewZone returns the zone of a location.
func NewZone(loc *time.Location) *Zone { return &Zone{loc: loc} }

// Clone returns a zone of its own for another goroutine.
func (z *Zone) Clone() *Zone { return NewZone(z.loc) }

// Location returns the zone's location.
func (z *Zone) Location() *time.Location { return z.loc }

// quarterSeconds is the stretch of wall clock that is looked up at once.
const quarterSeconds = 900

// Unix returns the instant of a wall time, in seconds since 1970-01-01 00:00:00 UTC.
func (z *Zone) Unix(w WallTime) int64 {
	quarter := int64(w) / quarterSeconds
	if w < 0 && int64(w)%quarterSeconds != 0 {
		quarter--
	}
	if z.cached && quarter == z.quarter {
		return int64(w) - z.offset
	}
	first := z.offsetAt(quarter * quarterSeconds)
	if first == z.offsetAt(quarter*quarterSeconds+quarterSeconds-1) {
		z.quarter, z.offset, z.cached = quarter, first, true
		return int64(w) - first
	}
	return int64(w) - z.offsetAt(int64(w)) // the clocks change within this quarter
}

// Minute returns the minute of event time in which a wall time lies. From the year 6053 on, where only a wrong clock can
// be, all are the last one that a Minute holds.
func (z *Zone) Minute(w WallTime) Minute { return MinuteAt(z.Unix(w)) }

// MinuteAt returns the minute of event time in which an instant lies, given in seconds since 1970-01-01 00:00:00 UTC.
func MinuteAt(u int64) Minute {
	m := u / 60
	if u < 0 && u%60 != 0 {
		m--
	}
	return Minute(min(m, math.MaxInt32))
}

// Wall returns what a clock in the zone shows at an instant.
func (z *Zone) Wall(t time.Time) WallTime { return WallTimeOf(t.In(z.loc)) }

// offsetAt returns the offset that applies to a wall time: that of the earliest instant at which the clock shows it.
func (z *Zone) offsetAt(wall int64) int64 {
	// Offsets lie within a day either way. The larger offset gives the earlier instant, so of the offsets in force a
	// day before and a day after, the larger one that really shows this wall time is the first occurrence.
	_, before := time.Unix(wall-86400, 0).In(z.loc).Zone()
	_, after := time.Unix(wall+86400, 0).In(z.loc).Zone()
	lo, hi := int64(min(before, after)), int64(max(before, after))
	for _, offset := range [...]int64{hi, lo} {
		if _, got := time.Unix(wall-offset, 0).In(z.loc).Zone(); int64(got) == offset {
			return offset
		}
	}
	return int64(before)
}
