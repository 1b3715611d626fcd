package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(stopsServers{m}, map[string]func(){"tollstream": main})
}

// TestScript runs testdata/script. Each script has a broker of its own, with a topic toll of one
// partition, where the command looks for it by default.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "toll"))
			if err != nil {
				return err
			}
			env.Defer(c.Close)
			env.Setenv("TOLLSTREAM_BROKERS", strings.Join(c.ListenAddrs(), ","))
			env.Setenv("TOLLSTREAM_EMBEDDED", os.Getenv("TOLLSTREAM_EMBEDDED"))
			env.Setenv("ESCAPE", "\x1b[31mred")
			return nil
		},
		Condition: serverCondition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"records": recordsCommand,
			"status":  statusCommand,
			"mysql":   mysqlCommand,
			"servers": serversCommand,
		},
	})
}

// recordsCommand is `records N FILE`: reads the topic toll, which must hold N records, and writes
// them into a file, one a line: key, headers, value.
func recordsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: records N FILE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(ts.Getenv("TOLLSTREAM_BROKERS"), ",")...),
		kgo.ConsumeTopics("toll"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ts.Check(err)
	defer c.Close()
	var lines []string
	wait := time.Minute
	for {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		fetches := c.PollFetches(ctx)
		cancel()
		for _, r := range fetches.Records() {
			var headers []string
			for _, h := range r.Headers {
				headers = append(headers, h.Key+"="+string(h.Value))
			}
			slices.Sort(headers)
			lines = append(lines, fmt.Sprintf("%s [%s] %s", r.Key, strings.Join(headers, " "), r.Value))
		}
		if len(lines) >= want {
			if wait < time.Second {
				break
			}
			wait = 200 * time.Millisecond // for what should not be there
		} else if fetches.Err() != nil {
			break
		}
	}
	if len(lines) != want {
		ts.Fatalf("the topic holds %d records, want %d", len(lines), want)
	}
	ts.Check(writeFile(ts.MkAbs(args[1]), strings.Join(lines, "\n")+"\n"))
}

// statusCommand is `status CODE COMMAND…`: runs a command, which must end with that exit status.
func statusCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND [ARGUMENT…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "exit status 0"
	if err != nil {
		got = err.Error()
	}
	if got != "exit status "+args[0] {
		ts.Fatalf("%s, want %s", got, args[0])
	}
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }

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
	testkit.MostlyWait(4)
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
