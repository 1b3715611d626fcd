package toll

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrCursorMoved is returned by a store that found the cursor elsewhere than the batch expects:
// another owner wrote, or the database was restored or rebuilt. Nothing was stored; reload before
// anything else.
var ErrCursorMoved = errors.New("the cursor was moved by another process")

// ErrNoCursor is of a partition that was never processed. Readers get it; the owner of a partition
// creates its cursor.
var ErrNoCursor = errors.New("the partition has no cursor yet")

// RejectedError names the rows of a batch that the store rejects. Nothing was stored. The batch is
// to be built again with their records as rejects, and stored on the same cursor.
//
// A store returns it only where the fault is a row's own: the other rows of the batch, or else a
// row that is known to be sound, are accepted in the same way. Outages and a table that was altered
// are other errors.
type RejectedError struct {
	Rows []RejectedRow // ascending by Row
}

// RejectedRow is one row of a [RejectedError].
type RejectedRow struct {
	Row       int // index in the batch's rows
	Rejection     // of the kind [RejectRefused] or [RejectRetried]
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("%d rows can't be stored, the first: %s", len(e.Rows), e.Rows[0].Reason)
}

// PermanentError is a non-retryable error: it ends the command with its text, and its hint where
// there is one.
type PermanentError struct {
	Err  error
	Hint string // what to do about it
}

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent returns a PermanentError.
func Permanent(hint, format string, args ...any) error {
	return &PermanentError{Err: fmt.Errorf(format, args...), Hint: hint}
}

// IsPermanent reports whether err is, or wraps, a [PermanentError].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*PermanentError](err)
	return ok
}

// Reject is a record that is rejected: since it is malformed, since it was retried before, or since
// the database does not accept one of its rows. It becomes a dead letter in its batch's
// transaction.
type Reject struct {
	Offset int64
	Time   time.Time // of the record
	Rejection
	RetryOf *Origin // of the dead letter that the record was to repair; nil where it was no retry
	Payload []byte  // as received; nil for a tombstone
	Key     []byte
}

// Rejection is why a record is rejected.
type Rejection struct {
	Kind     RejectKind
	Reason   string
	SQLState string // of the database's error, empty where there was none
	Number   uint16 // likewise, else 0
}

// RejectKind is why a record is rejected, as toll_dead_letter.kind stores it. Programs decide by
// it; the reason is for people.
type RejectKind string

// The kinds of rejects. Those of a field have its name.
const (
	RejectTime    RejectKind = "time"
	RejectVehicle RejectKind = "vehicle_id"
	RejectType    RejectKind = "vehicle_type"
	RejectPlaza   RejectKind = "toll_plaza_id"
	RejectFormat  RejectKind = "format" // the value as a whole is no event
	RejectRows    RejectKind = "rows"   // the value holds too many events
	// the value is framed by a schema that can't be had or read
	RejectSchema    RejectKind = "schema"
	RejectTombstone RejectKind = "tombstone" // the record has no value
	RejectOversized RejectKind = "oversized" // a batch of records that inflates too far to be read
	RejectRefused   RejectKind = "refused"   // a valid event that the database takes as no row
	// RejectRetried is a second retry of a dead letter whose repaired event is stored. Such a record
	// must never be sent again: as a retry of itself it would be admitted, and its event stored twice.
	RejectRetried RejectKind = "retried"
)

// RejectKinds are all kinds of rejects.
var RejectKinds = [...]RejectKind{
	RejectTime, RejectVehicle, RejectType, RejectPlaza,
	RejectFormat, RejectRows, RejectSchema, RejectTombstone, RejectOversized, RejectRefused,
	RejectRetried,
}

// Known reports whether k is one of [RejectKinds].
func (k RejectKind) Known() bool { return slices.Contains(RejectKinds[:], k) }

// subject is what the text of an error of this kind begins with.
func (k RejectKind) subject() string {
	switch k {
	case RejectTime, RejectVehicle, RejectType, RejectPlaza:
		return string(k)
	case RejectOversized:
		return "batch"
	}
	return "event"
}

// RejectKindOf returns the kind of a [MalformedError]; of any other error it is [RejectFormat].
func RejectKindOf(err error) RejectKind {
	if malformed, ok := errors.AsType[*MalformedError](err); ok {
		return malformed.Kind
	}
	return RejectFormat
}

// RejectShare is how many of some records were rejected.
type RejectShare struct {
	Records  int64
	Rejected int64
}

// Bounds of [RejectShare.High]: a share, and a number below which a share says little.
const (
	highRejectShare = 0.01
	fewRejects      = 10
)

// Ratio returns the share, from 0 to 1.
func (s RejectShare) Ratio() float64 {
	if s.Records <= 0 {
		return 0
	}
	return float64(s.Rejected) / float64(s.Records)
}

// High reports whether so many records are rejected that somebody should look: a producer goes
// wrong, or a table.
func (s RejectShare) High() bool { return s.Rejected >= fewRejects && s.Ratio() > highRejectShare }
