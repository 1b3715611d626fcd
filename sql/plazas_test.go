package sql

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestPlaza(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx := context.Background()
		run(t, s, eventTableDDL)
		run(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 4856)`)
		initialize(t, s)
		st := newStream(t, s)
		st.fill()
		st.store(0, 0, map[int16]int{4856: 3})

		got, err := s.Plaza(ctx, 4856, st.states[4856], fullCount)
		if err != nil {
			t.Fatal(err)
		}
		want :=
			`{"plaza":4856,"table_count":15,"stored_rows":19,"baseline":1,"pruned":0,"in_flight":3,"checksum_ok":true,"status":"in_flight"}`
		if b, _ := json.Marshal(got); string(b) != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
		st.merge()
		got, err = s.Plaza(ctx, 4856, st.states[4856], PlazaOptions{CountOnly: true})
		if err != nil || got.Status != Exact || got.ChecksumOK != nil || *got.StoredRows != 19 {
			t.Errorf("got %+v, %v", got, err)
		}
		got, err = s.Plaza(ctx, 9, nil, fullCount)
		if err != nil || got.Status != Exact || *got.StoredRows != 0 || !*got.ChecksumOK {
			t.Errorf("unknown plaza: %+v, %v", got, err)
		}
		run(t, s, `UPDATE livetolldata SET vehicle_id = 0 WHERE toll_plaza_id = -7`)
		all, err := s.Plazas(ctx, st.states, fullCount)
		if err != nil || len(all) != 3 || all[0].Plaza != -7 || all[0].Status != Mismatch ||
			*all[0].ChecksumOK || all[0].Problems[0].Kind != KindRowsChanged ||
			all[1].Status != Exact || all[2].Status != Exact {
			t.Errorf("got %+v, %v", all, err)
		}
		all, err = s.Plazas(ctx, st.states, PlazaOptions{SkipRows: true})
		if err != nil || all[0].Status != Exact || all[0].StoredRows != nil || all[0].TableCount != 1 {
			t.Errorf("got %+v, %v", all, err)
		}
	})
}

func TestCountIsCutOff(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		initialize(t, s)
		st := newStream(t, s)
		st.fill()
		for range 12 { // 21 rows become 86,016
			run(t, s, `INSERT INTO livetolldata SELECT * FROM livetolldata`)
		}
		got, err := s.Plaza(context.Background(), 4856, st.states[4856],
			PlazaOptions{CountLimit: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		// A server without limits may be done before the client gives up.
		if got.StoredRows == nil &&
			(got.ChecksumOK != nil || got.Status != Exact ||
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
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx := context.Background()
		initialize(t, s)
		st := newStream(t, s)
		checker := s.PlazaChecker()
		random := rand.New(rand.NewPCG(1, 2))
		compare := func(step int) {
			t.Helper()
			plaza := int16(random.IntN(4))
			got, err := checker.Plaza(ctx, plaza, st.states[plaza], fullCount)
			if err != nil {
				t.Fatal(err)
			}
			want, err := s.Plaza(ctx, plaza, st.states[plaza], fullCount)
			if err != nil {
				t.Fatal(err)
			}
			gotJSON, _ := json.Marshal(got)
			wantJSON, _ := json.Marshal(want)
			if string(gotJSON) != string(wantJSON) || want.Status == Mismatch {
				t.Fatalf("step %d: got %s, want %s", step, gotJSON, wantJSON)
			}
			all, err := checker.Plazas(ctx, st.states, PlazaOptions{SkipRows: true})
			if err != nil || slices.ContainsFunc(all, func(c PlazaCheck) bool {
				return c.Status == Mismatch
			}) {
				t.Fatalf("step %d: %+v, %v", step, all, err)
			}
		}
		for step := range 60 {
			switch step {
			case 20: // the group table comes back older
				for _, state := range st.states {
					*state = toll.State{Epoch: st.epoch}
				}
			case 40: // a rebuild
				st.epoch++
				run(t, s, `UPDATE toll_cursor SET epoch = ?`, st.epoch)
			}
			st.store(int32(random.IntN(2)), 0,
				map[int16]int{int16(random.IntN(3)): 1 + random.IntN(2), 3: 1})
			if step < 20 && random.IntN(3) == 0 {
				st.merge()
			}
			compare(step)
		}
		// The database is emptied and filled again.
		for _, table := range []string{"toll_cursor", "toll_batch", eventTable} {
			run(t, s, "TRUNCATE TABLE "+table)
		}
		st = newStream(t, s)
		st.fill()
		compare(60)
	})
}

func TestManyDeltasInFlight(t *testing.T) {
	s := openEmpty(t, engines[len(engines)-1])
	initialize(t, s)
	st := newStream(t, s)
	checker := s.PlazaChecker()
	for i := range maxPoints + 20 {
		st.store(0, 0, map[int16]int{1: 1})
		if i == 1 {
			st.merge()
		}
	}
	check := func(inFlight int64) {
		t.Helper()
		c, err := checker.Plaza(context.Background(), 1, st.states[1], fullCount)
		if err != nil || c.InFlight != inFlight || c.TableCount+c.InFlight != *c.StoredRows ||
			c.Status == Mismatch {
			t.Errorf("got %+v, %v, want %d in flight", c, err, inFlight)
		}
	}
	check(maxPoints + 18)
	rest := st.sent
	for _, n := range []int{10, maxPoints, maxPoints + 5, len(rest)} {
		st.sent = slices.Clone(rest[:n])
		st.merge()
		check(int64(len(rest) - n))
	}
}
