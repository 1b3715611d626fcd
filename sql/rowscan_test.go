package sql

import (
	"context"
	"testing"

	"tollstream/toll"
)

// TestManyGroups: how many groups there may be is told from the states, and never too low.
func TestManyGroups(t *testing.T) {
	day := toll.WallTime(1644451200)
	of := func(events int64, minutes int) *toll.State {
		return &toll.State{Events: events, Earliest: day, Latest: day + toll.WallTime(60*minutes)}
	}
	for _, c := range []struct {
		name     string
		states   map[int16]*toll.State
		baseline map[int]rowCount
		want     bool
	}{
		{name: "nothing"},
		{name: "few minutes", states: map[int16]*toll.State{1: of(1e9, 60), 2: nil, 3: {}}},
		{name: "few events", states: map[int16]*toll.State{1: of(1000, 1e8)}},
		{name: "both many", states: map[int16]*toll.State{1: of(1e6, 1e6)}, want: true},
		{name: "together", states: map[int16]*toll.State{1: of(1e6, 60_000), 2: of(1e6, 60_000)}, want: true},
		{name: "from before", baseline: map[int]rowCount{5: {rows: fewGroups + 1}}, want: true},
	} {
		if got := manyGroups(c.states, c.baseline); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// TestSnapshots: a server has a second snapshot of the same moment, the embedded one makes do with one.
func TestSnapshots(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		err := s.snapshots(context.Background(), func(q, rows reader) error {
			if same := q == rows; same != s.embedded(context.Background()) {
				t.Errorf("one snapshot for both: %v", same)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRowScanIsStopped: an early return ends the scan, also one whose groups nobody takes.
func TestRowScanIsStopped(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		if s.embedded(context.Background()) {
			t.Skip("the embedded server has no second snapshot")
		}
		// Each row is a group, and there are more than may wait.
		run(t, s, `INSERT INTO livetolldata SELECT FROM_DAYS(719528) + INTERVAL seq MINUTE, 1, 'car', 1 FROM seq_1_to_20000`)
		err := s.snapshots(context.Background(), func(q, rows reader) error {
			scan := &rowScan{deep: true, many: true}
			stop := scan.start(context.Background(), rows)
			<-scan.groups
			stop()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		r := verify(t, s, VerifyInput{Deep: true})
		if r.Rows != 20000 || r.Status != Mismatch {
			t.Errorf("got %d rows, status %s", r.Rows, r.Status)
		}
	})
}
