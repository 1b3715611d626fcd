package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
)

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
