package simulate

import (
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

var start = time.Date(2022, 2, 10, 10, 23, 2, 0, time.UTC)

func draw(seed uint64, n int) []toll.Event {
	g := New(DefaultPlazas(), seed, Steady(start, 10))
	events := make([]toll.Event, n)
	for i := range events {
		g.Next(&events[i])
	}
	return events
}

func TestSameSeedSameEvents(t *testing.T) {
	a, b, c := draw(7, 1000), draw(7, 1000), draw(8, 1000)
	differ := 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("event %d: %v and %v", i, a[i], b[i])
		}
		if a[i] != c[i] {
			differ++
		}
	}
	if differ < 900 {
		t.Errorf("another seed gives %d of 1000 other events", differ)
	}
	// The stream is a promise: a change of it breaks what people have noted down.
	if want := (toll.Event{Time: 1644488582, Vehicle: a[0].Vehicle, Type: a[0].Type,
		Plaza: a[0].Plaza}); a[0] != want {
		t.Errorf("first event %v", a[0])
	}
}

func TestMix(t *testing.T) {
	const n = 170_000
	types, plazas := map[string]int{}, map[int16]int{}
	for _, e := range draw(1, n) {
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if e.Vehicle < MinVehicle || e.Vehicle > MaxVehicle {
			t.Fatalf("vehicle %d", e.Vehicle)
		}
		types[e.Type]++
		plazas[e.Plaza]++
	}
	for typ, share := range map[string]int{"car": 11, "truck": 4, "van": 2} {
		if want := n / 17 * share; types[typ] < want*95/100 || types[typ] > want*105/100 {
			t.Errorf("%d of type %s, want about %d", types[typ], typ, want)
		}
	}
	if len(types) != 3 || len(plazas) != 12 {
		t.Errorf("types %v, plazas %v", types, plazas)
	}
}

func TestSteady(t *testing.T) {
	for _, c := range []struct {
		rate float64
		n    int64
		want string
	}{
		{10, 0, "2022-02-10 10:23:02"},
		{10, 9, "2022-02-10 10:23:02"},
		{10, 10, "2022-02-10 10:23:03"},
		{0.5, 1, "2022-02-10 10:23:04"},
		{3, 3_000_000_000, "2053-10-19 12:09:42"},
		{10, 36_000, "2022-02-10 11:23:02"},
	} {
		if got := Steady(start, c.rate)(c.n).String(); got != c.want {
			t.Errorf("event %d at %v/s: %s, want %s", c.n, c.rate, got, c.want)
		}
	}
}

func TestSteadyFollowsTheWallClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	clock := Steady(time.Date(2024, 3, 31, 1, 59, 59, 0, berlin), 1)
	if got := clock(0).String() + clock(1).String()[10:]; got != "2024-03-31 01:59:59 03:00:00" {
		t.Error(got)
	}
}

func TestLive(t *testing.T) {
	now := start
	g := New(DefaultPlazas(), 1, Live(func() time.Time { return now }))
	var e toll.Event
	g.Next(&e)
	first := e.Time
	now = now.Add(1500 * time.Millisecond)
	g.Next(&e)
	if e.Time != first+1 {
		t.Errorf("%v after %v", e.Time, first)
	}
}

func BenchmarkNext(b *testing.B) {
	g := New(DefaultPlazas(), 1, Steady(start, 10))
	var e toll.Event
	b.ReportAllocs()
	for b.Loop() {
		g.Next(&e)
	}
}
