package command

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/hint"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{ErrReported, 1, ""},
		{Exit(3), 3, ""},
		{errors.New("a\nb\x1b"), 1, "tollstream: a; b\\x1b\n"},
		{hint.Usagef("--x: %q", "y"), 2, "tollstream: --x: \"y\"\n"},
		{hint.With(hint.Usagef("a"), "b"), 2, "tollstream: a\nhint: b\n"},
		{context.Canceled, 1, "tollstream: interrupted\n"},
	} {
		var out strings.Builder
		if code := Report(&out, c.err); code != c.code || out.String() != c.want {
			t.Errorf("%v: %d %q, want %d %q", c.err, code, out.String(), c.code, c.want)
		}
	}
}
