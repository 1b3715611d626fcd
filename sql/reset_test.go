package sql_test

import (
	"context"
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
)

func TestReset(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		before := func() tables.Meta {
			m, err := s.Meta(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		dbtest.Initialize(t, s)
		dbtest.NewStream(t, s).Fill()
		dbtest.Exec(t, s,
			`INSERT INTO toll_retry (topic_id, partition_id, record_offset, stored_partition, stored_offset)
				VALUES ('', 0, 1, 1, 1)`)
		m := before()
		id := dbtest.Identity
		id.TopicID = "BBBBBBBBBBBBBBBBBBBBBB"

		other := id
		other.Group = "b"
		_, err := s.Reset(ctx, other, sql.ResetOptions{})
		dbtest.WantPermanent(t, err, `not "b"`)

		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES (NULL, 1, NULL, 1)`)
		_, err = s.Reset(ctx, id, sql.ResetOptions{})
		dbtest.WantPermanent(t, err, "holds 1 row that tollstream did not store", "--all-rows")
		dbtest.Exec(t, s, `DELETE FROM livetolldata WHERE timestamp IS NULL`)

		done, err := s.Reset(ctx, id, sql.ResetOptions{})
		if err != nil || len(done) != 16 {
			t.Fatalf("got %q, %v", done, err)
		}
		for _, table := range dbtest.TableNames(t, s) {
			want := int64(0)
			if table == "toll_meta" {
				want = 1
			}
			if n := dbtest.Int(t, s, "SELECT COUNT(*) FROM "+table); n != want {
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
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Exec(t, s, dbtest.EventTable)
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES (NULL, 1, NULL, 1), (NULL, 1, NULL, 2)`)
		dbtest.Initialize(t, s)
		dbtest.NewStream(t, s).Fill()
		_, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{})
		dbtest.WantPermanent(t, err,
			"holds 2 rows from before tollstream, which can't be distinguished from the 21 that it stored",
			"--all-rows")
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 23 {
			t.Fatalf("%d rows left", n)
		}
		if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{AllRows: true}); err != nil {
			t.Fatal(err)
		}
		if r := dbtest.Verify(t, s, verify.Input{Deep: true}); r.Status != verify.Exact || r.Rows != 0 ||
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
		"TRUNCATE TABLE toll_accepted_log", "TRUNCATE TABLE toll_process",
		"TRUNCATE TABLE toll_incident_note", "TRUNCATE TABLE toll_notification",
		"TRUNCATE TABLE livetolldata"}
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		for n := 1; n <= len(steps); n++ {
			dbtest.NewStream(t, s).Fill()
			for _, step := range steps[:n] {
				dbtest.Exec(t, s, step)
			}
			_, err := s.Check(ctx, dbtest.Identity)
			dbtest.WantPermanent(t, err, "interrupted", "run again: tollstream reset --yes")
			_, err = s.Init(ctx, dbtest.Identity)
			dbtest.WantPermanent(t, err, "interrupted", "run again: tollstream reset --yes")
			if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Check(ctx, dbtest.Identity); err != nil {
				t.Fatal(err)
			}
			if r := dbtest.Verify(t, s, verify.Input{}); r.Status != verify.Exact || r.Rows != 0 {
				t.Errorf("after step %d: %+v", n, r)
			}
		}
		dbtest.Exec(t, s, "UPDATE toll_meta SET resetting = 2")
		_, err := s.Check(ctx, dbtest.Identity)
		dbtest.WantPermanent(t, err, "tollstream reset --yes --all-rows")
		_, err = s.Reset(ctx, dbtest.Identity, sql.ResetOptions{})
		dbtest.WantPermanent(t, err, "tollstream reset --yes --all-rows")
		if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{AllRows: true}); err != nil {
			t.Fatal(err)
		}
	})
}
