package monitor

import (
	"time"
)

// Tracer receives the steps of what a processor did, once they are done, from several goroutines at
// once. It must not block.
type Tracer interface {
	// Batch reports a batch that was published, or that failed on its way.
	Batch(BatchTrace)
	// Results reports a transaction of results that was stored, or that failed.
	Results(ResultsTrace)
}

// BatchTrace is the way of one batch. Times are the wall clock's, and zero for what the batch did
// not come to.
type BatchTrace struct {
	Partition   int32
	First, Next int64 // offsets [First, Next) of the topic of events
	Events      int   // that became rows
	Rejected    int
	Attempts    int // to store it
	// it was stored before this session, and is only published: the next three times are zero
	Resent     bool
	Began      time.Time
	Taken      time.Time // filled, and handed to the committer
	Stored     time.Time
	Publishing time.Time // its first delta was sent
	Plazas     int       // that it has deltas of
	Ended      time.Time // all deltas were acknowledged, or it failed
	Err        error     // nil for all went well
}

// ResultsTrace is one transaction of results of windows.
type ResultsTrace struct {
	Began, Ended time.Time
	Plazas       int // whose windows were submitted
	Published    int // results that were marked as published
	Notices      int // results that are to be published now
	Err          error
}
