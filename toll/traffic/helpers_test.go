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
