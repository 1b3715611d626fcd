package sql

import (
	"fmt"
	"testing"
	"time"

	"tollstream/toll"
)

// TestRetire deletes results by their age and kind, and dead letters. Verification knows of it, and still finds what else
// is missing.
func TestRetire(t *testing.T) {
	defer func(n int64) { retireRows = n }(retireRows)
	retireRows = 3
	onEngines(t, func(t *testing.T, s *Store) {
		x := newWindowed(t, s, "1m,15m,day")
		for d := range 30 {
			x.store(int32(d%2), passage{4856, fmt.Sprintf("2022-03-%02d 10:07", 1+d), "car", 2, toll.OnTime},
				passage{4000, fmt.Sprintf("2022-03-%02d 10:08", 1+d), "car", 1, toll.OnTime})
		}
		states := x.mergedStates("2022-04-02 00:00")
		x.settle(x.results(), x.closing(4000, "2022-04-02 00:00"), x.closing(4856, "2022-04-02 00:00"))
		in := VerifyInput{States: states, Deep: true, Windows: x.cfg.Windows}
		if r := verify(t, s, in); r.Status != Exact || r.Windows != 2*3*30 {
			t.Fatalf("got %+v", r)
		}
		now := minuteOf(t, "2022-04-02 00:00")
		o := RetentionOptions{Now: now, Windows: x.cfg.Windows, KeepWindows: 20 * 24 * time.Hour}
		run(t, s, `UPDATE toll_window SET published = 0 WHERE toll_plaza_id = 4000 AND kind = '15m' AND start_minute = ?`, minuteOf(t, "2022-03-01 10:00"))
		gone, err := s.Retire(t.Context(), o)
		// Of minutes those of the last 2 days stay, of quarters those of 20 days and what is not published, days all.
		if want := int64(2*30 + 2*12 - 1); err != nil || gone.Windows != want {
			t.Errorf("%+v deleted, want %d windows, %v", gone, want, err)
		}
		for kind, want := range map[string]int64{"1m": 0, "15m": 37, "day": 60} {
			if n := number64(t, s, `SELECT COUNT(*) FROM toll_window WHERE kind = ?`, kind); n != want {
				t.Errorf("%d windows of %s are left, want %d", n, kind, want)
			}
		}
		if r := verify(t, s, in); r.Status != Exact {
			t.Errorf("got %+v", r)
		}
		if gone, err := s.Retire(t.Context(), RetentionOptions{Now: now, Windows: x.cfg.Windows}); err != nil || gone != (Retired{}) {
			t.Errorf("with nothing to keep for: %+v, %v", gone, err)
		}
		run(t, s, `DELETE FROM toll_window WHERE kind = '15m' AND toll_plaza_id = 4856 AND start_minute = ?`, minuteOf(t, "2022-03-29 10:00"))
		if r := verify(t, s, in); r.Status != Mismatch || r.Problems[0].Kind != KindWindowMissing {
			t.Errorf("one more was deleted: %+v", r)
		}
	})
}

// TestRetireDeadLetters deletes the oldest dead letters and what says that they were repaired.
func TestRetireDeadLetters(t *testing.T) {
	defer func(n int64) { retireRows = n }(retireRows)
	retireRows = 2
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		st := newStream(t, s)
		for range 5 {
			st.store(0, 1, map[int16]int{4856: 1})
			st.store(1, 1, map[int16]int{4856: 1})
		}
		st.merge()
		run(t, s, `UPDATE toll_dead_letter SET rejected_at = NOW(6) - INTERVAL 40 DAY WHERE partition_id = 0 AND record_offset < 110`)
		run(t, s, `INSERT INTO toll_retry (topic_id, partition_id, record_offset, stored_partition, stored_offset)
			SELECT topic_id, partition_id, record_offset, 0, 0 FROM toll_dead_letter`)
		gone, err := s.Retire(t.Context(), RetentionOptions{KeepDeadLetters: 30 * 24 * time.Hour})
		if err != nil || gone != (Retired{DeadLetters: 3}) {
			t.Errorf("got %+v, %v", gone, err)
		}
		if a, b := number64(t, s, `SELECT COUNT(*) FROM toll_dead_letter`), number64(t, s, `SELECT COUNT(*) FROM toll_retry`); a != 7 || b != 7 {
			t.Errorf("%d dead letters, %d retries are left", a, b)
		}
		if r := verify(t, s, VerifyInput{States: st.states, Deep: true}); r.Status != Exact || r.Rejected != 10 {
			t.Errorf("got %+v", r)
		}
		run(t, s, `DELETE FROM toll_dead_letter WHERE partition_id = 1 LIMIT 1`)
		if r := verify(t, s, VerifyInput{States: st.states}); r.Status != Mismatch || r.Problems[0].Kind != KindDeadLetters {
			t.Errorf("one more was deleted: %+v", r)
		}
	})
}

// mergedStates returns the states that have merged all that was stored, and whose windows were delivered up to a time.
func (x *windowed) mergedStates(done string) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.deltas {
		d := &x.deltas[i]
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(d.Epoch)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.Settled(minuteOf(x.t, done), nil)
	}
	return states
}
