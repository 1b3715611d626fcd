// Package toll is the domain: the event of a vehicle passing a plaza, the batch that stores events,
// the delta that a batch means for one plaza, and the state of a plaza that deltas are merged into.
//
// It is pure: no clock, no I/O, no goroutine. Intervals are half-open, [start, end), everywhere.
package toll
