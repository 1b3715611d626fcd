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
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
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

const passage = `{"type":"record","name":"Passage","fields":[
	{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"vehicle_id","type":["null","int"],"default":null},
	{"name":"vehicle_type","type":"string"},{"name":"toll_plaza_id","type":"int"}]}`

// passageProto has the time as an instant, and other numbers than tollstream's message.
const passageProto = `syntax = "proto3";
package acme;
import "google/protobuf/timestamp.proto";
message Other {}
message Passage {
	google.protobuf.Timestamp timestamp = 1;
	uint32 vehicle_id = 5;
	string vehicle_type = 6;
	int32 toll_plaza_id = 7;
}`

// TestSchemaRegistry sends records in the framing of a schema registry, by schemas that a real one
// holds: all are rows, and the one whose schema is nowhere is a dead letter.
func TestSchemaRegistry(t *testing.T) {
	url := startRegistry(t)
	kafka, db := startServices(t)
	tolls := newCommand(t, kafka, db)
	tolls.run(t, "init", "--partitions", "2")

	registry, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		t.Fatal(err)
	}
	proto, err := os.ReadFile(filepath.Join(moduleRoot, "codecs", "tollpb", "toll.proto"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[sr.SchemaType]int{}
	for kind, text := range map[sr.SchemaType]string{sr.TypeAvro: passage,
		sr.TypeJSON:     `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}`,
		sr.TypeProtobuf: string(proto)} {
		s, err := registry.CreateSchema(t.Context(), "toll-"+kind.String(),
			sr.Schema{Schema: text, Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		ids[kind] = s.ID
	}
	acme, err := registry.CreateSchema(t.Context(), "toll-acme",
		sr.Schema{Schema: passageProto, Type: sr.TypeProtobuf})
	if err != nil {
		t.Fatal(err)
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addr()), kgo.DefaultProduceTopic("toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var sent []string
	var records []*kgo.Record
	var header sr.ConfluentHeader
	encoder, utc := avro.MustParse(passage), toll.NewZone(time.UTC)
	const count = 900
	for i := range count {
		at := time.Date(2022, 2, 10, 10, i/60%60, i%60, 0, time.UTC)
		e := toll.Event{Time: toll.WallTimeOf(at), Vehicle: int32(i), Type: "car", Plaza: 4000}
		sent = append(sent, string(codecs.AppendCSV(nil, &e)))
		kind, index := []sr.SchemaType{sr.TypeAvro, sr.TypeJSON, sr.TypeProtobuf}[i%3], []int(nil)
		id := ids[kind]
		isAcme := i%6 == 2
		switch {
		case isAcme:
			id, index = acme.ID, []int{1}
		case kind == sr.TypeProtobuf:
			index = []int{0}
		}
		value, err := header.AppendEncode(nil, id, index)
		switch {
		case isAcme:
			value = appendPassage(value, &e, at)
		case kind == sr.TypeAvro:
			value, err = encoder.AppendEncode(value, map[string]any{"time": at, "vehicle_id": i,
				"vehicle_type": "car", "toll_plaza_id": 4000})
		case kind == sr.TypeJSON:
			value = codecs.AppendJSON(value, &e, utc)
		default:
			value = codecs.AppendProtobuf(value, &e, utc)
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Value: value})
	}
	records = append(records, &kgo.Record{Value: []byte("\x00\x00\x98\x96\x7fnowhere")})
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}

	var check struct{ Records, Rows int }
	output := tolls.try(t, "events", "check", "--json", "--schema-registry", url)
	if err := json.Unmarshal([]byte(output), &check); err != nil || check.Rows != count ||
		check.Records != count+1 {
		t.Errorf("events check: %v, %s", err, output)
	}
	tolls.run(t, "process", "--until-end", "--schema-registry", url)
	compare(t, readRows(t, db.DSN()), rowsOf(t, sent))
	var verdict struct {
		Status                 string
		Events, Rows, Rejected int
	}
	out := tolls.run(t, "verify", "--json")
	if err := json.Unmarshal([]byte(out), &verdict); err != nil || verdict.Status != "exact" ||
		verdict.Rows != count || verdict.Rejected != 1 {
		t.Errorf("verify: %v, %s", err, out)
	}
	if out := tolls.run(t, "dead-letters", "--kind", "schema"); !strings.Contains(out,
		"schema 9999999 is not in the schema registry") {
		t.Errorf("dead letters: %s", out)
	}
}

// appendPassage appends the message of passageProto.
func appendPassage(b []byte, e *toll.Event, at time.Time) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	instant := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendBytes(b, protowire.AppendVarint(instant, uint64(at.Unix())))
	b = protowire.AppendTag(b, 5, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(e.Vehicle))
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	b = protowire.AppendString(b, e.Type)
	b = protowire.AppendTag(b, 7, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(e.Plaza))
}

// try runs a command whose exit status may be 1, and returns its stdout.
func (c command) try(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %v\n%s", args, err, &stderr)
	}
	return stdout.String()
}

// startRegistry starts Apicurio's schema registry, and returns the URL of its API as Confluent's.
func startRegistry(t *testing.T) string {
	t.Helper()
	jars, err := filepath.Glob(filepath.Join(moduleRoot, ".cache", "registry", "*-runner.jar"))
	_, noJava := exec.LookPath("java")
	testkit.NeedService(t, "Apicurio's schema registry (make registry)",
		err == nil && len(jars) == 1 && noJava == nil)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "java", "-Xmx300m", "-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1",
		"-Dquarkus.http.port="+strconv.Itoa(port), "-jar", jars[0])
	cmd.Dir = t.TempDir()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if cmd.Args[len(cmd.Args)-1], err = filepath.Abs(jars[0]); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cancel(); <-ended })
	url := fmt.Sprintf("http://127.0.0.1:%d/apis/ccompat/v7", port)
	for deadline := time.Now().Add(3 * time.Minute); ; {
		if res, err := http.Get(url + "/subjects"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return url
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the registry ended: %v\n%s", err, &log)
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the registry does not answer")
		}
	}
}
