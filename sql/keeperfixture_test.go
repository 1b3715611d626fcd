package sql

import (
	"context"
	dbsql "database/sql"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// eager returns limits by which compaction does at once what it does with old and many rows.
func eager() Limits {
	l := DefaultLimits()
	l.PackAfter, l.MinKeep, l.PackRows, l.PageRows = 0, 0, 2, 7
	return l
}

// eagerCompactor returns a compactor with these limits.
func eagerCompactor(s *testStore) *Compactor {
	c := s.Compactor(testIdentity.TopicID)
	c.Limits = eager()
	return c
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
	limits Limits                // of compaction
}

func newKeeper(t *testing.T, s *testStore, seed uint64) *keeper {
	x := newWindowed(t, s, "1m,10m/5m,15m,1h,day")
	x.stepped = true
	return &keeper{windowed: x, random: rand.New(rand.NewPCG(seed, 6)),
		states: map[int16]*toll.State{}, res: x.results(),
		now: wallTime(t, "2022-03-20 08:00"), ran: map[string]int{}, limits: eager(), until: -1 << 31, folded: -1 << 31}
}

var keeperPlazas = []int16{-7, 4000, 4856}

// compactor returns a compactor with the keeper's limits.
func (k *keeper) compactor() *Compactor {
	c := k.s.Compactor(testIdentity.TopicID)
	c.Limits = k.limits
	return c
}

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
		deltas, err := decodeJSON(blob)
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
	k.limits.PackBytes, k.limits.FoldBytes = int64(200+k.random.IntN(20_000)), int64(500+k.random.IntN(100_000))
	o := CompactOptions{Now: time.Now(), States: k.states, Before: k.folded,
		Keep: time.Duration(k.random.IntN(2)) * time.Hour, KeepBytes: int64(k.random.IntN(5000))}
	switch k.random.IntN(4) {
	case 0:
		o.States = nil
	case 1:
		o.States = k.stale
	}
	for p := range int32(2) {
		done, err := k.compactor().Compact(k.t.(*testing.T).Context(), p, o)
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
