package verify_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

func TestPlaza(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Exec(t, s, dbtest.EventTable)
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 4856)`)
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		st.Store(0, 0, map[int16]int{4856: 3})

		got, err := s.PlazaChecker().Plaza(ctx, 4856, st.States[4856], dbtest.FullCount)
		if err != nil {
			t.Fatal(err)
		}
		want :=
			`{"plaza":4856,"table_count":15,"stored_rows":19,"baseline":1,"pruned":0,"in_flight":3,"checksum_ok":true,"status":"in_flight"}`
		if b, _ := json.Marshal(got); string(b) != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
		st.Merge()
		got, err = s.PlazaChecker().Plaza(ctx, 4856, st.States[4856],
			verify.PlazaOptions{CountOnly: true})
		if err != nil || got.Status != verify.Exact || got.ChecksumOK != nil || *got.StoredRows != 19 {
			t.Errorf("got %+v, %v", got, err)
		}
		got, err = s.PlazaChecker().Plaza(ctx, 9, nil, dbtest.FullCount)
		if err != nil || got.Status != verify.Exact || *got.StoredRows != 0 || !*got.ChecksumOK {
			t.Errorf("unknown plaza: %+v, %v", got, err)
		}
		dbtest.Exec(t, s, `UPDATE livetolldata SET vehicle_id = 0 WHERE toll_plaza_id = -7`)
		all, err := s.PlazaChecker().Plazas(ctx, st.States, dbtest.FullCount)
		if err != nil || len(all) != 3 || all[0].Plaza != -7 || all[0].Status != verify.Mismatch ||
			*all[0].ChecksumOK || all[0].Problems[0].Kind != verify.KindRowsChanged ||
			all[1].Status != verify.Exact || all[2].Status != verify.Exact {
			t.Errorf("got %+v, %v", all, err)
		}
		all, err = s.PlazaChecker().Plazas(ctx, st.States, verify.PlazaOptions{SkipRows: true})
		if err != nil || all[0].Status != verify.NotVerified || all[0].StoredRows != nil ||
			all[0].TableCount != 1 {
			t.Errorf("got %+v, %v", all, err)
		}
	})
}

func TestCountIsCutOff(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		for range 12 { // 21 rows become 86,016
			dbtest.Exec(t, s, `INSERT INTO livetolldata SELECT * FROM livetolldata`)
		}
		got, err := s.PlazaChecker().Plaza(context.Background(), 4856, st.States[4856],
			verify.PlazaOptions{CountLimit: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		// A server without limits may be done before the client gives up.
		if got.StoredRows == nil &&
			(got.ChecksumOK != nil || got.Status != verify.NotVerified ||
				got.Note != "counting the rows was cut off after 1ms") {
			t.Errorf("got %+v", got)
		}
		if got.StoredRows != nil && t.Name() == "TestCountIsCutOff/mariadb" {
			t.Errorf("not cut off: %+v", got)
		}
		if err := s.Ping(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A checker that goes on from check to check finds what one that reads everything finds.
func TestPlazaCheckerGoesOn(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		checker := s.PlazaChecker()
		random := rand.New(rand.NewPCG(1, 2))
		compare := func(step int) {
			t.Helper()
			plaza := int16(random.IntN(4))
			got, err := checker.Plaza(ctx, plaza, st.States[plaza], dbtest.FullCount)
			if err != nil {
				t.Fatal(err)
			}
			want, err := s.PlazaChecker().Plaza(ctx, plaza, st.States[plaza], dbtest.FullCount)
			if err != nil {
				t.Fatal(err)
			}
			gotJSON, _ := json.Marshal(got)
			wantJSON, _ := json.Marshal(want)
			if string(gotJSON) != string(wantJSON) || want.Status == verify.Mismatch {
				t.Fatalf("step %d: got %s, want %s", step, gotJSON, wantJSON)
			}
			all, err := checker.Plazas(ctx, st.States, verify.PlazaOptions{SkipRows: true})
			if err != nil || slices.ContainsFunc(all, func(c verify.PlazaCheck) bool {
				return c.Status == verify.Mismatch
			}) {
				t.Fatalf("step %d: %+v, %v", step, all, err)
			}
		}
		for step := range 60 {
			switch step {
			case 20: // the group table comes back older
				for _, state := range st.States {
					*state = toll.State{Epoch: st.Epoch}
				}
			case 40: // a rebuild
				st.Epoch++
				dbtest.Exec(t, s, `UPDATE toll_cursor SET epoch = ?`, st.Epoch)
			}
			st.Store(int32(random.IntN(2)), 0,
				map[int16]int{int16(random.IntN(3)): 1 + random.IntN(2), 3: 1})
			if step < 20 && random.IntN(3) == 0 {
				st.Merge()
			}
			compare(step)
		}
		// The database is emptied and filled again.
		for _, table := range []string{"toll_cursor", "toll_batch", tables.EventTable} {
			dbtest.Exec(t, s, "TRUNCATE TABLE "+table)
		}
		st = dbtest.NewStream(t, s)
		st.Fill()
		compare(60)
	})
}

func TestManyDeltasInFlight(t *testing.T) {
	s := dbtest.OpenEmpty(t, dbtest.Engines[len(dbtest.Engines)-1])
	dbtest.Initialize(t, s)
	st := dbtest.NewStream(t, s)
	checker := s.PlazaChecker()
	for i := range verify.MaxPoints + 20 {
		st.Store(0, 0, map[int16]int{1: 1})
		if i == 1 {
			st.Merge()
		}
	}
	check := func(inFlight int64) {
		t.Helper()
		c, err := checker.Plaza(context.Background(), 1, st.States[1], dbtest.FullCount)
		if err != nil || c.InFlight != inFlight || c.TableCount+c.InFlight != *c.StoredRows ||
			c.Status == verify.Mismatch {
			t.Errorf("got %+v, %v, want %d in flight", c, err, inFlight)
		}
	}
	check(verify.MaxPoints + 18)
	rest := st.Sent
	for _, n := range []int{10, verify.MaxPoints, verify.MaxPoints + 5, len(rest)} {
		st.Sent = slices.Clone(rest[:n])
		st.Merge()
		check(int64(len(rest) - n))
	}
}

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
