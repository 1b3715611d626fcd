package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestWindowsStalled has windows that are due and are not stored. That is a problem where a process
// has found that it stores none, and else how a backlog or a process that does not run looks.
func TestWindowsStalled(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m,day")
		x.Store(0, dbtest.Pass(4856, "2022-03-01 10:07", "car", 2, toll.OnTime))
		states := x.MergedStates("2022-03-01 10:08")
		x.StoreResults(x.Results(), x.Closing(4856, "2022-03-01 10:08"))
		in := func(passed string) verify.Input {
			return verify.Input{States: states, Windows: x.Cfg.Windows, Passed: dbtest.MinuteOf(t, passed)}
		}
		check := func(what string, in verify.Input, status string, due int64) {
			t.Helper()
			r := dbtest.Verify(t, s, in)
			if r.Status != status || r.WindowsDue != due || r.WindowsWaiting != 2 {
				t.Errorf("%s: status %s, %d windows due, %d waiting, problems %v", what, r.Status, r.WindowsDue,
					r.WindowsWaiting, r.Problems)
			}
			if status == verify.Mismatch &&
				(len(r.Problems) != 1 || r.Problems[0].Kind != verify.KindWindowStalled ||
					r.Problems[0].Next == "" ||
					!strings.Contains(r.Problems[0].Text,
						"ended at 2022-03-01 10:15; the process one has stored none since ")) {
				t.Errorf("%s: problems %+v", what, r.Problems)
			}
		}
		beat := func(instance string, stalled time.Time) {
			t.Helper()
			now := time.Now()
			if err := s.Beat(t.Context(), &sql.Heartbeat{Instance: instance, Now: now, Started: now,
				Stalled: stalled, StalledKnown: true}); err != nil {
				t.Fatal(err)
			}
		}
		check("just now", in("2022-03-01 10:20"), verify.Exact, 0)
		check("nothing stalls", in("2022-03-03 00:00"), verify.Exact, 2)
		for range 2 {
			beat("one", time.Now())
		}
		check("it is not due", in("2022-03-01 10:20"), verify.Exact, 0)
		check("one is due", in("2022-03-01 20:20"), verify.Mismatch, 1)
		check("two are due", in("2022-03-03 00:00"), verify.Mismatch, 2)
		check("event time is not known", verify.Input{States: states, Windows: x.Cfg.Windows},
			verify.Exact, 0)
		beat("two", time.Time{}) // another one
		check("another one stores", in("2022-03-03 00:00"), verify.Mismatch, 2)
		beat("one", time.Time{})
		check("it stores again", in("2022-03-03 00:00"), verify.Exact, 2)
	})
}
