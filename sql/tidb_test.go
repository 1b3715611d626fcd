package sql_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
)

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
