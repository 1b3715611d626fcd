package toll

import (
	"testing"
	"time"
)

// TestClocks sets each clock wrong in turn: ages are counted from the earliest of them, and what is
// more than an hour off is named.
func TestClocks(t *testing.T) {
	right := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ahead, behind := right.AddDate(1, 2, 0), right.AddDate(-4, 0, 0)
	all := Clocks{Event: right, Record: right, Server: right, Own: right}
	for name, c := range map[string]struct {
		clocks Clocks
		now    time.Time
		wrong  string
	}{
		"all agree": {all, right, ""},
		"minutes apart": {Clocks{right.Add(-time.Minute), right.Add(59 * time.Minute),
			right.Add(-time.Hour), right}, right.Add(-time.Hour), ""},
		"event time ahead":      {Clocks{ahead, right, right, right}, right, "event"},
		"event time behind":     {Clocks{behind, right, right, right}, behind, ""},
		"records ahead":         {Clocks{right, ahead, right, right}, right, "record"},
		"records behind":        {Clocks{right, behind, right, right}, behind, ""},
		"server ahead":          {Clocks{right, right, ahead, right}, right, "server"},
		"server behind":         {Clocks{right, right, behind, right}, behind, "server"},
		"own ahead":             {Clocks{right, right, right, ahead}, right, "server"},
		"own behind":            {Clocks{right, right, right, behind}, behind, "eventrecordserver"},
		"wall clocks ahead":     {Clocks{right, right, ahead, ahead}, right, ""},
		"all but one ahead":     {Clocks{ahead, right, ahead, ahead}, right, ""},
		"records without times": {Clocks{right, time.Time{}, right, right}, right, ""},
		"no events yet":         {Clocks{time.Time{}, time.Time{}, ahead, right}, right, "server"},
		"an hour and a second": {Clocks{right, right, right.Add(time.Hour + time.Second), right}, right,
			"server"},
		"event time at year 999": {Clocks{time.Date(999, 1, 1, 0, 0, 0, 0, time.UTC), right, right,
			right}, time.Date(999, 1, 1, 0, 0, 0, 0, time.UTC), ""},
	} {
		now, known := c.clocks.Now()
		if !known || !now.Equal(c.now) {
			t.Errorf("%s: it is %v (%v), want %v", name, now, known, c.now)
		}
		wrong := ""
		for _, s := range c.clocks.Skews() {
			if s.Wrong() {
				wrong += string(s.Clock)
			}
		}
		if wrong != c.wrong {
			t.Errorf("%s: wrong are %q, want %q", name, wrong, c.wrong)
		}
	}
	for _, c := range []Clocks{{Event: right, Record: right, Own: right},
		{Event: right, Record: right, Server: right}, {}} {
		if now, known := c.Now(); known {
			t.Errorf("%+v: it is %v, although a wall clock is not known", c, now)
		}
	}
}

func TestNewestRecord(t *testing.T) {
	for want, clocks := range map[int64][]Clock{
		0:  {{Events: 3, Record: -1}, {Record: 70}}, // without a timestamp, and without an event
		50: {{Events: 1, Record: 20}, {Events: 1, Record: 50}, {Events: 2, Record: -1}},
	} {
		if got := NewestRecord(clocks); want == 0 && !got.IsZero() || want > 0 &&
			got.UnixMilli() != want {
			t.Errorf("got %v, want %d", got, want)
		}
	}
}
