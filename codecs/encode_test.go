package codecs

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/toll"
)

var (
	_ goka.Codec = (*EventCodec)(nil)
	_ goka.Codec = Raw{}
)

func TestEventCodec(t *testing.T) {
	for f, want := range payloads(t) {
		c := NewEventCodec(f, berlin(t))
		e := sample
		for _, value := range []any{e, &e, want} {
			got, err := c.Encode(value)
			if err != nil || string(got) != string(want) {
				t.Errorf("%v: Encode(%T) = %q, %v", f, value, got, err)
			}
		}
		if got, err := c.Decode(want); err != nil || got != e {
			t.Errorf("%v: Decode = %v, %v", f, got, err)
		}
		if _, err := c.Decode([]byte("\x00")); !errors.Is(err, toll.ErrMalformed) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestEventCodecRefuses(t *testing.T) {
	comma := event("2022-02-10 10:23:02", 1, "a,b", 2)
	negative := sample
	negative.Vehicle = -1
	c := NewEventCodec(Auto, nil)
	for _, value := range []any{nil, "text", (*toll.Event)(nil), toll.Event{}, negative} {
		if got, err := c.Encode(value); err == nil {
			t.Errorf("Encode(%#v) = %q", value, got)
		}
	}
	for _, f := range []Format{JSON, CSV} {
		payload, err := NewEventCodec(f, nil).Encode(comma)
		if err != nil {
			t.Errorf("%v can hold a comma: %v", f, err)
		}
		if again, err := NewEventCodec(f, nil).Decode(payload); err != nil || again != comma {
			t.Errorf("%s came back as %v, %v", payload, again, err)
		}
	}
}

func TestEventCodecIsForSeveralGoroutines(t *testing.T) {
	for f, want := range payloads(t) {
		c := NewEventCodec(f, berlin(t))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					if got, err := c.Encode(sample); err != nil || string(got) != string(want) {
						t.Errorf("Encode = %q, %v", got, err)
					}
					if got, err := c.Decode(want); err != nil || got != sample {
						t.Errorf("Decode = %v, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestRaw(t *testing.T) {
	if got, err := (Raw{}).Decode([]byte("\x00x")); err != nil || string(got.([]byte)) != "\x00x" {
		t.Errorf("Decode = %v, %v", got, err)
	}
	if got, err := (Raw{}).Encode([]byte("x")); err != nil || string(got) != "x" {
		t.Errorf("Encode = %q, %v", got, err)
	}
	if _, err := (Raw{}).Encode("x"); err == nil {
		t.Error("encoded a string")
	}
}

func TestParseFormat(t *testing.T) {
	for name, want := range map[string]Format{
		"": Auto, "auto": Auto, "csv": CSV, "json": JSON, "protobuf": Protobuf, "CSV": CSV,
		"Protobuf": Protobuf,
	} {
		if got, err := ParseFormat(name); err != nil || got != want {
			t.Errorf("ParseFormat(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"xml", " csv", "csv\x00"} {
		if got, err := ParseFormat(name); err == nil {
			t.Errorf("ParseFormat(%q) = %v, want an error", name, got)
		}
	}
}

func TestFormatNames(t *testing.T) {
	for f := Auto; f <= Protobuf; f++ {
		if got, err := ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("ParseFormat(%q) = %v, %v", f.String(), got, err)
		}
		if got := formatOf(f.ContentType()); got != f {
			t.Errorf("formatOf(%q) = %v", f.ContentType(), got)
		}
	}
	if s := Format(9).String(); s != "Format(9)" {
		t.Errorf("unknown format is named %q", s)
	}
	if s := Format(9).ContentType(); s != "" {
		t.Errorf("unknown format has the content type %q", s)
	}
}

func TestFormatOfContentType(t *testing.T) {
	for contentType, want := range map[string]Format{
		"text/csv":                              CSV,
		"Text/CSV; header=absent":               CSV,
		"application/json;charset=utf-8":        JSON,
		" application/json ":                    JSON,
		"application/x-protobuf":                Protobuf,
		"application/protobuf; messageType=x.Y": Protobuf,
		"application/octet-stream":              Auto,
		";":                                     Auto,
		"json":                                  Auto,
	} {
		if got := formatOf(contentType); got != want {
			t.Errorf("formatOf(%q) = %v, want %v", contentType, got, want)
		}
	}
}

// The literals are what Python 3 prints for time.ctime(calendar.timegm(...)) with TZ=UTC.
func TestAppendCSVIsPythonsCtime(t *testing.T) {
	var writer CSVWriter
	for _, c := range []struct {
		e    toll.Event
		want string
	}{
		{sample, "Thu Feb 10 10:23:02 2022,3728373,car,4856"},
		{event("2022-02-03 01:02:03", 0, "van", -1), "Thu Feb  3 01:02:03 2022,0,van,-1"},
		{event("2024-02-29 23:59:59", 1, "car", 0), "Thu Feb 29 23:59:59 2024,1,car,0"},
		{event("1970-01-01 00:00:00", 1, "car", 32767), "Thu Jan  1 00:00:00 1970,1,car,32767"},
		{event("1999-12-31 00:00:00", 2147483647, "car", -32768),
			"Fri Dec 31 00:00:00 1999,2147483647,car,-32768"},
		{event("9999-12-31 23:59:59", 1, "truck", 4000), "Fri Dec 31 23:59:59 9999,1,truck,4000"},
		{event("1000-01-01 00:00:00", 1, "truck", 4000), "Wed Jan  1 00:00:00 1000,1,truck,4000"},
	} {
		for range 2 { // the second time of the same second
			if got := string(writer.Append([]byte(">"), &c.e)); got != ">"+c.want {
				t.Errorf("the writer wrote %s, want %s", got, c.want)
			}
		}
		if got := string(AppendCSV([]byte(">"), &c.e)); got != ">"+c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for _, c := range []struct {
		zone string
		e    toll.Event
		want string
	}{
		{"Europe/Berlin", sample,
			`{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`},
		{"UTC", sample,
			`{"timestamp":"2022-02-10T10:23:02+00:00","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`},
		{"America/St_Johns", sample,
			`{"timestamp":"2022-02-10T10:23:02-03:30","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`},
		{"Asia/Kathmandu", sample,
			`{"timestamp":"2022-02-10T10:23:02+05:45","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`},
		{"Europe/Berlin", event("2022-10-30 02:30:00", 1, "car", 2),
			`{"timestamp":"2022-10-30T02:30:00+02:00","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`},
		{"Europe/Berlin", event("2026-03-29 02:30:00", 1, "car", 2),
			`{"timestamp":"2026-03-29T02:30:00","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`},
		{"Europe/Berlin", event("2026-03-29 02:00:59", 1, "car", 2),
			`{"timestamp":"2026-03-29T02:00:59","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`},
		{"Europe/Berlin", event("1850-01-01 00:00:00", 1, "car", 2),
			`{"timestamp":"1849-12-31T23:06:32Z","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`},
		{"UTC", event("2022-02-10 10:23:02", 1, "a\"b\\\n<é", -2),
			`{"timestamp":"2022-02-10T10:23:02+00:00","vehicle_id":1,"vehicle_type":"a\"b\\\n\u003cé","toll_plaza_id":-2}`},
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		zone := toll.NewZone(loc)
		got := AppendJSON([]byte{}, &c.e, zone)
		if string(got) != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("not JSON: %s", got)
		}
		var again toll.Event
		if err := NewDecoder(JSON, zone).Decode(got, "", &again); err != nil || again != c.e {
			t.Errorf("%s came back as %+v, %v", got, again, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	e, zone := sample, berlin(b)
	var dst []byte
	for name, encode := range map[string]func(){
		"csv":      func() { dst = AppendCSV(dst[:0], &e) },
		"json":     func() { dst = AppendJSON(dst[:0], &e, zone) },
		"protobuf": func() { dst = AppendProtobuf(dst[:0], &e, zone) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encode()
			}
		})
	}
}
