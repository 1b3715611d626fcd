package sql

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"tollstream/toll"
)

func TestMigrate(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		filled := 0
		list := []migration{
			{to: 1, statements: []string{"not even SQL"}},
			{
				to:         SchemaVersion + 1,
				statements: []string{"ALTER TABLE toll_meta ADD COLUMN a int NOT NULL DEFAULT 0", "CREATE INDEX b ON toll_retry (stored_offset)"},
				fill:       func(context.Context, *Store) (string, error) { filled++; return "filled", nil },
			},
			{to: SchemaVersion + 2},
		}
		for range 2 { // the second time as after a crash before the version was recorded
			done, err := s.migrate(t.Context(), SchemaVersion, list)
			if err != nil || len(done) != 3 || done[1] != "filled" {
				t.Fatalf("got %q, %v", done, err)
			}
		}
		if filled != 2 {
			t.Errorf("filled %d times", filled)
		}
		_, err := s.Init(t.Context(), testIdentity)
		wantPermanent(t, err, fmt.Sprint("version ", SchemaVersion+2), "newer")
		_, err = s.Check(t.Context(), testIdentity)
		wantPermanent(t, err, fmt.Sprint("version ", SchemaVersion+2), "newer")
	})
}

// TestMigrateFromVersion3 migrates tables of version 3 with batches in them, however far an earlier attempt came. What they
// hold stays exact.
func TestMigrateFromVersion3(t *testing.T) {
	eager(t)
	old, err := os.ReadFile("testdata/schema3.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range engines {
		for crash := range len(migrations[0].statements) + 1 {
			t.Run(fmt.Sprint(engine, "/", crash), func(t *testing.T) {
				s := openEmpty(t, engine)
				for _, statement := range splitStatements(string(old)) {
					if table := parseSchema(statement + ";")[0]; s.embedded(t.Context()) {
						statement = table.withoutKeys()
					}
					run(t, s, statement)
				}
				run(t, s, `INSERT INTO toll_meta (id, schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at, resetting)
					VALUES (1, 3, ?, ?, ?, ?, ?, NOW(6), 0)`, strings.Repeat("0", 32), testIdentity.Group, testIdentity.Topic, testIdentity.TopicID, testIdentity.Timezone)
				st := newStream(t, s)
				st.fill()
				wantKinds := lettersOfVersion3(t, s)
				for _, statement := range migrations[0].statements[:crash] {
					run(t, s, statement)
				}
				_, err := s.Check(t.Context(), testIdentity)
				wantPermanent(t, err, "of version 3", "tollstream init")
				if done := initialize(t, s); fmt.Sprint(done) != "[migrated the tables from version 3 to 4 created table toll_stalled created table toll_accepted_log]" {
					t.Errorf("got %q", done)
				}
				if done := initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				for offset, want := range wantKinds {
					d, err := s.DeadLetter(t.Context(), toll.Origin{Partition: 9, Offset: offset})
					if err != nil || d.Kind != want {
						t.Errorf("dead letter 9:%d is of kind %q, want %q, %v", offset, d.Kind, want, err)
					}
				}
				if n := number64(t, s, `SELECT COUNT(*) FROM toll_dead_letter WHERE kind = ''`); n != 0 {
					t.Errorf("%d dead letters have no kind", n)
				}
				run(t, s, `DELETE FROM toll_dead_letter WHERE partition_id = 9`)
				r := verify(t, s, VerifyInput{States: st.states, Deep: true})
				if r.Status != Exact || r.Batches != 4 || r.BatchRows != 4 {
					t.Errorf("got %+v", r)
				}
			})
		}
	}
}

// TestMigrateSkippedTimes: an older version counted times that are never shown an hour later. The migration says so, and
// verification finds the minutes.
func TestMigrateSkippedTimes(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		x := newWindowed(t, s, "1m,15m")
		x.store(0, passage{1, "2026-03-29 01:30", "car", 5, toll.OnTime}, passage{1, "2026-03-29 03:30", "car", 5, toll.OnTime},
			passage{1, "2026-03-30 02:30", "car", 5, toll.OnTime})
		migrated := func() string {
			done, err := s.migrate(t.Context(), 3, migrations)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(done, "; ")
		}
		if done := migrated(); done != "migrated the tables from version 3 to 4" {
			t.Errorf("got %q", done)
		}
		if r := verify(t, s, x.input(x.states("2026-03-29 00:00"), true)); r.Status != InFlight && r.Status != Exact {
			t.Errorf("%s: %v", r.Status, r.Problems)
		}
		// As if two of the vehicles at 03:30 had been stored as 02:30, and counted an hour later.
		run(t, s, `UPDATE livetolldata SET timestamp = '2026-03-29 02:30:00' WHERE timestamp = '2026-03-29 03:30:00' LIMIT 2`)
		if done := migrated(); !strings.Contains(done, "2 rows were stored in livetolldata") || !strings.Contains(done, "Europe/Berlin skip") {
			t.Errorf("got %q", done)
		}
		r := verify(t, s, x.input(x.states("2026-03-29 00:00"), true))
		_, texts := problemsOf(r)
		for _, want := range []string{"minute 2026-03-29 01:59: 2 rows in livetolldata, 0 stored", "minute 2026-03-29 03:30: 3 rows in livetolldata, 5 stored"} {
			if !strings.Contains(texts, want) {
				t.Errorf("verification lacks %q:\n%s", want, texts)
			}
		}
	})
}

// lettersOfVersion3 stores dead letters as version 3 did, in partition 9, and returns their kinds by offset.
func lettersOfVersion3(t *testing.T, s *Store) map[int64]toll.RejectKind {
	t.Helper()
	kinds := map[int64]toll.RejectKind{}
	for i, l := range []struct {
		reason, sqlState string
		kind             toll.RejectKind
	}{
		{"the dead letter 0:2 was already retried", "", toll.RejectRetried},
		{"Data truncated for column 'vehicle_type' at row 1", "22001", toll.RejectRefused},
		{"time: the dead letter 0:2 was already retried", "45000", toll.RejectRefused}, // as a trigger of a joker may say
		{"event: no value (a tombstone)", "", toll.RejectTombstone},
		{"event: 1 field, expected 4", "", toll.RejectFormat},
		{"batch: the offsets 1 to 2 inflate to more than 100 MiB", "", toll.RejectOversized},
		{"time: \"the dead letter 0:2 was already retried\" is not a time", "", toll.RejectTime},
		{"vehicle_id: -1 is outside 0 to 2147483647", "", toll.RejectVehicle},
		{"vehicle_type: empty", "", toll.RejectType},
		{"toll_plaza_id: 99999 is outside -32768 to 32767", "", toll.RejectPlaza},
	} {
		run(t, s, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset, record_time, reason, sql_state, payload, payload_bytes,
			record_key, rejected_at) VALUES (?, 9, ?, NOW(6), ?, ?, 'x', 1, NULL, NOW(6))`, testIdentity.TopicID, i, l.reason, l.sqlState)
		kinds[int64(i)] = l.kind
	}
	return kinds
}

// TestMigrateTooOld refuses tables that are older than any that a migration starts from.
func TestMigrateTooOld(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		run(t, s, `UPDATE toll_meta SET schema_version = ?`, firstSchemaVersion-1)
		_, err := s.Check(t.Context(), testIdentity)
		wantPermanent(t, err, "oldest that can be migrated")
		_, err = s.Init(t.Context(), testIdentity)
		wantPermanent(t, err, "oldest that can be migrated")
	})
}
