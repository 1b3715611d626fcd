package toll

import (
	"errors"
	"fmt"
)

// ErrCursorMoved is returned by a store that found the cursor elsewhere than the batch expects:
// another owner wrote, or the database was restored or rebuilt. Nothing was stored; reload before
// anything else.
var ErrCursorMoved = errors.New("the cursor was moved by another process")

// ErrNoCursor is of a partition that was never processed. Readers get it; the owner of a partition
// creates its cursor.
var ErrNoCursor = errors.New("the partition has no cursor yet")

// RefusedError names the rows of a batch that can't be stored for what they hold, each of which
// becomes a dead letter. Nothing was stored. The batch is to be built again with these as rejects,
// and stored on the same cursor.
//
// A store returns it only where the fault is a row's own: the other rows of the batch, or else a
// row that is known to be sound, are accepted in the same way. Outages and a table that was altered
// are other errors.
type RefusedError struct {
	Rows []RefusedRow // ascending by Row
}

// RefusedRow is one row of a [RefusedError].
type RefusedRow struct {
	Row      int        // index in the batch's rows
	Kind     RejectKind // [RejectRefused], or [RejectRetried]
	SQLState string     // of the database's error; empty for RejectRetried
	Number   uint16     // likewise, else 0
	Reason   string
}

func (e *RefusedError) Error() string {
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
