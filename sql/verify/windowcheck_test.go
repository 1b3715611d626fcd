package verify_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestVerifyWindows(t *testing.T) {
	const done = "2022-02-12 10:30"
	at := func(text string) any { return dbtest.MinuteOf(t, text) }
	cases := []struct {
		name  string
		harm  func(t *testing.T, x *dbtest.Windowed, states map[int16]*toll.State)
		quick string // kinds found, ascending; empty for none
		deep  string
		text  string // of one of the problems
	}{
		{name: "clean", harm: func(*testing.T, *dbtest.Windowed, map[int16]*toll.State) {}},
		{
			name: "events raised", quick: "window_count", deep: "window_count",
			text: "plaza 1: window 15m from 2022-02-12 10:00: 7 events in toll_window, but 6 by type",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET events = events + 1 WHERE toll_plaza_id = 1 AND kind = '15m'
						AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "counted twice", quick: "window_count", deep: "window_count",
			text: "plaza 1: window 15m from 2022-02-12 10:00: 7 events in toll_window, 6 stored: " +
				"1 event was counted twice",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET events = 7, by_type = '{ "car": 7 }' WHERE toll_plaza_id = 1
						AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "events lost", quick: "window_behind", deep: "window_behind",
			text: "plaza 1: window 15m from 2022-02-12 10:00: 5 events in toll_window, 6 delivered: " +
				"1 event was lost",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET events = 5, by_type = '{"car":4,"truck":1}' WHERE toll_plaza_id = 1
						AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "other types", quick: "window_count", deep: "window_count",
			text: `plaza 1: window 15m from 2022-02-12 10:00: 2 events of type "truck" in toll_window, 1 stored`,
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET by_type = '{"car":4,"truck":2}' WHERE toll_plaza_id = 1
						AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "damaged types", quick: "window_count", deep: "window_count", text: "read by_type",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET by_type = '{"car":' WHERE toll_plaza_id = 1 AND kind = 'day'`)
			},
		},
		{
			name: "more late than there are", quick: "window_count", deep: "window_count",
			text: "plaza 2: window 1h from 2022-02-12 09:00: 1 event in toll_window, of which 2 late",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET late = 2 WHERE toll_plaza_id = 2 AND kind = '1h' AND start_minute = ?`,
					at("2022-02-12 09:00"))
			},
		},
		{
			name: "fewer late than there are", quick: "window_count", deep: "window_count",
			text: "plaza 1: window 15m from 2022-02-12 10:00: 6 events in toll_window, of which 2 late, " +
				"by the batches 3",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET late = 2 WHERE toll_plaza_id = 1 AND kind = '15m'
						AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "another end", quick: "window_count window_range", deep: "window_count window_range",
			text: "toll_window has it end at 2022-02-12 10:14 (whole: true), not at 2022-02-12 10:15",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET end_minute = end_minute - 1 WHERE toll_plaza_id = 1 AND kind = '15m'
						AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "a day's end", quick: "window_count window_range", deep: "window_count window_range",
			text: "plaza 1: window day from 2022-02-12 00:00: 8 events in toll_window, 5 stored: " +
				"3 events were counted twice",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET end_minute = ? WHERE toll_plaza_id = 1 AND kind = 'day'
						AND start_minute = ?`, at("2022-02-12 10:02"), at("2022-02-12 00:00"))
			},
		},
		{
			name: "another range of time", quick: "window_range", deep: "window_range",
			text: "plaza 1: window 15m: toll_window has it from 2022-02-12 10:00:00 to 2022-02-12 " +
				"10:14:59, its minutes are from 2022-02-12 10:00:00 to 2022-02-12 10:15:00",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET window_end = '2022-02-12 10:14:59' WHERE toll_plaza_id = 1
						AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "deleted", quick: "window_missing window_too_late", deep: "window_missing window_too_late",
			text: "plaza 1: window 1m from 2022-02-12 10:04: it has no result in toll_window, " +
				"2 events were delivered",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`DELETE FROM toll_window WHERE toll_plaza_id = 1 AND kind = '1m' AND start_minute >= ?`,
					at("2022-02-12 10:00"))
			},
		},
		{
			name: "all of a plaza deleted", quick: "window_missing", deep: "window_missing",
			text: "plaza 2: window day from 2022-02-12 00:00: it has no result",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S, `DELETE FROM toll_window WHERE toll_plaza_id = 2`)
			},
		},
		{
			name: "long ago", deep: "window_missing",
			text: "plaza 1: window 15m from 2022-02-09 10:00: it has no result",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`DELETE FROM toll_window WHERE toll_plaza_id = 1 AND start_minute < ? AND kind = '15m'`,
					at("2022-02-10 00:00"))
			},
		},
		{
			name: "of no event", quick: "window_extra window_range", deep: "window_extra window_range",
			text: "plaza 1: window 15m from 2022-02-12 09:45: 6 events in toll_window, none stored",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S, `INSERT INTO toll_window SELECT 1, '15m', start_minute - 15, start_minute,
					window_start, window_end, whole, epoch, revision, events, late, 0,
					result_too_late, by_type, flow_per_hour, reason, published, stored_at FROM toll_window
					WHERE toll_plaza_id = 1 AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name:  "between windows",
			quick: "window_behind window_count window_extra window_missing window_range",
			deep:  "window_behind window_count window_extra window_missing window_range",
			text:  "plaza 2: window 1h from 2022-02-12 09:01: 1 event in toll_window, none stored",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET start_minute = start_minute + 1, events = events + 0
						WHERE toll_plaza_id = 2 AND kind = '1h' AND start_minute = ?`, at("2022-02-12 09:00"))
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET events = 0 WHERE toll_plaza_id = 1 AND kind = '1h'
						AND start_minute = ?`, at("2022-02-12 09:00"))
			},
		},
		{
			name: "of another plaza and kind", quick: "window_extra", deep: "window_extra",
			text: "plaza 77: toll_window holds 1 row of the kind 2h, which is not counted",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S, `INSERT INTO toll_window SELECT 77, '2h', start_minute, end_minute,
					window_start, window_end, whole, epoch, revision, events, late, too_late,
					result_too_late, by_type, flow_per_hour, reason, published, stored_at FROM toll_window
					WHERE toll_plaza_id = 1 AND kind = '1m' AND start_minute = ?`, at("2022-02-12 08:58"))
			},
		},
		{
			name: "too late", quick: "window_too_late", deep: "window_too_late",
			text: "plaza 1: window 1m from 2022-02-12 10:04: 3 events in toll_window that came too late " +
				"for it, the batches have 2",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET too_late = too_late + 1 WHERE toll_plaza_id = 1 AND kind = '1m'
						AND start_minute = ?`, at("2022-02-12 10:04"))
			},
		},
		{
			name: "too late for a window without events", quick: "window_too_late", deep: "window_too_late",
			text: "plaza 1: window 1m from 2022-02-12 10:06: 0 events in toll_window that came too late " +
				"for it, the batches have 1",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S, `DELETE FROM toll_window WHERE revision = 0 AND start_minute = ?`,
					at("2022-02-12 10:06"))
			},
		},
		{
			name: "changed and not delivered yet",
			harm: func(t *testing.T, x *dbtest.Windowed, states map[int16]*toll.State) {
				states[1].Dirty = []toll.Window{{Start: dbtest.MinuteOf(t, "2022-02-12 10:04"),
					End: dbtest.MinuteOf(t, "2022-02-12 10:05")}}
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET events = 5, late = 0, by_type = '{"car":5}' WHERE toll_plaza_id = 1
						AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "not closed yet",
			harm: func(t *testing.T, x *dbtest.Windowed, states map[int16]*toll.State) {
				states[1].Done = dbtest.MinuteOf(t, "2022-02-12 10:14")
				dbtest.Exec(t, x.S,
					`UPDATE toll_window SET revision = 0, events = 0, late = 0, by_type = '{}'
						WHERE toll_plaza_id = 1 AND kind = '15m' AND start_minute = ?`, at("2022-02-12 10:00"))
			},
		},
		{
			name: "a minute's rows", deep: "minute_rows",
			text: "plaza 2: minute 2022-02-12 09:20: 0 rows in livetolldata, 1 stored",
			harm: func(t *testing.T, x *dbtest.Windowed, _ map[int16]*toll.State) {
				dbtest.Exec(t, x.S,
					`UPDATE livetolldata SET timestamp = '2022-02-12 09:21:00' WHERE toll_plaza_id = 2
						AND timestamp = '2022-02-12 09:20:00'`)
			},
		},
	}
	for _, engine := range dbtest.Engines {
		for _, c := range cases {
			t.Run(engine+"/"+c.name, func(t *testing.T) {
				x := dbtest.NewWindowed(t, dbtest.OpenEmpty(t, engine), "1m,15m,1h,day")
				x.Store(0, dbtest.Pass(1, "2022-02-09 10:01", "car", 1, toll.OnTime),
					dbtest.Pass(1, "2022-02-12 08:58", "car", 1, toll.OnTime),
					dbtest.Pass(1, "2022-02-12 09:01", "car", 1, toll.OnTime), dbtest.Pass(2, "2022-02-12 09:20",
						"car", 1,
						toll.OnTime))
				x.Store(1, dbtest.Pass(1, "2022-02-12 10:01", "car", 2, toll.OnTime),
					dbtest.Pass(1, "2022-02-12 10:01", "truck", 1, toll.OnTime),
					dbtest.Pass(1, "2022-02-12 10:04", "car", 2, toll.Late))
				x.Store(0, dbtest.Pass(1, "2022-02-12 10:04", "car", 1, toll.LateQuarter),
					dbtest.Pass(1, "2022-02-12 10:04", "car", 1, toll.TooLate),
					dbtest.Pass(1, "2022-02-12 10:06", "car", 1, toll.TooLate))
				for plaza := range int16(3) {
					x.StoreResults(x.Results(), x.Closing(plaza, done))
				}
				x.Check(done, 1, 2)
				states := x.States(done)
				c.harm(t, x, states)
				for _, deep := range []bool{false, true} {
					want := c.quick
					if deep {
						want = c.deep
					}
					r := dbtest.Verify(t, x.S, x.Input(states, deep))
					got, texts := dbtest.ProblemsOf(r)
					if deep && got == "checksum minute_rows" {
						got = "minute_rows" // moving a row changes its checksum too
					}
					if got != want || (r.Status == verify.Mismatch) != (want != "") {
						t.Errorf("deep %v: status %s, problems %q, want %q\n%s", deep, r.Status, got, want, texts)
					}
					if want != "" && !strings.Contains(texts, c.text) {
						t.Errorf("deep %v: no problem says %q:\n%s", deep, c.text, texts)
					}
					if c.name == "clean" {
						if windows := map[bool]int64{false: 16, true: 20}[deep]; r.Windows != windows ||
							r.WindowsWaiting != 1 {
							t.Errorf("deep %v: %d windows, want %d; %d waiting, want the hour from 10:00", deep,
								r.Windows, windows, r.WindowsWaiting)
						}
					}
				}
			})
		}
	}
}

// TestVerifyWindowsInFlight verifies random events at every stage of their way, in as many passes
// as it takes.
func TestVerifyWindowsInFlight(t *testing.T) {
	defer func(n int) { *verify.MaxVerifyPanes = n }(*verify.MaxVerifyPanes)
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,5m/1m,15m,1h,day")
		x.Cfg.PlazaZones = map[int16]*toll.Zone{2: toll.NewZone(kolkata)}
		random := rand.New(rand.NewPCG(5, 6))
		ends := []int64{0, 0}
		mismatch := func(stage, done string, upTo []int64, inFlight, waiting bool) {
			t.Helper()
			for _, most := range []int{1, 1_000_000} {
				for _, deep := range []bool{false, true} {
					*verify.MaxVerifyPanes = most
					r := dbtest.Verify(t, s, x.Input(x.States(done, upTo...), deep))
					if kinds, texts := dbtest.ProblemsOf(r); kinds != "" ||
						(r.Status == verify.InFlight) != inFlight ||
						(r.WindowsWaiting > 0) != waiting {
						t.Errorf("%s, deep %v, %d panes: status %s, %d windows, %d waiting: %s\n%s", stage, deep,
							most, r.Status, r.Windows, r.WindowsWaiting, kinds, texts)
					}
				}
			}
		}
		for day := range 3 {
			events := x.Random(random, 60, fmt.Sprintf("2022-03-%02d 20:00", 26+day), 600, 1, 2, 3)
			for i, chunk := range slices.Collect(slices.Chunk(events, 30)) {
				x.Store(int32(i%2), chunk...)
			}
			from := fmt.Sprintf("2022-03-%02d 20:00", 26+day)
			if day > 0 {
				mismatch("stored", from, ends, true, true)
			}
			ends = []int64{x.Cursors[0].Next, x.Cursors[1].Next}
			mismatch("merged", from, ends, false, true)
			// Submitted half way: windows that are still open have more events than the day so far.
			half := fmt.Sprintf("2022-03-%02d 01:07", 27+day)
			x.StoreResults(x.Results(), x.Closing(1, half), x.Closing(2, half), x.Closing(3, half))
			mismatch("delivered in part, state behind", from, ends, false, true)
			mismatch("delivered in part", half, ends, false, true)
			whole := fmt.Sprintf("2022-03-%02d 19:00", 27+day)
			x.StoreResults(x.Results(), x.Closing(1, whole), x.Closing(2, whole), x.Closing(3, whole))
			mismatch("delivered", whole, ends, false, false)
		}
		// A plaza of which many windows are wrong does not hide the others.
		dbtest.Exec(t, s,
			`UPDATE toll_window SET events = events + 1 WHERE toll_plaza_id = 1 AND revision > 0`)
		dbtest.Exec(t, s,
			`UPDATE toll_window SET too_late = too_late + 1 WHERE toll_plaza_id = 3 AND kind = 'day'`)
		r := dbtest.Verify(t, s, x.Input(x.States("2022-03-29 19:00"), true))
		if kinds, texts := dbtest.ProblemsOf(r); kinds != "window_count window_too_late" ||
			r.MoreProblems < 50 || len(r.Problems) > 30 {
			t.Errorf("%d problems and %d more: %s\n%s", len(r.Problems), r.MoreProblems, kinds, texts)
		}
	})
}

// TestVerifyWindowsWhileRunning never takes a running process for a mismatch: events are stored and
// merged, windows closed and submitted, all at the same time.
func TestVerifyWindowsWhileRunning(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		batches := 40
		if s.DB.Embedded(t.Context()) {
			batches = 12 // it is that much slower
		}
		x := dbtest.NewWindowed(t, s, "1m,5m/1m,15m,1h,day")
		var mu sync.Mutex // guards stored and states
		var stored [2]int // batches of each partition; each is ten minutes of event time
		states := map[int16]*toll.State{}
		var running sync.WaitGroup
		for p := range 2 {
			random := rand.New(rand.NewPCG(7, uint64(p)))
			running.Go(func() {
				for i := range batches {
					start := dbtest.WallTime(t, "2022-03-26 20:00") + toll.WallTime(600*i)
					x.Mu.Lock()
					events := x.Random(random, 12, start.String()[:16], 10, 1, 2, 3)
					x.Mu.Unlock()
					for j := range events { // what is late is from before
						if events[j].How != toll.OnTime {
							events[j].At = max(start-toll.WallTime(random.IntN(7200)),
								dbtest.WallTime(t, "2022-03-26 20:00")).String()
						}
					}
					x.Store(int32(p), events...)
					mu.Lock()
					stored[p]++
					mu.Unlock()
				}
			})
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			r := x.Results()
			merged := 0
			for done := false; !done; {
				mu.Lock()
				n := min(stored[0], stored[1])
				mu.Unlock()
				done = n == batches
				x.Mu.Lock()
				deltas := slices.Clone(x.Deltas[merged:])
				x.Mu.Unlock()
				merged += len(deltas)
				var closings []toll.Closing
				mu.Lock()
				for i := range deltas {
					d := &deltas[i]
					if states[d.Plaza] == nil {
						states[d.Plaza] = toll.NewState(0)
					}
					states[d.Plaza].Merge(d)
				}
				until := dbtest.MinuteOf(t, "2022-03-26 20:00") + toll.Minute(10*n)
				for plaza, state := range states {
					closer := toll.Closer{Kinds: x.Cfg.Windows, Zone: x.ZoneOf(plaza)}
					if c, due := closer.Close(plaza, state, until, until); due {
						closings = append(closings, c)
					}
				}
				mu.Unlock()
				var refs []traffic.NoticeRef
				for {
					notices, stored, err := r.Store(t.Context(), closings, refs)
					if err != nil && !errors.Is(err, results.ErrConflict) {
						t.Error(err)
						return
					}
					if err != nil {
						continue
					}
					refs = nil
					for _, n := range notices {
						refs = append(refs, n.Ref)
					}
					if stored && len(notices) == 0 {
						break
					}
				}
				mu.Lock()
				for _, c := range closings {
					states[c.Plaza].MarkStored(c.Until, nil)
				}
				mu.Unlock()
			}
		}()
		seen := map[int16]*toll.State{}
		look := func() {
			mu.Lock()
			defer mu.Unlock()
			for plaza, state := range states {
				c := *state
				c.Merged, c.Dirty = slices.Clone(state.Merged), slices.Clone(state.Dirty)
				seen[plaza] = &c
			}
		}
		var windows, waiting int64
		for running := true; running; {
			select {
			case <-closed:
				running = false
			default:
			}
			for _, deep := range []bool{false, true} {
				look()
				r := dbtest.Verify(t, s, x.Input(seen, deep))
				if r.Status == verify.Mismatch {
					_, texts := dbtest.ProblemsOf(r)
					t.Fatalf("deep %v:\n%s", deep, texts)
				}
				windows, waiting = max(windows, r.Windows), max(waiting, r.WindowsWaiting)
			}
		}
		running.Wait()
		if windows < 300 || waiting == 0 {
			t.Errorf("%d windows were checked, %d were waiting", windows, waiting)
		}
		end := x.Zone.Wall((dbtest.MinuteOf(t, "2022-03-26 20:00") +
			toll.Minute(10*batches)).Time()).String()
		x.Check(end, 1, 2, 3)
	})
}

// TestVerifyFoldedWindows: where the outbox no longer has a window's minutes, the rows themselves
// know what it holds.
func TestVerifyFoldedWindows(t *testing.T) {
	defer func(n int) { *verify.MaxRowWindows = n }(*verify.MaxRowWindows)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		k := dbtest.NewKeeper(t, s, 9)
		k.Store(0, dbtest.Pass(0, k.Now.String(), "car", 3, toll.OnTime))
		for range 40 {
			k.Batch()
		}
		k.Close()
		k.Folded = toll.FoldHorizon(k.States, k.Until, toll.MinKeptMinutes)
		for p := range int32(2) {
			if _, err := k.Compactor().Compact(t.Context(), p,
				retention.CompactOptions{Now: time.Now(), States: k.States,
					Before: k.Folded}); err != nil {
				t.Fatal(err)
			}
		}
		all := k.VerifyAll(true)
		if all.WindowsFolded != 0 || all.MinutesFolded {
			t.Errorf("%d windows were not checked, not all: %v", all.WindowsFolded, all.MinutesFolded)
		}
		*verify.MaxRowWindows = 5
		if some := k.VerifyAll(true); some.WindowsFolded == 0 ||
			some.Windows+some.WindowsFolded != all.Windows || !some.MinutesFolded {
			t.Errorf("%d windows, and %d were not checked, want %d in all", some.Windows, some.WindowsFolded,
				all.Windows)
		}
		*verify.MaxRowWindows = 1_000_000
		old := dbtest.Int(t, s,
			`SELECT MIN(start_minute) FROM toll_window WHERE kind = '15m' AND revision > 0`)
		if toll.Minute(old) >= k.Folded {
			t.Fatal("no minutes were rolled up")
		}
		for _, column := range []string{"events", "too_late"} {
			dbtest.Exec(t, s,
				`UPDATE toll_window SET `+column+` = `+column+` + 1 WHERE kind = '15m' AND start_minute = ?`,
				old)
			r := dbtest.Verify(t, s, verify.Input{States: k.States, Deep: true, Windows: k.Cfg.Windows})
			if kinds, texts := dbtest.ProblemsOf(r); kinds != verify.KindWindowRows {
				t.Errorf("%s: found %q\n%s", column, kinds, texts)
			}
			dbtest.Exec(t, s,
				`UPDATE toll_window SET `+column+` = `+column+` - 1 WHERE kind = '15m' AND start_minute = ?`,
				old)
		}
		for _, kind := range []string{"1m", "10m/5m", "15m", "1h", "day"} {
			dbtest.Exec(t, s, `CREATE TABLE kept LIKE toll_window`)
			dbtest.Exec(t, s,
				`INSERT INTO kept SELECT * FROM toll_window WHERE kind = ?
					AND start_minute = (SELECT MIN(start_minute) FROM toll_window WHERE kind = ?)`, kind, kind)
			dbtest.Exec(t, s, `DELETE FROM toll_window WHERE kind = ? AND start_minute = ?`, kind,
				dbtest.Int(t, s, `SELECT MIN(start_minute) FROM kept`))
			r := dbtest.Verify(t, s, verify.Input{States: k.States, Deep: true, Windows: k.Cfg.Windows})
			if kinds, texts := dbtest.ProblemsOf(r); kinds != verify.KindWindowRows ||
				!strings.Contains(texts, "it is not in toll_window") {
				t.Errorf("deleted of %s: found %q\n%s", kind, kinds, texts)
			}
			dbtest.Exec(t, s, `INSERT INTO toll_window SELECT * FROM kept`)
			dbtest.Exec(t, s, `DROP TABLE kept`)
		}
		k.VerifyAll(true)
		// Of rows that were pruned nothing can be said.
		k.Pruned = k.Zone.Since(k.Folded)
		if _, err := s.Prune(t.Context(),
			retention.PruneOptions{Before: k.Pruned, BatchRows: 1000}); err != nil {
			t.Fatal(err)
		}
		if pruned := k.VerifyAll(true); pruned.WindowsFolded == 0 {
			t.Error("windows were checked whose rows were pruned")
		}
	})
}
