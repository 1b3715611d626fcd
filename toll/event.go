// Package toll is the domain: the event of a vehicle passing a plaza, the batch that stores events,
// the delta that a batch means for one plaza, and the state of a plaza that deltas are merged into.
//
// It is pure: no clock, no I/O, no goroutine. Intervals are half-open, [start, end), everywhere.
package toll

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of an event, those of livetolldata's columns.
const (
	MaxVehicle   = 1<<31 - 1 // INT
	MinPlaza     = -1 << 15  // SMALLINT
	MaxPlaza     = 1<<15 - 1
	MaxTypeRunes = 15 // CHAR(15)
)

// Event is one vehicle passing one plaza. Two equal events are two events.
type Event struct {
	Time    WallTime // as the plaza's clock showed it, in the database's timezone
	Vehicle int32    // id, not negative
	Type    string   // trimmed, case-sensitive, 1 to 15 characters
	Plaza   int16
}

// ErrMalformed is what every error about an event's contents is. Its record is rejected with the
// error's text as the reason, see [Reject].
var ErrMalformed = errors.New("malformed event")

// MalformedError reports what of an event is wrong, and how.
type MalformedError struct {
	Kind   RejectKind // of a field, or RejectFormat or RejectTombstone for the whole
	Reason string
}

func (e *MalformedError) Error() string { return e.Kind.subject() + ": " + e.Reason }

// Is makes errors.Is(err, ErrMalformed) true.
func (e *MalformedError) Is(target error) bool { return target == ErrMalformed }

// Malformed returns a MalformedError.
func Malformed(kind RejectKind, format string, args ...any) error {
	return &MalformedError{Kind: kind, Reason: fmt.Sprintf(format, args...)}
}

// Validate returns a [MalformedError] unless livetolldata can hold the event.
func (e *Event) Validate() error {
	if !e.Time.Valid() {
		return Malformed(RejectTime, "outside the years 1000 to 9999")
	}
	if e.Vehicle < 0 {
		return Malformed(RejectVehicle, "%d is negative", e.Vehicle)
	}
	return ValidateType(e.Type)
}

// ValidateType checks a vehicle type: 1 to 15 characters of valid UTF-8 without blanks around them.
func ValidateType(t string) error {
	if len(t) <= MaxTypeRunes && isPlain(t) && t != "" {
		return nil
	}
	switch {
	case t == "":
		return Malformed(RejectType, "empty")
	case !utf8.ValidString(t):
		return Malformed(RejectType, "not valid UTF-8")
	case utf8.RuneCountInString(t) > MaxTypeRunes:
		return Malformed(RejectType, "%d characters, the most is %d", utf8.RuneCountInString(t),
			MaxTypeRunes)
	case strings.TrimSpace(t) != t:
		return Malformed(RejectType, "has blanks around it")
	}
	return nil
}

// isPlain reports whether a type is letters, digits, '-' and '_' of ASCII only, as nearly all are.
func isPlain(t string) bool {
	for i := 0; i < len(t); i++ {
		c := t[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' ||
			c == '_') {
			return false
		}
	}
	return true
}
