package retention_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestCompactionKeepsEveryInvariant stores, merges, closes, compacts, prunes and rebuilds in random
// order, and verifies after each step. In the end every state and every window holds what the
// events say, one by one.
func TestCompactionKeepsEveryInvariant(t *testing.T) {
	seeds, _ := strconv.Atoi(os.Getenv("TOLLSTREAM_SEEDS"))
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		steps := 220
		if s.DB.Embedded(t.Context()) {
			steps = 110 // of which each takes long
		}
		for seed := range uint64(max(seeds, 1)) {
			if seed > 0 {
				dbtest.DropTables(t, s)
			}
			t.Logf("seed %d", seed)
			keepEveryInvariant(t, dbtest.NewKeeper(t, s, seed), steps)
		}
	})
}

func keepEveryInvariant(t *testing.T, k *dbtest.Keeper, steps int) {
	for p := range int32(2) {
		k.Store(p, dbtest.Pass(dbtest.KeeperPlazas[0], k.Now.String(), "car", 1, toll.OnTime))
	}
	for range steps {
		step := ""
		switch n := k.Random.IntN(100); {
		case n < 50:
			step = "batch"
			k.Batch()
		case n < 68:
			step = "send"
			k.Send(int32(k.Random.IntN(2)), 1+k.Random.IntN(8))
		case n < 78:
			step = "close"
			k.Close()
		case n < 94:
			step = "compact"
			k.Compact()
		case n < 97:
			step = "prune"
			k.Prune()
		default:
			step = "rebuild"
			k.Rebuild()
		}
		k.Ran[step]++
		k.VerifyAll(k.Random.IntN(4) == 0)
	}
	k.Close()
	k.Compact()
	r := k.VerifyAll(true)
	if r.Status != verify.Exact {
		t.Errorf("got %+v", r)
	}
	for _, what := range []string{"joined", "rolled up", "rows pruned", "rebuild"} {
		if k.Ran[what] == 0 {
			t.Errorf("nothing was %s: %v", what, k.Ran)
		}
	}
	t.Log(k.Ran, "of", r.Batches, "batches are left", r.BatchRows, "rows,", r.Windows,
		"windows checked,", r.WindowsFolded, "not any more")
	if r.BatchRows >= r.Batches/2 || r.WindowsFolded == 0 {
		t.Errorf("%d rows of %d batches, %d windows folded", r.BatchRows, r.Batches, r.WindowsFolded)
	}
	for _, plaza := range dbtest.KeeperPlazas {
		var want toll.State
		for _, p := range k.Passages {
			if p.Plaza != plaza {
				continue
			}
			want.Events += int64(p.N)
			want.Types = toll.AddTypes(want.Types, []toll.TypeCount{{Type: p.Typ, Count: int64(p.N)}})
			switch p.How {
			case toll.Late:
				want.Late += int64(p.N)
			case toll.LateQuarter:
				want.LateQuarter += int64(p.N)
			case toll.TooLate:
				want.TooLate += int64(p.N)
			}
		}
		s := k.States[plaza]
		if got, want := fmt.Sprint(s.Events, s.Types, s.Late, s.LateQuarter,
			s.TooLate), fmt.Sprint(want.Events, want.Types, want.Late, want.LateQuarter,
			want.TooLate); got != want {
			t.Errorf("plaza %d: got %s, want %s", plaza, got, want)
		}
	}
	k.Check(k.Zone.Wall(k.Until.Time()).String(), dbtest.KeeperPlazas...)
	// A row that someone else deletes is missed still.
	dbtest.Exec(t, k.S, `DELETE FROM livetolldata LIMIT 1`)
	if r := dbtest.Verify(t, k.S, verify.Input{States: k.States}); r.Status != verify.Mismatch ||
		r.Problems[0].Kind != verify.KindRowsMissing {
		t.Errorf("a row was deleted: %+v", r)
	}
}

// TestCompactWhileRunning compacts while batches are stored and merged, and others verify and look
// on.
func TestCompactWhileRunning(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dbtest.Initialize(t, s)
		l := &dbtest.Live{T: t, S: s, W: s.Writer(dbtest.Identity.TopicID),
			States: map[int16]*toll.State{}}
		// Batches are kept longer than any reader is behind; here until the reader has newer states.
		var oldest atomic.Pointer[map[int16]*toll.State]
		read := func() map[int16]*toll.State {
			states := l.Snapshot()
			oldest.Store(&states)
			return states
		}
		read()
		var running, compacting sync.WaitGroup
		for p := range int32(2) {
			running.Go(func() {
				l.Partition(p, 80, func(batch int) (events []toll.Event) {
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
					dbtest.Exec(t, s,
						`UPDATE toll_batch SET published = 1 WHERE partition_id = ? AND published = 0`, p)
					before := toll.NewZone(dbtest.Berlin).Minute(1644488582 + 3600*40)
					if _, err := dbtest.EagerCompactor(l.S).Compact(ctx, p,
						retention.CompactOptions{Now: time.Now(), States: states,
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
			if r := dbtest.Verify(t, s,
				verify.Input{States: states, Deep: true}); r.Status == verify.Mismatch {
				t.Fatalf("got %+v", r.Problems)
			}
			states = read()
			c, err := checker.Plaza(ctx, 0, states[0], dbtest.FullCount)
			if err != nil || c.Status == verify.Mismatch || c.TableCount+c.InFlight != *c.StoredRows {
				t.Fatalf("got %+v, %v", c, err)
			}
		}
		cancel()
		compacting.Wait()
		dbtest.Exec(t, s, `UPDATE toll_batch SET published = 1`)
		for p := range int32(2) {
			for range 2 {
				if _, err := dbtest.EagerCompactor(l.S).Compact(context.Background(), p,
					retention.CompactOptions{Now: time.Now(), States: l.States,
						Before: 1 << 30}); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := dbtest.Verify(t, s, verify.Input{States: l.Snapshot(), Deep: true})
		if r.Status != verify.Exact || r.Events != 2*80*50 ||
			r.Records != 2*80*34 || r.Batches != 160 || r.BatchRows > 6 {
			t.Errorf("got %+v", r)
		}
	})
}

// TestCompactKeepsGone: what retention deleted before it was stored stays a figure of its own.
func TestCompactKeepsGone(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		for range 6 {
			st.Fill()
		}
		dbtest.Exec(t, s, `UPDATE toll_batch SET gone = 1 WHERE partition_id = 0 AND first_offset > 100`)
		before := dbtest.Verify(t, s, verify.Input{States: st.States})
		done, err := dbtest.EagerCompactor(s).Compact(t.Context(), 0,
			retention.CompactOptions{Now: time.Now(), States: st.States, Before: 1 << 30})
		if err != nil || done.Joined+done.RolledUp == 0 {
			t.Fatalf("compact: %+v, %v", done, err)
		}
		after := dbtest.Verify(t, s, verify.Input{States: st.States})
		if before.Gone == 0 || after.Gone != before.Gone || after.Skipped != before.Skipped ||
			after.Status != verify.Exact {
			t.Errorf("gone %d, skipped %d; before %d and %d; %v", after.Gone, after.Skipped, before.Gone,
				before.Skipped, after.Problems)
		}
	})
}

// TestCompactLeavesAlone names what compaction must not touch.
func TestCompactLeavesAlone(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		for _, c := range []struct {
			name    string
			change  func(k *dbtest.Keeper, o *retention.CompactOptions)
			rows    int64 // that are left of 6
			blocked string
		}{
			{"nothing in the way", func(*dbtest.Keeper, *retention.CompactOptions) {}, 2, ""},
			{"not published", func(k *dbtest.Keeper, _ *retention.CompactOptions) {
				dbtest.Exec(t, s,
					`UPDATE toll_batch SET published = 0 WHERE first_offset = (SELECT n
						FROM (SELECT MIN(first_offset) + 4 AS n FROM toll_batch) AS x)`)
			}, 4, ""},
			{"not merged", func(k *dbtest.Keeper, o *retention.CompactOptions) {
				behind := *k.States[4000]
				behind.Merged = []toll.Merged{{Partition: 0, Next: 104}}
				o.States = map[int16]*toll.State{4000: &behind}
				k.Limits.JoinRows = 100
			}, 5, "plaza 4000 has merged up to offset 104 of partition 0, and not 106"},
			{"no state", func(k *dbtest.Keeper, o *retention.CompactOptions) {
				o.States = map[int16]*toll.State{}
				k.Limits.JoinRows = 100
			}, 6, "the group table lacks plaza 4000"},
			{"another epoch", func(k *dbtest.Keeper, o *retention.CompactOptions) {
				dbtest.Exec(t, s, `UPDATE toll_cursor SET epoch = epoch + 1`)
				k.Limits.JoinRows = 100
			}, 6, "as of epoch"},
			{"young", func(k *dbtest.Keeper, o *retention.CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1<<30
				k.Limits.JoinAfter = time.Hour
			}, 6, ""},
			{"young, but too much", func(k *dbtest.Keeper, o *retention.CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1
				k.Limits.JoinAfter = time.Hour
			}, 2, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				dbtest.DropTables(t, s)
				k := dbtest.NewKeeper(t, s, 1)
				for range 6 {
					k.Store(0, dbtest.Pass(4000, "2022-03-20 08:00", "car", 1, toll.OnTime))
				}
				k.Send(0, 100)
				o := retention.CompactOptions{Now: time.Now(), States: k.States, Before: -1 << 31}
				c.change(k, &o)
				done, err := k.Compactor().Compact(t.Context(), 0, o)
				if err != nil || done.Blocked == "" != (c.blocked == "") {
					t.Fatalf("got %+v, %v", done, err)
				}
				if c.blocked != "" && !strings.Contains(done.Blocked, c.blocked) {
					t.Errorf("blocked: %s", done.Blocked)
				}
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch`); n != c.rows {
					t.Errorf("%d rows, want %d", n, c.rows)
				}
				k.VerifyAll(true)
			})
		}
	})
}

// TestRecountOfFoldedMinutes asks for windows whose minutes were rolled up, in part or all, and
// which have no row any more: what is left of them must not become a result.
func TestRecountOfFoldedMinutes(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m,1h,day")
		for _, at := range []string{"2022-03-20 08:05", "2022-03-20 09:05", "2022-03-20 09:40",
			"2022-03-21 11:00", "2022-03-21 12:00"} {
			x.Store(0, dbtest.Pass(4000, at, "car", 1, toll.OnTime))
		}
		dbtest.Exec(t, s, `UPDATE toll_batch SET published = 1`)
		before := dbtest.MinuteOf(t, "2022-03-20 09:30")
		if _, err := dbtest.EagerCompactor(x.S).Compact(t.Context(), 0,
			retention.CompactOptions{Now: time.Now(), States: x.MergedStates("2022-03-21 12:00"),
				Before: before}); err != nil {
			t.Fatal(err)
		}
		end := dbtest.MinuteOf(t, "2022-03-22 00:00")
		x.StoreResults(x.Results(), toll.Closing{Plaza: 4000, Epoch: x.Epoch(), From: end, Until: end,
			Reason:  toll.ClosedByWatermark,
			Recount: []toll.Window{{Start: -1 << 31, End: 1<<31 - 1}}})
		rows, err := tables.ReadWindows(t.Context(), s.DB, "ORDER BY kind, start_minute")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range rows {
			got = append(got, fmt.Sprintf("%s %s %d", w.Kind, x.Zone.Wall(w.Start.Time()), w.Events))
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
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		for name, change := range map[string]string{
			"a rebuild":          `UPDATE toll_batch SET published = 0`,
			"another compaction": `UPDATE toll_batch SET token = token + 1 WHERE first_offset = 102`,
			"a row is gone":      `DELETE FROM toll_batch WHERE first_offset = 102`,
			"the first is gone":  `DELETE FROM toll_batch WHERE first_offset = 100`,
			"one reaches on":     `UPDATE toll_batch SET next_offset = 105 WHERE first_offset = 102`,
			"nothing":            `UPDATE toll_batch SET published = 1`,
		} {
			for _, rollup := range []bool{false, true} {
				dbtest.DropTables(t, s)
				k := dbtest.NewKeeper(t, s, 1)
				for range 5 {
					k.Store(0, dbtest.Pass(4000, "2022-03-20 08:00", "car", 1, toll.OnTime))
				}
				k.Send(0, 100)
				s.DB.Embedded(t.Context())
				var had int64
				replaced, err := s.Compactor(dbtest.Identity.TopicID).ReplaceThree(t.Context(),
					retention.CompactOptions{Now: time.Now(), States: k.States, Before: -1 << 31}, rollup,
					func() {
						dbtest.Exec(t, s, change)
						had = dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch`)
					})
				left := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch`)
				if want := name == "nothing"; err != nil || replaced != want || (left == had-2) != want {
					t.Errorf("%s: %d of %d rows are left, %v, %v", name, left, had, replaced, err)
				}
			}
		}
	})
}

// TestStateWithinCompactedBatches lets a plaza's state fall back to where a batch ended that was
// rolled up since, as a write to the group table can that comes hours late. It can't be sent the
// rest: verification says so and names what helps.
func TestStateWithinCompactedBatches(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		k := dbtest.NewKeeper(t, s, 1)
		var old *toll.State
		for i := range 6 {
			k.Store(0, dbtest.Pass(4000, "2022-03-20 08:00", "car", 1, toll.OnTime))
			k.Send(0, 1)
			if i == 2 {
				was := *k.States[4000]
				was.Merged, was.Types = slices.Clone(was.Merged), slices.Clone(was.Types)
				old = &was
			}
		}
		if _, err := k.Compactor().Compact(t.Context(), 0,
			retention.CompactOptions{Now: time.Now(), States: k.States,
				Before: -1 << 31}); err != nil {
			t.Fatal(err)
		}
		k.VerifyAll(true)
		k.States[4000] = old
		r := dbtest.Verify(t, s, verify.Input{States: k.States})
		if r.Status != verify.Mismatch || r.Problems[0].Kind != verify.KindTableOffset ||
			!strings.Contains(r.Problems[0].Next, "tollstream rebuild --yes") {
			t.Fatalf("got %+v", r)
		}
		k.Rebuild()
		k.Send(0, 100)
		if r := k.VerifyAll(true); r.Status != verify.Exact {
			t.Errorf("after a rebuild: %+v", r)
		}
	})
}

// BenchmarkCompact stores a million events of eight days in 4 partitions and 5,000 batches, and
// compacts them: joins them first, then rolls them up with the minutes of four days kept, then a
// prune of the first four days' rows. It reports what each step took and left, and what a
// verification took before and after.
func BenchmarkCompact(b *testing.B) {
	const perBatch, partitions, plazas, days = 200, 4, 100, 8
	events := 1_000_000
	if testing.Short() {
		events = 50_000
	}
	s := dbtest.OpenConfig(b,
		sql.Config{DSN: dbtest.OpenEmpty(b, "mariadb").DSN, Decode: wire.DecodePlazaDeltas,
			Encode:     func(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) },
			DecodeSums: wire.DecodePlazaSums})
	dbtest.Initialize(b, s)
	ctx := b.Context()
	w := s.Writer(dbtest.Identity.TopicID)
	states := map[int16]*toll.State{}
	zone := toll.NewZone(dbtest.Berlin)
	start := toll.WallTimeOf(time.Date(2022, 2, 1, 0, 0, 0, 0, time.UTC))
	random := rand.New(rand.NewPCG(1, 2))
	types := []string{"bus", "car", "truck", "van"}
	for part := range int32(partitions) {
		c, _, err := w.Load(ctx, part, 0)
		if err != nil {
			b.Fatal(err)
		}
		chain := map[int16]int64{}
		for i := range events / partitions / perBatch {
			batch := toll.Batch{Partition: part, First: c.Next, Next: c.Next + perBatch, Epoch: c.Epoch,
				Expect: c.Token, Token: sql.NewToken(), Rows: w.NewRows()}
			deltas := map[int16]*toll.PlazaDelta{}
			at := start + toll.WallTime(i*days*86400/(events/partitions/perBatch))
			m := zone.Minute(at)
			for j := range perBatch {
				e := toll.Event{Time: at, Vehicle: int32(j), Type: types[random.IntN(4)],
					Plaza: int16(4000 + random.IntN(plazas))}
				d := deltas[e.Plaza]
				if d == nil {
					d = &toll.PlazaDelta{Plaza: e.Plaza, Prev: chain[e.Plaza], Earliest: at, Latest: at,
						Panes: []toll.Pane{{Start: m}}}
					deltas[e.Plaza] = d
				}
				d.Events++
				d.Checksum += uint64(batch.Rows.Append(&e))
				d.Panes[0].Types = toll.AddTypes(d.Panes[0].Types, []toll.TypeCount{{Type: e.Type, Count: 1}})
			}
			var all []toll.PlazaDelta
			for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
				d := deltas[plaza]
				all = append(all, *d)
				chain[plaza] = batch.Next
				if states[plaza] == nil {
					states[plaza] = toll.NewState(c.Epoch)
				}
				states[plaza].Merge(d.Of(c.Epoch, part, batch.First, batch.Next))
			}
			batch.Deltas, batch.Chain, batch.Minutes = wire.AppendPlazaDeltas(nil,
				all), wire.AppendChain(nil, chain), toll.Window{Start: m, End: m + 1}
			if err := w.Commit(ctx, &batch, nil); err != nil {
				b.Fatal(err)
			}
			c.Next, c.Token = batch.Next, batch.Token
		}
	}
	until := zone.Minute(start + days*86400)
	for _, state := range states {
		state.MarkStored(until, nil)
	}
	dbtest.Exec(b, s, `UPDATE toll_batch SET published = 1, stored_at = stored_at - INTERVAL 1 DAY`)
	size := func(when string) {
		var rows, bytes int64
		if err := s.DB.QueryRow(`SELECT COUNT(*), SUM(LENGTH(deltas)) FROM toll_batch`).Scan(&rows,
			&bytes); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		r, err := s.Verify(ctx, verify.Input{States: states})
		if err != nil || r.Status != verify.Exact {
			b.Fatalf("%+v, %v", r, err)
		}
		b.ReportMetric(float64(rows), when+"-rows")
		b.ReportMetric(float64(bytes)/1e6, when+"-MB")
		b.ReportMetric(time.Since(began).Seconds(), when+"-verify-s")
	}
	compact := func(what string, o retention.CompactOptions) {
		o.Now = time.Now()
		began := time.Now()
		for part := range int32(partitions) {
			if done, err := s.Compactor(dbtest.Identity.TopicID).Compact(ctx, part, o); err != nil ||
				done.Blocked != "" {
				b.Fatalf("%+v, %v", done, err)
			}
		}
		b.ReportMetric(time.Since(began).Seconds(), what+"-s")
		size(what)
	}
	b.ResetTimer()
	for range 1 {
		size("before")
		compact("joined", retention.CompactOptions{Keep: 365 * 24 * time.Hour})
		compact("rolled-up",
			retention.CompactOptions{States: states,
				Before: toll.FoldHorizon(states, until, toll.MinKeptMinutes),
				Keep:   time.Hour, KeepBytes: 1 << 30})
		compact("all-folded", retention.CompactOptions{States: states, Before: until, Keep: time.Hour,
			KeepBytes: 1 << 30})
		began := time.Now()
		n, err := s.Prune(context.Background(), retention.PruneOptions{Before: start + 4*86400})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "pruned-rows/s")
	}
}
