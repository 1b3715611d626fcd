package codecs

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tollstream/tollstream/codecs/tollpb"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

func unixTime(unix int64) time.Time { return time.Unix(unix, 0) }

func pb(t testing.TB, m *tollpb.TollEvent) string {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// message returns the sample after change.
func message(change func(*tollpb.TollEvent)) *tollpb.TollEvent {
	m := &tollpb.TollEvent{UnixSeconds: proto.Int64(1644484982), VehicleId: proto.Int64(3728373),
		VehicleType: proto.String("car"), TollPlazaId: proto.Int64(4856)}
	if change != nil {
		change(m)
	}
	return m
}

func TestDecodeProtobuf(t *testing.T) {
	usual := pb(t, message(nil))
	runDecode(t, Protobuf, []decodeCase{
		{payload: usual, want: sample},
		// the last of a field counts
		{payload: "\x20\x02" + usual, want: sample},
		{payload: usual + "\x7a\x03xyz\x80\x01\x05\x8b\x01\x8c\x01", want: sample}, // unknown fields
		// vehicle_id as a string is another field
		{payload: "\x12\x01x" + usual, want: sample},
		{payload: pb(t, message(func(m *tollpb.TollEvent) {
			m.UnixSeconds, m.VehicleId, m.TollPlazaId = proto.Int64(0), proto.Int64(0), proto.Int64(0)
		})),
			want: event("1970-01-01 01:00:00", 0, "car", 0)},
		{payload: pb(t,
			message(func(m *tollpb.TollEvent) {
				m.UnixSeconds, m.TollPlazaId = proto.Int64(-1),
					proto.Int64(-32768)
			})),
			want: event("1970-01-01 00:59:59", 3728373, "car", -32768)},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleType = proto.String(" camión ") })),
			want: event("2022-02-10 10:23:02", 3728373, "camión", 4856)},

		{payload: "\x00", err: "event: not a Protobuf message"},
		{payload: usual + "\x08", err: "event: not a Protobuf message"},
		{payload: usual[:len(usual)-1], err: "event: not a Protobuf message"},
		// the end of a group that never began
		{payload: usual + "\x0c", err: "event: not a Protobuf message"},
		{payload: usual + strings.Repeat("\x7b", 20000), err: "event: not a Protobuf message"},
		{payload: usual + "\x1a\x01\xff" + usual, err: "vehicle_type: not valid UTF-8"},
		{payload: "\x7a\x00", err: "time: missing"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.UnixSeconds = nil })),
			err: "time: missing"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleId = nil })),
			err: "vehicle_id: missing"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleType = nil })),
			err: "vehicle_type: missing"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.TollPlazaId = nil })),
			err: "toll_plaza_id: missing"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleType = proto.String("") })),
			err: "vehicle_type: empty"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleId = proto.Int64(1 << 31) })),
			err: "vehicle_id: 2147483648 is outside 0 to 2147483647"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.VehicleId = proto.Int64(-1) })),
			err: "vehicle_id: -1 is outside 0 to 2147483647"},
		{payload: pb(t, message(func(m *tollpb.TollEvent) { m.TollPlazaId = proto.Int64(1<<32 + 5) })),
			err: "toll_plaza_id: 4294967301 is outside -32768 to 32767"},
		{payload: pb(t,
			message(func(m *tollpb.TollEvent) { m.UnixSeconds = proto.Int64(math.MaxInt64) })),
			err: "time: 9223372036854775807 seconds since 1970 are outside the years 1000 to 9999"},
		{payload: pb(t,
			message(func(m *tollpb.TollEvent) { m.UnixSeconds = proto.Int64(math.MinInt64) })),
			err: "time: -9223372036854775808 seconds since 1970 are outside the years 1000 to 9999"},
		{payload: pb(t,
			message(func(m *tollpb.TollEvent) { m.UnixSeconds = proto.Int64(int64(toll.MaxWallTime)) })),
			err: "time: 253402300799 seconds since 1970 are outside the years 1000 to 9999"},
	})
}

func TestAppendProtobufIsTheGeneratedEncoding(t *testing.T) {
	e := sample
	for _, plaza := range []int16{0, 1, -1, 4856, 32767, -32768} {
		e.Plaza = plaza
		got := string(AppendProtobuf(nil, &e, berlin(t)))
		want := pb(t, message(func(m *tollpb.TollEvent) { m.TollPlazaId = proto.Int64(int64(plaza)) }))
		if got != want {
			t.Errorf("plaza %d: got %x, want %x", plaza, got, want)
		}
	}
}

func FuzzDecodeProtobuf(f *testing.F) {
	corpus.Add(f)
	f.Add([]byte(pb(f, message(nil))))
	f.Add([]byte(pb(f, message(func(m *tollpb.TollEvent) { m.VehicleType = nil })) +
		"\x7a\x03xyz\x8b\x01\x8c\x01"))
	f.Add([]byte("\x1a\x01\xff\x12\x01x"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		zone := berlin(t)
		var got toll.Event
		err := NewDecoder(Protobuf, zone).Decode(payload, "", &got)
		if err != nil {
			checkMalformed(t, err)
		} else {
			checkEvent(t, &got)
		}
		if len(payload) == 0 {
			return
		}
		// The generated code is the judge of what a message says; the rest is the same rules in other
		// words.
		var m tollpb.TollEvent
		generated := proto.Unmarshal(payload, &m)
		if generated == nil && (m.UnixSeconds == nil || m.VehicleId == nil || m.VehicleType == nil ||
			m.TollPlazaId == nil) {
			generated = toll.ErrMalformed
		}
		want := toll.Event{}
		if generated == nil {
			if *m.UnixSeconds < -1<<40 || *m.UnixSeconds > 1<<40 {
				generated = toll.ErrMalformed
			} else {
				want = toll.Event{Time: zone.Wall(unixTime(*m.UnixSeconds)), Vehicle: int32(*m.VehicleId),
					Type: string(trim([]byte(*m.VehicleType))), Plaza: int16(*m.TollPlazaId)}
				if generated = want.Validate(); int64(want.Vehicle) != *m.VehicleId ||
					int64(want.Plaza) != *m.TollPlazaId {
					generated = toll.ErrMalformed
				}
			}
		}
		if (err == nil) != (generated == nil) {
			t.Fatalf("by hand: %v, generated: %v", err, generated)
		}
		if err == nil && got != want {
			t.Fatalf("by hand: %+v, generated: %+v", got, want)
		}
	})
}
