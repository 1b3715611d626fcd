package retention_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestPrune prunes by each way, rows of ours and from before, some at a time. Verification is exact
// after each transaction, and still finds what someone else deleted, added or changed.
func TestPrune(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ways, err := s.Ways(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, some := range ways {
			t.Run(name, func(t *testing.T) {
				dbtest.DropTables(t, s)
				dbtest.Exec(t, s, dbtest.EventTable)
				dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES ('2020-01-01 00:00:00', 1, 'car', 4000),
					('2020-01-01 00:00:00', 1, 'car', 4000),
					(NULL, 1, 'car', 4000), ('2020-01-01 00:00:00', 2, NULL, NULL), ('2030-01-01 00:00:00',
					3, 'bus', 9)`)
				dbtest.Initialize(t, s)
				st := dbtest.NewStream(t, s)
				st.Fill() // 21 rows at 10:00 and 10:01 of the same day
				check := func(rows, pruned int64) {
					t.Helper()
					r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true})
					if r.Status != verify.Exact || r.Rows != rows || r.Pruned != pruned || r.Baseline != 5 {
						t.Fatalf("got %+v", r)
					}
					for _, c := range r.Plazas {
						checks, err := s.PlazaChecker().Plaza(t.Context(), int16(max(c.Plaza, -32768)),
							st.States[int16(c.Plaza)],
							dbtest.FullCount)
						if c.Plaza != tables.NullPlaza &&
							(err != nil || checks.Status != verify.Exact || checks.Pruned != c.Pruned) {
							t.Fatalf("got %+v, %v", checks, err)
						}
					}
				}
				check(26, 0)
				o := retention.PruneOptions{Before: dbtest.WallTime(t, "2022-02-10 10:01"), BatchRows: 4}
				old, all, err := s.PruneCount(t.Context(), o.Before)
				if err != nil || old != 19 || all != 26 {
					t.Fatalf("%d of %d rows, %v", old, all, err)
				}
				total := int64(0)
				for {
					n, err := some(t.Context(), toll.NewZone(dbtest.Berlin), o)
					if err != nil {
						t.Fatal(err)
					}
					total += n
					check(26-total, total)
					if n < 4 {
						break
					}
				}
				if total != old {
					t.Errorf("%d rows deleted, want %d", total, old)
				}
				if n := dbtest.Int(t, s,
					`SELECT COUNT(*) FROM livetolldata WHERE timestamp < '2022-02-10 10:01:00'`); n != 0 {
					t.Errorf("%d old rows are left", n)
				}
				if n, err := s.Prune(t.Context(), o); n != 0 || err != nil {
					t.Errorf("again: %d, %v", n, err)
				}
				for _, harm := range []struct{ query, kind string }{
					{`DELETE FROM livetolldata WHERE toll_plaza_id = 9`, verify.KindRowsMissing},
					{`INSERT INTO livetolldata VALUES ('2020-01-01 00:00:00', 1, 'car', 4000)`,
						verify.KindRowsExtra},
					{`UPDATE livetolldata SET vehicle_id = 77 WHERE toll_plaza_id = -7`, verify.KindRowsChanged},
				} {
					dbtest.Exec(t, s, harm.query)
					var kinds []string
					for _, p := range dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true}).Problems {
						kinds = append(kinds, p.Kind)
					}
					if !strings.Contains(fmt.Sprint(kinds), harm.kind) {
						t.Errorf("%s: found %v", harm.query, kinds)
					}
				}
			})
		}
	})
}

// TestPruneWhileRunning prunes twice at once while batches are stored, and while others verify.
func TestPruneWhileRunning(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dbtest.Initialize(t, s)
		l := &dbtest.Live{T: t, S: s, W: s.Writer(dbtest.Identity.TopicID),
			States: map[int16]*toll.State{}}
		var running, pruning sync.WaitGroup
		for p := range int32(2) {
			running.Go(func() {
				l.Partition(p, 60, func(batch int) (events []toll.Event) {
					for i := range 50 { // half of them old
						events = append(events, toll.Event{Time: toll.WallTime(1644488582 - i%2*864000 + batch),
							Vehicle: int32(i), Type: "car", Plaza: int16(i % (1 + batch%5))})
					}
					return events
				})
			})
		}
		var mu sync.Mutex
		pruned := int64(0)
		prune := func(ctx context.Context, rows int) {
			n, err := s.Prune(ctx, retention.PruneOptions{Before: 1644488582 - 86400, BatchRows: rows})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			mu.Lock()
			pruned += n
			mu.Unlock()
		}
		for i := range 2 {
			pruning.Go(func() {
				for ctx.Err() == nil {
					prune(ctx, 7+20*i)
				}
			})
		}
		done := make(chan struct{})
		go func() { running.Wait(); close(done) }()
		for more := true; more; {
			select {
			case <-done:
				more = false
			default:
			}
			if r := dbtest.Verify(t, s,
				verify.Input{States: l.Snapshot(), Deep: true}); r.Status == verify.Mismatch {
				t.Fatalf("got %+v", r.Problems)
			}
		}
		cancel()
		pruning.Wait()
		prune(context.Background(), 1000)
		r := dbtest.Verify(t, s, verify.Input{States: l.Snapshot(), Deep: true})
		// A transaction that was cut off while it was committed may have deleted what Prune did not
		// count.
		if r.Status != verify.Exact || r.Pruned != 2*60*25 || r.Rows != 2*60*25 || pruned > r.Pruned {
			t.Errorf("%d pruned, got %+v", pruned, r)
		}
	})
}

// TestPruneIsInterrupted stops a prune after each of its transactions; it goes on where it was.
func TestPruneIsInterrupted(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := s.Prune(ctx, retention.PruneOptions{Before: dbtest.WallTime(t, "2022-02-10 11:00"),
				BatchRows: 5,
				Progress:  func(int64) { cancel() }})
			cancel()
			r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true})
			if r.Status != verify.Exact || r.Rows+r.Pruned != 21 {
				t.Fatalf("got %+v", r)
			}
			if err == nil && r.Rows == 0 {
				return
			}
		}
		t.Error("it never ends")
	})
}
