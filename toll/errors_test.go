package toll

import (
	"errors"
	"testing"
)

func TestPermanent(t *testing.T) {
	cause := errors.New("no such table")
	err := Permanent("run init", "read cursor: %w", cause)
	var permanent *PermanentError
	if !errors.As(err, &permanent) || permanent.Hint != "run init" || !errors.Is(err, cause) ||
		err.Error() != "read cursor: no such table" {
		t.Errorf("got %#v", err)
	}
}
