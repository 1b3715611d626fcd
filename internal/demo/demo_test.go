package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestMondayBefore(t *testing.T) {
	for _, c := range []struct{ at, want string }{
		{"2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z"}, // a Monday
		{"2026-03-02T00:00:01Z", "2026-03-02T00:00:00Z"},
		{"2026-03-02T23:59:59Z", "2026-03-02T00:00:00Z"},
		{"2026-03-03T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"2026-03-08T12:00:00Z", "2026-03-02T00:00:00Z"}, // a Sunday
		{"2026-03-02T00:30:00+01:00", "2026-02-23T00:00:00Z"},
		{"2026-03-01T23:30:00-01:00", "2026-03-02T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := mondayBefore(at).Format(time.RFC3339); got != c.want {
			t.Errorf("%s: got %s, want %s", c.at, got, c.want)
		}
	}
}

func TestDisplay(t *testing.T) {
	var out strings.Builder
	d := &display{out: &out}
	at := toll.MinuteAt(time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC).Unix())
	ash := board.Plaza{ID: 1, Name: "Ash", Check: board.Check{TableCount: 5, InFlight: 2}}
	birch := board.Plaza{ID: 2, Name: "Birch", Check: board.Check{TableCount: 1}}
	var vehicles []toll.Event
	step := func(toAsh, toBirch traffic.Assessment, want string) {
		t.Helper()
		ash.Assessment, birch.Assessment = &toAsh, &toBirch
		out.Reset()
		if err := d.show(&board.Board{Plazas: []board.Plaza{birch, ash}}, nil, vehicles, 9); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	const counted = "counted per plaza 6 + in flight 2"
	step(traffic.Assessment{State: traffic.Free, Since: at},
		traffic.Assessment{State: traffic.NoData, Since: at},
		"emitted 9 · stored 8 = "+counted+" · they agree\n")

	// The earlier change comes first; that data arrives is none.
	vehicles = []toll.Event{{Time: toll.WallTimeOf(time.Date(2026, 3, 2, 6, 40, 3, 0, time.UTC))}}
	ash.Check.StoredRows = new(int64(7))
	step(traffic.Assessment{State: traffic.Saturated, Since: at + 20, Until: at + 30, Why: "too much"},
		traffic.Assessment{State: traffic.Free, Since: at + 10, Until: at + 30},
		"06:30  plaza 1 Ash: saturated since 06:20: too much\n"+
			"06:40  emitted 9 · rows in MySQL 7 = "+counted+" · they agree\n")
	birch.Verification.Status = board.Mismatch
	step(traffic.Assessment{State: traffic.Free, Since: at + 40, Until: at + 45, Why: "flows"},
		traffic.Assessment{State: traffic.Saturated, Since: at + 35, Until: at + 45, Why: "too much"},
		"06:45  plaza 2 Birch: saturated since 06:35: too much\n"+
			"06:45  plaza 1 Ash: free since 06:40: flows\n"+
			"06:40  emitted 9 · rows in MySQL 7 = "+counted+" · MISMATCH\n")
}

func TestDisplaySlowSections(t *testing.T) {
	var d display
	section := board.Section{From: 4006, To: 4007, ToName: "Tunnel", MedianSeconds: new(155.),
		UsualSeconds: new(150.)}
	step := func(slow bool, seconds float64, want string) {
		t.Helper()
		section.Slow, section.MedianSeconds = slow, &seconds
		got := strings.Join(d.slowed([]board.Section{section, {From: 1, To: 2}}), "\n")
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	step(false, 155, "")
	step(true, 740, "       plaza 4006 to 4007 Tunnel: slow: takes 12:20, usually 2:30")
	step(true, 810, "")
	step(false, 160, "       plaza 4006 to 4007 Tunnel: as usual again: takes 2:40, usually 2:30")
}

func TestQuarterLine(t *testing.T) {
	p := &board.Plaza{Sparkline: make([]*int64, board.SparklineQuarters)}
	if got := quarterLine(p); got != "" {
		t.Errorf("nothing passed: %q", got)
	}
	// the last one is not complete
	copy(p.Sparkline[board.SparklineQuarters-4:], []*int64{new(int64(4)), new(int64(0)),
		new(int64(8)), new(int64(9))})
	if got := quarterLine(p); got != "▄·█" {
		t.Errorf("got %q", got)
	}
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
