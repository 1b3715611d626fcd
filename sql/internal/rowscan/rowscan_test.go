package rowscan

import (
	"maps"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// TestManyMinutes: of how many blocks rows may be is read from the states, and never too low.
func TestManyMinutes(t *testing.T) {
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
		{name: "both many", states: map[int16]*toll.State{1: of(2e6, 64*700_000)}, want: true},
		{name: "together", states: map[int16]*toll.State{1: of(1e6, 64*400_000), 2: of(1e6, 64*400_000)},
			want: true},
		{name: "busy minutes", states: map[int16]*toll.State{1: of(1e10, 64*200_000)}, want: true},
		{name: "from before", baseline: map[int]tables.RowCount{5: {Rows: MaxBlocks + 1}}, want: true},
	} {
		if got := ManyMinutes(c.states, c.baseline); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// TestRowTally counts more rows of a minute than a narrow block can.
func TestRowTally(t *testing.T) {
	tally := rowTally{plazas: map[int64]*plazaTally{}, zone: toll.NewZone(time.UTC)}
	want := map[toll.Minute]int64{}
	for minute, rows := range map[string]int64{"1969-12-31 23:58:00": 3, "1970-01-01 00:00:00": 255,
		"1970-01-01 00:01:00": 256, "1970-01-01 01:03:00": 70_000, "1970-01-01 01:04:00": 1} {
		for range rows {
			tally.add(5, []byte(minute+",1,car,5"))
		}
		at, err := time.Parse(time.DateTime, minute)
		if err != nil {
			t.Fatal(err)
		}
		want[toll.MinuteAt(at.Unix())] = rows
	}
	got := map[toll.Minute]int64{}
	if err := tally.each(func(g *Group) error { got[g.Minute] = g.Rows; return nil }); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) || tally.blocks != 3+3 {
		t.Errorf("got %v of %d blocks, want %v", got, tally.blocks, want)
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
