package sql_test

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/db"
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

// TestHeartbeat stores heartbeats of two processes, by clocks that disagree with the server's.
func TestHeartbeat(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		own := time.Now().Add(-3 * time.Hour)
		beat := func(h sql.Heartbeat) {
			t.Helper()
			h.Version, h.Now, h.Started = "v1", own, own.Add(-time.Minute)
			if err := s.Beat(t.Context(), &h); err != nil {
				t.Fatal(err)
			}
		}
		beat(sql.Heartbeat{Instance: "two", Problem: strings.Repeat("ü", 600)})
		beat(sql.Heartbeat{Instance: "one", Arrived: own.Add(-time.Second), ArrivalShare: 0.5})
		beat(sql.Heartbeat{Instance: "one", DrainPerSecond: 12.5, Stopped: true,
			Ended: true})
		all, now, err := s.Processes(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("got %+v, %v", all, err)
		}
		near := func(what string, got time.Time, want time.Duration) {
			t.Helper()
			if d := now.Sub(got) - want; d < 0 || d > time.Minute {
				t.Errorf("%s is %v old, want %v", what, now.Sub(got), want)
			}
		}
		one, two := all[0], all[1]
		near("a heartbeat", two.Seen, 0)
		near("a start", one.Started, time.Minute)
		near("a stop", one.Stopped, 0)
		near("an arrival", one.Arrived, time.Second)
		if one.ArrivalShare != 0.5 || one.DrainPerSecond != 12.5 || one.Version != "v1" ||
			!one.Ended {
			t.Errorf("got %+v", one)
		}
		if !two.Stopped.IsZero() || !two.Arrived.IsZero() || two.Problem != strings.Repeat("ü", 500) {
			t.Errorf("got %+v", two)
		}

		dbtest.Exec(t, s, `UPDATE toll_process SET seen_at = '2022-02-10 10:00:00'
			WHERE instance = 'two'`)
		if err := s.ForgetProcesses(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all, _, err = s.Processes(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("after a week: %+v, %v", all, err)
		}
	})
}

func TestPlazaFile(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := t.Context()
		dbtest.WantPermanent(t, func() error { _, err := s.ConfiguredPlazas(ctx); return err }(),
			"tollstream init")
		x := dbtest.NewWindowed(t, s, "15m")
		set := func(plazas ...toll.Plaza) error { return s.SetPlazas(ctx, plazas) }
		want := []toll.Plaza{{ID: -3, Timezone: "Asia/Kolkata"},
			{ID: 4856, Name: "Höhe €", Road: "A 9", PositionKm: 12.5, Lanes: 14, CapacityPerLane: 650.5}}
		for range 2 {
			if err := set(want[1], want[0]); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ConfiguredPlazas(ctx); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v", got, err)
			}
		}
		// As long as there are no windows any timezone will do.
		if err := set(toll.Plaza{ID: -3, Timezone: "Asia/Tokyo"},
			toll.Plaza{ID: 5, Timezone: "Asia/Tokyo"}); err != nil {
			t.Fatal(err)
		}
		for _, plaza := range []int16{-3, 4856} {
			x.Store(0, dbtest.Pass(plaza, "2022-02-10 10:00", "car", 1, toll.OnTime))
			x.StoreResults(x.Results(), x.Closing(plaza, "2022-02-10 11:00"))
		}
		if err := set(toll.Plaza{ID: -3, Timezone: "Asia/Tokyo"},
			toll.Plaza{ID: 4856, Timezone: "Europe/Berlin", Lanes: 3}); err != nil {
			t.Errorf("the same timezones: %v", err)
		}
		dbtest.WantPermanent(t, set(toll.Plaza{ID: 4856, Timezone: "UTC"}),
			"plaza -3 to Asia/Tokyo, not Europe/Berlin; plaza 4856 to Europe/Berlin, not UTC",
			"tollstream reset --yes")
		if got, err := s.ConfiguredPlazas(ctx); err != nil || len(got) != 2 || got[1].Lanes != 3 {
			t.Errorf("after a refusal: %+v, %v", got, err)
		}
		if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := set(toll.Plaza{ID: 4856, Timezone: "UTC"}); err != nil {
			t.Errorf("after a reset: %v", err)
		}
		if err := set(); err != nil {
			t.Error(err)
		}
		if got, err := s.ConfiguredPlazas(ctx); err != nil || len(got) != 0 {
			t.Errorf("none: %+v, %v", got, err)
		}
	})
}

// needTiDB skips a test that is about TiDB alone: make test-tidb.
func needTiDB(t *testing.T) {
	t.Helper()
	if os.Getenv("TOLLSTREAM_TEST_ENGINE") != "tidb" {
		t.Skip("TOLLSTREAM_TEST_ENGINE is not tidb")
	}
}

// TestTiDBTooOld meets a server that calls itself 7.5.
func TestTiDBTooOld(t *testing.T) {
	needTiDB(t)
	config := filepath.Join(t.TempDir(), "tidb.toml")
	err := os.WriteFile(config, []byte("server-version = \"8.0.11-TiDB-v7.5.7\"\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d, err := devstack.StartDatabase(t.Context(), devstack.DatabaseConfig{Engine: "tidb",
		Options: []string{"-config", config}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := dbtest.Open(t, d.DSN())
	_, err = s.Init(t.Context(), dbtest.Identity)
	dbtest.WantPermanent(t, err, "TiDB 7.5.7", "tollstream needs 7.6", "upgrade TiDB")
	if names := dbtest.TableNames(t, s); len(names) > 0 {
		t.Errorf("it made the tables %q", names)
	}
}

// TestTiDBTables: rows without a key go to several regions.
func TestTiDBTables(t *testing.T) {
	needTiDB(t)
	s := dbtest.OpenEmpty(t, "tidb")
	dbtest.Initialize(t, s)
	var name, create string
	if err := s.DB.QueryRow(`SHOW CREATE TABLE livetolldata`).Scan(&name, &create); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(create, "SHARD_ROW_ID_BITS=4") {
		t.Error(create)
	}
}

// TestTiDBSizes: what a row may take at most is asked before it is stored, and named.
func TestTiDBSizes(t *testing.T) {
	needTiDB(t)
	s := dbtest.OpenEmpty(t, "tidb")
	dbtest.Initialize(t, s)
	if n, err := s.DB.MaxPacket(t.Context(), s.DB); err != nil || n != 6<<20 {
		t.Errorf("%d, %v, want 6 MiB", n, err)
	}
	w := s.Writer(dbtest.Identity.TopicID)
	c, _, err := w.Load(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := dbtest.Batch(w, c, "car")
	b.Deltas = make([]byte, 6<<20)
	dbtest.WantPermanent(t, w.Commit(t.Context(), b, nil), "the outbox of a batch has 6291456 bytes",
		"tidb_txn_entry_size_limit")
	b.Deltas = make([]byte, 6<<20-db.PacketReserve)
	if err := w.Commit(t.Context(), b, nil); err != nil {
		t.Error(fmt.Errorf("the largest outbox: %w", err))
	}
}
