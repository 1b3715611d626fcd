// Package e2e proves the promise on real parts: a real Kafka, a real MariaDB or MySQL, and the
// tollstream command as processes of their own, killed and starved of their servers. Each test
// keeps its own ground truth: what it sent.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
)

// binary is the tollstream command, built once.
var binary string

// engine is the database server of a run, mariadb or mysql: make test runs all tests on both. make
// test-tidb runs some on tidb.
var engine = cmp.Or(os.Getenv("TOLLSTREAM_TEST_ENGINE"), "mariadb")

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{})
	testkit.MostlyWait(6)
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tollstream-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary, err = testkit.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer stopKafka()
		return m.Run()
	}())
}

// campaign skips a test that belongs to the campaign of faults, where that is not asked for: make
// faults.
func campaign(t *testing.T) {
	t.Helper()
	if os.Getenv("TOLLSTREAM_CAMPAIGN") == "" {
		t.Skip("TOLLSTREAM_CAMPAIGN is not set")
	}
}

// inParallel lets a test that mostly waits run in parallel with others, but in a campaign, which
// does one thing after the other.
func inParallel(t *testing.T) {
	if os.Getenv("TOLLSTREAM_CAMPAIGN") == "" {
		t.Parallel()
	}
}

var shared struct {
	sync.Mutex
	kafka *devstack.Kafka
}

// sharedKafka returns a real Kafka that tests share, each with topics of its own.
func sharedKafka(t *testing.T) *devstack.Kafka {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.kafka == nil {
		shared.kafka = startKafka(t)
	}
	return shared.kafka
}

// kafkaJars returns the folder of Kafka's jars, and skips a test where there is none, or no Java.
func kafkaJars(t *testing.T) string {
	t.Helper()
	jars, ok := devstack.FindKafka()
	testkit.NeedService(t, "Apache Kafka (make kafka)", ok)
	_, err := exec.LookPath("java")
	testkit.NeedService(t, "Java", err == nil)
	return jars
}

func startKafka(t *testing.T) *devstack.Kafka {
	t.Helper()
	k, err := devstack.StartKafka(context.Background(),
		devstack.KafkaConfig{Jars: kafkaJars(t), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	return k
}

func stopKafka() {
	if shared.kafka != nil {
		_ = shared.kafka.Close()
	}
}

// world is the surroundings of one test: a broker, a database of its own, a topic and a group of
// its own.
type world struct {
	t       *testing.T
	brokers string
	db      *devstack.Database
	sql     *dbsql.DB
	topic   string
	group   string
	state   string
	env     []string
}

var worlds struct {
	sync.Mutex
	n int
}

// newWorld returns the surroundings of a test on a real Kafka and a real MariaDB or MySQL.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, sharedKafka(t).Addr(), engine)
}

// newWorldOn returns them with other brokers or another engine, and perhaps options of the database
// server.
func newWorldOn(t *testing.T, brokers, engine string, options ...string) *world {
	t.Helper()
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	if engine != "tidb" {
		// Killed servers leave their writes to the system, so nothing needs to wait for the disk.
		options = append([]string{"--innodb-flush-method=nosync"}, options...)
	}
	db, err := devstack.StartDatabase(context.Background(), devstack.DatabaseConfig{
		Addr: "127.0.0.1:0", DataDir: dataDir(t, engine), Engine: engine, Options: options,
	})
	if err != nil {
		t.Fatalf("start the database: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := dbsql.Open("mysql", db.DSN()+
		// whatever options say
		"?autocommit=1&sql_mode=%27%27&sql_safe_updates=0"+
		"&sql_select_limit=9223372036854775807&sql_big_selects=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	worlds.Lock()
	worlds.n++
	n := worlds.n
	worlds.Unlock()
	w := &world{
		t: t, brokers: brokers, db: db, sql: conn,
		topic: fmt.Sprintf("toll-%d-%d", os.Getpid(), n),
		group: fmt.Sprintf("group-%d-%d", os.Getpid(), n),
		state: t.TempDir(),
	}
	w.env = append(os.Environ(),
		"TOLLSTREAM_BROKERS="+w.brokers, "TOLLSTREAM_MYSQL="+db.DSN(),
		"TOLLSTREAM_TOPIC="+w.topic, "TOLLSTREAM_GROUP="+w.group,
		"TOLLSTREAM_STATE_DIR="+w.state, "TOLLSTREAM_INSTANCE=one")
	return w
}

// dataDir returns a folder for a database that outlives a kill of its server.
func dataDir(t *testing.T, engine string) string {
	if engine == "embedded" {
		return ""
	}
	return filepath.Join(t.TempDir(), "mysql")
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// commandTimeout bounds a command that should end by itself.
const commandTimeout = 5 * time.Minute

// run runs a command to its end.
func (w *world) run(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = w.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		w.t.Fatalf("tollstream %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and returns its stdout.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 0 {
		w.t.Fatalf("tollstream %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout,
			r.stderr)
	}
	return r.stdout
}

// refuses runs a command that has to fail with a line that holds each of the texts, and returns its
// stderr.
func (w *world) refuses(args []string, texts ...string) {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 1 || r.stdout != "" {
		w.t.Fatalf("tollstream %s: exit status %d, stdout %q, want 1 and nothing\n%s",
			strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			w.t.Fatalf("tollstream %s: stderr lacks %q:\n%s", strings.Join(args, " "), text, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "goroutine ") {
		w.t.Fatalf("tollstream %s prints a stack:\n%s", strings.Join(args, " "), r.stderr)
	}
}

// process is a tollstream process in the background.
type process struct {
	w    *world
	cmd  *exec.Cmd
	log  *testkit.Buffer
	done chan struct{}

	heard int // up to where a test has waited for lines of the log
}

// start starts a command in the background. It is killed when the test ends.
func (w *world) start(args ...string) *process {
	w.t.Helper()
	return w.startCommand(append([]string{binary}, args...))
}

// startCommand is start for a command that runs tollstream.
func (w *world) startCommand(args []string) *process {
	w.t.Helper()
	p := &process{w: w, cmd: exec.Command(args[0], args[1:]...), log: new(testkit.Buffer),
		done: make(chan struct{})}
	p.cmd.Env = w.env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	w.t.Cleanup(p.kill)
	return p
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stopsWithin is how long a process may take to end on a busy machine: some 5 s where servers don't
// answer, and a minute where it waited for them.
const stopsWithin = 30 * time.Second

// interrupt sends SIGINT and returns how long the process took to end, and its exit status.
func (p *process) interrupt() (time.Duration, int) {
	p.w.t.Helper()
	started := time.Now()
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		p.w.t.Fatalf("process did not end within two minutes of an interrupt:\n%s", p.log)
	}
	return time.Since(started), p.cmd.ProcessState.ExitCode()
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// count runs a query that gives one number.
func (w *world) count(query string, args ...any) int64 {
	w.t.Helper()
	var n int64
	if err := w.sql.QueryRow(query, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, within time.Duration, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// report is what verify --json prints.
type report struct {
	Status   string    `json:"status"`
	Events   int64     `json:"events"`
	Rows     int64     `json:"rows"`
	Rejected int64     `json:"rejected"`
	Merged   int64     `json:"merged"`
	InFlight int64     `json:"in_flight"`
	Gone     int64     `json:"gone"`
	Problems []problem `json:"problems"`
}

type problem struct{ Kind, Text string }

// verify runs verify and returns its report.
func (w *world) verify(args ...string) report {
	w.t.Helper()
	r := w.run(append([]string{"verify", "--json"}, args...)...)
	var v report
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		w.t.Fatalf("verify: %v\n%s%s", err, r.stdout, r.stderr)
	}
	if want := map[bool]int{true: 1, false: 0}[v.Status == "mismatch"]; r.code != want {
		w.t.Fatalf("verify: status %s with exit status %d", v.Status, r.code)
	}
	return v
}

// exact checks that everything is stored and merged, by verify and by the test's own ground truth.
func (w *world) exact(truth *truth) {
	w.t.Helper()
	v := w.verify("--deep")
	if v.Status != "exact" {
		w.t.Fatalf("verify --deep: %+v", v)
	}
	truth.check(w)
}
