package codecs

import (
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

func TestDecodeJSON(t *testing.T) {
	const rest = `"vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2}`
	const head = `{"timestamp":"2022-02-10T10:23:02+01:00",`
	want := event("2022-02-10 10:23:02", 1, "car", 2)
	runDecode(t, JSON, []decodeCase{
		{payload: `{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`, want: sample},
		{payload: head + rest, want: want},
		{payload: " \r\n\t{ \"timestamp\" :\t\"2022-02-10T10:23:02+01:00\" , \"vehicle_id\" : 1 , " +
			"\"vehicle_type\" : \"car\" , \"toll_plaza_id\" : 2 } \n", want: want},
		{payload: `{"toll_plaza_id":2,"vehicle_type":"car","vehicle_id":1,"timestamp":"2022-02-10T10:23:02+01:00"}`, want: want},
		{payload: `{"time":"2022-02-10T09:23:02.75Z","vehicle_id":1,"vehicle_type":"car","plaza_id":2}`,
			want: want},
		{payload: `{"timestamp":"Thu Feb 10 10:23:02 2022",` + rest, want: want},
		{payload: `{"timestamp":"2022-02-10 10:23:02",` + rest, want: want},
		{payload: `{"timestamp":" 2022-02-10 10:23:02 ",` + rest, want: want},
		{payload: `{"timestamp":"2022-02-10T10:23:02",` + rest, want: want},
		{payload: head + `"vehicle_id":"1","vehicle_type":" car\t","toll_plaza_id":" 2 "}`, want: want},
		{payload: head + `"vehicle_id":"0001","vehicle_type":"car","toll_plaza_id":"-2"}`,
			want: event("2022-02-10 10:23:02", 1, "car", -2)},
		{payload: head + `"vehicle_id":-0,"vehicle_type":"car","toll_plaza_id":-32768}`,
			want: event("2022-02-10 10:23:02", 0, "car", -32768)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"c\u0061r","toll_plaza_id":2}`, want: want},
		{payload: head + `"vehicle_id":1,"vehicle_type":"camión","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "camión", 2)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"cami\u00f3n","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "camión", 2)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"a,b\"c\\","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, `a,b"c\`, 2)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"\ud83d\ude97","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "🚗", 2)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"a\ufffd\\\ud83d","toll_plaza_id":2}`,
			err: "vehicle_type: half of a surrogate pair, which is no character"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"a\ufffd\\ud83d","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "a\ufffd\\ud83d", 2)},
		{payload: head + `"vehicle_id":1,"vehicle_type":"\ud83d","toll_plaza_id":2}`,
			err: "vehicle_type: half of a surrogate pair, which is no character"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"\ude97\ud83d","toll_plaza_id":2}`,
			err: "vehicle_type: half of a surrogate pair, which is no character"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"\ud83d\u0061","toll_plaza_id":2}`,
			err: "vehicle_type: half of a surrogate pair, which is no character"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"\uFFFD","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 1, "\ufffd", 2)},
		{payload: head + `"x":"\ud83d",` + rest, want: want},
		// Unknown fields.
		{payload: head +
			`"lane":3,"x":"y","f":1.5e3,"n":null,"t":true,"a":[1,{"b":[]}],"o":{"vehicle_id":9},` +
			rest, want: want},
		{payload: head + `"Vehicle_ID":9,` + rest, want: want},
		{payload: `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) +
			`,"timestamp":"2022-02-10 10:23:02",` + rest, want: want},
		// The last of a field counts.
		{payload: head + `"vehicle_id":"bad","vehicle_id":[],"timestamp":"2022-02-10 10:23:02",` + rest,
			want: want},
		{payload: head + `"time":"2022-02-10 11:23:02",` + rest,
			want: event("2022-02-10 11:23:02", 1, "car", 2)},
		{payload: head + `"timestamp":null,` + rest, err: "time: missing"},

		{payload: `{`, err: "event: not JSON: unexpected end of JSON input"},
		{payload: head, err: "event: not JSON: unexpected end of JSON input"},
		{payload: `{}`, err: "time: missing"},
		{payload: `[]`, err: "event: an empty list"},
		{payload: `[1]`, err: "event: not a JSON object"},
		{payload: "[" + head + rest + "]", want: want},
		{payload: "[" + head + rest + "," + head + rest + "]",
			err: "event: 2 events in a record, where one is expected"},
		{payload: `null`, err: "event: not a JSON object"},
		{payload: `"x"`, err: "event: not a JSON object"},
		{payload: `12`, err: "event: not a JSON object"},
		{payload: "\x00",
			err: `event: not JSON: invalid character '\x00' looking for beginning of value`},
		{payload: "\x0a\x09", err: `event: empty`},
		{payload: "{\"timestamp\":\"\xff\"}", err: "event: not valid UTF-8"},
		{payload: head + "\"\xff\":1," + rest, err: "event: not valid UTF-8"},
		{payload: head + rest + "x", err: "event: not JSON: invalid character 'x' after top-level value"},
		{payload: head + rest + head + rest,
			err: "event: 2 events in a record, where one is expected"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"car","toll_plaza_id":2,}`,
			err: "event: not JSON: invalid character '}' looking for beginning of object key string"},
		{payload: head + `"vehicle_id":01,"vehicle_type":"car","toll_plaza_id":2}`,
			err: "event: not JSON: invalid character '1' after object key:value pair"},
		{payload: head + "\"vehicle_id\":1,\"vehicle_type\":\"c\nr\",\"toll_plaza_id\":2}",
			err: `event: not JSON: invalid character '\n' in string literal`},
		{payload: head + `"vehicle_id":1,"vehicle_type":"c` + "\u00a0" + `r"é`,
			err: "event: not JSON: invalid character '??' after object key:value pair"},

		{payload: `{"timestamp":1644488582,` + rest, err: "time: 1644488582 is not a string"},
		{payload: `{"timestamp":"yesterday",` + rest, err: `time: "yesterday" is not a timestamp`},
		{payload: `{"timestamp":"2022-02-31T10:23:02Z",` + rest,
			err: "time: day 31 does not exist in 2022-02"},
		{payload: `{"timestamp":"",` + rest, err: "time: empty"},
		{payload: head + `"vehicle_type":"car","toll_plaza_id":2}`, err: "vehicle_id: missing"},
		{payload: head + `"vehicle_id":1e3,"vehicle_type":"car","toll_plaza_id":2}`,
			err: `vehicle_id: "1e3" is not a whole number`},
		{payload: head + `"vehicle_id":12.0,"vehicle_type":"car","toll_plaza_id":2}`,
			want: event("2022-02-10 10:23:02", 12, "car", 2)},
		{payload: head + `"vehicle_id":12.5,"vehicle_type":"car","toll_plaza_id":2}`,
			err: `vehicle_id: "12.5" is not a whole number`},
		{payload: head + `"vehicle_id":true,"vehicle_type":"car","toll_plaza_id":2}`,
			err: `vehicle_id: true is not a whole number`},
		{payload: head + `"vehicle_id":{"a":1},"vehicle_type":"car","toll_plaza_id":2}`,
			err: `vehicle_id: {\"a\":1} is not a whole number`},
		{payload: head + `"vehicle_id":"","vehicle_type":"car","toll_plaza_id":2}`,
			err: "vehicle_id: empty"},
		{payload: head + `"vehicle_id":2147483648,"vehicle_type":"car","toll_plaza_id":2}`,
			err: "vehicle_id: 2147483648 is outside 0 to 2147483647"},
		{payload: head + `"vehicle_id":-1,"vehicle_type":"car","toll_plaza_id":2}`,
			err: "vehicle_id: -1 is outside 0 to 2147483647"},
		{payload: head + `"vehicle_id":1,"toll_plaza_id":2}`, err: "vehicle_type: missing"},
		{payload: head + `"vehicle_id":1,"vehicle_type":7,"toll_plaza_id":2}`,
			err: `vehicle_type: 7 is not a string`},
		{payload: head + `"vehicle_id":1,"vehicle_type":"","toll_plaza_id":2}`,
			err: "vehicle_type: empty"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"sixteen letters!","toll_plaza_id":2}`,
			err: "vehicle_type: 16 characters, the most is 15"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"car"}`, err: "toll_plaza_id: missing"},
		{payload: head + `"vehicle_id":1,"vehicle_type":"car","toll_plaza_id":99999}`,
			err: "toll_plaza_id: 99999 is outside -32768 to 32767"},
	})
}

// The fast way must be taken for our own form and the usual ones, else it is of no use.
func TestJSONFastIsTaken(t *testing.T) {
	d := NewDecoder(JSON, berlin(t))
	e := event("2022-02-10 10:23:02", 1, "camión", -2)
	for _, payload := range []string{
		string(payloads(t)[JSON]),
		string(AppendJSON(nil, &e, berlin(t))),
		`{"time": "Thu Feb 10 10:23:02 2022", "vehicle_id": "1", "vehicle_type": "car", "plaza_id": 2, "lane": 4}`,
	} {
		if !d.jsonFast([]byte(payload), &e) {
			t.Errorf("the slow way for %s", payload)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	corpus.Add(f)
	for _, payload := range []string{
		`{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car","toll_plaza_id":4856}`,
		`{"time":"Thu Feb 10 10:23:02 2022","vehicle_id":"1","vehicle_type":"c\u0061r","plaza_id":-2,"x":[{}]}`,
		`{"timestamp":"2022-02-10 10:23:02","vehicle_id":1,"vehicle_id":1e3,"vehicle_type":"é","toll_plaza_id":null}`,
		`{"a":{"b":[1,2.5,true,null]}} x`,
		`[]`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		zone := berlin(t)
		var slow, fast toll.Event
		d, other := NewDecoder(JSON, zone), NewDecoder(JSON, zone)
		errSlow, isFast := d.jsonSlow(payload, &slow), other.jsonFast(payload, &fast)
		if errSlow != nil {
			checkMalformed(t, errSlow)
			if isFast {
				t.Fatalf("fast: %+v, slow: %v", fast, errSlow)
			}
			return
		}
		checkEvent(t, &slow)
		if isFast && (fast != slow || !slices.Equal(d.more, other.more)) {
			t.Fatalf("fast: %+v, slow: %+v", fast, slow)
		}
		var again toll.Event
		if err := NewDecoder(JSON, zone).Decode(AppendJSON(nil, &slow, zone), "", &again); err != nil ||
			again != slow {
			t.Fatalf("%+v became %+v, %v", slow, again, err)
		}
	})
}
