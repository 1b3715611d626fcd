package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestDisplay(t *testing.T) {
	var out strings.Builder
	d := &display{out: &out, names: map[int16]string{1: "Ash", 2: "Birch"}}
	at := toll.MinuteAt(time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC).Unix())
	rows := int64(7)
	s := &snapshot{emitted: 9, congestion: map[int16]traffic.Assessment{
		1: {State: traffic.Free, Since: at}, 2: {State: traffic.NoData, Since: at}},
		checks: []sql.PlazaCheck{{Plaza: 1, TableCount: 5, InFlight: 2}, {Plaza: 2, TableCount: 1}},
	}
	step := func(want string) {
		t.Helper()
		out.Reset()
		if err := d.show(s); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	const counted = "counted per plaza 6 + in flight 2"
	step("emitted 9 · stored 8 = " + counted + " · they agree\n")

	// The earlier change comes first; that data arrives is none.
	s.vehicles = []toll.Event{{Time: toll.WallTimeOf(time.Date(2026, 3, 2, 6, 40, 3, 0, time.UTC))}}
	s.checks[0].StoredRows = &rows
	s.congestion = map[int16]traffic.Assessment{
		1: {State: traffic.Saturated, Since: at + 20, Until: at + 30, Why: "too much"},
		2: {State: traffic.Free, Since: at + 10, Until: at + 30},
	}
	step("06:30  plaza 1 Ash: saturated since 06:20: too much\n" +
		"06:40  emitted 9 · rows in MySQL 7 = " + counted + " · they agree\n")
	s.checks[1].Status = sql.Mismatch
	s.congestion = map[int16]traffic.Assessment{
		1: {State: traffic.Free, Since: at + 40, Until: at + 45, Why: "flows"},
		2: {State: traffic.Saturated, Since: at + 35, Until: at + 45, Why: "too much"},
	}
	step("06:45  plaza 2 Birch: saturated since 06:35: too much\n" +
		"06:45  plaza 1 Ash: free since 06:40: flows\n" +
		"06:40  emitted 9 · rows in MySQL 7 = " + counted + " · MISMATCH\n")
}

func TestPassing(t *testing.T) {
	var p passing
	for i := range int32(5) {
		p.add(&toll.Event{Vehicle: i})
	}
	last, n := p.read()
	if n != 5 || len(last) != vehiclesShown || last[0].Vehicle != 2 {
		t.Errorf("%d: %v", n, last)
	}
}
