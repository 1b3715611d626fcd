package devstack

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/testkit"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startTestDatabase(t *testing.T, cfg DatabaseConfig) *Database {
	t.Helper()
	began := time.Now()
	d, err := StartDatabase(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s ready in %v", d.Engine(), time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		began := time.Now()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("%s closed in %v", d.Engine(), time.Since(began).Round(time.Millisecond))
	})
	return d
}

func openSQL(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
}

func queryInt(t *testing.T, db *sql.DB, query string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// helperEnv names a part ("broker", "mariadb" or "kafka") and a folder. A test binary that has it
// starts the part there, prints its address and process id, and waits to be killed.
const helperEnv = "DEVSTACK_HELPER"

func TestMain(m *testing.M) {
	if what, dir, ok := strings.Cut(os.Getenv(helperEnv), " "); ok {
		addr, pid, err := startPart(what, dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(addr, pid)
		select {}
	}
	testkit.MostlyWait(4)
	os.Exit(m.Run())
}

func startPart(what, dir string) (addr string, pid int, err error) {
	switch what {
	case "broker":
		b, err := StartBroker(BrokerConfig{DataDir: dir})
		if err != nil {
			return "", 0, err
		}
		return b.Addr(), os.Getpid(), nil
	case "mariadb":
		d, err := StartDatabase(context.Background(), DatabaseConfig{Engine: "mariadb", DataDir: dir})
		if err != nil {
			return "", 0, err
		}
		return d.Addr(), d.Pid(), nil
	default:
		jars, _ := FindKafka()
		k, err := StartKafka(context.Background(), KafkaConfig{Jars: jars, Dir: dir})
		if err != nil {
			return "", 0, err
		}
		return k.Addr(), k.Pid(), nil
	}
}

// startHelper starts a part in a process of its own. kill ends that process with SIGKILL.
func startHelper(t *testing.T, what, dir string) (addr string, pid int, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+what+" "+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &addr, &pid); err != nil {
		t.Fatal(err)
	}
	return addr, pid, kill
}

// alive reports whether a process runs; a zombie doesn't.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestChildrenDieWithUs kills the process that started a server, as a SIGKILL of the command would.
func TestChildrenDieWithUs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can")
	}
	for _, what := range []string{"mariadb", "kafka"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if what == "mariadb" {
				needMariaDB(t)
			} else {
				_, ok := FindKafka()
				testkit.NeedService(t, "Apache Kafka", ok)
			}
			dir := t.TempDir()
			_, pid, kill := startHelper(t, what, dir)
			if !alive(pid) {
				t.Fatal("server does not run")
			}
			kill()
			deadline := time.Now().Add(time.Minute)
			for alive(pid) {
				if time.Now().After(deadline) {
					t.Fatalf("server %d outlived its starter", pid)
				}
				time.Sleep(10 * time.Millisecond)
			}
			// Its successor finds the folder free and recovers.
			_, _, kill = startHelper(t, what, dir)
			kill()
		})
	}
}

// TestBrokerKilled wants every acknowledged record to survive the broker's process.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addr, _, kill := startHelper(t, "broker", dir)
	checkKafka(t, addr)
	kill()
	b, err := StartBroker(BrokerConfig{DataDir: dir, Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := consume(t, addr, "events", "late", "", 112); len(got) != 112 {
		t.Errorf("%d values after the kill, want 112", len(got))
	}
	produceTxn(t, addr, "events", true, "after")
	produce(t, addr, "events", 110, 112)
	if got := consume(t, addr, "events", "readers", "reader-1", 3); got["110"] != 1 ||
		got["after"] != 1 {
		t.Errorf("the group went on with %v, want 110, 111 and after", got)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ log, want string }{
		{"", "its log is empty"},
		{"SLF4J: no providers\n", "its log is empty"},
		{"a\n\nb\nc\nd\ne\n", "b | c | d | e"},
		{"ERROR 1\nERROR 2\nERROR 3\nERROR 4\nERROR 5\n", "ERROR 1 | ERROR 2 | ERROR 4 | ERROR 5"},
		{"note\n[ERROR] bad\n\tat x.y\nnote\n[ERROR] worse", "[ERROR] bad | [ERROR] worse"},
	} {
		write(c.log)
		if got := logTail(path, 0); got != c.want {
			t.Errorf("tail of %q is %q, want %q", c.log, got, c.want)
		}
	}
	write("of an earlier run\nof this run\n")
	if got := logTail(path, int64(len("of an earlier run\n"))); got != "of this run" {
		t.Errorf("tail is %q", got)
	}
}
