package rowscan

import (
	"testing"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// TestManyGroups: how many groups there may be is read from the states, and never too low.
func TestManyGroups(t *testing.T) {
	day := toll.WallTime(1644451200)
	of := func(events int64, minutes int) *toll.State {
		return &toll.State{Events: events, Earliest: day, Latest: day + toll.WallTime(60*minutes)}
	}
	for _, c := range []struct {
		name     string
		states   map[int16]*toll.State
		baseline map[int]tables.RowCount
		want     bool
	}{
		{name: "nothing"},
		{name: "few minutes", states: map[int16]*toll.State{1: of(1e9, 60), 2: nil, 3: {}}},
		{name: "few events", states: map[int16]*toll.State{1: of(1000, 1e8)}},
		{name: "both many", states: map[int16]*toll.State{1: of(2e6, 2e6)}, want: true},
		{name: "together", states: map[int16]*toll.State{1: of(1e6, 600_000), 2: of(1e6, 600_000)},
			want: true},
		{name: "from before", baseline: map[int]tables.RowCount{5: {Rows: MaxTallied + 1}}, want: true},
	} {
		if got := ManyGroups(c.states, c.baseline); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestTimeReader(t *testing.T) {
	var r timeReader
	for _, c := range []struct {
		text string
		wall string
		ok   bool
	}{
		{"1970-01-01 00:00:59,1,car,5", "1970-01-01 00:00:59", true},
		{"1969-12-31 23:59:00", "1969-12-31 23:59:00", true},
		{"2022-02-10 10:23:02,3728373,car,4856", "2022-02-10 10:23:02", true},
		{"2022-02-10 10:24:02,3728373,car,4856", "2022-02-10 10:24:02", true},
		{"2022-00-00 10:24:02,1", "", false},
		{"2022-02-10 10:24:02,1", "2022-02-10 10:24:02", true},
		{"1,2022-02-10 10:2,5", "", false},
		{"2022-02-10 10:24:0", "", false},
		{"2022-02-10 10:24:022", "", false},
		{"", "", false},
	} {
		if wall, ok := r.read([]byte(c.text)); ok != c.ok || ok && wall.String() != c.wall {
			t.Errorf("%q: got %s, %v, want %s, %v", c.text, wall, ok, c.wall, c.ok)
		}
	}
}
