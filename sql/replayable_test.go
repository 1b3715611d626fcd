package sql_test

import (
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestUnreplayable counts the rows that a replay would not bring back, of logs of all kinds.
func TestUnreplayable(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		// partition 0: 7 rows of [100, 109), 3 of [109, 113), 6 of [113, 122); partition 1: 5 of [100,
		// 106)
		st.Fill()
		whole := sql.LogRange{Start: 0, Other: -1}
		for _, c := range []struct {
			name  string
			logs  map[int32]sql.LogRange
			rows  int64
			exact bool
		}{
			{"all is there", map[int32]sql.LogRange{0: whole, 1: whole}, 0, true},
			{"the first batch is gone", map[int32]sql.LogRange{0: {109, -1}, 1: whole}, 7, true},
			{"and a part of the second", map[int32]sql.LogRange{0: {110, -1}, 1: whole}, 10, false},
			{"a partition is gone", map[int32]sql.LogRange{0: whole}, 5, true},
			{"the topic is another one", nil, 21, true},
			{"the log is another one from the last batch on", map[int32]sql.LogRange{0: {0, 113}, 1: whole},
				6,
				false},
			{"and has lost its head", map[int32]sql.LogRange{0: {109, 113}, 1: whole}, 13, false},
		} {
			rows, exact, err := s.Unreplayable(t.Context(), c.logs)
			if err != nil || rows != c.rows || exact != c.exact {
				t.Errorf("%s: %d rows, exact %v, %v; want %d, %v", c.name, rows, exact, err, c.rows, c.exact)
			}
		}
	})
}

// TestAcceptLog: verify reports a replaced log until it is accepted, and names it from then on.
func TestAcceptLog(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		w := s.Writer(dbtest.Identity.TopicID)
		c, err := w.Cursor(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		found := map[int32]verify.LogCheck{0: {Replaced: "it was found to be another one"},
			1: {Unchecked: "retention"}}
		r := dbtest.Verify(t, s, verify.Input{States: st.States, Logs: found})
		if r.Status != verify.Mismatch || r.Problems[0].Kind != verify.KindLogReplaced ||
			r.Partitions[0].Log != verify.LogReplaced || r.Partitions[1].Log != verify.LogUnchecked ||
			len(r.Notes) != 1 {
			t.Errorf("by what was found: %+v", r)
		}
		if err := w.MarkLogReplaced(t.Context(), &c, "it is another one"); err != nil {
			t.Fatal(err)
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: st.States,
				Logs: map[int32]verify.LogCheck{0: {}}}); r.Status != verify.Mismatch {
			t.Errorf("what was recorded counts, however the log looks now: %+v", r)
		}
		moved := c
		moved.Token ^= 1 << 40 // the embedded server compares as floats do
		if err := w.MarkLogReplaced(t.Context(), &moved, "no"); err != toll.ErrCursorMoved {
			t.Errorf("of a cursor that has moved: %v", err)
		}
		last := toll.LastRecord{Known: true, Offset: c.Next - 1, LeaderEpoch: 3, Timestamp: -1,
			CRC: 1<<32 - 1}
		from, rows, records := int64(109), int64(9), int64(13)
		a := tables.AcceptedLog{Partition: 0, Next: c.Next, From: &from, Rows: &rows, Records: &records,
			MostRows: 16, MostRecords: 22, Why: "it is another one"}
		if err := s.AcceptLog(t.Context(), &moved, last, a); err != toll.ErrCursorMoved {
			t.Errorf("of a cursor that has moved: %v", err)
		}
		if err := s.AcceptLog(t.Context(), &c, last, a); err != nil {
			t.Fatal(err)
		}
		if c, err = w.Cursor(t.Context(), 0); err != nil || c.LogReplaced != "" || c.Last != last {
			t.Errorf("the cursor is %+v, %v", c, err)
		}
		r = dbtest.Verify(t, s,
			verify.Input{States: st.States, Logs: map[int32]verify.LogCheck{0: {}, 1: {}}})
		if r.Status != verify.Exact || r.Partitions[0].Log != verify.LogSame ||
			len(r.AcceptedLogs) != 1 ||
			*r.AcceptedLogs[0].Rows != 9 {
			t.Errorf("after it was accepted: %+v", r)
		}
		if rows, exact, err := s.Unreplayable(t.Context(),
			map[int32]sql.LogRange{0: {0, -1}, 1: {0, -1}}); err != nil || rows != 9 || exact {
			t.Errorf("%d rows can't be replayed, exact %v, %v", rows, exact, err)
		}
	})
}
