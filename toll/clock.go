package toll

import (
	"slices"
	"time"
)

// Rules of a [Clock]. Times are seconds unless they say otherwise.
const (
	// maxLead is how far beyond its partition's clock an event may be and still move it. More is a
	// jump, which has to be confirmed.
	maxLead = 10 * 60
	// maxLag is how far behind the clock an event is taken for one that is late. More may be a jump
	// back.
	maxLag = int64(MinuteRetention / 1e9)
	// leadRun and lagRun are how many events in a row must ask for a jump; ahead only where fewer than
	// fewVoters vote, who may all have gone wrong. A jump backward is rare (someone replays old
	// events into the topic), and a plaza that delivers what it kept during an outage must not look
	// like one.
	leadRun, lagRun = 3, 100
	fewVoters       = 3
	// A plaza votes as long as it is among the last voterEvents events and voterMillis of record
	// time.
	voterEvents = 1000
	voterMillis = 10 * 60 * 1000
	// voterSlots bounds how many plazas vote: in each slot the one that came last.
	voterSlots = 64
)

// Clock is the event time of one source partition: the highest event time that it takes for true.
// It is a function of the partition's records in the order of their offsets and of nothing else, so
// a replay finds every event as late as it was found the first time.
//
// An event up to ten minutes ahead of the clock moves it. One that is further ahead is either a
// wrong clock at one plaza or a true jump in time: a quiet night, a replay, a simulation. It is a
// jump if the plazas say so: when more than half of those that had something to say lately were
// ahead with their last event, and where that is one plaza or two, three events in a row. The clock
// then jumps to the highest time that more than half of them have reached. So fewer than half of a
// partition's plazas can't move its clock, however wrong theirs are; and a true jump is followed as
// soon as half of the plazas have made it. A jump back of more than two hours, as when old events
// are sent again, is followed by the same rule after a hundred such events in a row.
//
// Lately means: within the partition's last thousand events and ten minutes of record time. A
// partition that one plaza has to itself follows that plaza; the stream's watermark, the lowest of
// all partitions', is then held back by the others, and by that plaza where its clock is behind.
type Clock struct {
	Time   int64  // the clock, seconds since 1970-01-01 00:00:00 UTC; meaningless while Events is 0
	Record int64  // highest record time, milliseconds since then
	Events uint64 // events observed
	Run    int32  // events in a row that were ahead (above 0) or far behind (below 0)
	Voters [voterSlots]Voter
}

// Voter is the last event of a plaza. The zero Voter is an empty slot.
type Voter struct {
	Seen   uint64 // Clock.Events with it, 0 for an empty slot
	Last   int64  // event time, seconds
	Record int64  // record time, milliseconds
	Plaza  int16
}

// VoterSlots is the number of slots for voters in a Clock.
const VoterSlots = voterSlots

// VoterSlot returns the slot of a plaza.
func VoterSlot(plaza int16) int {
	return int(uint32(uint16(plaza)) * 0x9E3779B1 >> 26) // Fibonacci hashing: neighbours are spread
}

// Observe counts the next event of the partition: its plaza, its time (seconds since 1970 UTC), and
// its record's time (milliseconds). It returns how late the event is against the watermark, which
// is the clock less lateness (in seconds), and whether it is so far ahead that it did not move the
// clock.
func (c *Clock) Observe(plaza int16, at, record, lateness int64) (t Timeliness, ahead bool) {
	c.Events++
	if record > c.Record || c.Events == 1 {
		c.Record = record
	}
	v := &c.Voters[VoterSlot(plaza)]
	v.Seen, v.Last, v.Record, v.Plaza = c.Events, at, c.Record, plaza
	if c.Events == 1 {
		c.Time = at
		return OnTime, false
	}
	if at >= c.Time-lateness && at <= c.Time+maxLead { // nearly all
		c.Run = 0
		c.Time = max(c.Time, at)
		return OnTime, false
	}
	t = timeliness(c.Time - lateness - at)
	switch {
	case at > c.Time+maxLead:
		c.Run = max(c.Run, 0) + 1
		if supported, voters := c.supported(); supported > c.Time+maxLead &&
			(voters >= fewVoters || c.Run >= leadRun) {
			c.Time, c.Run = supported, 0
		}
		return t, at > c.Time+maxLead
	case at < c.Time-maxLag:
		c.Run = min(c.Run, 0) - 1
		if -c.Run >= lagRun {
			if supported, _ := c.supported(); supported < c.Time-maxLag {
				c.Time, c.Run = supported, 0
			}
		}
	default:
		c.Run = 0
	}
	return t, false
}

// timeliness judges an event by how far it is behind the watermark, in seconds.
func timeliness(behind int64) Timeliness {
	switch {
	case behind <= 0:
		return OnTime
	case behind <= int64(MinuteRetention/1e9):
		return Late
	case behind <= int64(QuarterRetention/1e9):
		return LateQuarter
	}
	return TooLate
}

// supported returns the highest time that the last events of more than half of the voters have
// reached, and how many voters there are.
func (c *Clock) supported() (at int64, voters int) {
	var times [voterSlots]int64
	n := 0
	for i := range c.Voters {
		if v := &c.Voters[i]; c.Votes(v) {
			times[n] = v.Last
			n++
		}
	}
	slices.Sort(times[:n])
	return times[(n-1)/2], n // the event's own plaza votes, so n is not 0
}

// Votes reports whether a voter takes part. One that does not will not vote again before its next
// event.
func (c *Clock) Votes(v *Voter) bool {
	return v.Seen != 0 && c.Events-v.Seen < voterEvents && c.Record-v.Record <= voterMillis
}

// PartitionTime is what a source partition contributes to the stream's watermark.
type PartitionTime struct {
	Started  bool  // whether it had any event
	Time     int64 // its clock, seconds
	Record   int64 // its highest record time, milliseconds
	CaughtUp bool  // whether it holds no record that is not stored yet
}

// Watermark is the instant up to which all events of the stream are taken to have come, seconds
// since 1970 UTC.
type Watermark struct {
	Known bool  // false as long as a partition holds records of which none is stored
	Time  int64 // of the partitions that are not idle
	All   int64 // of all partitions, idle ones too: what lies between the two, idleness has closed
}

// StreamWatermark returns the stream's watermark: the lowest clock of the partitions less lateness
// (seconds). A partition is left out as idle while its record time is further than idle
// (milliseconds) behind the highest of all, and nothing is left to store of it; so no wait for a
// partition that is merely slow is cut short. The partition with the highest record time is never
// left out: when all are quiet, event time stalls.
func StreamWatermark(partitions []PartitionTime, lateness, idle int64) Watermark {
	var newest int64
	found := false
	for _, p := range partitions {
		if p.Started && (!found || p.Record > newest) {
			newest, found = p.Record, true
		}
	}
	w := Watermark{Known: found}
	first, firstOfAll := true, true
	for _, p := range partitions {
		if !p.Started {
			w.Known = w.Known && p.CaughtUp
			continue
		}
		if firstOfAll || p.Time < w.All {
			w.All, firstOfAll = p.Time, false
		}
		if p.CaughtUp && newest-p.Record > idle {
			continue
		}
		if first || p.Time < w.Time {
			w.Time, first = p.Time, false
		}
	}
	w.Time -= lateness
	w.All -= lateness
	return w
}

// Timeliness is how late an event is against the watermark of its own source partition when it is
// read. It depends on that partition's records alone, so it is the same in every replay.
type Timeliness uint8

// The outcomes, in order of age. Every event is a row and counts in its plaza's total.
const (
	OnTime Timeliness = iota // not behind the watermark
	Late                     // behind it by up to MinuteRetention: revises its windows
	// by up to QuarterRetention: revises windows that are made of quarters of an hour, too late for
	// the others
	LateQuarter
	TooLate // by more: in no window
)

func (t Timeliness) String() string {
	return [...]string{"on time", "late", "late for minutes", "too late"}[t]
}

// How long after the watermark has passed it an event still changes its windows.
const (
	MinuteRetention  = 2 * time.Hour  // windows of any minutes
	QuarterRetention = 48 * time.Hour // windows whose size and hop are whole quarters of an hour
)

// DefaultLateness is how far behind its partition's highest event time an event is still on time.
const DefaultLateness = time.Minute

// DefaultIdle is how far a partition's record time may be behind the others' before it is left out
// of the watermark.
const DefaultIdle = 30 * time.Second

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
