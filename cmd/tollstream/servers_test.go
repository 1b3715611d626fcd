package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/testkit"
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
	testkit.MostlyWait()
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
			devstack.DatabaseConfig{Engine: sandbox.Embedded})
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
		var report sandbox.Report
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
