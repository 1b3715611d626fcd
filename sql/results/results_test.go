package results_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestStore(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "5m,15m,day")
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:01", "car", 2, toll.OnTime),
			dbtest.Pass(1, "2022-02-10 10:07", "truck", 1, toll.OnTime),
			dbtest.Pass(2, "2022-02-10 10:03", "car", 1, toll.OnTime))
		r := x.Results()
		expect := func(r *results.Writer, want string, closings ...toll.Closing) {
			t.Helper()
			var lines []string
			for line := range strings.Lines(want) {
				if line = strings.TrimSpace(line); line != "" {
					lines = append(lines, line+"\n")
				}
			}
			if got, want := x.StoreResults(r, closings...), strings.Join(lines, ""); got != want {
				t.Fatalf("got\n%swant\n%s", got, want)
			}
		}
		expect(r, "", toll.Closing{Plaza: 1}, toll.Closing{Plaza: 3})
		early := x.Closing(1, "2022-02-10 10:07")
		expect(r, `1 5m 10:00–10:05 r1 {"car":2} late 0 too late 0 watermark`, early)
		both := []toll.Closing{x.Closing(2, "2022-02-10 10:15"), x.Closing(1, "2022-02-10 10:15")}
		expect(r, `
			1 5m 10:05–10:10 r1 {"truck":1} late 0 too late 0 watermark
			1 15m 10:00–10:15 r1 {"car":2,"truck":1} late 0 too late 0 watermark
			1 day 00:00–10:15 r1 {"car":2,"truck":1} late 0 too late 0 watermark so far
			2 5m 10:00–10:05 r1 {"car":1} late 0 too late 0 watermark
			2 15m 10:00–10:15 r1 {"car":1} late 0 too late 0 watermark
			2 day 00:00–10:15 r1 {"car":1} late 0 too late 0 watermark so far`, both...)
		expect(r, "", both...)           // once more
		expect(x.Results(), "", both...) // by another process
		expect(r, "", early)             // an older one
		x.Check("2022-02-10 10:15", 1, 2)

		x.Store(1, dbtest.Pass(1, "2022-02-10 10:02", "van", 1, toll.Late),
			dbtest.Pass(1, "2022-02-10 10:04", "van", 1, toll.LateQuarter),
			dbtest.Pass(1, "2022-02-10 10:13", "van", 3, toll.TooLate), dbtest.Pass(1, "2022-02-10 09:59",
				"van", 4,
				toll.TooLate))
		late := x.Closing(1, "2022-02-10 10:15")
		late.Windows = append(late.Windows, early.Windows...) // what is older among it changes nothing
		for i := range late.Windows {
			late.Windows[i].Reason = toll.ClosedByEnd // why it closed first stays
		}
		expect(r, `
			1 5m 10:00–10:05 r2 {"car":2,"van":1} late 1 too late 1 watermark
			1 15m 10:00–10:15 r2 {"car":2,"truck":1,"van":2} late 2 too late 3 watermark
			1 day 00:00–10:15 r2 {"car":2,"truck":1,"van":2} late 2 too late 7 watermark so far`, late)
		expect(r, "", both...)
		x.Check("2022-02-10 10:15", 1, 2)

		// A day is news when it grows, and when it ends.
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:16", "car", 1, toll.OnTime))
		expect(r, `
			1 5m 10:15–10:20 r1 {"car":1} late 0 too late 0 end of stream
			1 15m 10:15–10:30 r1 {"car":1} late 0 too late 0 end of stream
			1 day 00:00–10:30 r3 {"car":3,"truck":1,"van":2} late 2 too late 7 watermark so far`,
			func() toll.Closing {
				c := x.Closing(1, "2022-02-10 10:44")
				for i := range c.Windows {
					c.Windows[i].Reason = toll.ClosedByEnd
				}
				return c
			}())
		expect(r, `1 day 00:00–00:00 r4 {"car":3,"truck":1,"van":2} late 2 too late 7 watermark`,
			x.Closing(1, "2022-02-11 00:00"))
		x.StoreResults(r, x.Closing(2, "2022-02-11 00:00"))
		x.Check("2022-02-11 00:00", 1, 2)

		// A rebuild leaves what is stored: what is submitted after it has to hold more. What was
		// counted before it has no say.
		rebuilt, err := s.Rebuild(t.Context(), dbtest.Identity, 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		before := x.Closing(1, "2022-02-10 10:07")
		before.Windows[0].Types = []toll.TypeCount{{Type: "car", Count: 99}}
		expect(r, "", before)
		after := before
		after.Epoch = rebuilt.NewEpoch
		after.Windows = slices.Clone(before.Windows[:1])
		// fewer, and as many: with panes that a compacted outbox no longer has
		for _, n := range []int64{1, 3} {
			after.Windows[0].Types, after.Windows[0].Late = []toll.TypeCount{{Type: "car", Count: n}}, 0
			expect(r, "", after)
		}
		after.Windows[0].Types = []toll.TypeCount{{Type: "car", Count: 4}}
		expect(r, `1 5m 10:00–10:05 r3 {"car":4} late 0 too late 1 watermark`, after)
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window WHERE epoch = ?`,
			rebuilt.NewEpoch); n != 1 {
			t.Errorf("%d windows of the new epoch, want 1", n)
		}

		windows, err := s.Windows(t.Context(), 1, 2)
		var got []string
		for _, w := range windows {
			got = append(got, fmt.Sprintf("%s %s r%d %d %v", w.Kind, x.Clock(w.Start), w.Revision,
				w.TooLateNow, w.Published))
		}
		want :=
			"15m 10:15 r1 0 true, 15m 10:00 r2 3 true, 5m 10:15 r1 0 true, 5m 10:10 r0 3 true, day 00:00 " +
				"r4 7 true"
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("got  %s, %v\nwant %s", strings.Join(got, ", "), err, want)
		}
	})
}

// TestWindowColumns finds the rows of a window by its wall clock, and what a vehicle's type may be.
func TestWindowColumns(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1h,15m")
		ny, err := time.LoadLocation("America/New_York")
		if err != nil {
			t.Fatal(err)
		}
		x.Cfg.PlazaZones = map[int16]*toll.Zone{2: toll.NewZone(ny)}
		types := []string{"car", "CAR", `q"uo\te`, "Täxi🚕", "<b>&", "a,b:c}", "a\nb", "\u2028"}
		for i, typ := range types {
			for plaza := range int16(3) {
				// Around the hour that Berlin's clocks showed twice.
				for _, at := range []string{"01:59:59", "02:00", "02:30", "02:59:59", "03:00", "03:29"} {
					x.Store(0, dbtest.Pass(plaza, "2022-10-30 "+at, typ, 1+i, toll.OnTime))
				}
			}
		}
		r := x.Results()
		x.StoreResults(r, x.Closing(0, "2022-10-31 00:00"), x.Closing(1, "2022-10-31 00:00"),
			x.Closing(2, "2022-10-31 00:00"))
		x.Check("2022-10-31 00:00", 0, 1, 2)
		n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`)
		same := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window w WHERE events = (SELECT COUNT(*)
			FROM livetolldata l
			WHERE l.toll_plaza_id = w.toll_plaza_id AND l.timestamp >= w.window_start AND l.timestamp < w.window_end)`)
		if n == 0 || n != same {
			t.Errorf("%d windows, %d hold as many rows by their wall clock", n, same)
		}
		if n := dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_window
				WHERE ROUND(flow_per_hour * (end_minute - start_minute) / 60) <> events`); n != 0 {
			t.Errorf("%d windows of another flow", n)
		}
	})
}

// TestLeftNotices loses what Store returned, as a crash before it was published does.
func TestLeftNotices(t *testing.T) {
	defer func(n int) { *results.MaxNotices = n }(*results.MaxNotices)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		*results.MaxNotices = 1000
		x := dbtest.NewWindowed(t, s, "5m,15m")
		for plaza := range int16(3) {
			x.Store(0, dbtest.Pass(plaza, "2022-02-10 10:01", "car", 1+int(plaza), toll.OnTime),
				dbtest.Pass(plaza, "2022-02-10 10:06", "car", 1, toll.OnTime))
		}
		old := []toll.Closing{x.Closing(0, "2022-02-10 10:15"), x.Closing(1, "2022-02-10 10:15"),
			x.Closing(2, "2022-02-10 10:15")}
		lost, stored, err := x.Results().Store(t.Context(), old, nil)
		if err != nil || !stored || len(lost) != 9 {
			t.Fatalf("got %d, %v, %v", len(lost), stored, err)
		}
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:02", "car", 1, toll.Late))
		r := x.Results()
		newer := []toll.Closing{x.Closing(1, "2022-02-10 10:15"), {Plaza: 2}}
		var refs []traffic.NoticeRef
		for range 2 { // as often as it takes
			left, stored, err := r.Store(t.Context(), newer, refs)
			if err != nil || stored || !reflect.DeepEqual(left, lost[3:]) {
				t.Fatalf("got %v, %v, %v, want %v", left, stored, err, lost[3:])
			}
		}
		// Some at a time.
		*results.MaxNotices = 4
		for _, want := range [][]traffic.Notice{lost[3:7], lost[7:]} {
			left, stored, err := r.Store(t.Context(), newer, refs)
			if err != nil || stored || !reflect.DeepEqual(left, want) {
				t.Fatalf("got %v, %v, %v, want %v", left, stored, err, want)
			}
			refs = nil
			for _, n := range left {
				refs = append(refs, n.Ref)
			}
		}
		revised, stored, err := r.Store(t.Context(), newer, refs)
		if err != nil || !stored || len(revised) != 2 || revised[0].Ref.Revision != 2 {
			t.Fatalf("got %v, %v, %v", revised, stored, err)
		}
		// The old revisions' marks come late and mean nothing for the new ones.
		again, stored, err := r.Store(t.Context(), newer, refs)
		if err != nil || stored || !reflect.DeepEqual(again, revised) {
			t.Fatalf("got %v, %v, %v", again, stored, err)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window WHERE published = 0`); n != 5 {
			t.Errorf("%d unpublished, want 3 of plaza 0 and 2 of plaza 1", n)
		}
	})
}

// TestMarkWritten has another process store a window between a call and the marks of what that
// returned, at the same time by its clock.
func TestMarkWritten(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "5m,15m")
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:01", "car", 1, toll.OnTime),
			dbtest.Pass(1, "2022-02-10 10:06", "car", 1, toll.OnTime))
		for _, c := range []struct {
			name   string
			before string // what the other process did first
			others string // by what it differs in time
			quick  bool   // whether the marks go by time alone
		}{
			{"alone", "", "", true},
			{"another time", "", "+ INTERVAL 1 MICROSECOND", true},
			{"the same time", "", "+ INTERVAL 0 SECOND", false},
			{"published ours", "UPDATE toll_window SET published = 1 WHERE kind = '15m'",
				"+ INTERVAL 1 SECOND", false},
			{"revised ours",
				"UPDATE toll_window SET revision = 2, stored_at = stored_at + INTERVAL 1 SECOND WHERE kind " +
					"= '15m'",
				"+ INTERVAL 1 SECOND", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				dbtest.Exec(t, s, "DELETE FROM toll_window")
				r := x.Results()
				notices, stored, err := r.Store(t.Context(), []toll.Closing{x.Closing(1, "2022-02-10 10:15")},
					nil)
				if err != nil || !stored || len(notices) != 3 {
					t.Fatal(notices, stored, err)
				}
				var refs []traffic.NoticeRef
				for _, n := range notices {
					refs = append(refs, n.Ref)
				}
				if c.before != "" {
					dbtest.Exec(t, s, c.before)
				}
				want := dbtest.Int(t, s, "SELECT COUNT(*) FROM toll_window WHERE revision = 2")
				if c.others != "" {
					want++
					dbtest.Exec(t, s, `INSERT INTO toll_window SELECT toll_plaza_id, kind, start_minute + 60,
						end_minute + 60, window_start, window_end, whole,
						epoch, revision, events, late, too_late, result_too_late, by_type, flow_per_hour, reason, 0, stored_at `+c.others+`
						FROM toll_window WHERE kind = '5m' ORDER BY start_minute LIMIT 1`)
				}
				tx, err := s.DB.BeginTx(t.Context(), &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
				if err != nil {
					t.Fatal(err)
				}
				quick, err := r.MarkWritten(t.Context(), tx, refs)
				if err != nil || quick != c.quick {
					t.Errorf("marked by time: %v, %v", quick, err)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
				left, stored, err := r.Store(t.Context(), []toll.Closing{{Plaza: 1}}, refs)
				if err != nil || stored != (want == 0) || int64(len(left)) != want {
					t.Errorf("left are %v, %v, %v, want %d", left, stored, err, want)
				}
			})
		}
	})
}

// TestConflict has another process write the same windows between this one's steps.
func TestConflict(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "5m")
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:01", "car", 1, toll.OnTime))
		for _, cautious := range []bool{false, true} {
			t.Run(fmt.Sprintf("cautious=%v", cautious), func(t *testing.T) {
				dbtest.Exec(t, s, "DELETE FROM toll_window")
				testConflict(t, x, s, cautious)
			})
		}
	})
}

func testConflict(t *testing.T, x *dbtest.Windowed, s *dbtest.Store, cautious bool) {
	ctx := t.Context()
	for _, c := range []struct {
		name  string
		other string // what the other process does
		want  error
	}{
		{"inserts", `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute, window_start, window_end, whole, epoch, revision, events,
			late, too_late, result_too_late, by_type, flow_per_hour, reason, published, stored_at)
			VALUES (1, '5m', ?, 0, NOW(), NOW(), 1, 0, 1, 1, 0, 0, 0, '{"car":1}', 0, '', 0, NOW(6))`, results.ErrConflict},
		{"revises",
			`UPDATE toll_window SET revision = 2, events = 2, by_type = '{"car":2}', published = 0
				WHERE start_minute = ?`, results.ErrConflict},
		{"revises and publishes",
			`UPDATE toll_window SET revision = 2, events = 2, by_type = '{"car":2}', published = 1
				WHERE start_minute = ?`, nil},
		{"counts what was too late",
			`UPDATE toll_window SET too_late = too_late + 1 WHERE start_minute = ?`, nil},
	} {
		tx, err := s.DB.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, c.other, dbtest.MinuteOf(t, "2022-02-10 10:00")); err != nil {
			t.Fatal(c.name, err)
		}
		ended := make(chan error)
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:01", "car", 2, toll.OnTime))
		closing := x.Closing(1, "2022-02-10 10:15")
		// none looks as if it had closed before
		closing.From, closing.Until = math.MinInt32, math.MinInt32
		r := x.Results()
		r.SetCautious(cautious)
		go func() {
			_, _, err := r.Store(ctx, []toll.Closing{closing}, nil)
			if r.Cautious() != (err != nil) {
				t.Errorf("after %v the next call is cautious: %v", err, r.Cautious())
			}
			ended <- err
		}()
		// MySQL's list has whole seconds alone.
		for dbtest.Int(t, s, `SELECT COUNT(*) FROM information_schema.processlist
			WHERE id <> CONNECTION_ID()
			AND (/*M! time_ms > 100 OR */ time >= 1)
			AND (info LIKE 'INSERT INTO toll_window%' OR info LIKE '%FOR UPDATE')`) == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, c.want) || toll.IsPermanent(err) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		x.StoreResults(x.Results(), closing)
		dbtest.Exec(t, s, `UPDATE toll_window SET too_late = 0, late = 0, end_minute = start_minute + 5`)
		x.Check("2022-02-10 10:15", 1)
	}
}

// TestStoreAfterRollback has a transaction change rows of windows and be rolled back, as one does
// whose connection is lost. What is left to publish stays as it was.
func TestStoreAfterRollback(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,5m/1m")
		for plaza := range int16(3) {
			x.Store(0, dbtest.Pass(plaza, "2022-02-10 10:01", "car", 1, toll.OnTime),
				dbtest.Pass(plaza, "2022-02-10 10:07", "car", 1, toll.OnTime))
		}
		r := x.Results()
		if _, _, err := r.Store(t.Context(),
			[]toll.Closing{x.Closing(0, "2022-02-10 10:30"), x.Closing(1, "2022-02-10 10:30"),
				x.Closing(2, "2022-02-10 10:30")}, nil); err != nil {
			t.Fatal(err)
		}
		left := func() []traffic.Notice {
			t.Helper()
			notices, err := dbtest.UnpublishedOf(t.Context(), r, []int16{0, 1, 2})
			if err != nil {
				t.Fatal(err)
			}
			return notices
		}
		before := left()
		if len(before) == 0 {
			t.Fatal("nothing to publish")
		}
		for _, change := range []string{"DELETE FROM toll_window WHERE toll_plaza_id = 1",
			"UPDATE toll_window SET published = 1 WHERE toll_plaza_id < 2"} {
			tx, err := s.DB.BeginTx(t.Context(), &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(change); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if got := left(); !reflect.DeepEqual(got, before) {
				t.Fatalf("after %s was rolled back: %d to publish, want the %d from before", change, len(got),
					len(before))
			}
		}
	})
}

// TestStoreTogether has several processes submit the same windows, some behind others and some
// cut off in the midst of it, while events that came too late are stored. Every revision has one
// content and is published.
func TestStoreTogether(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		const processes, rounds = 3, 12
		x := dbtest.NewWindowed(t, s, "1m,5m/1m,15m,day")
		x.Store(0, dbtest.Pass(1, "2022-02-10 10:00", "car", 1, toll.OnTime))
		random := rand.New(rand.NewPCG(1, 2))
		var handed []toll.Closing
		for range rounds {
			for plaza := range int16(3) {
				x.Store(0, dbtest.Pass(plaza, fmt.Sprintf("2022-02-10 10:%02d", random.IntN(20)), "car", 1,
					toll.Late))
				handed = append(handed, x.Closing(plaza, "2022-02-10 10:30"))
			}
		}
		type content struct {
			ref  traffic.NoticeRef
			text string
		}
		seen := make([][]content, processes)
		failures := make([]int, processes)
		var wg sync.WaitGroup
		for p := range processes {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(3, uint64(p)))
				r := x.Results()
				calls := 0
				for i := 0; i < len(handed); {
					n := min(3, len(handed)-i)
					var refs []traffic.NoticeRef
					for {
						if calls++; calls > 100*len(handed) {
							t.Errorf("process %d does not get beyond closing %d: left to publish are %v", p, i, refs)
							return
						}
						ctx, cancel := context.WithCancel(t.Context())
						if random.IntN(6) == 0 {
							time.AfterFunc(time.Duration(random.IntN(8000))*time.Microsecond, cancel)
						}
						notices, stored, err := r.Store(ctx, handed[i:i+n], refs)
						ended := ctx.Err() != nil
						cancel()
						if err != nil && (ended || errors.Is(err, results.ErrConflict)) {
							failures[p]++
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						refs = nil
						for _, n := range notices {
							seen[p] = append(seen[p], content{n.Ref, x.Text(n)})
							refs = append(refs, n.Ref)
						}
						if stored && len(refs) == 0 {
							break
						}
					}
					i += n
				}
			})
		}
		wg.Go(func() {
			for range rounds {
				x.Store(1, dbtest.Pass(0, "2022-02-10 10:05", "car", 1, toll.TooLate),
					dbtest.Pass(1, "2022-02-10 10:10", "car", 2, toll.LateQuarter))
			}
		})
		wg.Go(func() {
			for range rounds {
				x.Store(2, dbtest.Pass(1, "2022-02-10 10:10", "car", 2, toll.TooLate),
					dbtest.Pass(0, "2022-02-10 10:05", "car", 1, toll.TooLate))
			}
		})
		wg.Wait()
		t.Log("failures:", failures)
		one := map[traffic.NoticeRef]string{}
		for _, all := range seen {
			for _, c := range all {
				if was, ok := one[c.ref]; ok && was != c.text {
					t.Errorf("%+v is %s and %s", c.ref, was, c.text)
				}
				one[c.ref] = c.text
			}
		}
		rows, err := tables.ReadWindows(t.Context(), s.DB, "WHERE revision > 0")
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for revision := int64(1); revision <= row.Revision; revision++ {
				if _, ok := one[traffic.NoticeRef{WindowID: row.WindowID, Revision: revision}]; !ok {
					t.Errorf("revision %d of %v was not published", revision, row.WindowID)
				}
			}
		}
		x.StoreResults(x.Results(), x.Closing(0, "2022-02-10 10:30"), x.Closing(1, "2022-02-10 10:30"),
			x.Closing(2, "2022-02-10 10:30"))
		x.Check("2022-02-10 10:30", 0, 1, 2)
	})
}
