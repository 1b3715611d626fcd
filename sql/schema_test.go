package sql_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

func TestMigrate(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		filled := 0
		list := []sql.Migration{
			sql.NewMigration(1, []string{"not even SQL"}, nil),
			sql.NewMigration(tables.SchemaVersion+1,
				[]string{"ALTER TABLE toll_meta ADD COLUMN a int NOT NULL DEFAULT 0",
					"CREATE INDEX b ON toll_retry (stored_offset)"},
				func(context.Context, *sql.Store) (string, error) { filled++; return "filled", nil }),
			sql.NewMigration(tables.SchemaVersion+2, nil, nil),
		}
		for range 2 { // the second time as after a crash before the version was recorded
			done, err := s.Migrate(t.Context(), tables.SchemaVersion, list)
			if err != nil || len(done) != 3 || done[1] != "filled" {
				t.Fatalf("got %q, %v", done, err)
			}
		}
		if filled != 2 {
			t.Errorf("filled %d times", filled)
		}
		_, err := s.Init(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, fmt.Sprint("version ", tables.SchemaVersion+2), "newer")
		_, err = s.Check(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, fmt.Sprint("version ", tables.SchemaVersion+2), "newer")
	})
}

// TestMigrateFromVersion3 migrates tables of version 3 with batches in them, however far an earlier
// attempt came. What they hold stays exact.
func TestMigrateFromVersion3(t *testing.T) {
	old, err := os.ReadFile("testdata/schema3.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range dbtest.Engines {
		for crash := range len(sql.FirstStatements()) + 1 {
			t.Run(fmt.Sprint(engine, "/", crash), func(t *testing.T) {
				s := dbtest.OpenEmpty(t, engine)
				for _, statement := range sql.SplitStatements(string(old)) {
					if s.DB.Embedded(t.Context()) {
						statement = sql.WithoutKeys(statement)
					}
					dbtest.Exec(t, s, statement)
				}
				dbtest.Exec(t, s, `INSERT INTO toll_meta (id, schema_version, database_id, consumer_group,
					topic, topic_id, timezone, created_at, resetting)
					VALUES (1, 3, ?, ?, ?, ?, ?, NOW(6), 0)`, strings.Repeat("0", 32), dbtest.Identity.Group,
					dbtest.Identity.Topic, dbtest.Identity.TopicID, dbtest.Identity.Timezone)
				st := dbtest.NewStream(t, s)
				st.Fill()
				wantKinds := lettersOfVersion3(t, s)
				for _, statement := range sql.FirstStatements()[:crash] {
					dbtest.Exec(t, s, statement)
				}
				_, err := s.Check(t.Context(), dbtest.Identity)
				dbtest.WantPermanent(t, err, "of version 3", "tollstream init")
				if done := dbtest.Initialize(t,
					s); fmt.Sprint(
					done) != "[migrated the tables from version 3 to 4 migrated the tables from version 4 to 5 "+
					"migrated the tables from version 5 to 6 created table toll_process "+
					"created table toll_accepted_log "+
					"created table toll_incident_note created table toll_notification]" {
					t.Errorf("got %q", done)
				}
				if done := dbtest.Initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				for offset, want := range wantKinds {
					d, err := s.DeadLetter(t.Context(), toll.Origin{Partition: 9, Offset: offset})
					if err != nil || d.Kind != want {
						t.Errorf("dead letter 9:%d is of kind %q, want %q, %v", offset, d.Kind, want, err)
					}
				}
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_dead_letter WHERE kind = ''`); n != 0 {
					t.Errorf("%d dead letters have no kind", n)
				}
				dbtest.Exec(t, s, `DELETE FROM toll_dead_letter WHERE partition_id = 9`)
				r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true})
				if r.Status != verify.Exact || r.Batches != 4 || r.BatchRows != 4 {
					t.Errorf("got %+v", r)
				}
			})
		}
	}
}

// version3 stores events as version 3 did, some of them at times that Berlin's clocks skip: counted
// an hour later. Fold says before which wall time minutes were folded; empty for none.
func version3(t *testing.T, s *dbtest.Store, fold string) (x *dbtest.Windowed, until string) {
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	until = "2026-03-29 12:00"
	x = dbtest.NewWindowed(t, s, "1m,5m/1m,15m,1h,3h/1h,24h/1h,day")
	x.Cfg.PlazaZones = map[int16]*toll.Zone{2: toll.NewZone(kolkata)}
	dbtest.Exec(t, s,
		`INSERT INTO toll_plaza (toll_plaza_id, name, road, position_km, lanes, capacity_per_lane,
			timezone) VALUES (2, '', '', 0, 0, 0, 'Asia/Kolkata')`)
	gap, hour := dbtest.WallTime(t, "2026-03-29 02:00"), toll.WallTime(3600)
	x.Rule = func(w toll.WallTime) toll.Minute {
		if w >= gap && w < gap+hour {
			w += hour
		}
		return x.Zone.Clone().Minute(w)
	}
	random := rand.New(rand.NewPCG(8, 9))
	x.Store(0, dbtest.Pass(1, "2026-03-29 01:59:30", "car", 2, toll.OnTime),
		dbtest.Pass(1, "2026-03-29 02:30", "car", 3, toll.OnTime),
		dbtest.Pass(1, "2026-03-29 03:30", "car", 2, toll.OnTime), dbtest.Pass(1, "2026-03-29 02:59:59",
			"bus", 1,
			toll.Late),
		dbtest.Pass(3, "2026-03-29 02:10", "car", 4, toll.OnTime), dbtest.Pass(3, "2026-03-29 02:11",
			"car", 1,
			toll.TooLate))
	x.Store(1, dbtest.Pass(1, "2026-03-29 02:30", "truck", 1, toll.LateQuarter),
		dbtest.Pass(1, "2026-03-29 03:31", "car", 1, toll.OnTime),
		dbtest.Pass(4, "2026-03-29 02:20", "car", 2, toll.TooLate), dbtest.Pass(4, "2026-03-29 03:20",
			"car", 2,
			toll.OnTime))
	for i, chunk := range slices.Collect(
		slices.Chunk(x.Random(random, 300, "2026-03-28 23:00", 6*60, 1, 2, 5), 50)) {
		x.Store(int32(i%2), chunk...)
	}
	for plaza := range int16(6) {
		x.StoreResults(x.Results(), x.Closing(plaza, until))
	}
	dbtest.Exec(t, s, `UPDATE toll_batch SET published = 1`)
	if fold != "" {
		for _, b := range storedBatches(t, s) {
			before := dbtest.MinuteOf(t, fold)
			deltas := toll.FoldDeltas(toll.JoinDeltas([][]toll.PlazaDelta{b.deltas}, []int64{b.next}),
				before)
			dbtest.Exec(t, s, `UPDATE toll_batch SET deltas = ?, folded_minute = ? WHERE partition_id = ?
				AND first_offset = ?`,
				dbtest.EncodeJSON(deltas), before, b.partition, b.first)
		}
	}
	dbtest.Exec(t, s, `UPDATE toll_meta SET schema_version = 3, windows = ?`,
		toll.FormatWindows(x.Cfg.Windows))
	return x, until
}

type decodedBatch struct {
	partition   int32
	first, next int64
	deltas      []toll.PlazaDelta
}

func storedBatches(t *testing.T, s *dbtest.Store) (all []decodedBatch) {
	t.Helper()
	for _, partition := range []int32{0, 1} {
		err := tables.ReadBatches(t.Context(), s.DB, dbtest.Identity.TopicID, partition, -1,
			func(b *tables.BatchRow) error {
				deltas, err := dbtest.DecodeJSON(b.Blob)
				all = append(all, decodedBatch{partition, b.First, b.Next, deltas})
				return err
			})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// statesOf merges all that is stored, and takes windows for delivered up to a time.
func statesOf(t *testing.T, s *dbtest.Store, until string) map[int16]*toll.State {
	t.Helper()
	epoch := uint64(dbtest.Int(t, s, `SELECT MAX(epoch) FROM toll_cursor`))
	states := map[int16]*toll.State{}
	for _, b := range storedBatches(t, s) {
		for i := range b.deltas {
			d := &b.deltas[i]
			if states[d.Plaza] == nil {
				states[d.Plaza] = toll.NewState(epoch)
			}
			states[d.Plaza].Merge(d.Of(epoch, b.partition, b.first, b.next))
		}
	}
	for _, state := range states {
		state.Done, state.Dirty = dbtest.MinuteOf(t, until), nil
	}
	return states
}

// contents returns the rows that the migration may change, as text.
func contents(t *testing.T, s *dbtest.Store) string {
	t.Helper()
	var b strings.Builder
	for _, query := range []string{
		`SELECT CONCAT_WS(' ', partition_id, epoch) FROM toll_cursor ORDER BY partition_id`,
		`SELECT CONCAT_WS(' ', partition_id, first_offset, first_minute, last_minute, published, deltas)
			FROM toll_batch ORDER BY partition_id, first_offset`,
		`SELECT CONCAT_WS(' ', toll_plaza_id, kind, start_minute, end_minute, window_start, window_end,
			whole, epoch, revision, events, late, too_late, by_type, published)
			FROM toll_window ORDER BY toll_plaza_id, kind, start_minute`,
	} {
		rows, err := s.DB.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, text)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// wantRanges fails where a window does not hold the rows of its own range of times, or is missing.
func wantRanges(t *testing.T, x *dbtest.Windowed, until string) {
	t.Helper()
	x.Rule = nil
	r, err := x.S.DB.QueryContext(t.Context(), `SELECT toll_plaza_id, kind, start_minute,
		CAST(window_start AS CHAR), CAST(window_end AS CHAR), whole, events, too_late,
		flow_per_hour * (end_minute - start_minute) / 60 FROM toll_window WHERE revision > 0
		OR end_minute <= ?`, dbtest.MinuteOf(t, until))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	found := map[toll.WindowID]bool{}
	for r.Next() {
		var id toll.WindowID
		var start, end string
		var whole bool
		var events, tooLate, want int64
		var flow float64
		if err := r.Scan(&id.Plaza, &id.Kind, &id.Start, &start, &end, &whole, &events, &tooLate,
			&flow); err != nil {
			t.Fatal(err)
		}
		for _, p := range x.Passages {
			if at := dbtest.WallTime(t, p.At).String(); p.Plaza == id.Plaza && at >= start && at < end {
				want += int64(p.N)
			}
		}
		if found[id] = true; events+tooLate != want {
			t.Errorf("%v from %s to %s: %d events and %d too late, %d rows", id, start, end, events, tooLate,
				want)
		}
		if math.Abs(flow-float64(events)) > 0.01 {
			t.Errorf("%v: flow of %v vehicles, want %d", id, flow, events)
		}
	}
	for plaza := range int16(6) {
		for id, n := range x.Counts(plaza, dbtest.MinuteOf(t, until)) {
			if n.Events() > 0 && !found[id] {
				t.Errorf("%v is missing", id)
			}
		}
	}
}

// TestMigrateSkippedTimes: version 3 counted times that are never shown an hour later. The
// migration moves them, in the outbox and in the windows.
func TestMigrateSkippedTimes(t *testing.T) {
	for _, fold := range []string{"", "2026-03-29 01:30", "2026-03-29 03:15", "2026-03-29 05:00"} {
		t.Run("folded "+fold, func(t *testing.T) {
			dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
				x, until := version3(t, s, fold)
				epoch := x.Epoch()
				if r := dbtest.Verify(t, s, x.Input(statesOf(t, s, until), true)); r.Status != verify.Mismatch {
					t.Fatalf("before: %s", r.Status)
				}
				stored := contents(t, s)
				done := dbtest.Initialize(t, s)
				if fold > "2026-03-29 02" {
					// Of plaza 4 the minutes from 03:15 on are all there.
					some := fold < "2026-03-29 04"
					if len(done) != 4 ||
						!strings.Contains(done[1], "counted too late until the topic is replayed") ||
						(contents(t, s) != stored) != some {
						t.Errorf("got %q, or rows were changed", done)
					}
					return
				}
				if len(done) != 4 || !strings.Contains(done[1], "clocks of Europe/Berlin skip: ") ||
					strings.Contains(done[1], "counted too late") {
					t.Errorf("got %q", done)
				}
				t.Log(done)
				if now := dbtest.Int(t, s, `SELECT MIN(epoch) FROM toll_cursor`); uint64(now) <= epoch {
					t.Errorf("epoch %d, was %d", now, epoch)
				}
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch WHERE published = 1`); n != 0 {
					t.Errorf("%d batches are not to be sent again", n)
				}
				dbtest.Exec(t, s, `UPDATE toll_batch SET published = 1`)
				r := dbtest.Verify(t, s, x.Input(statesOf(t, s, until), true))
				if _, texts := dbtest.ProblemsOf(r); r.Status != verify.Exact {
					t.Errorf("%s:\n%s", r.Status, texts)
				}
				wantRanges(t, x, until)
				before := contents(t, s)
				if done := dbtest.Initialize(t, s); len(done) != 0 || contents(t, s) != before {
					t.Errorf("again: %q", done)
				}
			})
		})
	}
}

// TestMigrateSkippedTimesFails: wherever it fails, nothing is changed, and it can be run again.
func TestMigrateSkippedTimesFails(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x, until := version3(t, s, "")
		before := contents(t, s)
		// noticed after the batches were changed
		dbtest.Exec(t, s, `UPDATE toll_plaza SET timezone = 'No/Where'`)
		if _, err := s.Init(t.Context(), dbtest.Identity); err == nil || contents(t, s) != before {
			t.Fatalf("got %v, or rows were changed", err)
		}
		dbtest.Exec(t, s, `UPDATE toll_plaza SET timezone = 'Asia/Kolkata'`)
		for fail := 1; ; fail += 3 {
			calls := 0
			s.SetDecode(func(b []byte) ([]toll.PlazaDelta, error) {
				if calls++; calls == fail {
					return nil, errors.New("on purpose")
				}
				return dbtest.DecodeJSON(b)
			})
			_, err := s.Init(t.Context(), dbtest.Identity)
			if err == nil && fail > 6 {
				break
			}
			if err == nil || !strings.Contains(err.Error(), "on purpose") {
				t.Fatalf("call %d fails: got %v", fail, err)
			}
			if contents(t, s) != before {
				t.Fatalf("call %d failed, and rows were changed", fail)
			}
		}
		s.SetDecode(dbtest.DecodeJSON)
		dbtest.Exec(t, s, `UPDATE toll_batch SET published = 1`)
		// As after a crash that the version did not survive.
		after := contents(t, s)
		dbtest.Exec(t, s, `UPDATE toll_meta SET schema_version = 3`)
		dbtest.Initialize(t, s)
		if contents(t, s) != after {
			t.Error("the second time it changed something")
		}
		wantRanges(t, x, until)
	})
}

// TestMigrateNoSkippedTimes: without such rows only ranges of time that differ are corrected.
func TestMigrateNoSkippedTimes(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m")
		x.Store(0, dbtest.Pass(1, "2026-03-29 01:30", "car", 5, toll.OnTime),
			dbtest.Pass(1, "2026-03-29 03:30", "car", 5, toll.OnTime),
			dbtest.Pass(1, "2026-03-30 02:30", "car", 5, toll.OnTime),
			dbtest.Pass(1, "2026-10-25 02:59", "car", 1, toll.OnTime))
		x.StoreResults(x.Results(), x.Closing(1, "2026-10-26 00:00"))
		before := contents(t, s)
		dbtest.Exec(t, s, `UPDATE toll_meta SET schema_version = 3, windows = '1m,15m'`)
		dbtest.Exec(t, s, `UPDATE toll_window SET window_end = '2026-10-25 02:00:00'
			WHERE window_end = '2026-10-25 03:00:00'`)
		if contents(t, s) == before {
			t.Fatal("no window ends at 03:00")
		}
		if done := dbtest.Initialize(t, s); fmt.Sprint(
			done) != "[migrated the tables from version 3 to 4 migrated the tables from version 4 to 5 "+
			"migrated the tables from version 5 to 6]" {
			t.Errorf("got %q", done)
		}
		if after := contents(t, s); after != before {
			t.Errorf("got\n%s, want\n%s", after, before)
		}
	})
}

// lettersOfVersion3 stores dead letters as version 3 did, in partition 9, and returns their kinds
// by offset.
func lettersOfVersion3(t *testing.T, s *dbtest.Store) map[int64]toll.RejectKind {
	t.Helper()
	kinds := map[int64]toll.RejectKind{}
	for i, l := range []struct {
		reason, sqlState string
		kind             toll.RejectKind
	}{
		{"the dead letter 0:2 was already retried", "", toll.RejectRetried},
		{"Data truncated for column 'vehicle_type' at row 1", "22001", toll.RejectRefused},
		// as a trigger of a joker may say
		{"time: the dead letter 0:2 was already retried", "45000", toll.RejectRefused},
		{"event: no value (a tombstone)", "", toll.RejectTombstone},
		{"event: 1 field, expected 4", "", toll.RejectFormat},
		{"batch: the offsets 1 to 2 inflate to more than 100 MiB", "", toll.RejectOversized},
		{"time: \"the dead letter 0:2 was already retried\" is not a time", "", toll.RejectTime},
		{"vehicle_id: -1 is outside 0 to 2147483647", "", toll.RejectVehicle},
		{"vehicle_type: empty", "", toll.RejectType},
		{"toll_plaza_id: 99999 is outside -32768 to 32767", "", toll.RejectPlaza},
	} {
		dbtest.Exec(t, s, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset,
			record_time, reason, sql_state, payload, payload_bytes,
			record_key, rejected_at) VALUES (?, 9, ?, NOW(6), ?, ?, 'x', 1, NULL, NOW(6))`,
			dbtest.Identity.TopicID, i, l.reason, l.sqlState)
		kinds[int64(i)] = l.kind
	}
	return kinds
}

// TestMigrateTooOld refuses tables that are older than any that a migration starts from.
func TestMigrateTooOld(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		dbtest.Exec(t, s, `UPDATE toll_meta SET schema_version = ?`, tables.FirstSchemaVersion-1)
		_, err := s.Check(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, "oldest that can be migrated")
		_, err = s.Init(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, "oldest that can be migrated")
	})
}
