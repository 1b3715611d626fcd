package command

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := NewSteps(&out, "connecting")
		time.Sleep(firstReport - time.Second)
		s.Begin("reading")
		time.Sleep(moreReports + 2*time.Second)
		s.End()
		time.Sleep(time.Hour)
		if want := "tollstream: reading (10s so far)\ntollstream: reading (40s so far)\n"; out.String() !=
			want {
			t.Errorf("printed %q, want %q", &out, want)
		}
	})
}
