package sql_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

func TestRebuild(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		st.Merge()
		w := s.Writer(dbtest.Identity.TopicID)
		before, u, err := w.Load(ctx, 0, -1)
		if err != nil || u.Batches != 0 || u.First != before.Next {
			t.Fatalf("got %+v, %+v, %v", before, u, err)
		}
		plan, err := s.PlanRebuild(ctx, dbtest.Identity)
		if err != nil || plan.Epoch != 7 || plan.NewEpoch != 0 || plan.Partitions != 2 ||
			plan.Batches != dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch`) {
			t.Fatalf("plan %+v, %v", plan, err)
		}

		now := time.UnixMilli(1_772_431_200_000)
		for _, c := range []struct {
			above uint64
			now   time.Time
			want  uint64
		}{
			{0, time.UnixMilli(5), 8},                                 // a clock that is wrong
			{0, now, 1_772_431_200_001},                               //
			{1_772_431_300_000, now, 1_772_431_300_001},               // the table is ahead
			{0, now, 1_772_431_300_002},                               // run again
			{9, now.Add(time.Hour), 1_772_431_200_000 + 3600_000 + 1}, // later
		} {
			r, err := s.Rebuild(ctx, dbtest.Identity, c.above, c.now)
			if err != nil || r.NewEpoch != c.want || r.Batches != plan.Batches || r.Events != plan.Events {
				t.Fatalf("got %+v, %v, want epoch %d", r, err, c.want)
			}
			for partition := range int32(2) {
				cursor, u, err := w.Load(ctx, partition, -1)
				if err != nil || cursor.Epoch != c.want || u.First != 100 ||
					u.Batches != dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch WHERE partition_id = ?`,
						partition) {
					t.Fatalf("partition %d: %+v, %+v, %v", partition, cursor, u, err)
				}
			}
		}

		// The owner from before can't store, nor mark anything.
		if err := w.Commit(ctx, dbtest.Batch(w, before, "car"), nil); !errors.Is(err,
			toll.ErrCursorMoved) {
			t.Errorf("a batch of the old epoch: %v", err)
		}
		batches, _, _ := dbtest.Outbox(t, w, 0, 100, true)
		if err := w.MarkPublished(ctx, 0, 7,
			[]toll.BatchRef{{First: batches[0].First, Token: batches[0].Token}}); err != nil {
			t.Fatal(err)
		}
		if again, _, _ := dbtest.Outbox(t, w, 0, 100, true); len(again) != len(batches) {
			t.Errorf("%d batches are left to publish, want %d", len(again), len(batches))
		}

		// What plazas merged before counts as empty, and is exact again once all came.
		if r := dbtest.Verify(t, s,
			verify.Input{States: st.States, Deep: true}); r.Status != verify.InFlight ||
			r.Merged != 0 {
			t.Errorf("got %s, %d merged: %+v", r.Status, r.Merged, r.Problems)
		}
		for partition := range int32(2) {
			batches, epoch, _ := dbtest.Outbox(t, w, partition, 0, true)
			for _, b := range batches {
				var deltas []toll.PlazaDelta
				if err := json.Unmarshal(b.Deltas, &deltas); err != nil {
					t.Fatal(err)
				}
				for i := range deltas {
					d := deltas[i].Of(epoch, partition, b.First, b.Next)
					if got := st.States[d.Plaza].Merge(d); got != toll.Applied {
						t.Fatalf("delta %d:%d of plaza %d: %v", partition, d.First, d.Plaza, got)
					}
				}
			}
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: st.States, Deep: true}); r.Status != verify.Exact {
			t.Errorf("got %s: %+v", r.Status, r.Problems)
		}
	})
}

// A database that was set up and has no cursor yet, as one that was restored to its beginning,
// gives its first cursors the epoch of a rebuild too.
func TestRebuildWithoutCursors(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		r, err := s.Rebuild(ctx, dbtest.Identity, 9_000_000_000_000, time.Now())
		if err != nil || r.NewEpoch != 9_000_000_000_001 || r.Partitions != 0 {
			t.Fatalf("got %+v, %v", r, err)
		}
		c, _, err := s.Writer(dbtest.Identity.TopicID).Load(ctx, 0, 100)
		if err != nil || c.Epoch != r.NewEpoch {
			t.Errorf("got %+v, %v, want epoch %d", c, err, r.NewEpoch)
		}
	})
}

func TestRebuildRefuses(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		other := dbtest.Identity
		other.TopicID = "BBBBBBBBBBBBBBBBBBBBBB"
		_, err := s.Rebuild(ctx, other, 0, time.Now())
		dbtest.WantPermanent(t, err, "the topic toll was recreated", "tollstream reset --yes")
		dbtest.Exec(t, s, `UPDATE toll_meta SET resetting = 1`)
		_, err = s.Rebuild(ctx, dbtest.Identity, 0, time.Now())
		dbtest.WantPermanent(t, err, "a reset of", "was interrupted")
	})
}

// Cursors that are made while rebuilds run are of one epoch with the others.
func TestRebuildWhileCursorsAreMade(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		if _, _, err := w.Load(ctx, 0, 0); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for worker := range int32(4) {
			wg.Go(func() {
				for i := range int32(12) {
					if _, _, err := w.Load(ctx, 1+4*i+worker, 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for range 12 {
				if _, err := s.Rebuild(ctx, dbtest.Identity, 0, time.UnixMilli(1)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		if n := dbtest.Int(t, s, `SELECT COUNT(DISTINCT epoch) FROM toll_cursor`); n != 1 ||
			dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_cursor`) != 49 {
			t.Errorf("the cursors are of %d epochs", n)
		}
	})
}

// A cursor that waited for a rebuild's lock is of the epoch that the rebuild raised.
func TestCursorBehindRebuild(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		ctx := t.Context()
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		first, _, err := w.Load(ctx, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := s.DB.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		for _, statement := range []string{`SELECT id FROM toll_meta WHERE id = 1 FOR UPDATE`,
			`UPDATE toll_cursor SET epoch = epoch + 1000`} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
		epoch := make(chan uint64)
		go func() {
			second, _, err := w.Load(ctx, 1, 0)
			if err != nil {
				t.Error(err)
			}
			epoch <- second.Epoch
		}()
		for dbtest.Int(t, s, `SELECT COUNT(*) FROM information_schema.processlist
			WHERE info LIKE 'SELECT created_at FROM toll_meta%'`) == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := <-epoch; got != first.Epoch+1000 {
			t.Errorf("its epoch is %d, want %d", got, first.Epoch+1000)
		}
	})
}

// TestUnreplayable counts the rows that a replay would not bring back, of logs of all kinds.
func TestUnreplayable(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		// partition 0: 7 rows of [100, 109), 3 of [109, 113), 6 of [113, 122); partition 1: 5 of [100,
		// 106)
		st.Fill()
		whole := sql.LogRange{Start: 0, Other: -1}
		for _, c := range []struct {
			name  string
			logs  map[int32]sql.LogRange
			rows  int64
			exact bool
		}{
			{"all is there", map[int32]sql.LogRange{0: whole, 1: whole}, 0, true},
			{"the first batch is gone", map[int32]sql.LogRange{0: {109, -1}, 1: whole}, 7, true},
			{"and a part of the second", map[int32]sql.LogRange{0: {110, -1}, 1: whole}, 10, false},
			{"a partition is gone", map[int32]sql.LogRange{0: whole}, 5, true},
			{"the topic is another one", nil, 21, true},
			{"the log is another one from the last batch on", map[int32]sql.LogRange{0: {0, 113}, 1: whole},
				6,
				false},
			{"and has lost its head", map[int32]sql.LogRange{0: {109, 113}, 1: whole}, 13, false},
		} {
			rows, exact, err := s.Unreplayable(t.Context(), c.logs)
			if err != nil || rows != c.rows || exact != c.exact {
				t.Errorf("%s: %d rows, exact %v, %v; want %d, %v", c.name, rows, exact, err, c.rows, c.exact)
			}
		}
	})
}

// TestAcceptLog: verify reports a replaced log until it is accepted, and names it from then on.
func TestAcceptLog(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		w := s.Writer(dbtest.Identity.TopicID)
		c, err := w.Cursor(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		found := map[int32]verify.LogCheck{0: {Replaced: "it was found to be another one"},
			1: {Unchecked: "retention"}}
		r := dbtest.Verify(t, s, verify.Input{States: st.States, Logs: found})
		if r.Status != verify.Mismatch || r.Problems[0].Kind != verify.KindLogReplaced ||
			r.Partitions[0].Log != verify.LogReplaced || r.Partitions[1].Log != verify.LogUnchecked ||
			len(r.Notes) != 1 {
			t.Errorf("by what was found: %+v", r)
		}
		if err := w.MarkLogReplaced(t.Context(), &c, "it is another one"); err != nil {
			t.Fatal(err)
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: st.States,
				Logs: map[int32]verify.LogCheck{0: {}}}); r.Status != verify.Mismatch {
			t.Errorf("what was recorded counts, however the log looks now: %+v", r)
		}
		moved := c
		moved.Token ^= 1 << 40 // the embedded server compares as floats do
		if err := w.MarkLogReplaced(t.Context(), &moved, "no"); err != toll.ErrCursorMoved {
			t.Errorf("of a cursor that has moved: %v", err)
		}
		last := toll.LastRecord{Known: true, Offset: c.Next - 1, LeaderEpoch: 3, Timestamp: -1,
			CRC: 1<<32 - 1}
		from, rows, records := int64(109), int64(9), int64(13)
		a := tables.AcceptedLog{Partition: 0, Next: c.Next, From: &from, Rows: &rows, Records: &records,
			MostRows: 16, MostRecords: 22, Why: "it is another one"}
		if err := s.AcceptLog(t.Context(), &moved, last, a); err != toll.ErrCursorMoved {
			t.Errorf("of a cursor that has moved: %v", err)
		}
		if err := s.AcceptLog(t.Context(), &c, last, a); err != nil {
			t.Fatal(err)
		}
		if c, err = w.Cursor(t.Context(), 0); err != nil || c.LogReplaced != "" || c.Last != last {
			t.Errorf("the cursor is %+v, %v", c, err)
		}
		r = dbtest.Verify(t, s,
			verify.Input{States: st.States, Logs: map[int32]verify.LogCheck{0: {}, 1: {}}})
		if r.Status != verify.Exact || r.Partitions[0].Log != verify.LogSame ||
			len(r.AcceptedLogs) != 1 ||
			*r.AcceptedLogs[0].Rows != 9 {
			t.Errorf("after it was accepted: %+v", r)
		}
		if rows, exact, err := s.Unreplayable(t.Context(),
			map[int32]sql.LogRange{0: {0, -1}, 1: {0, -1}}); err != nil || rows != 9 || exact {
			t.Errorf("%d rows can't be replayed, exact %v, %v", rows, exact, err)
		}
	})
}

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
