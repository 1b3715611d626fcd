package sql

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// TestCompactionKeepsEveryInvariant stores, merges, closes, compacts, prunes and rebuilds in random
// order, and verifies after each step. In the end every state and every window holds what the
// events say, one by one.
func TestCompactionKeepsEveryInvariant(t *testing.T) {
	seeds, _ := strconv.Atoi(os.Getenv("TOLLSTREAM_SEEDS"))
	onEngines(t, func(t *testing.T, s *testStore) {
		steps := 220
		if s.db.embedded(t.Context()) {
			steps = 110 // of which each takes long
		}
		for seed := range uint64(max(seeds, 1)) {
			if seed > 0 {
				dropTables(t, s)
			}
			t.Logf("seed %d", seed)
			keepEveryInvariant(t, newKeeper(t, s, seed), steps)
		}
	})
}

func keepEveryInvariant(t *testing.T, k *keeper, steps int) {
	for p := range int32(2) {
		k.store(p, passage{keeperPlazas[0], k.now.String(), "car", 1, toll.OnTime})
	}
	for range steps {
		step := ""
		switch n := k.random.IntN(100); {
		case n < 50:
			step = "batch"
			k.batch()
		case n < 68:
			step = "send"
			k.send(int32(k.random.IntN(2)), 1+k.random.IntN(8))
		case n < 78:
			step = "close"
			k.close()
		case n < 94:
			step = "compact"
			k.compact()
		case n < 97:
			step = "prune"
			k.prune()
		default:
			step = "rebuild"
			k.rebuild()
		}
		k.ran[step]++
		k.verifyAll(k.random.IntN(4) == 0)
	}
	k.close()
	k.compact()
	r := k.verifyAll(true)
	if r.Status != Exact {
		t.Errorf("got %+v", r)
	}
	for _, what := range []string{"packed", "added up", "rows pruned", "rebuild"} {
		if k.ran[what] == 0 {
			t.Errorf("nothing was %s: %v", what, k.ran)
		}
	}
	t.Log(k.ran, "of", r.Batches, "batches are left", r.BatchRows, "rows,", r.Windows,
		"windows checked,", r.WindowsFolded, "not any more")
	if r.BatchRows >= r.Batches/2 || r.WindowsFolded == 0 {
		t.Errorf("%d rows of %d batches, %d windows folded", r.BatchRows, r.Batches, r.WindowsFolded)
	}
	for _, plaza := range keeperPlazas {
		var want toll.State
		for _, p := range k.passages {
			if p.plaza != plaza {
				continue
			}
			want.Events += int64(p.n)
			want.Types = toll.AddTypes(want.Types, []toll.TypeCount{{Type: p.typ, Count: int64(p.n)}})
			switch p.how {
			case toll.Late:
				want.Late += int64(p.n)
			case toll.LateQuarter:
				want.LateQuarter += int64(p.n)
			case toll.TooLate:
				want.TooLate += int64(p.n)
			}
		}
		s := k.states[plaza]
		if got, want := fmt.Sprint(s.Events, s.Types, s.Late, s.LateQuarter,
			s.TooLate), fmt.Sprint(want.Events, want.Types, want.Late, want.LateQuarter,
			want.TooLate); got != want {
			t.Errorf("plaza %d: got %s, want %s", plaza, got, want)
		}
	}
	k.check(k.zone.Wall(k.until.Time()).String(), keeperPlazas...)
	// A row that someone else deletes is missed still.
	run(t, k.s, `DELETE FROM livetolldata LIMIT 1`)
	if r := verify(t, k.s, VerifyInput{States: k.states}); r.Status != Mismatch ||
		r.Problems[0].Kind != KindRowsMissing {
		t.Errorf("a row was deleted: %+v", r)
	}
}

// TestCompactWhileRunning compacts while batches are stored and merged, and others verify and look
// on.
func TestCompactWhileRunning(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		initialize(t, s)
		l := &live{t: t, s: s, w: s.Writer(testIdentity.TopicID), states: map[int16]*toll.State{}}
		// Batches are kept longer than any reader is behind; here until the reader has newer states.
		var oldest atomic.Pointer[map[int16]*toll.State]
		read := func() map[int16]*toll.State {
			states := l.snapshot()
			oldest.Store(&states)
			return states
		}
		read()
		var running, compacting sync.WaitGroup
		for p := range int32(2) {
			running.Go(func() {
				l.partition(p, 80, func(batch int) (events []toll.Event) {
					for i := range 50 {
						events = append(events, toll.Event{Time: toll.WallTime(1644488582 + 3600*batch + i),
							Vehicle: int32(i), Type: "car", Plaza: int16(i % (1 + batch%5))})
					}
					return events
				})
			})
		}
		for p := range int32(2) {
			compacting.Go(func() {
				for ctx.Err() == nil {
					states := *oldest.Load() // before: what is merged is published
					run(t, s, `UPDATE toll_batch SET published = 1 WHERE partition_id = ? AND published = 0`, p)
					before := toll.NewZone(berlin).Minute(1644488582 + 3600*40)
					if _, err := eagerCompactor(l.s).Compact(ctx, p,
						CompactOptions{Now: time.Now(), States: states,
							Before: before}); err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { running.Wait(); close(done) }()
		checker := s.PlazaChecker()
		for more := true; more; {
			select {
			case <-done:
				more = false
			default:
			}
			states := read()
			if r := verify(t, s, VerifyInput{States: states, Deep: true}); r.Status == Mismatch {
				t.Fatalf("got %+v", r.Problems)
			}
			states = read()
			c, err := checker.Plaza(ctx, 0, states[0], fullCount)
			if err != nil || c.Status == Mismatch || c.TableCount+c.InFlight != *c.StoredRows {
				t.Fatalf("got %+v, %v", c, err)
			}
		}
		cancel()
		compacting.Wait()
		run(t, s, `UPDATE toll_batch SET published = 1`)
		for p := range int32(2) {
			for range 2 {
				if _, err := eagerCompactor(l.s).Compact(context.Background(), p,
					CompactOptions{Now: time.Now(), States: l.states,
						Before: 1 << 30}); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := verify(t, s, VerifyInput{States: l.snapshot(), Deep: true})
		if r.Status != Exact || r.Events != 2*80*50 || r.Batches != 160 || r.BatchRows > 6 {
			t.Errorf("got %+v", r)
		}
	})
}

// TestCompactKeepsGone: what retention deleted before it was stored stays a figure of its own.
func TestCompactKeepsGone(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		initialize(t, s)
		st := newStream(t, s)
		for range 6 {
			st.fill()
		}
		run(t, s, `UPDATE toll_batch SET gone = 1 WHERE partition_id = 0 AND first_offset > 100`)
		before := verify(t, s, VerifyInput{States: st.states})
		done, err := eagerCompactor(s).Compact(t.Context(), 0,
			CompactOptions{Now: time.Now(), States: st.states, Before: 1 << 30})
		if err != nil || done.Packed+done.Added == 0 {
			t.Fatalf("compact: %+v, %v", done, err)
		}
		after := verify(t, s, VerifyInput{States: st.states})
		if before.Gone == 0 || after.Gone != before.Gone || after.Skipped != before.Skipped ||
			after.Status != Exact {
			t.Errorf("gone %d, skipped %d; before %d and %d; %v", after.Gone, after.Skipped, before.Gone,
				before.Skipped, after.Problems)
		}
	})
}

// TestCompactLeavesAlone names what compaction must not touch.
func TestCompactLeavesAlone(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		for _, c := range []struct {
			name    string
			change  func(k *keeper, o *CompactOptions)
			rows    int64 // that are left of 6
			blocked string
		}{
			{"nothing in the way", func(*keeper, *CompactOptions) {}, 2, ""},
			{"not published", func(k *keeper, _ *CompactOptions) {
				run(t, s,
					`UPDATE toll_batch SET published = 0 WHERE first_offset = (SELECT n FROM (SELECT MIN(first_offset) + 4 AS n FROM toll_batch) AS x)`)
			}, 4, ""},
			{"not merged", func(k *keeper, o *CompactOptions) {
				behind := *k.states[4000]
				behind.Merged = []toll.Merged{{Partition: 0, Next: 104}}
				o.States = map[int16]*toll.State{4000: &behind}
				k.limits.PackRows = 100
			}, 5, "plaza 4000 has merged up to offset 104 of partition 0, and not 106"},
			{"no state", func(k *keeper, o *CompactOptions) {
				o.States = map[int16]*toll.State{}
				k.limits.PackRows = 100
			}, 6, "the group table lacks plaza 4000"},
			{"another epoch", func(k *keeper, o *CompactOptions) {
				run(t, s, `UPDATE toll_cursor SET epoch = epoch + 1`)
				k.limits.PackRows = 100
			}, 6, "as of epoch"},
			{"young", func(k *keeper, o *CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1<<30
				k.limits.PackAfter = time.Hour
			}, 6, ""},
			{"young, but too much", func(k *keeper, o *CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1
				k.limits.PackAfter = time.Hour
			}, 2, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				dropTables(t, s)
				k := newKeeper(t, s, 1)
				for range 6 {
					k.store(0, passage{4000, "2022-03-20 08:00", "car", 1, toll.OnTime})
				}
				k.send(0, 100)
				o := CompactOptions{Now: time.Now(), States: k.states, Before: -1 << 31}
				c.change(k, &o)
				done, err := k.compactor().Compact(t.Context(), 0, o)
				if err != nil || done.Blocked == "" != (c.blocked == "") {
					t.Fatalf("got %+v, %v", done, err)
				}
				if c.blocked != "" && !strings.Contains(done.Blocked, c.blocked) {
					t.Errorf("blocked: %s", done.Blocked)
				}
				if n := number64(t, s, `SELECT COUNT(*) FROM toll_batch`); n != c.rows {
					t.Errorf("%d rows, want %d", n, c.rows)
				}
				k.verifyAll(true)
			})
		}
	})
}

// TestRecountOfFoldedMinutes asks for windows whose minutes were added up, in part or all, and
// which have no row any more: what is left of them must not become a result.
func TestRecountOfFoldedMinutes(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		x := newWindowed(t, s, "15m,1h,day")
		for _, at := range []string{"2022-03-20 08:05", "2022-03-20 09:05", "2022-03-20 09:40",
			"2022-03-21 11:00", "2022-03-21 12:00"} {
			x.store(0, passage{4000, at, "car", 1, toll.OnTime})
		}
		run(t, s, `UPDATE toll_batch SET published = 1`)
		before := minuteOf(t, "2022-03-20 09:30")
		if _, err := eagerCompactor(x.s).Compact(t.Context(), 0,
			CompactOptions{Now: time.Now(), States: x.mergedStates("2022-03-21 12:00"),
				Before: before}); err != nil {
			t.Fatal(err)
		}
		end := minuteOf(t, "2022-03-22 00:00")
		x.settle(x.results(), toll.Closing{Plaza: 4000, Epoch: x.epoch(), From: end, Until: end,
			Reason:  toll.ClosedByWatermark,
			Recount: []toll.Window{{Start: -1 << 31, End: 1<<31 - 1}}})
		rows, err := readWindows(t.Context(), s.db, "ORDER BY kind, start_minute")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range rows {
			got = append(got, fmt.Sprintf("%s %s %d", w.Kind, x.zone.Wall(w.Start.Time()), w.events))
		}
		want := []string{"15m 2022-03-20 09:30:00 1", "15m 2022-03-21 11:00:00 1",
			"15m 2022-03-21 12:00:00 1",
			"1h 2022-03-21 11:00:00 1", "1h 2022-03-21 12:00:00 1", "day 2022-03-21 00:00:00 2"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestCompactNoticesChanges changes rows between the moment at which compaction looks at them and
// that at which it replaces them, as a rebuild or another compaction would. Nothing is replaced
// then.
func TestCompactNoticesChanges(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		for name, change := range map[string]string{
			"a rebuild":          `UPDATE toll_batch SET published = 0`,
			"another compaction": `UPDATE toll_batch SET token = token + 1 WHERE first_offset = 102`,
			"a row is gone":      `DELETE FROM toll_batch WHERE first_offset = 102`,
			"the first is gone":  `DELETE FROM toll_batch WHERE first_offset = 100`,
			"one reaches on":     `UPDATE toll_batch SET next_offset = 105 WHERE first_offset = 102`,
			"nothing":            `UPDATE toll_batch SET published = 1`,
		} {
			for _, addUp := range []bool{false, true} {
				dropTables(t, s)
				k := newKeeper(t, s, 1)
				for range 5 {
					k.store(0, passage{4000, "2022-03-20 08:00", "car", 1, toll.OnTime})
				}
				k.send(0, 100)
				s.db.embedded(t.Context())
				var had int64
				replaced, err := s.Compactor(testIdentity.TopicID).ReplaceThree(t.Context(),
					CompactOptions{Now: time.Now(), States: k.states, Before: -1 << 31}, addUp,
					func() {
						run(t, s, change)
						had = number64(t, s, `SELECT COUNT(*) FROM toll_batch`)
					})
				left := number64(t, s, `SELECT COUNT(*) FROM toll_batch`)
				if want := name == "nothing"; err != nil || replaced != want || (left == had-2) != want {
					t.Errorf("%s: %d of %d rows are left, %v, %v", name, left, had, replaced, err)
				}
			}
		}
	})
}

// TestStateWithinCompactedBatches lets a plaza's state fall back to where a batch ended that was
// added up since, as a write to the group table can that comes hours late. It can't be sent the
// rest: verification says so and names what helps.
func TestStateWithinCompactedBatches(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		k := newKeeper(t, s, 1)
		var old *toll.State
		for i := range 6 {
			k.store(0, passage{4000, "2022-03-20 08:00", "car", 1, toll.OnTime})
			k.send(0, 1)
			if i == 2 {
				was := *k.states[4000]
				was.Merged, was.Types = slices.Clone(was.Merged), slices.Clone(was.Types)
				old = &was
			}
		}
		if _, err := k.compactor().Compact(t.Context(), 0,
			CompactOptions{Now: time.Now(), States: k.states,
				Before: -1 << 31}); err != nil {
			t.Fatal(err)
		}
		k.verifyAll(true)
		k.states[4000] = old
		r := verify(t, s, VerifyInput{States: k.states})
		if r.Status != Mismatch || r.Problems[0].Kind != KindTableOffset ||
			!strings.Contains(r.Problems[0].Next, "tollstream rebuild --yes") {
			t.Fatalf("got %+v", r)
		}
		k.rebuild()
		k.send(0, 100)
		if r := k.verifyAll(true); r.Status != Exact {
			t.Errorf("after a rebuild: %+v", r)
		}
	})
}
