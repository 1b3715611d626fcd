package toll

import "time"

// Timeliness says how an event's time stands to the watermark of its own source partition at the
// moment when it is read. It depends on that partition's records alone, so it is the same in every
// replay.
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
