package codecs

import (
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
