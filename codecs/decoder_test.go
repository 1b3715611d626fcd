package codecs

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

// berlin is an hour ahead of UTC in winter and two in summer.
func berlin(t testing.TB) *toll.Zone {
	t.Helper()
	loc, err := berlinOnce()
	if err != nil {
		t.Fatal(err)
	}
	return toll.NewZone(loc)
}

var berlinOnce = sync.OnceValues(func() (*time.Location, error) {
	return time.LoadLocation("Europe/Berlin")
})

// sample is the event of the course's example.
var sample = event("2022-02-10 10:23:02", 3728373, "car", 4856)

func event(wall string, vehicle int32, kind string, plaza int16) toll.Event {
	w, err := time.Parse("2006-01-02 15:04:05", wall)
	if err != nil {
		panic(err)
	}
	return toll.Event{Time: toll.WallTimeOf(w), Vehicle: vehicle, Type: kind, Plaza: plaza}
}

type decodeCase struct {
	payload string
	want    toll.Event
	err     string // a malformed event's text; the event is good if empty
}

// runDecode runs each case on a decoder of its own and on one that all cases share, which remembers
// what came before.
func runDecode(t *testing.T, format Format, cases []decodeCase) {
	t.Helper()
	shared := NewDecoder(format, berlin(t))
	for round := range 2 {
		for _, c := range cases {
			for name, d := range map[string]*Decoder{"fresh": NewDecoder(format, berlin(t)),
				"shared": shared} {
				var e toll.Event
				err := d.Decode([]byte(c.payload), "", &e)
				shown := clip(c.payload)
				switch {
				case c.err == "" && err != nil:
					t.Errorf("%s, %s, round %d: %v", shown, name, round, err)
				case c.err == "" && e != c.want:
					t.Errorf("%s, %s, round %d: got %+v, want %+v", shown, name, round, e, c.want)
				case c.err != "" && err == nil:
					t.Errorf("%s, %s, round %d: got %+v, want the error %q", shown, name, round, e, c.err)
				case c.err != "" && err.Error() != c.err:
					t.Errorf("%s, %s, round %d: got the error %q, want %q", shown, name, round, err, c.err)
				case c.err != "":
					checkMalformed(t, err)
				}
			}
		}
	}
}

// checkMalformed checks what holds for every error about an event.
func checkMalformed(t testing.TB, err error) {
	t.Helper()
	var malformed *toll.MalformedError
	if !errors.Is(err, toll.ErrMalformed) || !errors.As(err, &malformed) {
		t.Fatalf("%q is a %T", err, err)
	}
	switch malformed.Kind {
	case fieldEvent, fieldTime, fieldVehicle, fieldType, fieldPlaza, toll.RejectRows,
		toll.RejectSchema:
	default:
		t.Errorf("unknown kind %q", malformed.Kind)
	}
	if malformed.Reason == "" || len(malformed.Reason) > 250 {
		t.Errorf("a reason of %d bytes: %q", len(malformed.Reason), malformed.Reason)
	}
	for _, c := range []byte(malformed.Reason) {
		if c < ' ' || c > '~' {
			t.Errorf("a reason that is not printable: %q", malformed.Reason)
			break
		}
	}
}

// checkEvent checks what holds for every decoded event.
func checkEvent(t testing.TB, e *toll.Event) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Fatalf("decoded an invalid event %+v: %v", *e, err)
	}
	if strings.Trim(e.Type, " \t\n\v\f\r") != e.Type || !utf8.ValidString(e.Type) {
		t.Fatalf("type %q", e.Type)
	}
}

func TestDecodePicksTheFormat(t *testing.T) {
	e := sample
	zone := berlin(t)
	text := map[Format][]byte{CSV: AppendCSV(nil, &e), JSON: AppendJSON(nil, &e, zone),
		Protobuf: AppendProtobuf(nil, &e, zone)}
	for _, c := range []struct {
		decoder     Format
		contentType string
		payload     Format
		ok          bool
	}{
		{Auto, "", CSV, true},
		{Auto, "", JSON, true},
		{Auto, "", Protobuf, false},
		{Auto, "application/x-protobuf", Protobuf, true},
		{Auto, "application/octet-stream", JSON, true},
		{Auto, "text/csv", JSON, false},
		{CSV, "", CSV, true},
		{CSV, "", JSON, false},
		{CSV, "Application/JSON; charset=utf-8", JSON, true},
		{CSV, "text/plain", CSV, true},
		{JSON, "", CSV, false},
		{JSON, "text/csv", CSV, true},
		{Protobuf, "", Protobuf, true},
		{Protobuf, "", CSV, false},
		{Protobuf, "application/json", JSON, true},
	} {
		var got toll.Event
		err := NewDecoder(c.decoder, zone).Decode(text[c.payload], c.contentType, &got)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		} else if c.ok && got != e {
			t.Errorf("%+v: got %+v", c, got)
		}
	}
}

func TestDecodeAutoSkipsBlanks(t *testing.T) {
	runDecode(t, Auto, []decodeCase{
		{payload: " \r\n\t" +
			`{"timestamp":"2022-02-10 10:23:02","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "car", 2)},
		{payload: " \r\n\tThu Feb 10 10:23:02 2022,1,car,2",
			want: event("2022-02-10 10:23:02", 1, "car", 2)},
		{payload: "[1]", err: "event: not a JSON object"},
		{payload: "", err: "event: empty"},
		{payload: " \t\r\n\v\f", err: "event: empty"},
		{payload: "\x00", err: "event: 1 field, expected 4"},
	})
}

func TestDecodeNil(t *testing.T) {
	for f := Auto; f <= Protobuf; f++ {
		var e toll.Event
		err := NewDecoder(f, nil).Decode(nil, "", &e)
		if err == nil || err.Error() != "event: empty" {
			t.Errorf("%v: %v", f, err)
		}
	}
}

// Large payloads, as a broker may let through.
func TestDecodeLarge(t *testing.T) {
	const size = 2 << 20
	long := strings.Repeat("x", size)
	runDecode(t, Auto, []decodeCase{
		{payload: long, err: "event: 1 field, expected 4"},
		{payload: strings.Repeat(",", size), err: "event: 2097153 fields, expected 4"},
		{payload: long + ",1,car,2",
			err: `time: "` + strings.Repeat("x", 40) + `"... is not a timestamp`},
		{payload: "Thu Feb 10 10:23:02 2022," + long + ",car,2",
			err: `vehicle_id: "` + strings.Repeat("x", 40) + `"... is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1," + long + ",2",
			err: "vehicle_type: 2097152 characters, the most is 15"},
		{payload: "Thu Feb 10 10:23:02 2022,1,car," + strings.Repeat("7", size),
			err: "toll_plaza_id: a number of 2097152 digits is outside -32768 to 32767"},
		{payload: "Thu Feb 10 10:23:02 2022,1,car," + strings.Repeat("0", size) + "7",
			want: event("2022-02-10 10:23:02", 1, "car", 7)},
		{payload: strings.Repeat(" ", size), err: "event: empty"},
		{payload: `{"a":` + strings.Repeat("[", size),
			err: "event: not JSON: invalid character '[' exceeded max depth"},
		{payload: `{"a":"` + long +
			`","timestamp":"2022-02-10 10:23:02","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "car", 2)},
		{payload: `{"timestamp":"` + long + `","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`,
			err: `time: "` + strings.Repeat("x", 40) + `"... is not a timestamp`},
	})
	var e toll.Event
	if err := NewDecoder(Protobuf, nil).Decode(bytes.Repeat([]byte{0xff}, size), "", &e); err == nil ||
		err.Error() != "event: not a Protobuf message" {
		t.Errorf("2 MB as Protobuf: %v", err)
	}
}

func TestTypesAreBounded(t *testing.T) {
	d := NewDecoder(CSV, nil)
	for i := range 3 * maxTypes {
		var e toll.Event
		if err := d.Decode(fmt.Appendf(nil, "Thu Feb 10 10:23:02 2022,1,type%d,2", i), "",
			&e); err != nil || e.Type != fmt.Sprintf("type%d", i) {
			t.Fatalf("%+v, %v", e, err)
		}
		if len(d.types) > maxTypes {
			t.Fatalf("%d types remembered", len(d.types))
		}
	}
}

// An event must not change when its payload's memory is used again.
func TestEventKeepsNothingOfThePayload(t *testing.T) {
	for f, payload := range payloads(t) {
		var e toll.Event
		if err := NewDecoder(f, berlin(t)).Decode(payload, "", &e); err != nil {
			t.Fatal(err)
		}
		for i := range payload {
			payload[i] = 'x'
		}
		if e.Type != "car" {
			t.Errorf("%v: the type became %q", f, e.Type)
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	for f, payload := range payloads(t) {
		d := NewDecoder(f, berlin(t))
		var e toll.Event
		n := testing.AllocsPerRun(100, func() {
			if err := d.Decode(payload, "", &e); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations per event", f, n)
		}
	}
}

func payloads(t testing.TB) map[Format][]byte {
	e, zone := sample, berlin(t)
	return map[Format][]byte{CSV: AppendCSV(nil, &e), JSON: AppendJSON(nil, &e, zone),
		Protobuf: AppendProtobuf(nil, &e, zone)}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"":                       `""`,
		"a\x00\"\xffé":           `"a\x00\"\xff\u00e9"`,
		strings.Repeat("a", 40):  `"` + strings.Repeat("a", 40) + `"`,
		strings.Repeat("a", 41):  `"` + strings.Repeat("a", 40) + `"...`,
		strings.Repeat("é", 100): `"` + strings.Repeat(`\u00e9`, 20) + `"...`,
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %s, want %s", in, got, want)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for f, payload := range payloads(b) {
		b.Run(f.String(), func(b *testing.B) {
			d := NewDecoder(f, berlin(b))
			var e toll.Event
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if err := d.Decode(payload, "", &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeMalformed(b *testing.B) {
	d := NewDecoder(Auto, nil)
	payload := bytes.Repeat([]byte("x"), 1000)
	b.ReportAllocs()
	for b.Loop() {
		var e toll.Event
		if d.Decode(payload, "", &e) == nil {
			b.Fatal("decoded")
		}
	}
}

func FuzzDecodeAuto(f *testing.F) {
	corpus.Add(f)
	for format, payload := range payloads(f) {
		f.Add(payload, format.ContentType())
	}
	f.Add([]byte("  [1]"), "text/csv;x")
	f.Fuzz(func(t *testing.T, payload []byte, contentType string) {
		var e toll.Event
		if err := NewDecoder(Auto, berlin(t)).Decode(payload, contentType, &e); err != nil {
			checkMalformed(t, err)
			return
		}
		checkEvent(t, &e)
	})
}

// TestDecodeConfluent: without a schema registry JSON and Protobuf are read behind its framing, and
// what needs the schema is named as such. No event of ours looks framed.
func TestDecodeConfluent(t *testing.T) {
	e := toll.Event{Time: toll.WallTimeOf(time.Date(2022, 2, 10, 10, 23, 2, 0, time.UTC)), Vehicle: 1,
		Type: "car", Plaza: 4000}
	utc := toll.NewZone(time.UTC)
	const unknown = "event: framed by schema 100001 of a schema registry, which only " +
		"--schema-registry can tell"
	json, protobuf := string(AppendJSON(nil, &e, utc)), string(AppendProtobuf(nil, &e, utc))
	for _, c := range []struct {
		reader     Format
		body, want string
	}{
		{Auto, json, ""}, {JSON, json, ""}, {CSV, json, ""},
		{Protobuf, "\x00" + protobuf, ""}, {Protobuf, "\x04\x02\x00" + protobuf, ""},
		{Auto, "\x00" + protobuf, unknown}, {Auto, string(AppendCSV(nil, &e)), unknown}, {CSV, "",
			unknown},
		{Protobuf, "\x01", "event: the message indexes of schema 100001 are damaged"},
		{Protobuf, "\x08\x02", "event: the message indexes of schema 100001 are damaged"},
	} {
		var got toll.Event
		err := NewDecoder(c.reader, nil).Decode([]byte("\x00\x00\x01\x86\xa1"+c.body), "", &got)
		switch {
		case c.want == "" && (err != nil || got != e):
			t.Errorf("%q, read as %v: %+v, %v", c.body, c.reader, got, err)
		case c.want != "" && (err == nil || err.Error() != c.want ||
			toll.RejectKindOf(err) != toll.RejectSchema):
			t.Errorf("%q, read as %v: %v, want %s", c.body, c.reader, err, c.want)
		}
	}
	for _, plain := range []string{json, protobuf, string(AppendCSV(nil, &e))} {
		if id := SchemaID([]byte(plain)); id != 0 {
			t.Errorf("%q looks framed", plain)
		}
	}
}

// FuzzDecodeMemory: reading a payload takes memory by its size, and time as well, whatever it says
// its format is.
func FuzzDecodeMemory(f *testing.F) {
	corpus.Add(f)
	for format, payload := range payloads(f) {
		f.Add(payload, format.ContentType())
	}
	f.Add([]byte(`{"a":[[[[{"b":"\u0000\ud83d"}]]]],"timestamp":1e999999999}`), "application/json")
	f.Add([]byte("\x0a\xff\xff\xff\xff\x0f"), "application/x-protobuf")
	f.Add([]byte(`"`+"\\ud83d"), "application/json; charset=\x00")
	zone := berlin(f)
	f.Fuzz(func(t *testing.T, payload []byte, contentType string) {
		for _, format := range []Format{Auto, CSV, JSON, Protobuf} {
			d := NewDecoder(format, zone.Clone())
			var e toll.Event
			began := time.Now()
			most := uint64(64*(len(payload)+len(contentType)) + 64<<10)
			if n := allocated(func() { _ = d.Decode(payload, contentType, &e) }); n > most {
				t.Fatalf("%v: %d bytes allocated for a payload of %d", format, n, len(payload))
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Fatalf("%v: %v for a payload of %d bytes", format, took, len(payload))
			}
		}
	})
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecodeAll reads payloads of several events. One that is malformed makes the whole payload so,
// and is named.
func TestDecodeAll(t *testing.T) {
	const csv, object = "Thu Feb 10 10:23:02 2022,3728373,car,4856",
		`{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`
	odd := strings.Replace(object, "4856", "4856.0", 1) // which is read the slow way
	const envelope = "events=data.passages time=ts vehicle_id=id vehicle_type=$.data.type " +
		"toll_plaza_id=$.plaza"
	const wrapped = `{"plaza":4856,"data":{"type":"car","passages":%s}}`
	const passage = `{"ts":"2022-02-10 10:23:02","id":3728373}`
	for _, c := range []struct {
		mapping, payload string
		events           int
		err              string
	}{
		{"", csv, 1, ""},
		{"", csv + "\n" + csv, 2, ""},
		{"", "\n" + csv + "\r\n  \r\n\n" + csv + "\r\n" + csv + "\n", 3, ""},
		{"", csv + "\n" + `"Thu Feb 10 10:23:02 2022",3728373,car,4856` + "\n" + csv, 3, ""},
		{"", csv + "\n2022-02-10 10:23:02,3728373,\"car\",4856", 2, ""},
		{"", csv + "\n" + csv + ",5\n" + csv, 0, "event: 5 fields, expected 4, in event 2 of the record"},
		{"", "Thu Feb 10 10:23:02 2022,-1,car,4856\n" + csv, 0,
			"vehicle_id: -1 is outside 0 to 2147483647, in event 1 of the record"},
		{"", csv + "\nThu Feb 10 10:23:02 2022,1,\"car,4856\n" + csv, 0,
			"event: a quoted field does not end, in event 2 of the record"},

		{"", "[" + object + "]", 1, ""},
		{"", " [ " + object + " , " + object + "\n]\n", 2, ""},
		{"", "[" + object + "," + odd + "," + object + "]", 3, ""},
		{"", object + "\n" + object + "\n", 2, ""},
		{"", object + odd + " " + object, 3, ""},
		{"", "[" + object + `,{"time":"x"},` + object + "]", 0,
			`time: "x" is not a timestamp, in event 2 of the record`},
		{"", "[" + object + "," + object, 0, "event: not JSON: unexpected end of JSON input"},
		{"", "[" + object + ",]", 0,
			"event: not JSON: invalid character ']' looking for beginning of value"},
		{"", "[" + object + ",[" + object + "]]", 0, "event: not a JSON object"},
		{"", object + "\n[" + object + "]", 0,
			"event: not JSON: invalid character '[' after top-level value"},
		{"", object + "\n{", 0, "event: not JSON: unexpected end of JSON input"},
		{"", "[]", 0, "event: an empty list"},

		{"time=2 toll_plaza_id=1 vehicle_id=3 vehicle_type=4 delimiter=tab",
			"4856\t2022-02-10 10:23:02\t3728373\tcar\n\n4856\t2022-02-10 10:23:02\t3728373\tcar\n", 2, ""},
		{"time=When", "When,vehicle_id,type,plaza\n2022-02-10 10:23:02,3728373,car,4856\n" +
			"2022-02-10 10:23:02,3728373,car,4856", 2, ""},
		{"time=1", csv + "\nThu Feb 10 10:23:02 2022,1\n", 0,
			"vehicle_type: no column 3 in a row of 2, in event 2 of the record"},
		{"time=timestamp", "[" + object + "," + object + "]", 2, ""},
		{"time=timestamp", object + "\n" + object, 2, ""},
		{envelope, fmt.Sprintf(wrapped, "["+passage+","+passage+"]"), 2, ""},
		{envelope, fmt.Sprintf(wrapped, "["+passage+"]"), 1, ""},
		{envelope, fmt.Sprintf(wrapped, passage), 1, ""},
		{envelope, "[" + fmt.Sprintf(wrapped, "["+passage+"]") + "," +
			fmt.Sprintf(wrapped, "["+passage+","+passage+"]") + "]", 3, ""},
		{envelope, fmt.Sprintf(wrapped, "["+passage+`,{"ts":"2022-02-10 10:23:02"}]`), 0,
			`vehicle_id: no value at "id", in event 2 of the record`},
		{envelope, fmt.Sprintf(wrapped, "[]"), 0, `event: an empty list at "data.passages"`},
		{envelope, `{"plaza":1}`, 0, `event: no list at "data.passages"`},
		{envelope, fmt.Sprintf(wrapped, "7"), 0, `time: no value at "ts"`},
	} {
		d := NewDecoder(Auto, berlin(t))
		if c.mapping != "" {
			d = mapped(t, c.mapping)
		}
		for range 2 { // the second time the type is known
			var got toll.Event
			more, err := d.DecodeAll([]byte(c.payload), "", &got)
			switch {
			case err != nil && err.Error() != c.err:
				t.Errorf("%s: the error %q, want %q", clip(c.payload), err, c.err)
			case err != nil:
				checkMalformed(t, err)
			case c.err != "":
				t.Errorf("%s: no error, want %q", clip(c.payload), c.err)
			case got != sample || slices.ContainsFunc(more, func(e toll.Event) bool {
				return e != sample
			}) ||
				1+len(more) != c.events:
				t.Errorf("%s: got %d events: %v, %v", clip(c.payload), 1+len(more), got, more)
			}
		}
	}
}

// TestMaxEvents: a payload of more events than may be is refused in every form.
func TestMaxEvents(t *testing.T) {
	line := string(AppendCSV(nil, &sample))
	object := string(AppendJSON(nil, &sample, toll.NewZone(berlin(t).Location())))
	odd := strings.Replace(object, "4856", "4856.0", 1)
	for _, c := range []struct{ mapping, open, event, separator, end string }{
		{"", "", line, "\n", ""}, {"", "[", object, ",", "]"}, {"", "", odd, "\n", ""},
		{"time=1", "", line, "\n", ""},
		{"events=rows", `{"rows":[`, object, ",", "]}"},
	} {
		d := mapped(t, c.mapping)
		if c.mapping == "" {
			d = NewDecoder(Auto, berlin(t))
		}
		for n := MaxEvents - 1; n <= MaxEvents+1; n++ {
			var e toll.Event
			events := strings.Repeat(c.event+c.separator, n-1) + c.event
			more, err := d.DecodeAll([]byte(c.open+events+c.end), "", &e)
			switch {
			case n > MaxEvents && toll.RejectKindOf(err) != toll.RejectRows:
				t.Errorf("%q, %d events: %v", c.mapping, n, err)
			case n <= MaxEvents && (err != nil || len(more) != n-1):
				t.Errorf("%q, %d events: %d more, %v", c.mapping, n, len(more), err)
			}
		}
		d.Forget()
		if cap(d.more) > 0 {
			t.Errorf("%q: keeps room for %d events", c.mapping, cap(d.more))
		}
	}
}
