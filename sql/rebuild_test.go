package sql_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
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
		dbtest.WantPermanent(t, err, "the topic toll was created again", "tollstream reset --yes")
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
