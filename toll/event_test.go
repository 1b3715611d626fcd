package toll

import (
	"errors"
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
