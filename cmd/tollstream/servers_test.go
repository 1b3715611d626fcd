package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/topology/kafka"
)

// serverCondition is [mariadb]: scripts run on a MariaDB.
func serverCondition(name string) (bool, error) {
	if name != "mariadb" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, found := devstack.FindMariaDB()
	if !found && testkit.ServicesRequired() {
		return false, fmt.Errorf("no MariaDB here, and TOLLSTREAM_REQUIRE_SERVICES=1")
	}
	return found, nil
}

// shared is a MariaDB for all scripts. It is started for the first and ends with the tests.
var shared struct {
	sync.Mutex
	database *devstack.Database
	root     *sql.DB
	dir      string
	last     atomic.Int64
}

func startShared() (*sql.DB, *devstack.Database, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.root != nil {
		return shared.root, shared.database, nil
	}
	dir, err := os.MkdirTemp("", "ts") // short: the socket's path has a limit
	if err != nil {
		return nil, nil, err
	}
	shared.dir = dir
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	shared.database, err = devstack.StartDatabase(ctx, devstack.DatabaseConfig{DataDir: dir})
	if err != nil {
		return nil, nil, err
	}
	shared.root, err = sql.Open("mysql", "root@unix("+filepath.Join(dir, "sock")+")/")
	return shared.root, shared.database, err
}

// stopsServers ends what the tests have shared when they have run.
type stopsServers struct{ *testing.M }

func (m stopsServers) Run() int {
	defer stopShared()
	if _, found := devstack.FindMariaDB(); !found { // up and demo then need another database
		if err := testkit.BuildEmbedded(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.M.Run()
}

func stopShared() {
	if shared.root != nil {
		_ = shared.root.Close()
	}
	if shared.database != nil {
		_ = shared.database.Close()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
}

// mysqlCommand is `mysql [absent]`: gives the script an empty database of its own, where the
// command looks for it. An absent one is yet to be created, which needs [mariadb].
func mysqlCommand(ts *testscript.TestScript, neg bool, args []string) {
	absent := len(args) == 1 && args[0] == "absent"
	if neg || len(args) > 0 && !absent {
		ts.Fatalf("usage: mysql [absent]")
	}
	ts.Setenv("XDG_STATE_HOME", ts.MkAbs("state"))
	onMariaDB, err := serverCondition("mariadb")
	ts.Check(err)
	if !onMariaDB {
		d, err := devstack.StartDatabase(context.Background(),
			devstack.DatabaseConfig{Engine: engineEmbedded})
		ts.Check(err)
		ts.Defer(func() { _ = d.Close() })
		ts.Setenv("TOLLSTREAM_MYSQL", d.DSN())
		return
	}
	root, d, err := startShared()
	ts.Check(err)
	name := fmt.Sprintf("script%d", shared.last.Add(1))
	if !absent {
		_, err := root.Exec("CREATE DATABASE " + name)
		ts.Check(err)
	}
	_, err = root.Exec("GRANT ALL ON " + name + ".* TO toll")
	ts.Check(err)
	ts.Setenv("TOLLSTREAM_MYSQL", strings.TrimSuffix(d.DSN(), "tolldata")+name)
	ts.Setenv("MYSQL_ADDRESS", d.Addr())
}

// serversCommand is `servers FILE`: waits until up --json has written its report into the file, and
// directs all commands to those servers.
func serversCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: servers FILE")
	}
	deadline := time.Now().Add(3 * time.Minute)
	for ; time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var report sandboxReport
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil || json.Unmarshal(data, &report) != nil {
			continue
		}
		ts.Setenv("TOLLSTREAM_BROKERS", report.Brokers)
		ts.Setenv("TOLLSTREAM_MYSQL", report.MySQL)
		ts.Setenv("XDG_STATE_HOME", ts.MkAbs("state"))
		return
	}
	ts.Fatalf("up does not come up")
}

func testSandbox(t *testing.T, cfg sandboxConfig) (*sandbox, error) {
	t.Helper()
	cfg.KafkaListen, cfg.MySQLListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Topics = kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1}
	cfg.Location, cfg.Log = time.UTC, slog.New(slog.DiscardHandler)
	quietLibraries()
	if cfg.Engine == engineEmbedded {
		testkit.NeedDatabase(t, cfg.Engine, devstack.HasDatabase)
	}
	s, err := startSandbox(t.Context(), cfg)
	if s != nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// TestSandboxInMemory starts up's servers as on a machine that has no MariaDB.
func TestSandboxInMemory(t *testing.T) {
	dir := t.TempDir()
	s, err := testSandbox(t, sandboxConfig{Engine: engineEmbedded, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !s.embedded() || s.keeps() || s.partitions != 2 {
		t.Errorf("in memory %v, keeps rows %v, %d partitions", s.embedded(), s.keeps(), s.partitions)
	}
	var b bytes.Buffer
	if err := s.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"topic toll, 2 partitions",
		"topics stay for the next start, rows do not", "No MariaDB is installed here",
		"export TOLLSTREAM_BROKERS='127.0.0.1:"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("up says\n%s\nwhich lacks %q", b.String(), want)
		}
	}
	if _, err := testSandbox(t, sandboxConfig{Engine: engineEmbedded, DataDir: dir}); err == nil ||
		!strings.Contains(err.Error(), "in use by another tollstream up") {
		t.Errorf("a second stack on the same folder: %v", err)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("closing took %v", took)
	}
	// The topic is there again, with rows that are not.
	if _, err := testSandbox(t, sandboxConfig{Engine: engineEmbedded, DataDir: dir}); err != nil {
		t.Fatal(err)
	}
}

// TestSandboxNotices ends the wait where the database dies.
func TestSandboxNotices(t *testing.T) {
	if found, err := serverCondition("mariadb"); err != nil {
		t.Fatal(err)
	} else if !found {
		t.Skip("no MariaDB here")
	}
	s, err := testSandbox(t, sandboxConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.wait(t.Context()) }()
	if err := s.database.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "does not answer any more") {
			t.Errorf("got %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("a dead database was not noticed")
	}
}
