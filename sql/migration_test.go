package sql

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
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
				for _, statement := range migrations[0].statements[:crash] {
					run(t, s, statement)
				}
				_, err := s.Check(t.Context(), testIdentity)
				wantPermanent(t, err, "of version 3", "tollstream init")
				if done := initialize(t, s); fmt.Sprint(done) != "[migrated the tables from version 3 to 4]" {
					t.Errorf("got %q", done)
				}
				if done := initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				r := verify(t, s, VerifyInput{States: st.states, Deep: true})
				if r.Status != Exact || r.Batches != 4 || r.BatchRows != 4 {
					t.Errorf("got %+v", r)
				}
			})
		}
	}
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
