package sql

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

// TestPrune prunes by each way, rows of ours and from before, some at a time. Verification is exact
// after each transaction, and still finds what someone else deleted, added or changed.
func TestPrune(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		ways, err := s.Ways(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, some := range ways {
			t.Run(name, func(t *testing.T) {
				dropTables(t, s)
				run(t, s, eventTableDDL)
				run(t, s, `INSERT INTO livetolldata VALUES ('2020-01-01 00:00:00', 1, 'car', 4000), ('2020-01-01 00:00:00', 1, 'car', 4000),
					(NULL, 1, 'car', 4000), ('2020-01-01 00:00:00', 2, NULL, NULL), ('2030-01-01 00:00:00', 3, 'bus', 9)`)
				initialize(t, s)
				st := newStream(t, s)
				st.fill() // 21 rows at 10:00 and 10:01 of the same day
				check := func(rows, pruned int64) {
					t.Helper()
					r := verify(t, s, VerifyInput{States: st.states, Deep: true})
					if r.Status != Exact || r.Rows != rows || r.Pruned != pruned || r.Baseline != 5 {
						t.Fatalf("got %+v", r)
					}
					for _, c := range r.Plazas {
						checks, err := s.Plaza(t.Context(), int16(max(c.Plaza, -32768)), st.states[int16(c.Plaza)],
							fullCount)
						if c.Plaza != nullPlaza &&
							(err != nil || checks.Status != Exact || checks.Pruned != c.Pruned) {
							t.Fatalf("got %+v, %v", checks, err)
						}
					}
				}
				check(26, 0)
				o := PruneOptions{Before: wallTime(t, "2022-02-10 10:01"), BatchRows: 4}
				old, all, err := s.PruneCount(t.Context(), o.Before)
				if err != nil || old != 19 || all != 26 {
					t.Fatalf("%d of %d rows, %v", old, all, err)
				}
				total := int64(0)
				for {
					n, err := some(t.Context(), toll.NewZone(berlin), o)
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
				if n := number64(t, s,
					`SELECT COUNT(*) FROM livetolldata WHERE timestamp < '2022-02-10 10:01:00'`); n != 0 {
					t.Errorf("%d old rows are left", n)
				}
				if n, err := s.Prune(t.Context(), o); n != 0 || err != nil {
					t.Errorf("again: %d, %v", n, err)
				}
				for _, harm := range []struct{ query, kind string }{
					{`DELETE FROM livetolldata WHERE toll_plaza_id = 9`, KindRowsMissing},
					{`INSERT INTO livetolldata VALUES ('2020-01-01 00:00:00', 1, 'car', 4000)`, KindRowsExtra},
					{`UPDATE livetolldata SET vehicle_id = 77 WHERE toll_plaza_id = -7`, KindRowsChanged},
				} {
					run(t, s, harm.query)
					var kinds []string
					for _, p := range verify(t, s, VerifyInput{States: st.states, Deep: true}).Problems {
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
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		initialize(t, s)
		l := &live{t: t, s: s, w: s.Writer(testIdentity.TopicID), states: map[int16]*toll.State{}}
		var running, pruning sync.WaitGroup
		for p := range int32(2) {
			running.Go(func() {
				l.partition(p, 60, func(batch int) (events []toll.Event) {
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
			n, err := s.Prune(ctx, PruneOptions{Before: 1644488582 - 86400, BatchRows: rows})
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
			if r := verify(t, s, VerifyInput{States: l.snapshot(), Deep: true}); r.Status == Mismatch {
				t.Fatalf("got %+v", r.Problems)
			}
		}
		cancel()
		pruning.Wait()
		prune(context.Background(), 1000)
		r := verify(t, s, VerifyInput{States: l.snapshot(), Deep: true})
		// A transaction that was cut off while it was committed may have deleted what Prune did not
		// count.
		if r.Status != Exact || r.Pruned != 2*60*25 || r.Rows != 2*60*25 || pruned > r.Pruned {
			t.Errorf("%d pruned, got %+v", pruned, r)
		}
	})
}

// TestPruneIsInterrupted stops a prune after each of its transactions; it goes on where it was.
func TestPruneIsInterrupted(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		initialize(t, s)
		st := newStream(t, s)
		st.fill()
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := s.Prune(ctx, PruneOptions{Before: wallTime(t, "2022-02-10 11:00"), BatchRows: 5,
				Progress: func(int64) { cancel() }})
			cancel()
			r := verify(t, s, VerifyInput{States: st.states, Deep: true})
			if r.Status != Exact || r.Rows+r.Pruned != 21 {
				t.Fatalf("got %+v", r)
			}
			if err == nil && r.Rows == 0 {
				return
			}
		}
		t.Error("it never ends")
	})
}
