// Package interop holds tests that run tollstream together with the course's own scripts, in
// Python, on a real Kafka and a real MariaDB or MySQL: their generator feeds our processor, and our
// emitter feeds their reader.
package interop

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
)

const moduleRoot = "../.."

// TestGeneratorToProcess has the course's generator send keyless lines, and compares the rows that
// process stores with what the generator says it sent.
func TestGeneratorToProcess(t *testing.T) {
	python := findPython(t)
	kafka, db := startServices(t)
	toll := newCommand(t, kafka, db)
	const count = 3000

	toll.run(t, "init", "--partitions", "3")
	sent := lines(runPython(t, python, "generator.py",
		"--bootstrap", kafka.Addr(), "--topic", "toll", "--count", strconv.Itoa(count), "--rate", "0"))
	if len(sent) != count {
		t.Fatalf("the generator sent %d lines, want %d", len(sent), count)
	}
	toll.run(t, "process", "--until-end")

	var verdict struct {
		Status string
		Events int
		Rows   int
	}
	out := toll.run(t, "verify", "--deep", "--json")
	if err := json.Unmarshal([]byte(out), &verdict); err != nil {
		t.Fatalf("verify --json printed %q: %v", out, err)
	}
	if verdict.Status != "exact" || verdict.Events != count || verdict.Rows != count {
		t.Errorf("verify says %+v, want exact with %d events and rows", verdict, count)
	}
	compare(t, readRows(t, db.DSN()), rowsOf(t, sent))
}

// TestEmitToReader has our emitter send events, and compares the rows that the course's reader
// inserts with what is in the topic.
func TestEmitToReader(t *testing.T) {
	python := findPython(t)
	kafka, db := startServices(t)
	toll := newCommand(t, kafka, db)
	const count = 500

	// init makes the topic and, in this database, the course's table: theirs is the only one that the
	// reader knows.
	toll.run(t, "init", "--partitions", "2")
	toll.run(t, "emit", "--count", strconv.Itoa(count), "--rate", "0", "--seed", "1", "--start",
		"2022-02-10 10:23:02")

	host, port, err := net.SplitHostPort(db.Addr())
	if err != nil {
		t.Fatal(err)
	}
	out := runPython(t, python, "reader.py", "--bootstrap", kafka.Addr(), "--topic", "toll", "--count",
		strconv.Itoa(count),
		"--host", host, "--port", port, "--database", "tolldata", "--user", "toll", "--password", "toll")
	if want := fmt.Sprintf("inserted %d rows", count); strings.TrimSpace(out) != want {
		t.Errorf("the reader said %q, want %q", out, want)
	}
	compare(t, readRows(t, db.DSN()), rowsOf(t, readTopic(t, kafka.Addr(), "toll", count)))
}

// findPython returns the interpreter that has the packages of the course's scripts.
func findPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("TOLLSTREAM_PYTHON")
	if python == "" {
		python = filepath.Join(moduleRoot, ".cache", "venv", "bin", "python")
	}
	python, err := filepath.Abs(python)
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(python)
	testkit.NeedService(t,
		"a Python environment (scripts/python-env.sh, or its interpreter in TOLLSTREAM_PYTHON)",
		err == nil)
	return python
}

// startServices starts a Kafka and a database server of the test's own.
func startServices(t *testing.T) (*devstack.Kafka, *devstack.Database) {
	t.Helper()
	jars, ok := devstack.FindKafka()
	testkit.NeedService(t, "Apache Kafka (make kafka)", ok)
	engine := cmp.Or(os.Getenv("TOLLSTREAM_TEST_ENGINE"), "mariadb") // as in internal/e2e
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	kafka, err := devstack.StartKafka(ctx, devstack.KafkaConfig{Jars: jars})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, kafka.Close()) })
	db, err := devstack.StartDatabase(ctx, devstack.DatabaseConfig{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, db.Close()) })
	return kafka, db
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// binary is the tollstream that TestMain built.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = testkit.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// command is tollstream with the settings that lead to the test's servers.
type command struct{ env []string }

func newCommand(t *testing.T, kafka *devstack.Kafka, db *devstack.Database) command {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TOLLSTREAM_")
	})
	return command{append(env,
		"TOLLSTREAM_BROKERS="+kafka.Addr(),
		"TOLLSTREAM_MYSQL="+db.DSN(),
		"TOLLSTREAM_STATE_DIR="+t.TempDir(),
		"TOLLSTREAM_INSTANCE=interop",
	)}
}

// run runs a command that must succeed, and returns its stdout.
func (c command) run(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, 4*time.Minute, c.env, binary, args...)
}

func runPython(t *testing.T, python, script string, args ...string) string {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(moduleRoot, "testdata", "course", script))
	if err != nil {
		t.Fatal(err)
	}
	// The scripts write the clock of the wall, which the processor reads as UTC.
	env := append(os.Environ(), "TZ=UTC", "LC_ALL=C", "PYTHONDONTWRITEBYTECODE=1")
	return output(t, 3*time.Minute, env, python, append([]string{script}, args...)...)
}

func output(t *testing.T, patience time.Duration, env []string, name string,
	args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	what := filepath.Base(name) + " " + strings.Join(args, " ")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\nstdout: %s\nstderr: %s", what, err, tail(&stdout), tail(&stderr))
	}
	t.Logf("%s: %s", what, tail(&stderr))
	return stdout.String()
}

// tail returns the end of what a program printed.
func tail(b *bytes.Buffer) string {
	const most = 4000
	text := b.Bytes()
	return string(text[max(0, len(text)-most):])
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// rowsOf returns the rows that lines in the course's format mean, sorted. It reads them by means of
// its own.
func rowsOf(t *testing.T, lines []string) []string {
	t.Helper()
	rows := make([]string, len(lines))
	for i, line := range lines {
		f := strings.Split(line, ",")
		if len(f) != 4 {
			t.Fatalf("line %q has %d fields", line, len(f))
		}
		at, err := time.Parse(time.ANSIC, f[0])
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = strings.Join([]string{at.Format(time.DateTime), f[1], f[2], f[3]}, ",")
	}
	slices.Sort(rows)
	return rows
}

// readRows returns the rows of livetolldata, sorted.
func readRows(t *testing.T, dsn string) []string {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.QueryContext(t.Context(),
		"SELECT CONCAT_WS(',', timestamp, vehicle_id, vehicle_type, toll_plaza_id) FROM livetolldata")
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	var rows []string
	for result.Next() {
		var row string
		if err := result.Scan(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := result.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	return rows
}

// readTopic returns the payloads of the first n records of a topic.
func readTopic(t *testing.T, broker, topic string, n int) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var payloads []string
	for len(payloads) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read topic %s after %d records: %v", topic, len(payloads), err)
		}
		for _, r := range fetches.Records() {
			payloads = append(payloads, string(r.Value))
		}
	}
	return payloads
}

// compare compares two sorted lists, equal elements being elements of their own.
func compare(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%d rows, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("row %d is missing: %q", i, want[i])
		case i >= len(want):
			t.Fatalf("row %d is one too many: %q", i, got[i])
		case got[i] != want[i]:
			t.Fatalf("row %d is %q, want %q", i, got[i], want[i])
		}
	}
}
