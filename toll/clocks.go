package toll

import "time"

// Clocks are the clocks that the age of data is measured by before it is deleted. A zero time is a
// clock that is not known. Each of them may be wrong: a plaza's events are dated ahead, a producer
// stamps its records with a time of its own, a server's or a host's clock was never set.
type Clocks struct {
	Event  time.Time // event time: the stream's watermark
	Record time.Time // the newest record's timestamp; zero where records have none
	Server time.Time // the database server's
	Own    time.Time // of the process that deletes
}

// MaxClockSkew is how far a clock may be ahead of the process's own, or the server's behind it,
// before that is worth a warning: far above what clocks drift and records travel.
const MaxClockSkew = time.Hour

// Now returns the time that ages are counted from when something is deleted for good: the earliest
// of the clocks. So one wrong clock deletes nothing, and a clock that is behind keeps
// more. It reports false where the two wall clocks are not both known.
func (c Clocks) Now() (time.Time, bool) {
	if c.Server.IsZero() || c.Own.IsZero() {
		return time.Time{}, false
	}
	now := c.Wall()
	for _, t := range [...]time.Time{c.Event, c.Record} {
		if !t.IsZero() && t.Before(now) {
			now = t
		}
	}
	return now, true
}

// Wall returns the earlier of the two wall clocks.
func (c Clocks) Wall() time.Time {
	if c.Server.Before(c.Own) {
		return c.Server
	}
	return c.Own
}

// ClockName names one of [Clocks].
type ClockName string

// The clocks that are compared with the process's own.
const (
	EventClock  ClockName = "event"
	RecordClock ClockName = "record"
	ServerClock ClockName = "server"
)

// Skew is how far a clock is ahead of the process's own; below zero it is behind.
type Skew struct {
	Clock ClockName
	Ahead time.Duration
}

// Skews returns how far each clock that is known is ahead.
func (c Clocks) Skews() []Skew {
	var skews []Skew
	for _, s := range [...]struct {
		name ClockName
		t    time.Time
	}{{EventClock, c.Event}, {RecordClock, c.Record}, {ServerClock, c.Server}} {
		if !s.t.IsZero() && !c.Own.IsZero() {
			skews = append(skews, Skew{s.name, s.t.Sub(c.Own)})
		}
	}
	return skews
}

// Wrong reports whether a clock is further off than [MaxClockSkew]. Event time and record time that
// are behind are not: that is how a replay or a quiet night looks.
func (s Skew) Wrong() bool {
	return s.Ahead > MaxClockSkew || s.Clock == ServerClock && s.Ahead < -MaxClockSkew
}

// NewestRecord returns the newest timestamp of the records that some clocks have observed, zero
// where none had one.
func NewestRecord(clocks []Clock) time.Time {
	var newest int64
	for i := range clocks {
		if clocks[i].Events > 0 {
			newest = max(newest, clocks[i].Record)
		}
	}
	if newest <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(newest).UTC()
}
