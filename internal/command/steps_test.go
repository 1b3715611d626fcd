package command

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		s := NewSteps(&said, "connecting")
		time.Sleep(firstSign - time.Second)
		s.Begin("reading")
		time.Sleep(moreSigns + 2*time.Second)
		s.End()
		time.Sleep(time.Hour)
		if want := "tollstream: reading (10s so far)\ntollstream: reading (40s so far)\n"; said.String() != want {
			t.Errorf("said %q, want %q", &said, want)
		}
	})
}
