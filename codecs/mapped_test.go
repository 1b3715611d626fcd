package codecs

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// mapped returns a decoder of a mapping, whose database is in Berlin.
func mapped(t testing.TB, text string) *Decoder {
	t.Helper()
	m, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return NewMappedDecoder(Auto, berlin(t), m)
}

func TestMapping(t *testing.T) {
	want := event("2022-02-10 10:23:02", 3728373, "car", 4856)
	const json = "time=ts vehicle_id=car.id vehicle_type=car.class toll_plaza_id=plazaId "
	for _, c := range []struct{ mapping, payload, err string }{
		// CSV
		{"time=4 vehicle_id=3 vehicle_type=2 toll_plaza_id=1", "4856,car,3728373,2022-02-10 10:23:02,x",
			""},
		{"time=5 delimiter=semicolon", `a;3728373;"car";"4856.0";Thu Feb 10 10:23:02 2022` + "\r\n", ""},
		{"vehicle_id=3 toll_plaza_id=5 vehicle_type=4 time=2 delimiter=tab",
			"\t2022-02-10 10:23:02\t3728373\t car \t4856\t\t", ""},
		{"time=When toll_plaza_id=booth",
			"Booth,vehicle id,When,Class\n4856,3728373,2022-02-10 10:23:02,car",
			""},
		{"time=When", "When,vehicle_id,type,plaza\n2022-02-10 10:23:02,3728373,car,4856\n\n", ""},
		{"header=yes", "a,b,c,d\r\n2022-02-10 10:23:02,3728373,car,4856", ""},
		{"time=When", "2022-02-10 10:23:02,3728373,car,4856", `time: no column "When"`},
		{"time=When", "When,vehicle_id,type,plaza\n",
			"event: one row, and the mapping names columns of a " +
				"header row: give columns by number"},
		{"header=yes", "a,b,c,d\n2022-02-10 10:23:02,3728373,car,4856\n2022-02-10 10:23:02,1,car,4856",
			"event: 2 events in a record, where one is expected"},
		{"time=7", "2022-02-10 10:23:02,3728373,car,4856", "time: no column 7 in a row of 4"},
		{"delimiter=pipe", "2022-02-10 10:23:02|3728373||4856", "vehicle_type: empty"},
		{"delimiter=pipe", "|3728373|car|4856", "time: empty"},
		{"delimiter=pipe", "", "event: empty"},
		{"delimiter=pipe", `"2022-02-10 10:23:02"x|1`,
			`event: "x|1" follows a quoted field, expected a pipe`},

		// JSON
		{json, `{"ts":"2022-02-10T09:23:02Z","car":{"id":"3728373","class":"car"},"plazaId":4856.0}`, ""},
		{json + "time_format=epoch_s",
			`{"ts":1644484982,"car":{"id":3.728373e6,"class":"car"},"plazaId":4856}`, ""},
		{"time=payload.after.ts toll_plaza_id=payload.after.plaza vehicle_id=payload.after.id " +
			"vehicle_type=payload.after.type time_format=epoch_us",
			`{"schema":{},"payload":{"before":null,"after":{"ts":1644484982500000,"plaza":4856,"id":3728373,` +
				`"type":"car"},"op":"c"}}`, ""},
		{"toll_plaza_id=plazas.1.id time=event.time",
			`[{"event.time":"2022-02-10 10:23:02","vehicle_id":3728373,"vehicle_type":"car",` +
				`"plazas":[{},{"id":4856}]}]`, ""},
		{json, `{"ts":"2022-02-10T09:23:02Z","car":{"id":1,"class":"car"}}`,
			`toll_plaza_id: no value at "plazaId"`},
		{json, `{"ts":null,"car":{"id":1,"class":"car"},"plazaId":1}`, `time: no value at "ts"`},
		{json, `{"ts":"2022-02-10T09:23:02Z","car":{"id":[1],"class":"car"},"plazaId":1}`,
			`vehicle_id: "[1]" is neither text nor a number`},
		{json, `{"ts":"2022-02-10T09:23:02Z","car":{"id":1,"class":"\ud83d"},"plazaId":1}`,
			"vehicle_type: half of a surrogate pair, which is no character"},
		{"time=ts", `{"ts":"2022-02-10T09:23:02Z"}`, "vehicle_id: missing"},
		{json, `[{},{}]`, `time: no value at "ts", in event 1 of the record`},
		{json, `[]`, "event: an empty list"},
		{json, `[7]`, "event: not a JSON object"},
		{json, `{"ts":`, "event: not JSON: unexpected end of JSON input"},
		{json, "{\"ts\":\"\xff\"}", "event: not valid UTF-8"},
	} {
		var got toll.Event
		err := mapped(t, c.mapping).Decode([]byte(c.payload), "", &got)
		switch {
		case err != nil && err.Error() != c.err:
			t.Errorf("%s: %q: the error %q, want %q", c.mapping, c.payload, err, c.err)
		case err == nil && c.err != "":
			t.Errorf("%s: %q: %+v, want the error %q", c.mapping, c.payload, got, c.err)
		case err == nil && got != want:
			t.Errorf("%s: %q: %+v, want %+v", c.mapping, c.payload, got, want)
		case err != nil && c.payload != "":
			checkMalformed(t, err)
		}
	}
}

func TestMappedTimes(t *testing.T) {
	const day, month = "time_format=day_first", "time_format=month_first"
	for _, c := range []struct{ mapping, text, want string }{
		{day, "10/02/2022 10:23:02", "2022-02-10 10:23:02"},
		{day, "1.2.2022 9:05", "2022-02-01 09:05:00"},
		{day, "1-2-2022T09:05:06.789", "2022-02-01 09:05:06"},
		{day, "10/02/2022 09:23:02Z", "2022-02-10 10:23:02"},
		{day, "10/02/2022, 12:23:02 AM", "2022-02-10 00:23:02"},
		{day, "2022/02/10 10:23", "2022-02-10 10:23:00"},
		{day, "02/13/2022 10:23", `"02/13/2022 10:23" is not a date with the day first, and a time`},
		{day, "31/02/2022 10:23", "day 31 does not exist in 2022-02"},
		{day, "10/02/2022", `"10/02/2022" is not a date with the day first, and a time`},
		{day, "10/02/2022 25:00", "25:00:00 is not a time of day"},
		{day, "10/02 10:23", `"10/02 10:23" is not a date with the day first, and a time`},
		{day, "10/02/2022 10", `"10/02/2022 10" is not a date with the day first, and a time`},
		{month, "02/10/2022 10:23:02 pm", "2022-02-10 22:23:02"},
		{month, "13/02/2022 1:23", `"13/02/2022 1:23" is not a date with the month first, and a time`},
		{month, "02/10/2022 13:23 PM",
			`"02/10/2022 13:23 PM" is not a date with the month first, and a time`},
		{"time_format=epoch_s", "1644484982", "2022-02-10 10:23:02"},
		{"time_format=epoch_s", "1644484982.999", "2022-02-10 10:23:02"},
		{"time_format=epoch_ms", "1644484982999", "2022-02-10 10:23:02"},
		{"time_format=epoch_ms", "-1", "1970-01-01 00:59:59"},
		{"time_format=epoch_s", "-0.5", "1970-01-01 00:59:59"},
		{"time_format=epoch_us", "1644484982999999", "2022-02-10 10:23:02"},
		{"time_format=epoch_ns", "1644484982999999999", "2022-02-10 10:23:02"},
		{"time_format=epoch_s", "1644484982999", "1644484982999 units since 1970 are outside the years " +
			"1000 to 9999"},
		{"time_format=epoch_s", "1e9x", `"1e9x" is not a number of units since 1970`},
		{"time_format=%Y%m%dT%H%M%S", "20220210T102302", "2022-02-10 10:23:02"},
		{`time_format="%d %B %Y %T %z"`, "10 February 2022 09:23:02 +0000", "2022-02-10 10:23:02"},
		{`time_format="%d.%m.%y %H:%M"`, "10.2.22 10:23", "2022-02-10 10:23:00"},
		{"time_format=%Y%m%d", "yesterday", `"yesterday" is not a time like %Y%m%d`},
		// Times of New York, in a database of Berlin.
		{"timezone=America/New_York", "2022-02-10 04:23:02", "2022-02-10 10:23:02"},
		{"timezone=America/New_York", "Thu Feb 10 04:23:02 2022", "2022-02-10 10:23:02"},
		{"timezone=America/New_York", "2022-02-10T10:23:02+01:00", "2022-02-10 10:23:02"},
		{"timezone=America/New_York " + day, "10/02/2022 04:23", "2022-02-10 10:23:00"},
		{`timezone=America/New_York time_format="%d %H:%M %m %Y"`, "10 04:23 02 2022",
			"2022-02-10 10:23:00"},
	} {
		d := mapped(t, c.mapping)
		for range 2 { // the decoder remembers dates
			var e toll.Event
			err := d.Decode([]byte(`"`+c.text+`",1,car,4856`), "", &e)
			got := e.Time.String()
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "time: ")
			}
			if got != c.want {
				t.Errorf("%s: %q is %s, want %s", c.mapping, c.text, got, c.want)
			}
		}
	}
}

// FuzzSplitCSV holds the rows of RFC 4180 to what encoding/csv reads, wherever that accepts them.
func FuzzSplitCSV(f *testing.F) {
	for _, s := range []string{"a,b,c\n", `"a ""b"",c",d` + "\r\nnext,row", "\"a\nb\",c", ",\n",
		"a\r\n\r\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(strings.ReplaceAll(text, "\r\n", "\n"), "\r") ||
			strings.TrimLeft(text, "\n\r") != text {
			t.Skip() // lone carriage returns and leading blank lines, which are read differently
		}
		r := csv.NewReader(strings.NewReader(text))
		r.FieldsPerRecord = -1
		want, err := r.Read()
		if err != nil {
			t.Skip()
		}
		fields, _, err := splitCSV([]byte(text), ',', nil)
		got := make([]string, len(fields))
		for i, field := range fields {
			got[i] = strings.ReplaceAll(string(field), "\r\n", "\n")
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q: %q, %v, want %q", text, got, err, want)
		}
	})
}

func BenchmarkDecodeMapped(b *testing.B) {
	for name, c := range map[string]struct{ mapping, payload string }{
		"csv": {"time=4 vehicle_id=3 vehicle_type=2 toll_plaza_id=1 time_format=day_first",
			"4856,car,3728373,10/02/2022 10:23:02,x"},
		"json": {"time=ts toll_plaza_id=plazaId time_format=epoch_ms",
			`{"ts":1644484982999,"vehicle_id":3728373,"vehicle_type":"car","plazaId":4856}`},
	} {
		b.Run(name, func(b *testing.B) {
			d := mapped(b, c.mapping)
			var e toll.Event
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Decode([]byte(c.payload), "", &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// passageFile is what protoc makes of
//
//	message Lane { int64 booth = 1; }
//	enum Class { UNKNOWN = 0; car = 1; }
//	message Passage {
//	  google.protobuf.Timestamp at = 1;  uint64 vehicle = 2;  Class class = 3;  Lane lane = 4;
//	  google.protobuf.Int32Value tag = 5;  int64 ms = 6;  string kind = 7;
//	}
//	message Bundle { repeated Passage rows = 1;  int32 booth = 2; }
const passageFile = `name: "acme.proto" package: "acme" syntax: "proto3"
dependency: "google/protobuf/timestamp.proto" dependency: "google/protobuf/wrappers.proto"
enum_type { name: "Class" value { name: "UNKNOWN" number: 0 } value { name: "car" number: 1 } }
message_type { name: "Lane" field { name: "booth" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL } }
message_type { name: "Passage"
  field { name: "at" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "vehicle" number: 2 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "class" number: 3 type: TYPE_ENUM type_name: ".acme.Class" label: LABEL_OPTIONAL }
  field { name: "lane" number: 4 type: TYPE_MESSAGE type_name: ".acme.Lane" label: LABEL_OPTIONAL }
  field { name: "tag" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.Int32Value" label: LABEL_OPTIONAL }
  field { name: "ms" number: 6 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "kind" number: 7 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "Bundle"
  field { name: "rows" number: 1 type: TYPE_MESSAGE type_name: ".acme.Passage" label: LABEL_REPEATED }
  field { name: "booth" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL } }`

// described returns a mapping of a message of passageFile.
func described(t *testing.T, text string) *mapping.Mapping {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(passageFile), file); err != nil {
		t.Fatal(err)
	}
	set,
		err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(timestamppb.File_google_protobuf_timestamp_proto),
		protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto), file}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.Parse("descriptors=acme.binpb " + text)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Describe(set); err != nil {
		t.Fatal(err)
	}
	wrong := *m
	if wrong.Message = "acme.Nothing"; wrong.Describe(set) == nil ||
		wrong.Describe([]byte("x")) == nil {
		t.Error("descriptors without the message are taken")
	}
	return m
}

// TestDescribed reads messages of others by their descriptors.
func TestDescribed(t *testing.T) {
	const passage = "message=acme.Passage time=at vehicle_id=vehicle vehicle_type=class " +
		"toll_plaza_id=lane.booth"
	const bundle = "message=acme.Bundle events=rows time=at vehicle_id=vehicle vehicle_type=class " +
		"toll_plaza_id=$.booth"
	const one = "at { seconds: 1644484982 nanos: 5 } vehicle: 3728373 class: car "
	for _, c := range []struct {
		mapping, message string // in text
		events           int
		err              string
	}{
		{passage, one + "lane { booth: 4856 }", 1, ""},
		{passage, one, 0, `toll_plaza_id: no value at "lane.booth"`},
		{passage, "vehicle: 1 class: car lane { booth: 1 }", 0, `time: no value at "at"`},
		{passage, "at { seconds: 1644484982 } class: car lane { }", -1, ""},
		{passage, one + "lane { booth: 70000 }", 0, "toll_plaza_id: 70000 is outside -32768 to 32767"},
		{passage, "at { seconds: 1 } vehicle: 18446744073709551615 class: car lane { booth: 1 }", 0,
			"vehicle_id: 18446744073709551615 is outside 0 to 2147483647"},
		{passage, "at { seconds: 1 } lane { booth: 1 }", 0, `vehicle_type: no value at "class"`},
		{"message=acme.Passage time=ms time_format=epoch_ms vehicle_id=vehicle vehicle_type=kind " +
			"toll_plaza_id=tag", `ms: 1644484982500 vehicle: 3728373 kind: "car" tag { value: 4856 }`, 1,
			""},
		{"message=acme.Passage time=ms time_format=epoch_ms vehicle_id=vehicle vehicle_type=kind " +
			"toll_plaza_id=tag", `vehicle: 3728373 kind: "car" tag { }`, 0, "time: missing"},
		{bundle, "booth: 4856 rows { " + one + "} rows { " + one + "}", 2, ""},
		{bundle, "booth: 4856 rows { " + one + "} rows { vehicle: 7 }", 0,
			`time: no value at "at", in event 2 of the record`},
		{bundle, "booth: 4856", 0, `event: an empty list at "rows"`},
	} {
		m := described(t, c.mapping)
		message := dynamicpb.NewMessage(m.Descriptor)
		if err := prototext.Unmarshal([]byte(c.message), message); err != nil {
			t.Fatal(err)
		}
		payload, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		d := NewMappedDecoder(Auto, berlin(t), m)
		var e toll.Event
		more, err := d.DecodeAll(payload, "", &e)
		switch {
		case err != nil && err.Error() != c.err || err == nil && c.err != "":
			t.Errorf("%s: the error %v, want %q", c.message, err, c.err)
		case err != nil:
			checkMalformed(t, err)
		case c.events < 0: // numbers that are not set are 0
			if want := event("2022-02-10 10:23:02", 0, "car", 0); e != want {
				t.Errorf("%s: got %+v", c.message, e)
			}
		case e != sample || 1+len(more) != c.events || len(more) > 0 && more[0] != sample:
			t.Errorf("%s: got %+v and %v", c.message, e, more)
		}
		if _, err := d.DecodeAll([]byte("\x0a\x7f"), "", &e); err == nil ||
			toll.RejectKindOf(err) != toll.RejectFormat {
			t.Errorf("damaged: %v", err)
		}
		if _, err := d.DecodeAll(make([]byte, maxMessage+1), Protobuf.ContentType(), &e); err == nil {
			t.Error("a message of any size is read")
		}
	}
	if _, err := mapping.Parse("message=acme.Passage"); err == nil {
		t.Error("a message without descriptors is taken")
	}
}
