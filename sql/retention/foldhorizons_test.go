package retention_test

import (
	dbsql "database/sql"
	"fmt"
	"maps"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
)

// minuteCount is what batches hold of a minute of a plaza, as text so that it can be compared.
type minuteCount struct {
	plaza  int16
	minute toll.Minute
}

// outboxes are what toll_batch holds, summed in the plainest way.
type outboxes struct {
	rows    int
	minutes map[minuteCount]string
	totals  map[int16]string
	folded  map[int16]toll.Minute // of each plaza the minute before which its minutes were rolled up
	highest toll.Minute           // of toll_batch's folded_minute
	differ  bool                  // rows were rolled up to different minutes
}

// countDeltas adds deltas up, minute by minute.
func countDeltas(deltas []toll.PlazaDelta) *outboxes {
	type count struct{ types, quarter, tooLate []toll.TypeCount }
	type total struct {
		count
		events, late, ahead int64
		checksum            uint64
	}
	minutes, late, totals := map[minuteCount]*count{}, map[minuteCount]int64{}, map[int16]*total{}
	o := &outboxes{minutes: map[minuteCount]string{}, totals: map[int16]string{},
		folded: map[int16]toll.Minute{}, highest: math.MinInt32}
	for i := range deltas {
		d := &deltas[i]
		sum := totals[d.Plaza]
		if sum == nil {
			sum = new(total)
			totals[d.Plaza] = sum
		}
		sum.events += d.Events
		sum.checksum += d.Checksum
		sum.ahead += d.Ahead
		if f := d.Fold; f != nil {
			if before, ok := o.folded[d.Plaza]; !ok || f.Before > before {
				o.folded[d.Plaza] = f.Before
			}
			sum.types, sum.quarter, sum.tooLate = toll.AddTypes(sum.types,
				f.OnTime), toll.AddTypes(sum.quarter, f.LateQuarter), toll.AddTypes(sum.tooLate, f.TooLate)
			sum.late += f.Late
		}
		for kind, panes := range [][]toll.Pane{d.Panes, d.LateQuarter, d.TooLate} {
			for _, p := range panes {
				at := minuteCount{d.Plaza, p.Start}
				if minutes[at] == nil {
					minutes[at] = new(count)
				}
				for _, c := range []*count{minutes[at], &sum.count} {
					into := [...]*[]toll.TypeCount{&c.types, &c.quarter, &c.tooLate}[kind]
					*into = toll.AddTypes(*into, p.Types)
				}
				late[at] += p.Late
				sum.late += p.Late
			}
		}
	}
	for at, c := range minutes {
		o.minutes[at] = fmt.Sprint(*c, late[at])
	}
	for plaza, c := range totals {
		o.totals[plaza] = fmt.Sprint(*c)
	}
	return o
}

// readOutboxes reads toll_batch, and checks that each row's figures fit its outbox.
func readOutboxes(t *testing.T, s *dbtest.Store) *outboxes {
	t.Helper()
	rows,
		err := s.DB.Query(
		`SELECT partition_id, first_offset, next_offset, events, first_minute, last_minute, folded_minute,
			deltas FROM toll_batch ORDER BY partition_id, first_offset`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []toll.PlazaDelta
	n := 0
	horizons := map[int64]bool{}
	for rows.Next() {
		var partition, first, next, events int64
		var from, to, folded dbsql.Null[int64]
		var blob dbsql.RawBytes
		if err := rows.Scan(&partition, &first, &next, &events, &from, &to, &folded, &blob); err != nil {
			t.Fatal(err)
		}
		deltas, err := dbtest.DecodeJSON(blob)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if folded.Valid {
			horizons[folded.V] = true
		}
		ends := map[int16]int64{}
		for i := range deltas {
			d := &deltas[i]
			events -= d.Events
			if end, ok := ends[d.Plaza]; ok && end != d.Prev || d.End(next) > next || d.End(next) <= d.Prev {
				t.Fatalf("row %d:%d: the delta of plaza %d from %d to %d follows one that ends at %d",
					partition, first, d.Plaza, d.Prev, d.End(next), end)
			}
			ends[d.Plaza] = d.End(next)
			before := toll.Minute(math.MinInt32)
			if d.Fold != nil {
				before = d.Fold.Before
				if !folded.Valid || int64(before) > folded.V {
					t.Fatalf(
						"row %d:%d says that its minutes are there from %v on, those of plaza %d are from %d on",
						partition, first, folded, d.Plaza, before)
				}
			}
			for _, panes := range [][]toll.Pane{d.Panes, d.LateQuarter, d.TooLate} {
				for _, p := range panes {
					if p.Start < before || !from.Valid || int64(p.Start) < from.V || int64(p.Start) > to.V {
						t.Fatalf("row %d:%d, minutes %v to %v, plaza %d rolled up before %d: it holds minute %d",
							partition, first, from, to, d.Plaza, before, p.Start)
					}
				}
			}
		}
		if events != 0 {
			t.Fatalf("row %d:%d: %d events more than in its deltas", partition, first, events)
		}
		all = append(all, deltas...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	o := countDeltas(all)
	o.rows = n
	o.differ = len(horizons) > 1
	for h := range horizons {
		o.highest = max(o.highest, toll.Minute(h))
	}
	return o
}

// TestRowsOfDifferentHorizons rolls batches up to minutes that go up and down at random, so that
// rows are joined which were rolled up to different ones, and compares what is left with the
// batches as they were stored. Then it rebuilds, without any window: what is stored again is right
// to the vehicle, and only what holds a minute that was rolled up is missing.
func TestRowsOfDifferentHorizons(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		seeds := uint64(4)
		if s.DB.Embedded(t.Context()) {
			seeds = 1 // which takes long
		}
		differed, joined := 0, 0
		for seed := range seeds {
			dbtest.DropTables(t, s)
			k := dbtest.NewKeeper(t, s, 100+seed)
			first := k.Zone.Minute(k.Now)
			for round := range 12 {
				for range 4 {
					k.Batch()
				}
				for p := range int32(2) {
					k.Send(p, 1000)
				}
				before := readOutboxes(t, s)
				// Rows from before some offset are old enough to be rolled up.
				dbtest.Exec(t, s,
					`UPDATE toll_batch SET stored_at = NOW(6) - INTERVAL 1 DAY WHERE first_offset < ?`,
					100+k.Random.IntN(8*(round+1)*4))
				k.Limits.JoinBytes, k.Limits.FoldBytes = int64(200+k.Random.IntN(20_000)),
					int64(300+k.Random.IntN(20_000))
				o := retention.CompactOptions{Now: time.Now(), States: k.States, Keep: time.Hour,
					KeepBytes: 1 << 30, Before: math.MinInt32}
				if k.Random.IntN(4) > 0 {
					o.Before = first - 1440 + toll.Minute(k.Random.IntN(int(k.Zone.Minute(k.Now)-first)+2880))
				}
				for p := range int32(2) {
					if done, err := k.Compactor().Compact(t.Context(), p, o); err != nil ||
						done.Blocked != "" {
						t.Fatal(done.Blocked, err)
					}
				}
				want, got := unfolded(k), readOutboxes(t, s)
				if got.differ {
					differed++
				}
				if before.differ && got.rows < before.rows {
					joined++
				}
				if !maps.Equal(got.totals, want.totals) {
					t.Fatalf("seed %d, round %d: the batches hold\n%v, of what was stored as\n%v", seed, round,
						got.totals, want.totals)
				}
				for _, plaza := range dbtest.KeeperPlazas {
					from, ok := got.folded[plaza]
					if !ok {
						from = math.MinInt32
					}
					if from > got.highest {
						t.Fatalf("plaza %d is rolled up to minute %d, the rows to %d", plaza, from, got.highest)
					}
					for _, side := range []map[minuteCount]string{want.minutes, got.minutes} {
						for at := range side {
							if at.plaza == plaza && at.minute >= from && got.minutes[at] != want.minutes[at] {
								t.Fatalf("seed %d, round %d, plaza %d: minute %d is %s, and was stored as %s", seed, round,
									plaza, at.minute, got.minutes[at], want.minutes[at])
							}
						}
					}
				}
			}
			countAnew(k)
		}
		if differed == 0 || joined == 0 {
			t.Errorf("rows differed in %d rounds, and were joined in %d: the test shows nothing", differed,
				joined)
		}
	})
}

// unfolded sums the deltas as they were stored.
func unfolded(k *dbtest.Keeper) *outboxes {
	var all []toll.PlazaDelta
	for i := range k.Deltas {
		all = append(all, k.Deltas[i].PlazaDelta)
	}
	return countDeltas(all)
}

// countAnew deletes all windows, rebuilds, and closes what the states and the outbox still hold.
func countAnew(k *dbtest.Keeper) {
	k.T.Helper()
	dbtest.Exec(k.T, k.S, `DELETE FROM toll_window`)
	k.Rebuild()
	k.Close()
	folded := readOutboxes(k.T.(*testing.T), k.S).folded
	rows, err := tables.ReadWindows(k.T.(*testing.T).Context(), k.S.DB,
		"ORDER BY toll_plaza_id, kind, start_minute")
	if err != nil {
		k.T.Fatal(err)
	}
	stored := map[toll.WindowID]toll.WindowCount{}
	for _, row := range rows {
		if row.Revision > 0 {
			stored[row.WindowID] = row.WindowCount
		}
	}
	right, missing := 0, 0
	for _, plaza := range dbtest.KeeperPlazas {
		for id, want := range k.Counts(plaza, k.Until) {
			got, ok := stored[id]
			delete(stored, id)
			before, isFolded := folded[plaza]
			if !ok && isFolded && id.Start < before {
				missing++
				continue
			}
			got.Reason, want.Reason = "", ""
			if !got.Whole && got.End < want.End {
				want.End = got.End // a day is closed step by step
			}
			if !ok || !reflect.DeepEqual(got, want) {
				k.T.Fatalf("%v, plaza rolled up before %d: %+v, want %+v", id, before, got, want)
			}
			right++
		}
		s := k.States[plaza]
		if got, want := s.Events, eventsOf(k, plaza); got != want {
			k.T.Fatalf("plaza %d: %d events after a rebuild, want %d", plaza, got, want)
		}
	}
	for id, w := range stored {
		k.T.Fatalf("%v: %+v is stored, and holds nothing", id, w)
	}
	if right == 0 || missing == 0 {
		k.T.Fatalf("%d windows are right, %d can't be counted any more: the test shows nothing", right,
			missing)
	}
	k.T.Logf("%d windows are right, %d can't be counted any more", right, missing)
}

func eventsOf(k *dbtest.Keeper, plaza int16) (n int64) {
	for _, p := range k.Passages {
		if p.Plaza == plaza {
			n += int64(p.N)
		}
	}
	return n
}
