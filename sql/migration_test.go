package sql_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
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
