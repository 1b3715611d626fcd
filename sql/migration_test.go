package sql

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
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
				fill:       func(context.Context, *Store) error { filled++; return nil },
			},
			{to: SchemaVersion + 2},
		}
		for range 2 { // the second time as after a crash before the version was recorded
			done, err := s.migrate(t.Context(), SchemaVersion, list)
			if err != nil || len(done) != 2 {
				t.Fatalf("got %q, %v", done, err)
			}
		}
		if filled != 2 {
			t.Errorf("filled %d times", filled)
		}
		_, err := s.Init(t.Context(), testIdentity)
		wantPermanent(t, err, "version 5", "newer")
		_, err = s.Check(t.Context(), testIdentity)
		wantPermanent(t, err, "version 5", "newer")
	})
}

// TestMigrateFromVersion1 migrates tables that the first version made, however far an attempt before had come.
func TestMigrateFromVersion1(t *testing.T) {
	old, err := os.ReadFile("testdata/schema1.sql")
	if err != nil {
		t.Fatal(err)
	}
	was := fillBatches
	fillBatches = 3
	defer func() { fillBatches = was }()
	for _, engine := range engines {
		for crash := range len(migrations[0].statements) + 1 {
			t.Run(fmt.Sprint(engine, "/", crash), func(t *testing.T) {
				s := openEmpty(t, engine)
				for _, statement := range splitStatements(string(old)) {
					run(t, s, statement)
				}
				run(t, s, `INSERT INTO toll_meta (id, schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at, resetting)
					VALUES (1, 1, ?, ?, ?, ?, ?, NOW(6), 0)`, strings.Repeat("0", 32), testIdentity.Group, testIdentity.Topic, testIdentity.TopicID, testIdentity.Timezone)
				run(t, s, `INSERT INTO toll_cursor (topic_id, partition_id, start_offset, next_offset, token, epoch, chain, updated_at)
					VALUES (?, 0, 0, 900, 9, 7, '', NOW(6))`, testIdentity.TopicID)
				batch := func(first, events int, deltas any) {
					blob, err := json.Marshal(deltas)
					if err != nil {
						t.Fatal(err)
					}
					run(t, s, `INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset, token, events, rejected, skipped, published, deltas, stored_at)
						VALUES (?, 0, ?, ?, 9, ?, 0, ?, 1, ?, NOW(6))`, testIdentity.TopicID, first, first+3, events, 3-events, blob)
				}
				one := []toll.TypeCount{{Type: "car", Count: 1}}
				for i := range 7 {
					batch(3*i, 2, []toll.PlazaDelta{
						{Plaza: 4, Panes: []toll.Pane{{Start: toll.Minute(1000 + i), Types: one}}},
						{Plaza: 5, Panes: []toll.Pane{{Start: toll.Minute(990 + i), Types: one}}},
					})
				}
				run(t, s, `UPDATE toll_batch SET deltas = 'x' WHERE first_offset = 18`)
				batch(21, 0, nil)
				for _, statement := range migrations[0].statements[:crash] {
					run(t, s, statement)
				}

				_, err := s.Check(t.Context(), testIdentity)
				wantPermanent(t, err, "of version 1", "tollstream init")
				done := initialize(t, s)
				if done[0] != "migrated the tables from version 1 to 2" || done[1] != "migrated the tables from version 2 to 3" || len(done) != 8 {
					t.Errorf("got %q", done)
				}
				if done := initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				m, err := s.Check(t.Context(), testIdentity)
				if err != nil || m.Windows != "" || m.SchemaVersion != SchemaVersion {
					t.Errorf("got %+v, %v", m, err)
				}
				for first, want := range map[int]string{0: "990 1000", 15: "995 1005", 18: "NULL NULL", 21: "NULL NULL"} {
					var got string
					err := s.db.QueryRow(`SELECT CONCAT(COALESCE(first_minute, 'NULL'), ' ', COALESCE(last_minute, 'NULL')) FROM toll_batch WHERE first_offset = ?`, first).Scan(&got)
					if err != nil || got != want {
						t.Errorf("batch at %d: minutes %s, want %s, %v", first, got, want, err)
					}
				}
			})
		}
	}
}

// TestMigrateFromVersion2 migrates tables of the version before compaction, with batches, however far an attempt before had
// come. What they hold is as before, and can be compacted.
func TestMigrateFromVersion2(t *testing.T) {
	eager(t)
	old, err := os.ReadFile("testdata/schema2.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range engines {
		for crash := range len(migrations[1].statements) + 1 {
			t.Run(fmt.Sprint(engine, "/", crash), func(t *testing.T) {
				s := openEmpty(t, engine)
				for _, statement := range splitStatements(string(old)) {
					if table := parseSchema(statement + ";")[0]; s.embedded(t.Context()) {
						statement = table.withoutKeys()
					}
					run(t, s, statement)
				}
				run(t, s, `INSERT INTO toll_meta (id, schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at, resetting)
					VALUES (1, 2, ?, ?, ?, ?, ?, NOW(6), 0)`, strings.Repeat("0", 32), testIdentity.Group, testIdentity.Topic, testIdentity.TopicID, testIdentity.Timezone)
				st := newStream(t, s)
				st.fill()
				for _, statement := range migrations[1].statements[:crash] {
					run(t, s, statement)
				}
				_, err := s.Check(t.Context(), testIdentity)
				wantPermanent(t, err, "of version 2", "tollstream init")
				done := initialize(t, s)
				if want := "[migrated the tables from version 2 to 3 created table toll_pruned created table toll_retired]"; fmt.Sprint(done) != want {
					t.Errorf("got %q", done)
				}
				if done := initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				r := verify(t, s, VerifyInput{States: st.states, Deep: true})
				if r.Status != Exact || r.Batches != 4 || r.BatchRows != 4 {
					t.Errorf("got %+v", r)
				}
				if _, err := s.Writer(testIdentity.TopicID).Compact(t.Context(), 0, CompactOptions{Encode: encodeJSON, States: st.states, Before: math.MaxInt32}); err != nil {
					t.Fatal(err)
				}
				r = verify(t, s, VerifyInput{States: st.states, Deep: true})
				if r.Status != Exact || r.Batches != 4 || r.BatchRows != 3 {
					t.Errorf("after a compaction: %+v", r)
				}
			})
		}
	}
}
