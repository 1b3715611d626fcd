package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/codecs/tollpb"
	"github.com/tollstream/tollstream/toll"
)

// TestPropose has files in other forms checked, and then again by what was proposed.
func TestPropose(t *testing.T) {
	rows := func(head, format string, args func(i int) []any) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range 40 {
			fmt.Fprintf(&b, format+"\n", args(i)...)
		}
		return b.String()
	}
	for _, c := range []struct{ name, text, want, note string }{
		{"header row in German", rows("Station;Spur;Fahrzeug;Klasse;Zeitpunkt\n",
			"%d;1;%d;car;%02d/03/2022 10:23:02",
			func(i int) []any { return []any{4000 + i%5, 123456 * i, 1 + i%28} }),
			"time=Zeitpunkt vehicle_id=Fahrzeug vehicle_type=Klasse toll_plaza_id=Station " +
				"time_format=day_first delimiter=semicolon", ""},
		{"usual names, other times", rows("timestamp,vehicle_id,vehicle_type,toll_plaza_id\n",
			"%02d/%02d/2022 10:23,%d,car,4856",
			func(i int) []any { return []any{1 + i%12, 1 + i%9, i} }),
			"time=timestamp vehicle_id=vehicle_id vehicle_type=vehicle_type " +
				"toll_plaza_id=toll_plaza_id time_format=day_first",
			"No date tells the day from the month: 01/01/2022 10:23 may be month_first too."},
		{"no header row", rows("", "4856.0\t%d\tx\t2022-02-10T10:23:02Z\tcar",
			func(i int) []any { return []any{99999 * i} }),
			"time=4 vehicle_id=2 vehicle_type=3 toll_plaza_id=1 delimiter=tab",
			"vehicle_type is a guess by its values: no name tells."},
		{"an envelope of JSON", rows("",
			`{"payload":{"before":null,"after":{"ts":%d,"plazaId":4856,"car":{"id":%d,"class":"bus"}}}}`,
			func(i int) []any { return []any{1644488582000 + int64(i), 12345678 + i} }),
			"time=payload.after.ts vehicle_id=payload.after.car.id vehicle_type=payload.after.car.class " +
				"toll_plaza_id=payload.after.plazaId time_format=epoch_ms", ""},
		{"several events in an envelope", rows("",
			`{"plaza":4856,"cars":[{"model":1},{"model":2}],"data":{"passages":[`+
				`{"at":"2022-02-10 10:23:02","id":%d,"class":"car"},{"at":"2022-02-10 10:23:03","id":7,"class":"bus"}]}}`,
			func(i int) []any { return []any{12345678 + i} }),
			"time=at vehicle_id=id vehicle_type=class toll_plaza_id=$.plaza events=data.passages", ""},
		{"a list in an event", rows("",
			`{"ts":"2022-02-10 10:23:02","veh":%d,"class":"car","lanes":[{"booth":4856}]}`,
			func(i int) []any { return []any{12345678 + i} }),
			"time=ts vehicle_id=veh vehicle_type=class toll_plaza_id=lanes.0.booth", ""},
		{"nothing like events", rows("", "%d rubbish", func(i int) []any { return []any{i} }), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone := toll.NewZone(time.UTC)
			check, err := CheckFile(c.name, strings.NewReader(c.text), zone, nil)
			if err != nil {
				t.Fatal(err)
			}
			if check.Rows != 0 || check.Records < 40 || len(check.DeadLetters) == 0 {
				t.Errorf("%+v", check)
			}
			if c.want == "" {
				if check.Proposal != nil {
					t.Errorf("proposed %+v", check.Proposal)
				}
				return
			}
			p := check.Proposal
			if p == nil || p.Mapping != c.want || p.Rows != 40 ||
				c.note != "" && (len(p.Notes) == 0 || p.Notes[0] != c.note) {
				t.Fatalf("proposed %+v, want %s", p, c.want)
			}
			m, err := mapping.Parse(p.Mapping)
			if err != nil {
				t.Fatal(err)
			}
			again, err := CheckFile(c.name, strings.NewReader(c.text), zone, m)
			if err != nil || again.Rows != int64(p.Events) || again.Rejected() != 0 ||
				again.First != p.First || again.Proposal != nil {
				t.Errorf("by the proposal: %+v", again)
			}
		})
	}
}

// TestProposeMessage has records of Protobuf checked, of which no message is named.
func TestProposeMessage(t *testing.T) {
	var set descriptorpb.FileDescriptorSet
	for _, m := range []proto.Message{&timestamppb.Timestamp{}, &tollpb.TollEvent{}} {
		set.File = append(set.File,
			protodesc.ToFileDescriptorProto(m.ProtoReflect().Descriptor().ParentFile()))
	}
	descriptors, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	m := mapping.Mapping{Descriptors: "toll.binpb"}
	var unnamed *mapping.MessageError
	if err = m.Describe(descriptors); !errors.As(err, &unnamed) ||
		err.Error() != "the mapping needs message, one of tollstream.v1.TollEvent" {
		t.Fatal(err)
	}
	zone := toll.NewZone(time.UTC)
	topic := Topic{Mapping: &m, Messages: unnamed.Known}
	c := checker{like: topic.like(), decoder: func(m *mapping.Mapping) *codecs.Decoder {
		return codecs.NewMappedDecoder(codecs.Protobuf, zone, m)
	}}
	for i := range 40 {
		e := toll.Event{Time: toll.WallTimeOf(time.Date(2022, 2, 10, 10, 23, i, 0, time.UTC)),
			Vehicle: int32(12345678 + i), Type: "car", Plaza: 4856}
		c.add("0:0", record{value: codecs.AppendProtobuf(nil, &e, zone)}, nil, 0,
			toll.Malformed(toll.RejectFormat, "no message is named"))
	}
	const want = "time=unix_seconds vehicle_id=vehicle_id vehicle_type=vehicle_type " +
		"toll_plaza_id=toll_plaza_id descriptors=toll.binpb message=tollstream.v1.TollEvent " +
		"time_format=epoch_s"
	p := c.done().Proposal
	if p == nil || p.Mapping != want || p.Rows != 40 ||
		p.First != "time 2022-02-10 10:23:00, vehicle_id 12345678, vehicle_type car, toll_plaza_id 4856" {
		t.Errorf("proposed %+v", p)
	}
}
