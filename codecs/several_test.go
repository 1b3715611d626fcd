package codecs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

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
