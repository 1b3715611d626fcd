package traffic

import (
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func zoneOf(t testing.TB, name string) *toll.Zone {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return toll.NewZone(loc)
}

func wall(t testing.TB, s string) toll.WallTime {
	t.Helper()
	at, err := time.Parse(time.DateTime, s)
	if err != nil {
		t.Fatal(err)
	}
	return toll.WallTimeOf(at)
}

// assess judges one more minute, and writes the sentence that Run writes once at its end.
func (a *Assessment) assess(m Measure) (Transition, bool) {
	change, said := a.judge(&m)
	if said == confirmed {
		a.Why = why(a.State, a.Quiet, a.Overrun, &m) + a.kindOfDay(a.State, a.Since, &m)
	}
	return change, said == changed
}

// measureAt returns the measure of a plaza at the end of a minute, from panes of a minute,
// ascending. A minute without a pane is one without a vehicle.
func measureAt(panes []toll.Pane, end toll.Minute, plaza toll.Plaza, eq Equivalents) Measure {
	var sum tally
	for i := range panes {
		p := &panes[i]
		if ago := int64(end) - int64(p.Start); ago > 0 && ago <= toll.MeasureSpan {
			sum.add(3-int(ago-1)/toll.Quarter, p, 1, eq)
		}
	}
	return sum.measure(end, &plaza)
}
