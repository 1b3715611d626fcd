package sql_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
)

// TestHeartbeat stores heartbeats of two processes, by clocks that disagree with the server's.
func TestHeartbeat(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		own := time.Now().Add(-3 * time.Hour)
		beat := func(h sql.Heartbeat) {
			t.Helper()
			h.Version, h.Now, h.Started = "v1", own, own.Add(-time.Minute)
			if err := s.Beat(t.Context(), &h); err != nil {
				t.Fatal(err)
			}
		}
		beat(sql.Heartbeat{Instance: "two", Problem: strings.Repeat("ü", 600)})
		beat(sql.Heartbeat{Instance: "one", Arrived: own.Add(-time.Second), ArrivalShare: 0.5})
		beat(sql.Heartbeat{Instance: "one", DrainPerSecond: 12.5, Stopped: true,
			Ended: true})
		all, now, err := s.Processes(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("got %+v, %v", all, err)
		}
		near := func(what string, got time.Time, want time.Duration) {
			t.Helper()
			if d := now.Sub(got) - want; d < 0 || d > time.Minute {
				t.Errorf("%s is %v old, want %v", what, now.Sub(got), want)
			}
		}
		one, two := all[0], all[1]
		near("a heartbeat", two.Seen, 0)
		near("a start", one.Started, time.Minute)
		near("a stop", one.Stopped, 0)
		near("an arrival", one.Arrived, time.Second)
		if one.ArrivalShare != 0.5 || one.DrainPerSecond != 12.5 || one.Version != "v1" ||
			!one.Ended {
			t.Errorf("got %+v", one)
		}
		if !two.Stopped.IsZero() || !two.Arrived.IsZero() || two.Problem != strings.Repeat("ü", 500) {
			t.Errorf("got %+v", two)
		}

		dbtest.Exec(t, s, `UPDATE toll_process SET seen_at = '2022-02-10 10:00:00'
			WHERE instance = 'two'`)
		if err := s.ForgetProcesses(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all, _, err = s.Processes(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("after a week: %+v, %v", all, err)
		}
	})
}
