package toll

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := Event{Time: 1644488582, Vehicle: 3728373, Type: "car", Plaza: 4856}
	for _, c := range []struct {
		name   string
		change func(*Event)
		err    string
	}{
		{"good", func(*Event) {}, ""},
		{"first second", func(e *Event) { e.Time = MinWallTime }, ""},
		{"last second", func(e *Event) { e.Time = MaxWallTime }, ""},
		{"before the first", func(e *Event) { e.Time = MinWallTime - 1 },
			"time: outside the years 1000 to 9999"},
		{"after the last", func(e *Event) { e.Time = MaxWallTime + 1 },
			"time: outside the years 1000 to 9999"},
		{"vehicle 0", func(e *Event) { e.Vehicle = 0 }, ""},
		{"vehicle -1", func(e *Event) { e.Vehicle = -1 }, "vehicle_id: -1 is negative"},
		{"no type", func(e *Event) { e.Type = "" }, "vehicle_type: empty"},
		{"long type", func(e *Event) { e.Type = strings.Repeat("a", 16) },
			"vehicle_type: 16 characters, the most is 15"},
	} {
		e := good
		c.change(&e)
		err := e.Validate()
		switch {
		case c.err == "" && err != nil, c.err != "" && (err == nil || err.Error() != c.err):
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		case err != nil && !errors.Is(err, ErrMalformed):
			t.Errorf("%s: %v is not malformed", c.name, err)
		}
	}
}

func TestValidateType(t *testing.T) {
	for kind, want := range map[string]string{
		"a":                        "",
		"fifteen-letters":          "",
		"fifteen letters":          "",
		"camión":                   "",
		strings.Repeat("ñ", 15):    "",
		strings.Repeat("🚗", 15):    "",
		"(other)":                  "",
		strings.Repeat("ñ", 16):    "vehicle_type: 16 characters, the most is 15",
		strings.Repeat("a", 1e6):   "vehicle_type: 1000000 characters, the most is 15",
		" car":                     "vehicle_type: has blanks around it",
		"car\t":                    "vehicle_type: has blanks around it",
		"car\u00a0":                "vehicle_type: has blanks around it",
		" ":                        "vehicle_type: has blanks around it",
		"c\xffr":                   "vehicle_type: not valid UTF-8",
		strings.Repeat("\xff", 99): "vehicle_type: not valid UTF-8",
	} {
		err := ValidateType(kind)
		if got := errText(err); got != want {
			t.Errorf("ValidateType(%.20q) = %q, want %q", kind, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPermanent(t *testing.T) {
	cause := errors.New("no such table")
	err := Permanent("run init", "read cursor: %w", cause)
	var permanent *PermanentError
	if !errors.As(err, &permanent) || permanent.Hint != "run init" || !errors.Is(err, cause) ||
		err.Error() != "read cursor: no such table" {
		t.Errorf("got %#v", err)
	}
}

// fakeRows counts only.
type fakeRows int

func (r fakeRows) Append(*Event) uint32 { return 0 }
func (r fakeRows) Len() int             { return int(r) }
func (r fakeRows) Size() int            { return 0 }
func (r fakeRows) Reset()               {}

func TestBatchCounts(t *testing.T) {
	b := Batch{First: 100, Next: 120, Rows: fakeRows(12), Rejects: make([]Reject, 3)}
	if b.Events() != 12 || b.Skipped() != 5 {
		t.Errorf("%d events, %d skipped", b.Events(), b.Skipped())
	}
}

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
