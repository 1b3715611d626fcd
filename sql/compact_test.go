package sql

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
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

	"github.com/tollstream/tollstream/toll"
)

// encodeJSON is what the tests' stores decode.
func encodeJSON(deltas []toll.PlazaDelta) []byte {
	b, err := json.Marshal(deltas)
	if err != nil {
		panic(err)
	}
	return b
}

// eager makes compaction do at once what it does with old and many rows.
func eager(t testing.TB) {
	after, least, rows, bytes, page, fold := packAfter, minKeep, packRows, packBytes, pageRows,
		foldBytes
	packAfter, minKeep, packRows, pageRows = 0, 0, 2, 7
	t.Cleanup(func() {
		packAfter, minKeep, packRows, packBytes, pageRows, foldBytes = after, least, rows, bytes, page,
			fold
	})
}

// keeper goes through what a process does with the database, in an order that chance decides, and
// keeps the model to compare it with: the list of all events.
type keeper struct {
	*windowed
	random *rand.Rand
	states map[int16]*toll.State
	res    *Results
	now    toll.WallTime // of the newest event
	until  toll.Minute   // windows that end at or before it have closed
	folded toll.Minute
	pruned toll.WallTime
	stale  map[int16]*toll.State // the states as they were some time ago
	ran    map[string]int        // what was done, how often
}

func newKeeper(t *testing.T, s *Store, seed uint64) *keeper {
	x := newWindowed(t, s, "1m,10m/5m,15m,1h,day")
	x.stepped = true
	return &keeper{windowed: x, random: rand.New(rand.NewPCG(seed, 6)),
		states: map[int16]*toll.State{}, res: x.results(),
		now: wallTime(t, "2022-03-20 08:00"), ran: map[string]int{}, until: -1 << 31, folded: -1 << 31}
}

var keeperPlazas = []int16{-7, 4000, 4856}

// batch stores a batch of events on time and late, and some that come too late for minutes or for
// all.
func (k *keeper) batch() {
	k.now += toll.WallTime(k.random.IntN(6 * 3600))
	var all []passage
	for range 1 + k.random.IntN(6) {
		at, how := k.now-toll.WallTime(k.random.IntN(120)), toll.OnTime
		switch k.random.IntN(6) {
		case 0:
			at, how = k.now-toll.WallTime(600+k.random.IntN(5000)), toll.Late
		case 1:
			at, how = k.now-toll.WallTime(7300+k.random.IntN(160_000)), toll.LateQuarter
		case 2:
			at, how = k.now-toll.WallTime(200_000+k.random.IntN(2_000_000)), toll.TooLate
		}
		all = append(all, passage{keeperPlazas[k.random.IntN(len(keeperPlazas))], at.String(),
			[]string{"car", "truck", "bus"}[k.random.IntN(3)], 1 + k.random.IntN(2), how})
	}
	k.store(int32(k.random.IntN(2)), all...)
}

// send merges the deltas of some batches that are not published, in order, and marks them.
func (k *keeper) send(partition int32, batches int) {
	k.t.Helper()
	rows,
		err := k.s.db.Query(
		`SELECT first_offset, next_offset, deltas FROM toll_batch WHERE published = 0 AND partition_id = ? ORDER BY first_offset LIMIT ?`, partition, batches)
	if err != nil {
		k.t.Fatal(err)
	}
	defer rows.Close()
	var firsts []int64
	for rows.Next() {
		var first, next int64
		var blob dbsql.RawBytes
		if err := rows.Scan(&first, &next, &blob); err != nil {
			k.t.Fatal(err)
		}
		deltas, err := k.s.cfg.Decode(blob)
		if err != nil {
			k.t.Fatal(err)
		}
		for range 1 + k.random.IntN(2) { // all of them may come twice
			for i := range deltas {
				d := deltas[i].Of(k.epoch(), partition, first, next)
				s := k.states[d.Plaza]
				if s == nil {
					s = toll.NewState(0)
					k.states[d.Plaza] = s
				}
				if outcome := s.Merge(d); outcome != toll.Applied && outcome != toll.Duplicate {
					k.t.Fatalf("plaza %d, partition %d: the delta from %d to %d is a %v: merged %d", d.Plaza,
						partition, d.Prev, d.Next, outcome, s.MergedIn(partition))
				}
			}
		}
		firsts = append(firsts, first)
	}
	if err := rows.Err(); err != nil {
		k.t.Fatal(err)
	}
	_ = rows.Close()
	for _, first := range firsts {
		run(k.t, k.s, `UPDATE toll_batch SET published = 1 WHERE partition_id = ? AND first_offset = ?`,
			partition, first)
	}
}

// close closes the windows that the watermark has passed, once all is merged.
func (k *keeper) close() {
	k.t.Helper()
	k.stale = map[int16]*toll.State{}
	for plaza, s := range k.states {
		k.stale[plaza] = &toll.State{Epoch: s.Epoch, Merged: slices.Clone(s.Merged)}
	}
	for p := range int32(2) {
		k.send(p, 1000)
	}
	k.until = max(k.until, k.zone.Minute(k.now-7200)-1)
	for _, plaza := range slices.Sorted(maps.Keys(k.states)) {
		s := k.states[plaza]
		for {
			closer := toll.Closer{Kinds: k.cfg.Windows, Zone: k.zoneOf(plaza)}
			closing, due := closer.Close(plaza, s, k.until, k.until)
			if !due {
				break
			}
			k.settle(k.res, closing)
			s.MarkStored(closing.Until, nil)
		}
	}
}

// compact compacts by chance little or much, as far as the states allow it.
func (k *keeper) compact() {
	k.t.Helper()
	k.folded = toll.FoldHorizon(k.states, k.until, toll.MinKeptMinutes)
	packBytes, foldBytes = int64(200+k.random.IntN(20_000)), int64(500+k.random.IntN(100_000))
	o := CompactOptions{Now: time.Now(), States: k.states, Before: k.folded,
		Keep: time.Duration(k.random.IntN(2)) * time.Hour, KeepBytes: int64(k.random.IntN(5000))}
	switch k.random.IntN(4) {
	case 0:
		o.States = nil
	case 1:
		o.States = k.stale
	}
	for p := range int32(2) {
		done, err := k.s.Compactor(testIdentity.TopicID).Compact(k.t.(*testing.T).Context(), p, o)
		if err != nil {
			k.t.Fatal(err)
		}
		k.ran["packed"] += int(done.Packed)
		k.ran["added up"] += int(done.Added)
		if done.Blocked != "" {
			k.ran["blocked"]++
		}
	}
}

// rebuild begins a new epoch: everything is to be sent again.
func (k *keeper) rebuild() {
	epoch := k.epoch() + 1
	run(k.t, k.s, `UPDATE toll_cursor SET epoch = ?`, epoch)
	run(k.t, k.s, `UPDATE toll_batch SET published = 0`)
	for p, c := range k.cursors {
		c.Epoch = epoch
		k.cursors[p] = c
	}
}

func (k *keeper) prune() {
	k.t.Helper()
	k.pruned = max(k.pruned, k.now-toll.WallTime(86400*(1+k.random.IntN(20))))
	n, err := k.s.Prune(context.Background(),
		PruneOptions{Before: k.pruned, BatchRows: 1 + k.random.IntN(20)})
	if err != nil {
		k.t.Fatal(err)
	}
	k.ran["rows pruned"] += int(n)
}

// verifyAll checks every invariant as it stands.
func (k *keeper) verifyAll(deep bool) *Report {
	k.t.Helper()
	r := verify(k.t.(*testing.T), k.s,
		VerifyInput{States: k.states, Deep: deep, Windows: k.cfg.Windows})
	if r.Status == Mismatch {
		for _, p := range r.Problems {
			k.t.Error(p)
		}
		k.t.FailNow()
	}
	var events int64
	for _, p := range k.passages {
		events += int64(p.n)
	}
	if r.Events != events || r.Rows+r.Pruned != events || r.Merged+r.InFlight != events {
		k.t.Fatalf("%d events, got %+v", events, r)
	}
	return r
}

// TestCompactionKeepsEveryInvariant stores, merges, closes, compacts, prunes and rebuilds in random
// order, and verifies after each step. In the end every state and every window holds what the
// events say, one by one.
func TestCompactionKeepsEveryInvariant(t *testing.T) {
	seeds, _ := strconv.Atoi(os.Getenv("TOLLSTREAM_SEEDS"))
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
		steps := 220
		if s.db.embedded(t.Context()) {
			steps = 110 // of which each takes long
		}
		for seed := range uint64(max(seeds, 1)) {
			if seed > 0 {
				for _, table := range schema {
					run(t, s, "DROP TABLE IF EXISTS "+table.name)
				}
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
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
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
					if _, err := l.s.Compactor(testIdentity.TopicID).Compact(ctx, p,
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
				if _, err := l.s.Compactor(testIdentity.TopicID).Compact(context.Background(), p,
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
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		st := newStream(t, s)
		for range 6 {
			st.fill()
		}
		run(t, s, `UPDATE toll_batch SET gone = 1 WHERE partition_id = 0 AND first_offset > 100`)
		before := verify(t, s, VerifyInput{States: st.states})
		done, err := s.Compactor(testIdentity.TopicID).Compact(t.Context(), 0,
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
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
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
				packRows = 100
				t.Cleanup(func() { packRows = 2 })
			}, 5, "plaza 4000 has merged up to offset 104 of partition 0, and not 106"},
			{"no state", func(k *keeper, o *CompactOptions) {
				o.States = map[int16]*toll.State{}
				packRows = 100
			}, 6, "the group table lacks plaza 4000"},
			{"another epoch", func(k *keeper, o *CompactOptions) {
				run(t, s, `UPDATE toll_cursor SET epoch = epoch + 1`)
				packRows = 100
			}, 6, "as of epoch"},
			{"young", func(_ *keeper, o *CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1<<30
				packAfter = time.Hour
			}, 6, ""},
			{"young, but too much", func(_ *keeper, o *CompactOptions) {
				o.Keep, o.KeepBytes = time.Hour, 1
				packAfter = time.Hour
			}, 2, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				for _, table := range schema {
					run(t, s, "DROP TABLE IF EXISTS "+table.name)
				}
				eager(t)
				k := newKeeper(t, s, 1)
				for range 6 {
					k.store(0, passage{4000, "2022-03-20 08:00", "car", 1, toll.OnTime})
				}
				k.send(0, 100)
				o := CompactOptions{Now: time.Now(), States: k.states, Before: -1 << 31}
				c.change(k, &o)
				done, err := k.s.Compactor(testIdentity.TopicID).Compact(t.Context(), 0, o)
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
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
		x := newWindowed(t, s, "15m,1h,day")
		for _, at := range []string{"2022-03-20 08:05", "2022-03-20 09:05", "2022-03-20 09:40",
			"2022-03-21 11:00", "2022-03-21 12:00"} {
			x.store(0, passage{4000, at, "car", 1, toll.OnTime})
		}
		run(t, s, `UPDATE toll_batch SET published = 1`)
		before := minuteOf(t, "2022-03-20 09:30")
		if _, err := x.s.Compactor(testIdentity.TopicID).Compact(t.Context(), 0,
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
	onEngines(t, func(t *testing.T, s *Store) {
		for name, change := range map[string]string{
			"a rebuild":          `UPDATE toll_batch SET published = 0`,
			"another compaction": `UPDATE toll_batch SET token = token + 1 WHERE first_offset = 102`,
			"a row is gone":      `DELETE FROM toll_batch WHERE first_offset = 102`,
			"the first is gone":  `DELETE FROM toll_batch WHERE first_offset = 100`,
			"one reaches on":     `UPDATE toll_batch SET next_offset = 105 WHERE first_offset = 102`,
			"nothing":            `UPDATE toll_batch SET published = 1`,
		} {
			for _, addUp := range []bool{false, true} {
				for _, table := range schema {
					run(t, s, "DROP TABLE IF EXISTS "+table.name)
				}
				k := newKeeper(t, s, 1)
				for range 5 {
					k.store(0, passage{4000, "2022-03-20 08:00", "car", 1, toll.OnTime})
				}
				k.send(0, 100)
				s.db.embedded(t.Context())
				c := &compaction{Compactor: s.Compactor(testIdentity.TopicID), done: &Compacted{},
					packet: 16 << 20, limit: foldBytes,
					o: CompactOptions{Now: time.Now(), States: k.states, Before: -1 << 31}}
				cursor, err := k.w.Cursor(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				c.cursor = cursorRow{next: cursor.Next, token: cursor.Token, epoch: cursor.Epoch}
				rows, _, err := c.rows(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				run(t, s, change)
				had := number64(t, s, `SELECT COUNT(*) FROM toll_batch`)
				sum, err := c.replace(t.Context(), rows[:3], addUp)
				left := number64(t, s, `SELECT COUNT(*) FROM toll_batch`)
				if replaced := name == "nothing"; err != nil || (sum != nil) != replaced ||
					(left == had-2) != replaced {
					t.Errorf("%s: %d of %d rows are left, %+v, %v", name, left, had, sum, err)
				}
			}
		}
	})
}

// TestStateWithinCompactedBatches lets a plaza's state fall back to where a batch ended that was
// added up since, as a write to the group table can that comes hours late. It can't be sent the
// rest: verification says so and names what helps.
func TestStateWithinCompactedBatches(t *testing.T) {
	eager(t)
	onEngines(t, func(t *testing.T, s *Store) {
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
		if _, err := k.s.Compactor(testIdentity.TopicID).Compact(t.Context(), 0,
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

// TestVerifyFoldedWindows: where the outbox no longer has a window's minutes, the rows themselves
// tell what it holds.
func TestVerifyFoldedWindows(t *testing.T) {
	eager(t)
	defer func(n int) { maxRowWindows = n }(maxRowWindows)
	onEngines(t, func(t *testing.T, s *Store) {
		k := newKeeper(t, s, 9)
		k.store(0, passage{0, k.now.String(), "car", 3, toll.OnTime})
		for range 40 {
			k.batch()
		}
		k.close()
		k.folded = toll.FoldHorizon(k.states, k.until, toll.MinKeptMinutes)
		for p := range int32(2) {
			if _, err := k.s.Compactor(testIdentity.TopicID).Compact(t.Context(), p,
				CompactOptions{Now: time.Now(), States: k.states,
					Before: k.folded}); err != nil {
				t.Fatal(err)
			}
		}
		all := k.verifyAll(true)
		if all.WindowsFolded != 0 || all.MinutesFolded {
			t.Errorf("%d windows were not checked, not all: %v", all.WindowsFolded, all.MinutesFolded)
		}
		maxRowWindows = 5
		if some := k.verifyAll(true); some.WindowsFolded == 0 ||
			some.Windows+some.WindowsFolded != all.Windows || !some.MinutesFolded {
			t.Errorf("%d windows, and %d were not checked, want %d in all", some.Windows, some.WindowsFolded,
				all.Windows)
		}
		maxRowWindows = 1_000_000
		old := number64(t, s,
			`SELECT MIN(start_minute) FROM toll_window WHERE kind = '15m' AND revision > 0`)
		if toll.Minute(old) >= k.folded {
			t.Fatal("no minutes were rolled up")
		}
		for _, column := range []string{"events", "too_late"} {
			run(t, s,
				`UPDATE toll_window SET `+column+` = `+column+` + 1 WHERE kind = '15m' AND start_minute = ?`,
				old)
			r := verify(t, s, VerifyInput{States: k.states, Deep: true, Windows: k.cfg.Windows})
			if kinds, texts := problemsOf(r); kinds != KindWindowRows {
				t.Errorf("%s: found %q\n%s", column, kinds, texts)
			}
			run(t, s,
				`UPDATE toll_window SET `+column+` = `+column+` - 1 WHERE kind = '15m' AND start_minute = ?`,
				old)
		}
		for _, kind := range []string{"1m", "10m/5m", "15m", "1h", "day"} {
			run(t, s,
				`CREATE TABLE kept AS SELECT * FROM toll_window WHERE kind = ? AND start_minute = (SELECT MIN(start_minute) FROM toll_window WHERE kind = ?)`, kind, kind)
			run(t, s, `DELETE FROM toll_window WHERE kind = ? AND start_minute = ?`, kind,
				number64(t, s, `SELECT MIN(start_minute) FROM kept`))
			r := verify(t, s, VerifyInput{States: k.states, Deep: true, Windows: k.cfg.Windows})
			if kinds, texts := problemsOf(r); kinds != KindWindowRows ||
				!strings.Contains(texts, "it is not in toll_window") {
				t.Errorf("deleted of %s: found %q\n%s", kind, kinds, texts)
			}
			run(t, s, `INSERT INTO toll_window SELECT * FROM kept`)
			run(t, s, `DROP TABLE kept`)
		}
		k.verifyAll(true)
		// Of rows that were pruned nothing can be said.
		k.pruned = k.zone.Since(k.folded)
		if _, err := s.Prune(t.Context(), PruneOptions{Before: k.pruned, BatchRows: 1000}); err != nil {
			t.Fatal(err)
		}
		if pruned := k.verifyAll(true); pruned.WindowsFolded == 0 {
			t.Error("windows were checked whose rows were pruned")
		}
	})
}
