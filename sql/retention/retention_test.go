package retention_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestRetire deletes results by their age and kind, and dead letters. Verification knows of it, and
// still finds what else is missing.
func TestRetire(t *testing.T) {
	retention.SetRetireRows(t, 3)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m,day")
		for d := range 30 {
			x.Store(int32(d%2), dbtest.Pass(4856, fmt.Sprintf("2022-03-%02d 10:07", 1+d), "car", 2,
				toll.OnTime),
				dbtest.Pass(4000, fmt.Sprintf("2022-03-%02d 10:08", 1+d), "car", 1, toll.OnTime))
		}
		states := x.MergedStates("2022-04-02 00:00")
		x.StoreResults(x.Results(), x.Closing(4000, "2022-04-02 00:00"),
			x.Closing(4856, "2022-04-02 00:00"))
		in := verify.Input{States: states, Deep: true, Windows: x.Cfg.Windows}
		if r := dbtest.Verify(t, s, in); r.Status != verify.Exact || r.Windows != 2*3*30 {
			t.Fatalf("got %+v", r)
		}
		now := dbtest.MinuteOf(t, "2022-04-02 00:00")
		o := retention.Options{Clocks: clocksAt(now.Time()), Windows: x.Cfg.Windows,
			KeepWindows: 20 * 24 * time.Hour}
		dbtest.Exec(t, s,
			`UPDATE toll_window SET published = 0 WHERE toll_plaza_id = 4000 AND kind = '15m'
				AND start_minute = ?`, dbtest.MinuteOf(t, "2022-03-01 10:00"))
		gone, err := s.Retire(t.Context(), o)
		// Of minutes those of the last 2 days stay, of quarters those of 20 days and what is not
		// published, days all.
		if want := int64(2*30 + 2*12 - 1); err != nil || gone.Windows != want {
			t.Errorf("%+v deleted, want %d windows, %v", gone, want, err)
		}
		for kind, want := range map[string]int64{"1m": 0, "15m": 37, "day": 60} {
			if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window WHERE kind = ?`, kind); n != want {
				t.Errorf("%d windows of %s are left, want %d", n, kind, want)
			}
		}
		if r := dbtest.Verify(t, s, in); r.Status != verify.Exact {
			t.Errorf("got %+v", r)
		}
		if gone, err := s.Retire(t.Context(),
			retention.Options{Clocks: clocksAt(now.Time()), Windows: x.Cfg.Windows}); err != nil ||
			gone != (retention.Retired{}) {
			t.Errorf("with nothing to keep for: %+v, %v", gone, err)
		}
		dbtest.Exec(t, s,
			`DELETE FROM toll_window WHERE kind = '15m' AND toll_plaza_id = 4856 AND start_minute = ?`,
			dbtest.MinuteOf(t, "2022-03-29 10:00"))
		if r := dbtest.Verify(t, s, in); r.Status != verify.Mismatch ||
			r.Problems[0].Kind != verify.KindWindowMissing {
			t.Errorf("one more was deleted: %+v", r)
		}
	})
}

// TestRetireDeadLetters deletes the oldest dead letters and what says that they were repaired.
func TestRetireDeadLetters(t *testing.T) {
	retention.SetRetireRows(t, 2)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		for range 5 {
			st.Store(0, 1, map[int16]int{4856: 1})
			st.Store(1, 1, map[int16]int{4856: 1})
		}
		st.Merge()
		dbtest.Exec(t, s,
			`UPDATE toll_dead_letter SET rejected_at = NOW(6) - INTERVAL 40 DAY WHERE partition_id = 0
				AND record_offset < 110`)
		dbtest.Exec(t, s, `INSERT INTO toll_retry (topic_id, partition_id, record_offset,
			stored_partition, stored_offset)
			SELECT topic_id, partition_id, record_offset, 0, 0 FROM toll_dead_letter`)
		gone, err := s.Retire(t.Context(),
			retention.Options{Clocks: clocksAt(time.Now()), KeepDeadLetters: 30 * 24 * time.Hour})
		if err != nil || gone != (retention.Retired{DeadLetters: 3}) {
			t.Errorf("got %+v, %v", gone, err)
		}
		if a, b := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_dead_letter`), dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_retry`); a != 7 || b != 7 {
			t.Errorf("%d dead letters, %d retries are left", a, b)
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: st.States, Deep: true}); r.Status != verify.Exact ||
			r.Rejected != 10 {
			t.Errorf("got %+v", r)
		}
		dbtest.Exec(t, s, `DELETE FROM toll_dead_letter WHERE partition_id = 1 LIMIT 1`)
		if r := dbtest.Verify(t, s, verify.Input{States: st.States}); r.Status != verify.Mismatch ||
			r.Problems[0].Kind != verify.KindDeadLetters {
			t.Errorf("one more was deleted: %+v", r)
		}
	})
}

// clocksAt returns clocks that agree.
func clocksAt(t time.Time) toll.Clocks {
	return toll.Clocks{Event: t, Record: t, Server: t, Own: t}
}

// TestRetireTrustsNoClock sets one clock years ahead at a time, and three of them: of what the last
// one says is young nothing is deleted, nor recorded as deleted, so verification finds what someone
// else deletes.
func TestRetireTrustsNoClock(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m,day")
		today := time.Now().UTC().Truncate(time.Hour)
		for i := range 3 {
			at := x.Zone.Wall(today.Add(-time.Duration(1+i) * time.Hour)).Format("2006-01-02 15:04")
			x.Store(int32(i%2), dbtest.Pass(4856, at, "car", 1+i, toll.OnTime))
		}
		until := x.Zone.Wall(today.AddDate(0, 0, 2)).Format("2006-01-02 15:04")
		states := x.MergedStates(until)
		x.StoreResults(x.Results(), x.Closing(4856, until))
		dbtest.Exec(t, s, `INSERT INTO toll_transition (toll_plaza_id, detected_minute, since_minute,
			detected, since, from_state, to_state, why, measure, published, stored_at)
			VALUES (4856, ?, 0, NOW(), NOW(), 'free', 'busy', '', '{}', 1, NOW(6))`,
			toll.MinuteAt(today.Unix()))
		dbtest.Exec(t, s, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset,
			record_time, reason, sql_state, payload_bytes, rejected_at)
			VALUES (?, 0, 1, NOW(3), '', '', 0, NOW(6))`, dbtest.Identity.TopicID)
		windows := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`)
		now, ahead := time.Now(), time.Now().AddDate(5, 0, 0)
		o := retention.Options{Windows: x.Cfg.Windows, KeepWindows: retention.MinKeepWindows,
			KeepDeadLetters: 30 * 24 * time.Hour}
		for name, clocks := range map[string]toll.Clocks{
			"event":                  {Event: ahead, Record: now, Server: now, Own: now},
			"record":                 {Event: now, Record: ahead, Server: now, Own: now},
			"server":                 {Event: now, Record: now, Server: ahead, Own: now},
			"own":                    {Event: now, Record: now, Server: now, Own: ahead},
			"all but event time":     {Event: now, Record: ahead, Server: ahead, Own: ahead},
			"all but the records":    {Event: ahead, Record: now, Server: ahead, Own: ahead},
			"all but the server":     {Event: ahead, Record: ahead, Server: now, Own: ahead},
			"all but ours":           {Event: ahead, Record: ahead, Server: ahead, Own: now},
			"event time, no records": {Event: ahead, Server: now, Own: now},
		} {
			o.Clocks = clocks
			if gone, err := s.Retire(t.Context(), o); err != nil || gone != (retention.Retired{}) {
				t.Errorf("%s ahead: %+v was deleted, %v", name, gone, err)
			}
		}
		for _, o := range []retention.Options{
			// ten times is more than a duration
			{Clocks: clocksAt(now), Windows: x.Cfg.Windows, KeepWindows: 36500 * 24 * time.Hour},
			{Clocks: clocksAt(now), Windows: x.Cfg.Windows, KeepWindows: 1<<63 - 1},
		} {
			if gone, err := s.Retire(t.Context(), o); err != nil || gone != (retention.Retired{}) {
				t.Errorf("kept for %v: %+v was deleted, %v", o.KeepWindows, gone, err)
			}
		}
		for _, o := range []retention.Options{
			// up to a time after now
			{Clocks: clocksAt(now), Windows: x.Cfg.Windows, KeepWindows: -time.Hour},
			{Clocks: clocksAt(now), KeepDeadLetters: -time.Hour},
			{Clocks: toll.Clocks{Event: now, Record: now, Own: now}, Windows: x.Cfg.Windows,
				KeepWindows: time.Hour},
		} {
			if gone, err := s.Retire(t.Context(), o); err == nil || gone != (retention.Retired{}) {
				t.Errorf("%+v: %+v was deleted, %v", o, gone, err)
			}
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`); n != windows || n < 7 {
			t.Errorf("%d windows are left of %d", n, windows)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_retired`); n != 0 {
			t.Errorf("%d marks although nothing was deleted", n)
		}
		dbtest.Exec(t, s, `DELETE FROM toll_dead_letter`)
		in := verify.Input{States: states, Deep: true, Windows: x.Cfg.Windows}
		if r := dbtest.Verify(t, s, in); r.Status != verify.Exact || r.Windows != windows ||
			r.WindowsRetired != 0 {
			t.Errorf("got %+v", r)
		}
		dbtest.Exec(t, s, `DELETE FROM toll_window WHERE kind = '15m' LIMIT 1`)
		if r := dbtest.Verify(t, s, in); r.Status != verify.Mismatch ||
			r.Problems[0].Kind != verify.KindWindowMissing {
			t.Errorf("one was deleted: %+v", r)
		}
	})
}

// TestRetiredMark deletes windows and has verification excuse those alone: each kind up to the last
// window that was deleted.
func TestRetiredMark(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m")
		for _, at := range []string{"2022-03-01 10:07", "2022-03-02 10:07", "2022-06-01 10:07",
			"2022-06-01 11:07"} {
			x.Store(0, dbtest.Pass(4856, at, "car", 1, toll.OnTime))
		}
		states := x.MergedStates("2022-06-02 00:00")
		x.StoreResults(x.Results(), x.Closing(4856, "2022-06-02 00:00"))
		in := verify.Input{States: states, Deep: true, Windows: x.Cfg.Windows}
		o := retention.Options{Clocks: clocksAt(dbtest.MinuteOf(t, "2022-06-02 00:00").Time()),
			Windows: x.Cfg.Windows, KeepWindows: retention.MinKeepWindows}
		want := retention.Retired{Windows: 4}
		if gone, err := s.Retire(t.Context(), o); err != nil || gone != want {
			t.Fatalf("%+v deleted, want %+v, %v", gone, want, err)
		}
		marks := func() string {
			retired, err := tables.ReadRetired(t.Context(), s.DB)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, kind := range []string{"1m", "15m"} {
				text += kind + " " +
					x.Zone.Wall(retired[tables.RetiredWindows+kind].Time()).Format("2006-01-02 15:04") + " "
			}
			return text
		}
		if got := marks(); got != "1m 2022-03-02 10:08 15m 2022-03-02 10:15 " {
			t.Errorf("recorded as deleted: %s", got)
		}
		for kind, want := range map[string]toll.Minute{"1h": math.MinInt32,
			"15m": dbtest.MinuteOf(t, "2022-03-02 10:15")} {
			if before, err := s.RetiredBefore(t.Context(), kind); err != nil || before != want {
				t.Errorf("windows of %s are deleted up to %v, %v", kind, before.Time(), err)
			}
		}
		r := dbtest.Verify(t, s, in)
		if r.Status != verify.Exact || r.WindowsRetired != 4 || r.Windows != 4 ||
			len(r.RetiredUntil) != 2 ||
			!r.RetiredUntil["15m"].Equal(dbtest.MinuteOf(t, "2022-03-02 10:15").Time()) {
			t.Errorf("got %+v", r)
		}
	})
}

func TestMain(m *testing.M) { dbtest.Main(m) }
