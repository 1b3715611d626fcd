package sql_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
)

func TestMigrate(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		list := []sql.Migration{
			sql.NewMigration(1, "not even SQL"),
			sql.NewMigration(tables.SchemaVersion+1,
				"ALTER TABLE toll_meta ADD COLUMN a int NOT NULL DEFAULT 0",
				"CREATE INDEX b ON toll_retry (stored_offset)"),
			sql.NewMigration(tables.SchemaVersion + 2),
		}
		for range 2 { // the second time as after a crash before the version was recorded
			done, err := s.Migrate(t.Context(), tables.SchemaVersion, list)
			if err != nil || len(done) != 2 {
				t.Fatalf("got %q, %v", done, err)
			}
		}
		_, err := s.Init(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, fmt.Sprint("version ", tables.SchemaVersion+2), "newer")
		_, err = s.Check(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, fmt.Sprint("version ", tables.SchemaVersion+2), "newer")
	})
}

// TestMigrateFromFirst migrates tables of the oldest version with batches in them, however far an
// earlier attempt came. What they hold stays exact.
func TestMigrateFromFirst(t *testing.T) {
	old, err := os.ReadFile("testdata/schema5.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range dbtest.Engines {
		for crash := range len(sql.MigrationStatements()) + 1 {
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
					VALUES (1, ?, ?, ?, ?, ?, ?, NOW(6), 0)`, tables.FirstSchemaVersion,
					strings.Repeat("0", 32), dbtest.Identity.Group, dbtest.Identity.Topic,
					dbtest.Identity.TopicID, dbtest.Identity.Timezone)
				st := dbtest.NewStream(t, s)
				st.Fill()
				for _, statement := range sql.MigrationStatements()[:crash] {
					dbtest.Exec(t, s, statement)
				}
				_, err := s.Check(t.Context(), dbtest.Identity)
				dbtest.WantPermanent(t, err, "of version 5", "tollstream init")
				if done := dbtest.Initialize(t, s); fmt.Sprint(done) != "[migrated the tables from version "+
					"5 to 6 migrated the tables from version 6 to 7 created table toll_process "+
					"created table toll_incident_note created table toll_notification]" {
					t.Errorf("got %q", done)
				}
				if done := dbtest.Initialize(t, s); len(done) != 0 {
					t.Errorf("again: %q", done)
				}
				r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true})
				if r.Status != verify.Exact || r.Batches != 4 || r.BatchRows != 4 {
					t.Errorf("got %+v", r)
				}
			})
		}
	}
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
