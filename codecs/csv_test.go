package codecs

import (
	"slices"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

func TestDecodeCSV(t *testing.T) {
	const line = "Thu Feb 10 10:23:02 2022,3728373,car,4856"
	early := event("2022-02-03 01:02:03", 1, "van", 7)
	iso := event("2022-02-10 10:23:02", 1, "car", 2)
	runDecode(t, CSV, []decodeCase{
		{payload: line, want: sample},
		{payload: line + "\n", want: sample},
		{payload: line + "\r\n", want: sample},
		{payload: "  " + line + " \t\r\n", want: sample},
		{payload: "Thu Feb 10 10:23:02 2022 , 3728373 ,\tcar , 4856", want: sample},
		{payload: "THU feb 10 10:23:02 2022,3728373,car,4856", want: sample},
		{payload: "Thu  Feb\t10   10:23:02  2022,3728373,car,4856", want: sample},
		{payload: "Mon Feb 10 10:23:02 2022,3728373,car,4856", want: sample}, // it was a Thursday
		{payload: "Thu Feb 10 10:23:02 2022,0003728373,car,04856", want: sample},

		{payload: "Thu Feb  3 01:02:03 2022,1,van,7", want: early},
		{payload: "Thu Feb 3 01:02:03 2022,1,van,7", want: early},
		{payload: "Thu Feb 03 01:02:03 2022,1,van,7", want: early},
		{payload: "Thu Feb 30 01:02:03 2022,1,van,7", err: "time: day 30 does not exist in 2022-02"},

		{payload: "2022-02-10 10:23:02,1,car,2", want: iso},
		{payload: "2022-02-10T10:23:02,1,car,2", want: iso},
		{payload: "2022-02-10t10:23:02,1,car,2", want: iso},
		{payload: "2022-02-10   10:23:02,1,car,2", want: iso},
		{payload: "2022-02-10 10:23:02.999999999,1,car,2", want: iso},
		{payload: "2022-02-10T09:23:02Z,1,car,2", want: iso},
		{payload: "2022-02-10T09:23:02.5z,1,car,2", want: iso},
		{payload: "2022-02-10T09:23:02+00:00,1,car,2", want: iso},
		{payload: "2022-02-10T09:23:02 -0000,1,car,2", want: iso},
		{payload: "2022-02-10T10:23:02+01,1,car,2", want: iso},
		{payload: "2022-02-10T14:53:02+0530,1,car,2", want: iso},
		{payload: "2022-02-09T23:38:02-09:45,1,car,2", want: iso},
		{payload: "2022-07-10T08:23:02Z,1,car,2", want: event("2022-07-10 10:23:02", 1, "car", 2)},
		{payload: "2022-10-30T00:30:00Z,1,car,2", want: event("2022-10-30 02:30:00", 1, "car", 2)},
		// the hour that repeats
		{payload: "2022-10-30T01:30:00Z,1,car,2", want: event("2022-10-30 02:30:00", 1, "car", 2)},
		{payload: "2022-03-27T00:59:59Z,1,car,2", want: event("2022-03-27 01:59:59", 1, "car", 2)},
		{payload: "2022-03-27T01:00:00Z,1,car,2", want: event("2022-03-27 03:00:00", 1, "car", 2)},
		{payload: "1969-12-31T22:59:59.5Z,1,car,2", want: event("1969-12-31 23:59:59", 1, "car", 2)},

		{payload: "1000-01-01 00:00:00,0,car,-32768",
			want: event("1000-01-01 00:00:00", 0, "car", -32768)},
		{payload: "9999-12-31 23:59:59,2147483647,car,32767",
			want: event("9999-12-31 23:59:59", 2147483647, "car", 32767)},
		{payload: "Fri Dec 31 23:59:59 9999,-0,car,-0", want: event("9999-12-31 23:59:59", 0, "car", 0)},
		{payload: "Thu Feb 29 00:00:00 2024,1,car,2", want: event("2024-02-29 00:00:00", 1, "car", 2)},

		{payload: "Thu Feb 10 10:23:02 2022,1,camión grande ñ,2",
			want: event("2022-02-10 10:23:02", 1, "camión grande ñ", 2)},
		{payload: "Thu Feb 10 10:23:02 2022,1,fifteen letters,2",
			want: event("2022-02-10 10:23:02", 1, "fifteen letters", 2)},
		{payload: `Thu Feb 10 10:23:02 2022,3728373,"car",4856`, want: sample},
		{payload: `"Thu Feb 10 10:23:02 2022","3728373","car","4856"`, want: sample},
		{payload: ` "Thu Feb 10 10:23:02 2022" , "3728373" ,"car"	, "4856"` + "\r\n", want: sample},
		{payload: `"2022-02-10 10:23:02",1,"a, b",2`, want: event("2022-02-10 10:23:02", 1, "a, b", 2)},
		{payload: `Thu Feb 10 10:23:02 2022,1,"a ""b"", c",2`,
			want: event("2022-02-10 10:23:02", 1, `a "b", c`, 2)},
		{payload: `Thu Feb 10 10:23:02 2022,1,"""",2`, want: event("2022-02-10 10:23:02", 1, `"`, 2)},
		{payload: `Thu Feb 10 10:23:02 2022,1,"""car""",2`,
			want: event("2022-02-10 10:23:02", 1, `"car"`, 2)},
		{payload: `Thu Feb 10 10:23:02 2022,1,c"ar,2`, want: event("2022-02-10 10:23:02", 1, `c"ar`, 2)},
		{payload: `Thu Feb 10 10:23:02 2022,1,"",2`, err: "vehicle_type: empty"},
		{payload: `Thu Feb 10 10:23:02 2022,1,"car,2`, err: "event: a quoted field does not end"},
		{payload: `Thu Feb 10 10:23:02 2022,1,"car"",2`, err: "event: a quoted field does not end"},
		{payload: `Thu Feb 10 10:23:02 2022,1,"car"s,2`,
			err: `event: "s,2" follows a quoted field, expected a comma`},
		{payload: `Thu Feb 10 10:23:02 2022,1,"car,2"`, err: "event: 3 fields, expected 4"},
		{payload: `"Thu Feb 10 10:23:02 2022,3728373,car,4856"`, err: "event: 1 field, expected 4"},
		{payload: "Thu Feb 10 10:23:02 2022,1,Car,2", want: event("2022-02-10 10:23:02", 1, "Car", 2)},

		{payload: "a,b,c", err: "event: 3 fields, expected 4"},
		{payload: line + ",", err: "event: 5 fields, expected 4"},
		{payload: line + "\n" + line + "\r\n\n",
			err: "event: 2 events in a record, where one is expected"},
		{payload: line + "\nno event", err: "event: 1 field, expected 4, in event 2 of the record"},
		{payload: "timestamp,vehicle_id,vehicle_type,toll_plaza_id",
			err: `time: "timestamp" is not a timestamp`},
		{payload: ",,,", err: "time: empty"},
		{payload: "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0010:23:02\x00\x00\x00\x00\x00,1,car,2",
			err: `time: "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0010:23:02\x00\x00\x00\x00\x00" is not a timestamp`},
		{payload: "\x89PNG\r\n\x1a\n,,,",
			err: "event: 1 field, expected 4, in event 1 of the record"},
		{payload: "\xef\xbb\xbf" + line, err: `time: "\ufeffThu" is not a weekday`},

		{payload: "Xyz Feb 10 10:23:02 2022,1,car,2", err: `time: "Xyz" is not a weekday`},
		{payload: "Thursday Feb 10 10:23:02 2022,1,car,2", err: `time: "Thursday" is not a weekday`},
		{payload: "hut Feb 10 10:23:02 2022,1,car,2", err: `time: "hut" is not a weekday`},
		{payload: "Thu Foo 10 10:23:02 2022,1,car,2", err: `time: "Foo" is not a month`},
		{payload: "Thu anf 10 10:23:02 2022,1,car,2", err: `time: "anf" is not a month`},
		{payload: "Thu Feb x 10:23:02 2022,1,car,2", err: `time: "x" is not a day`},
		{payload: "Thu Feb 100 10:23:02 2022,1,car,2", err: `time: "100" is not a day`},
		{payload: "Thu Feb 10 1:23:02 2022,1,car,2", err: `time: "1:23:02" is not a time of day`},
		{payload: "Thu Feb 10 10-23-02 2022,1,car,2", err: `time: "10-23-02" is not a time of day`},
		{payload: "Thu Feb 10 10:23:02 year,1,car,2", err: `time: "year" is not a year`},
		{payload: "Thu Feb 10 10:23:02,1,car,2", err: `time: "Thu Feb 10 10:23:02" is not a timestamp`},
		{payload: "Thu Feb 10 10:23:02 2022 CET,1,car,2",
			err: `time: "Thu Feb 10 10:23:02 2022 CET" is not a timestamp`},
		{payload: "Thu Feb 10 24:00:00 2022,1,car,2", err: "time: 24:00:00 is not a time of day"},
		{payload: "Thu Feb 10 10:23:60 2022,1,car,2", err: "time: 10:23:60 is not a time of day"},
		{payload: "Thu Feb 10 10:60:00 2022,1,car,2", err: "time: 10:60:00 is not a time of day"},
		{payload: "Thu Feb 31 10:23:02 2022,1,car,2", err: "time: day 31 does not exist in 2022-02"},
		{payload: "Tue Feb 29 10:23:02 2022,1,car,2", err: "time: day 29 does not exist in 2022-02"},
		{payload: "Thu Feb 0 10:23:02 2022,1,car,2", err: "time: day 0 does not exist in 2022-02"},
		{payload: "Thu Feb 10 10:23:02 0999,1,car,2", err: "time: year 999 is not within 1000 to 9999"},
		{payload: "Thu Feb 10 10:23:02 10000,1,car,2",
			err: "time: year 10000 is not within 1000 to 9999"},

		{payload: "2022-02-10,1,car,2", err: `time: "2022-02-10" is not a timestamp`},
		{payload: "2022-02-10x10:23:02,1,car,2", err: `time: "2022-02-10x10:23:02" is not a timestamp`},
		{payload: "2022/02/10 10:23:02,1,car,2", err: `time: "2022/02/10 10:23:02" is not a timestamp`},
		{payload: "2022-02-1x 10:23:02,1,car,2", err: `time: "2022-02-1x 10:23:02" is not a timestamp`},
		{payload: "2022-02-10 10:23,1,car,2", err: `time: "2022-02-10 10:23" is not a timestamp`},
		{payload: "2022-02-10          ,1,car,2", err: `time: "2022-02-10" is not a timestamp`},
		{payload: "2022-02-10      10:23,1,car,2",
			err: `time: "2022-02-10      10:23" is not a timestamp`},
		{payload: "2022-02-10 10:23:02.,1,car,2", err: `time: "2022-02-10 10:23:02." is not a timestamp`},
		{payload: "2022-02-10 10:23:02.Z,1,car,2",
			err: `time: "2022-02-10 10:23:02.Z" is not a timestamp`},
		{payload: "2022-02-10 10:23:02+1,1,car,2", err: `time: "+1" is not an offset from UTC`},
		{payload: "2022-02-10 10:23:02+24:00,1,car,2", err: `time: "+24:00" is not an offset from UTC`},
		{payload: "2022-02-10 10:23:02+01:60,1,car,2", err: `time: "+01:60" is not an offset from UTC`},
		{payload: "2022-02-10 10:23:02+01:,1,car,2", err: `time: "+01:" is not an offset from UTC`},
		{payload: "2022-02-10 10:23:02+01:5,1,car,2", err: `time: "+01:5" is not an offset from UTC`},
		{payload: "2022-02-10 10:23:02 CET,1,car,2", err: `time: "CET" is not an offset from UTC`},
		{payload: "2022-02-31 10:23:02,1,car,2", err: "time: day 31 does not exist in 2022-02"},
		{payload: "2022-13-10 10:23:02,1,car,2", err: "time: month 13 is not within 1 to 12"},
		{payload: "2022-02-10 25:23:02,1,car,2", err: "time: 25:23:02 is not a time of day"},
		{payload: "0999-12-31 23:59:59,1,car,2", err: "time: year 999 is not within 1000 to 9999"},
		{payload: "9999-12-31T23:59:59Z,1,car,2", err: "time: outside the years 1000 to 9999"},
		{payload: "1000-01-01T00:00:00+23:59,1,car,2", err: "time: outside the years 1000 to 9999"},

		{payload: "Thu Feb 10 10:23:02 2022,,car,2", err: "vehicle_id: empty"},
		{payload: "Thu Feb 10 10:23:02 2022,-,car,2", err: `vehicle_id: "-" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,+1,car,2", err: `vehicle_id: "+1" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1.0,car,2.00",
			want: event("2022-02-10 10:23:02", 1, "car", 2)},
		{payload: "Thu Feb 10 10:23:02 2022,1.,car,2", err: `vehicle_id: "1." is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,.0,car,2", err: `vehicle_id: ".0" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1.5,car,2", err: `vehicle_id: "1.5" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1 2,car,2", err: `vehicle_id: "1 2" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1\x00,car,2",
			err: `vehicle_id: "1\x00" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,２,car,2", err: `vehicle_id: "\uff12" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,-1,car,2", err: "vehicle_id: -1 is outside 0 to 2147483647"},
		{payload: "Thu Feb 10 10:23:02 2022,2147483648,car,2",
			err: "vehicle_id: 2147483648 is outside 0 to 2147483647"},
		{payload: "Thu Feb 10 10:23:02 2022,18446744073709551617,car,2",
			err: "vehicle_id: 18446744073709551617 is outside 0 to 2147483647"},

		{payload: "Thu Feb 10 10:23:02 2022,1,,2", err: "vehicle_type: empty"},
		{payload: "Thu Feb 10 10:23:02 2022,1, \t ,2", err: "vehicle_type: empty"},
		{payload: "Thu Feb 10 10:23:02 2022,1,sixteen letters!,2",
			err: "vehicle_type: 16 characters, the most is 15"},
		{payload: "Thu Feb 10 10:23:02 2022,1,ñññññññññññññññ,2",
			want: event("2022-02-10 10:23:02", 1, "ñññññññññññññññ", 2)},
		{payload: "Thu Feb 10 10:23:02 2022,1,ññññññññññññññññ,2",
			err: "vehicle_type: 16 characters, the most is 15"},
		{payload: "Thu Feb 10 10:23:02 2022,1,c\xffr,2", err: "vehicle_type: not valid UTF-8"},
		{payload: "Thu Feb 10 10:23:02 2022,1,\u00a0car,2", err: "vehicle_type: has blanks around it"},

		{payload: "Thu Feb 10 10:23:02 2022,1,car,", err: "toll_plaza_id: empty"},
		{payload: "Thu Feb 10 10:23:02 2022,1,car,x", err: `toll_plaza_id: "x" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1,car,2 x",
			err: `toll_plaza_id: "2 x" is not a whole number`},
		{payload: "Thu Feb 10 10:23:02 2022,1,car,99999",
			err: "toll_plaza_id: 99999 is outside -32768 to 32767"},
		{payload: "Thu Feb 10 10:23:02 2022,1,car,32768",
			err: "toll_plaza_id: 32768 is outside -32768 to 32767"},
		{payload: "Thu Feb 10 10:23:02 2022,1,car,-32769",
			err: "toll_plaza_id: -32769 is outside -32768 to 32767"},
	})
}

// The remembered date must not leak into lines of another day that look alike.
func TestDecodeCSVRemembersDates(t *testing.T) {
	d := NewDecoder(CSV, nil)
	for _, c := range []struct{ line, wall string }{
		{"Thu Feb 10 10:23:02 2022,1,car,2", "2022-02-10 10:23:02"},
		{"Thu Feb 10 23:59:59 2022,1,car,2", "2022-02-10 23:59:59"},
		{"Fri Feb 11 00:00:00 2022,1,car,2", "2022-02-11 00:00:00"},
		{"Fri Feb 11 00:00:00 2023,1,car,2", "2023-02-11 00:00:00"},
		{"Fri Mar 11 00:00:00 2023,1,car,2", "2023-03-11 00:00:00"},
		{"Fri Mar  1 00:00:00 2023,1,car,2", "2023-03-01 00:00:00"},
		{"Fri Mar 1 00:00:00  2023,1,car,2", "2023-03-01 00:00:00"},
		{"Fri Mar 1 00:00:00 2023 ,1,car,2", "2023-03-01 00:00:00"},
		{"Fri Mar 1  01:00:00 2024,1,car,2", "2024-03-01 01:00:00"},
		{"Fri Mar 1  02:00:00 2024,1,car,2", "2024-03-01 02:00:00"},
		{"2022-02-10 10:23:02,1,car,2", "2022-02-10 10:23:02"},
		{"2022-02-10 10:23:03,1,car,2", "2022-02-10 10:23:03"},
		{"2022-02-11 10:23:03,1,car,2", "2022-02-11 10:23:03"},
	} {
		var got toll.Event
		if err := d.Decode([]byte(c.line), "", &got); err != nil || got != event(c.wall, 1, "car", 2) {
			t.Errorf("%s: %v, %v", c.line, got, err)
		}
	}
}

func FuzzDecodeCSV(f *testing.F) {
	corpus.Add(f)
	for _, line := range []string{
		"Thu Feb 10 10:23:02 2022,3728373,car,4856",
		"Thu Feb  3 01:02:03 2022 , 1, a b,-7\r\n",
		"2022-02-10T10:23:02.5+01:00,0,camión,32767",
		"2022-02-10 10:23:02,2147483648,car,99999",
		`"2022-02-10 10:23:02","1","a ""b"", c","2"`,
		`2022-02-10 10:23:02,1,"car,2`,
		"Thu Feb 31 10:23:02 2022,1,,2",
		",,,",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var fresh, slow, known toll.Event
		d := NewDecoder(CSV, berlin(t))
		errSlow := d.csvSlow(line, &slow)
		// The decoder now knows the date and the type, as far as they are valid, so the fast way may be
		// taken.
		moreSlow := slices.Clone(d.more)
		moreKnown, errKnown := d.DecodeAll(line, "", &known)
		moreFresh, errFresh := NewDecoder(CSV, berlin(t)).DecodeAll(line, "", &fresh)
		if (errSlow == nil) != (errKnown == nil) || (errFresh == nil) != (errKnown == nil) {
			t.Fatalf("slow: %v, known: %v, fresh: %v", errSlow, errKnown, errFresh)
		}
		if errFresh != nil {
			checkMalformed(t, errFresh)
			if len(line) > 0 && errFresh.Error() != errKnown.Error() {
				t.Fatalf("fresh: %v, known: %v", errFresh, errKnown)
			}
			return
		}
		if slow != known || slow != fresh || !slices.Equal(moreSlow, moreKnown) ||
			!slices.Equal(moreSlow, moreFresh) {
			t.Fatalf("slow: %+v, known: %+v, fresh: %+v", slow, known, fresh)
		}
		checkEvent(t, &fresh)
		var again toll.Event
		if err := d.Decode(AppendCSV(nil, &fresh), "", &again); err != nil || again != fresh {
			t.Fatalf("%+v became %+v, %v", fresh, again, err)
		}
	})
}
