package sql_test

import (
	"context"
	dbsql "database/sql"
	"regexp"
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestBind lets a store that is bound to a database connect to that one only, whatever it does.
func TestBind(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		meta, err := s.Meta(ctx)
		if err != nil {
			t.Fatal(err)
		}
		bound := dbtest.Open(t, s.DSN)
		bound.ConnectEachTime()
		bound.Bind(meta)
		if _, err := bound.Meta(ctx); err != nil {
			t.Fatalf("the database that it is bound to: %v", err)
		}
		for _, change := range []string{`UPDATE toll_meta SET database_id = 'another'`,
			`DELETE FROM toll_meta`, `DROP TABLE toll_meta`} {
			dbtest.Exec(t, s, change)
			w := bound.Writer("topic")
			_, err = w.Cursor(ctx, 0)
			dbtest.WantPermanent(t, err, "another database answers at "+s.DB.Address, meta.DatabaseID)
			_, _, err = w.Load(ctx, 0, 7)
			dbtest.WantPermanent(t, err, "another database answers at")
			if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_cursor`); n != 0 {
				t.Fatalf("%s: %d cursors were made in another database", change, n)
			}
		}
	})
}

// hostileGlobals are settings of a server with which the store's statements would mean something
// else, read less, or fail, and what the sessions must have instead.
var hostileGlobals = []struct{ engine, name, value, want string }{
	{"", "autocommit", "0", "1"},
	{"", "completion_type", "CHAIN", "NO_CHAIN"},
	{"", "sql_safe_updates", "1", "0"},
	{"", "sql_select_limit", "5", "9223372036854775807"},
	{"", "sql_big_selects", "0", "1"},
	{"", "max_join_size", "5", ""}, // which sql_big_selects ignores
	{"", "sql_auto_is_null", "1", "0"},
	{"", "sql_buffer_result", "1", "0"},
	{"", "unique_checks", "0", "1"},
	{"", "max_sort_length", "8", "1024"},
	{"", "innodb_lock_wait_timeout", "1", "5"},
	{"", "wait_timeout", "3", "20"},
	{"", "net_read_timeout", "1", "5"},
	{"", "net_write_timeout", "1", "60"},
	{"", "time_zone", "'-07:30'", "+00:00"},
	{"", "character_set_client", "latin1", "utf8mb4"},
	{"", "character_set_results", "latin1", "utf8mb4"},
	{"", "collation_connection", "latin1_swedish_ci", "utf8mb4_bin"},
	{"", "character_set_server", "latin1", ""},
	{"", "default_storage_engine", "MyISAM", "InnoDB"},
	{"", "sql_mode",
		"'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,ONLY_FULL_GROUP_BY'",
		"STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO," +
			"NO_ENGINE_SUBSTITUTION"},
	{"mysql", "sql_mode",
		"'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,TIME_TRUNCATE_FRACTIONAL'", ""},
	{"mysql", "transaction_isolation", "'READ-UNCOMMITTED'", "REPEATABLE-READ"},
	{"mysql", "transaction_read_only", "1", "0"},
	{"mysql", "max_execution_time", "1", "0"},
	{"tidb", "transaction_isolation", "'READ-COMMITTED'", "REPEATABLE-READ"},
	{"tidb", "max_execution_time", "1", "0"},
	{"tidb", "tidb_txn_mode", "optimistic", "pessimistic"},
	{"tidb", "tidb_guarantee_linearizability", "0", "1"},
	{"tidb", "tidb_low_resolution_tso", "1", "0"},
	{"tidb", "tidb_dml_batch_size", "3", "0"},
	{"tidb", "tidb_idle_transaction_timeout", "1", "10"},
	{"mariadb", "tx_isolation", "'READ-UNCOMMITTED'", "REPEATABLE-READ"},
	{"mariadb", "tx_read_only", "1", "0"},
	{"mariadb", "max_statement_time", "0.000001", "0"},
	{"mariadb", "idle_transaction_timeout", "1", "10"},
	{"mariadb", "idle_write_transaction_timeout", "1", "0"},
	{"mariadb", "idle_readonly_transaction_timeout", "1", "0"},
}

// TestSessionSettings sets every hostile value as the server's default, and goes through what the
// store does. The settings are also put into the DSN, which must not win either.
func TestSessionSettings(t *testing.T) {
	dbtest.EachServer(t, func(t *testing.T, engine string) {
		dsn := dbtest.OpenEmpty(t, engine).DSN
		admin, err := dbsql.Open("mysql", dbtest.Servers.ByEngine[engine].AdminDSN())
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		admin.SetMaxOpenConns(1)
		exec := func(query string) {
			t.Helper()
			if _, err := admin.Exec(query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		exec("SET SESSION sql_mode = '', autocommit = 1")
		want := map[string]string{}
		for _, g := range hostileGlobals {
			if g.engine != "" && g.engine != engine {
				continue
			}
			var before string
			if err := admin.QueryRow("SELECT @@GLOBAL." + g.name).Scan(&before); err != nil {
				t.Fatalf("%s: %v", g.name, err)
			}
			if !regexp.MustCompile(`^[0-9.]+$`).MatchString(before) {
				before = "'" + before + "'"
			}
			set := "SET GLOBAL " + g.name + " = " + g.value
			if _, err := admin.Exec(set); err != nil && engine == "tidb" && g.engine == "" {
				continue // it has not all that MySQL has
			} else if err != nil {
				t.Fatalf("%s: %v", set, err)
			}
			defer exec("SET GLOBAL " + g.name + " = " + before)
			if g.want != "" {
				want[g.name] = g.want
			}
		}
		s := dbtest.Open(t,
			dsn+"?autocommit=0&sql_select_limit=5&sql_mode=%27ANSI_QUOTES%27&sql_safe_updates=1")
		for name, want := range want {
			var got string
			if err := s.DB.QueryRow("SELECT @@" + name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, %v, want %q", name, got, err, want)
			}
		}
		if _, err := s.CreateDatabase(t.Context()); err != nil {
			t.Error(err)
		}
		dbtest.Initialize(t, s)
		if done := dbtest.Initialize(t, s); len(done) != 0 {
			t.Errorf("second init: %q", done)
		}
		l := &dbtest.Live{T: t, S: s, W: s.Writer(dbtest.Identity.TopicID),
			States: map[int16]*toll.State{}}
		for p := range int32(2) {
			l.Partition(p, 10, func(batch int) (events []toll.Event) {
				for i := range 50 {
					events = append(events, toll.Event{Time: toll.WallTime(1644488582 + i), Vehicle: int32(i),
						Type: []string{`a\b`, `"q"`, "汽车", "it's"}[i%4], Plaza: int16(i % 7)})
				}
				return events
			})
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: l.States, Deep: true}); r.Status != verify.Exact ||
			r.Rows != 2*10*50 {
			t.Errorf("got %+v", r)
		}
		for _, q := range s.Queries() {
			if _, _, err := s.Run(t.Context(), q.Name, nil); err != nil {
				t.Error(err)
			}
		}
		n, err := s.Prune(t.Context(), retention.PruneOptions{Before: 1644488582 + 3, BatchRows: 7})
		if err != nil || n != 2*10*3 {
			t.Errorf("pruned %d, %v", n, err)
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: l.States, Deep: true}); r.Status != verify.Exact {
			t.Errorf("after a prune: %+v", r)
		}
	})
}

// TestEngines has tables of a storage engine without transactions, which must be refused.
func TestEngines(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		if s.DB.TiDB(t.Context()) {
			t.Skip("TiDB has one storage engine")
		}
		dbtest.Exec(t, s, dbtest.EventTable+" ENGINE=MyISAM")
		_, err := s.Init(t.Context(), dbtest.Identity)
		dbtest.WantPermanent(t, err, "livetolldata is MyISAM",
			"ALTER TABLE `tolldata`.`livetolldata` ENGINE=InnoDB;")
		dbtest.Exec(t, s,
			"ALTER TABLE `tolldata`.`livetolldata` ENGINE=InnoDB PARTITION BY HASH (toll_plaza_id) "+
				"PARTITIONS 4")
		dbtest.Initialize(t, s)
		dbtest.Exec(t, s, "ALTER TABLE toll_cursor ENGINE=MyISAM")
		for _, check := range []func(context.Context, sql.Identity) error{
			func(ctx context.Context, id sql.Identity) error { _, err := s.Init(ctx, id); return err },
			func(ctx context.Context, id sql.Identity) error { _, err := s.Check(ctx, id); return err },
		} {
			dbtest.WantPermanent(t, check(t.Context(), dbtest.Identity), "toll_cursor is MyISAM",
				"`toll_cursor` ENGINE=InnoDB")
		}
	})
}

func TestMain(m *testing.M) { dbtest.Main(m) }
