package sql

import (
	"context"
	"testing"
)

func TestReset(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx := context.Background()
		before := func() Meta {
			m, err := s.Meta(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		initialize(t, s)
		newStream(t, s).fill()
		run(t, s,
			`INSERT INTO toll_retry (topic_id, partition_id, record_offset, stored_partition, stored_offset) VALUES ('', 0, 1, 1, 1)`)
		m := before()
		id := testIdentity
		id.TopicID = "BBBBBBBBBBBBBBBBBBBBBB"

		other := id
		other.Group = "b"
		_, err := s.Reset(ctx, other, ResetOptions{})
		wantPermanent(t, err, `not "b"`)

		run(t, s, `INSERT INTO livetolldata VALUES (NULL, 1, NULL, 1)`)
		_, err = s.Reset(ctx, id, ResetOptions{})
		wantPermanent(t, err, "holds 1 row that tollstream did not store", "--all-rows")
		run(t, s, `DELETE FROM livetolldata WHERE timestamp IS NULL`)

		done, err := s.Reset(ctx, id, ResetOptions{})
		if err != nil || len(done) != 14 {
			t.Fatalf("got %q, %v", done, err)
		}
		for _, table := range tableNames(t, s) {
			want := int64(0)
			if table == "toll_meta" {
				want = 1
			}
			if n := number64(t, s, "SELECT COUNT(*) FROM "+table); n != want {
				t.Errorf("%s: %d rows", table, n)
			}
		}
		if after, err := s.Check(ctx, id); err != nil || after.DatabaseID != m.DatabaseID ||
			after.TopicID != id.TopicID {
			t.Errorf("got %+v, %v", after, err)
		}
	})
}

func TestResetWithBaseline(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx := context.Background()
		run(t, s, eventTableDDL)
		run(t, s, `INSERT INTO livetolldata VALUES (NULL, 1, NULL, 1), (NULL, 1, NULL, 2)`)
		initialize(t, s)
		newStream(t, s).fill()
		_, err := s.Reset(ctx, testIdentity, ResetOptions{})
		wantPermanent(t, err,
			"holds 2 rows from before tollstream, which can't be told from the 21 that it stored",
			"--all-rows")
		if n := number64(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 23 {
			t.Fatalf("%d rows left", n)
		}
		if _, err := s.Reset(ctx, testIdentity, ResetOptions{AllRows: true}); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, s, VerifyInput{Deep: true}); r.Status != Exact || r.Rows != 0 ||
			r.Baseline != 0 {
			t.Errorf("got %+v", r)
		}
	})
}

// Whatever interrupts a reset, the database is refused until the same reset is run again.
func TestInterruptedReset(t *testing.T) {
	steps := []string{"UPDATE toll_meta SET resetting = 1", "TRUNCATE TABLE toll_cursor",
		"TRUNCATE TABLE toll_batch", "TRUNCATE TABLE toll_dead_letter", "TRUNCATE TABLE toll_retry",
		"TRUNCATE TABLE toll_window", "TRUNCATE TABLE toll_congestion", "TRUNCATE TABLE toll_transition",
		"TRUNCATE TABLE toll_plaza", "TRUNCATE TABLE toll_pruned", "TRUNCATE TABLE toll_retired",
		"TRUNCATE TABLE toll_accepted_log", "TRUNCATE TABLE toll_stalled", "TRUNCATE TABLE livetolldata"}
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx := context.Background()
		initialize(t, s)
		for n := 1; n <= len(steps); n++ {
			newStream(t, s).fill()
			for _, step := range steps[:n] {
				run(t, s, step)
			}
			_, err := s.Check(ctx, testIdentity)
			wantPermanent(t, err, "interrupted", "run again: tollstream reset --yes")
			_, err = s.Init(ctx, testIdentity)
			wantPermanent(t, err, "interrupted", "run again: tollstream reset --yes")
			if _, err := s.Reset(ctx, testIdentity, ResetOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Check(ctx, testIdentity); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, s, VerifyInput{}); r.Status != Exact || r.Rows != 0 {
				t.Errorf("after step %d: %+v", n, r)
			}
		}
		run(t, s, "UPDATE toll_meta SET resetting = 2")
		_, err := s.Check(ctx, testIdentity)
		wantPermanent(t, err, "tollstream reset --yes --all-rows")
		_, err = s.Reset(ctx, testIdentity, ResetOptions{})
		wantPermanent(t, err, "tollstream reset --yes --all-rows")
		if _, err := s.Reset(ctx, testIdentity, ResetOptions{AllRows: true}); err != nil {
			t.Fatal(err)
		}
	})
}
