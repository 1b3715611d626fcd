package toll

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestPlazaCapacity(t *testing.T) {
	for _, c := range []struct {
		plaza Plaza
		want  float64 // 0 for not known
	}{
		{Plaza{}, 0},
		{Plaza{CapacityPerLane: 700}, 0},
		{Plaza{Lanes: -2}, 0},
		{Plaza{Lanes: 2}, 1300},
		{Plaza{Lanes: 14, CapacityPerLane: 700}, 9800},
		{Plaza{Lanes: 2, CapacityPerLane: math.NaN()}, 0},
		{Plaza{Lanes: 2, CapacityPerLane: math.Inf(1)}, 0},
	} {
		if got, ok := c.plaza.Capacity(); got != c.want || ok != (c.want > 0) {
			t.Errorf("%+v: %v, %v; want %v", c.plaza, got, ok, c.want)
		}
	}
}

func TestPlazaValidate(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name  string
		plaza Plaza
		want  []string // a piece of each line
	}{
		{"nothing but an id", Plaza{ID: -7}, nil},
		{"Boughton", Plaza{ID: 1, Name: "Boughton", Road: "I-355", PositionKm: 19.8, Lanes: 14,
			CapacityPerLane: 650,
			Timezone:        "America/Chicago", VehiclesPerDay: 86640, HeavyShare: 0.092}, nil},
		{"bounds", Plaza{Lanes: MaxLanes, CapacityPerLane: MaxCapacityPerLane, HeavyShare: 1}, nil},
		{"lower bounds", Plaza{Lanes: 1, CapacityPerLane: 1}, nil},
		{"beyond", Plaza{Lanes: MaxLanes + 1, CapacityPerLane: 15600, HeavyShare: 9.2},
			[]string{"lanes 201", "per lane 15600", "heavy share 9.2"}},
		{"negative", Plaza{Lanes: -1, CapacityPerLane: -650, VehiclesPerDay: -1, HeavyShare: -0.1},
			[]string{"lanes -1", "per lane -650", "per day -1", "heavy share -0.1"}},
		{"no numbers", Plaza{PositionKm: nan, CapacityPerLane: nan, VehiclesPerDay: math.Inf(1),
			HeavyShare: nan},
			[]string{"position NaN", "per lane NaN", "per day +Inf", "heavy share NaN"}},
		{"texts", Plaza{Name: "a\nb", Road: " A 1", Timezone: "\xff"},
			[]string{`name "a\nb"`, `road " A 1"`, `timezone "\xff"`}},
		{"the machine's timezone", Plaza{Timezone: "Local"}, []string{`timezone "Local"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			if err := c.plaza.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestPlazaJSON(t *testing.T) {
	text, err := json.Marshal(Plaza{ID: 4856, Lanes: 2})
	if err != nil || string(text) != `{"id":4856,"lanes":2}` {
		t.Errorf("%s, %v", text, err)
	}
}
