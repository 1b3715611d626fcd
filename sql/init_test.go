package sql_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
)

func TestInit(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		_, err := s.Check(ctx, dbtest.Identity)
		dbtest.WantPermanent(t, err, "lacks livetolldata, toll_meta", "tollstream init")
		if done := dbtest.Initialize(t, s); len(done) != len(*sql.Schema)+1 ||
			done[0] != "created table livetolldata" {
			t.Errorf("first init: %q", done)
		}
		if done := dbtest.Initialize(t, s); len(done) != 0 {
			t.Errorf("second init: %q", done)
		}
		m, err := s.Check(ctx, dbtest.Identity)
		if err != nil || len(m.DatabaseID) != 32 || m.CreatedAt.IsZero() ||
			m.TopicID != dbtest.Identity.TopicID || m.SchemaVersion != tables.SchemaVersion {
			t.Errorf("got %+v, %v", m, err)
		}
		other := dbtest.Identity
		other.Group, other.Timezone = "b", "UTC"
		_, err = s.Check(ctx, other)
		dbtest.WantPermanent(t, err, `group "tollstream", not "b"; timezone "Europe/Berlin", not "UTC"`,
			"--group tollstream --timezone Europe/Berlin")
		_, err = s.Init(ctx, other)
		dbtest.WantPermanent(t, err, `not "b"`)
		again := dbtest.Identity
		again.TopicID = "BBBBBBBBBBBBBBBBBBBBBB"
		_, err = s.Check(ctx, again)
		dbtest.WantPermanent(t, err, again.TopicID, "tollstream reset --yes")
	})
}

func TestTopicIDIsRecordedOnce(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		without := dbtest.Identity
		without.TopicID = ""
		if _, err := s.Init(ctx, without); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Check(ctx, without); err != nil || m.TopicID != "" {
			t.Fatalf("got %+v, %v", m, err)
		}
		if m, err := s.Check(ctx, dbtest.Identity); err != nil || m.TopicID != dbtest.Identity.TopicID {
			t.Fatalf("got %+v, %v", m, err)
		}
		dbtest.WantPermanent(t, s.SetTopicID(ctx, "BBBBBBBBBBBBBBBBBBBBBB"), "reset")
	})
}

func TestRecordWindows(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := t.Context()
		dbtest.Initialize(t, s)
		for _, c := range []struct {
			windows  string
			lateness int
			explicit bool
			want     string // "" for refused
		}{
			{"1m,15m", 60, false, "1m,15m 60"},
			{"1m,15m", 60, true, "1m,15m 60"},
			{"1h", 30, false, "1m,15m 60"},
			{"1h", 60, true, ""},
			{"1m,15m", 30, true, ""},
		} {
			windows, lateness, err := s.RecordWindows(ctx, c.windows, c.lateness, c.explicit)
			if c.want == "" {
				dbtest.WantPermanent(t, err, "counts ", "not ", "tollstream reset --yes")
				continue
			}
			if got := fmt.Sprint(windows, " ", lateness); err != nil || got != c.want {
				t.Errorf("%+v: got %s, %v", c, got, err)
			}
		}
		m, err := s.Meta(ctx)
		if err != nil || m.Windows != "1m,15m" || m.Lateness != time.Minute {
			t.Errorf("got %+v, %v", m, err)
		}
		if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{}); err != nil {
			t.Fatal(err)
		}
		if m, err = s.Meta(ctx); err != nil || m.Windows != "" || m.Lateness != 0 {
			t.Errorf("after a reset: %+v, %v", m, err)
		}
		if windows, _, err := s.RecordWindows(ctx, "1h", 30, true); err != nil || windows != "1h" {
			t.Errorf("after a reset: %s, %v", windows, err)
		}
	})
}

func TestOtherColumnsAreNamed(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Exec(t, s,
			`create table livetolldata(timestamp datetime, vehicle_id bigint, vehicle_type char(15),
				plaza smallint)`)
		for _, call := range []func() error{
			func() error { _, err := s.Init(context.Background(), dbtest.Identity); return err },
		} {
			dbtest.WantPermanent(t, call(), "column vehicle_id: expected int, got bigint",
				"column toll_plaza_id: expected smallint, got none",
				"column plaza: expected none, got smallint")
		}
		if n := dbtest.Int(t, s,
			`SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()`); n != 1 {
			t.Errorf("init created tables next to a wrong one: %d", n)
		}
	})
}

func TestBaseline(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Exec(t, s, dbtest.EventTable)
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 4856),
			('2022-02-10 10:23:02', 1, 'car', 4856),
			(NULL, NULL, NULL, NULL), (NULL, 3, 'vän', 1)`)
		if done := dbtest.Initialize(t, s); !slices.Contains(done, "baseline: 4 rows held before") {
			t.Errorf("got %q", done)
		}
		baseline, err := tables.ReadBaseline(context.Background(), s.DB)
		if err != nil || len(baseline) != 3 || baseline[4856].Rows != 2 ||
			baseline[tables.NullPlaza].Rows != 1 {
			t.Fatalf("got %+v, %v", baseline, err)
		}
	})
}

func TestCreateDatabase(t *testing.T) {
	for _, engine := range dbtest.Engines {
		t.Run(engine, func(t *testing.T) {
			s := dbtest.OpenEmpty(t, engine)
			if created, err := s.CreateDatabase(context.Background()); created || err != nil {
				t.Errorf("existing: %v, %v", created, err)
			}
			c, err := mysql.ParseDSN(s.DSN)
			if err != nil {
				t.Fatal(err)
			}
			c.DBName = "toll_other"
			_, err = dbtest.Open(t, c.FormatDSN()).CreateDatabase(context.Background())
			dbtest.WantPermanent(t, err, "toll_other does not exist",
				"CREATE DATABASE IF NOT EXISTS `toll_other` CHARACTER SET utf8mb4; GRANT ALL ON")
		})
	}
}

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
