package registry

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

const avroText = `{"type":"record","name":"Passage","fields":[
	{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"vehicle_id","type":["null","int"]},{"name":"vehicle_type","type":"string"},
	{"name":"toll_plaza_id","type":"double"}]}`

// passageProto has the message of the fields that TestRegistry sends within another one.
const passageProto = `syntax = "proto3";
package acme;
import "google/protobuf/timestamp.proto";
import "acme/class.proto";
message Other {}
message Lanes { message Passage {
	google.protobuf.Timestamp at = 1; uint32 vehicle_id = 2; Class vehicle_type = 3; int32 plaza_id = 4;
} }`

const classProto = `syntax = "proto3";
package acme;
enum Class { UNKNOWN = 0; car = 1; }`

// passageValue is one of 2022-02-10 10:23:02 UTC.
const passageValue = "\x0a\x06\x08\x86\xcf\x93\x90\x06\x10\x07\x18\x01\x20\xf8\x25"

// TestRegistry reads framed records by the schemas of a registry that speaks the API.
func TestRegistry(t *testing.T) {
	fake := srfake.New(srfake.WithAuth("Basic " +
		base64.StdEncoding.EncodeToString([]byte("toll:secret"))))
	defer fake.Close()
	fake.SeedSchema("avro", 1, 7, sr.Schema{Schema: avroText, Type: sr.TypeAvro})
	fake.SeedSchema("json", 1, 8, sr.Schema{Schema: `{"type":"object"}`, Type: sr.TypeJSON})
	fake.SeedSchema("class", 3, 10, sr.Schema{Schema: classProto, Type: sr.TypeProtobuf})
	class := []sr.SchemaReference{{Name: "acme/class.proto", Subject: "class", Version: 3}}
	fake.SeedSchema("passage", 1, 11, sr.Schema{Schema: passageProto, Type: sr.TypeProtobuf,
		References: class})
	fake.SeedSchema("damaged", 1, 12, sr.Schema{Schema: "message {", Type: sr.TypeProtobuf})
	r, err := New(Config{URLs: []string{fake.URL()}, User: "toll", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	r.now = func() time.Time { return now }
	value, err := avro.MustParse(avroText).Encode(map[string]any{"at": time.Unix(1644488582, 0),
		"vehicle_id": 7, "vehicle_type": "car", "toll_plaza_id": 4856.0})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.Parse("time=at")
	if err != nil {
		t.Fatal(err)
	}
	d := codecs.NewMappedDecoder(codecs.Auto, nil, m)
	decode := func(payload []byte) string {
		t.Helper()
		if id := d.Lacks(payload); id != 0 {
			schema, err := r.Schema(t.Context(), id)
			if err != nil {
				return "outage: " + err.Error()
			}
			d.Learn(id, schema)
		}
		var e toll.Event
		if err := d.Decode(payload, "", &e); err != nil {
			return string(toll.RejectKindOf(err)) + ": " + err.Error()
		}
		return string(codecs.AppendCSV(nil, &e))
	}
	const want = "Thu Feb 10 10:23:02 2022,7,car,4856"
	framed := func(id byte, body string) []byte { return append([]byte{0, 0, 0, 0, id}, body...) }
	for _, c := range []struct {
		payload []byte
		want    string
	}{
		{framed(7, string(value)), want},
		{framed(7, string(value)+"x"), "format: event: 1 bytes follow the Avro of its schema"},
		{framed(8, `{"at":"2022-02-10 10:23:02","vehicle_id":7,"vehicle_type":"car","plaza_id":4856}`),
			want},
		// the second message, and the first one in it
		{framed(11, "\x04\x02\x00"+passageValue), want},
		{framed(11, "\x04\x02\x02"+passageValue), "schema: event: schema 11 has no message at [1 1]"},
		{framed(11, "\x04\x02"), "schema: event: the message indexes of schema 11 are damaged"},
		{framed(11, "\x00"), "time: time: no value at \"at\""},
		{framed(12, "\x00"), "schema: event: schema 12 is not Protobuf: schema:1:9: syntax error: " +
			"unexpected '{'"},
		{framed(9, "x"), "schema: event: schema 9 is not in the schema registry"},
	} {
		if got := decode(c.payload); got != c.want {
			t.Errorf("%q: got %q, want %q", c.payload, got, c.want)
		}
	}
	if got := decode(framed(7, string(value[:3]))); !strings.HasPrefix(got,
		"format: event: not Avro") {
		t.Error(got)
	}

	// An id that is registered later is found once it is asked for again.
	fake.SeedSchema("avro", 2, 9, sr.Schema{Schema: avroText, Type: sr.TypeAvro})
	d.Forget()
	if got := decode(framed(9, string(value))); !strings.HasPrefix(got, "schema: ") {
		t.Error(got)
	}
	d.Forget()
	now = now.Add(missingFor)
	if got := decode(framed(9, string(value))); got != want {
		t.Error(got)
	}

	// What is known needs no registry; an outage is one, and a refusal is none.
	fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if got := decode(framed(7, string(value))); got != want {
		t.Error(got)
	}
	_, err = r.Schema(t.Context(), 10)
	if err == nil || toll.IsPermanent(err) {
		t.Errorf("unavailable: %v", err)
	}
	fake.ClearInterceptors()
	if r, err = New(Config{URLs: []string{fake.URL()}, User: "toll", Password: "wrong"}); err != nil {
		t.Fatal(err)
	}
	if _, err = r.Schema(t.Context(), 7); !toll.IsPermanent(err) ||
		strings.Contains(err.Error(), "wrong") {
		t.Errorf("refused: %v", err)
	}
}
