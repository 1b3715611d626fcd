package ingest

import (
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

func TestRows(t *testing.T) {
	at, err := toll.WallTimeFromDate(2022, 2, 10, 10, 23, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		event       toll.Event
		text        string // as SQL gives it for the checksum
		line, tuple string
	}{
		{toll.Event{Time: at, Vehicle: 3728373, Type: "car", Plaza: 4856},
			"2022-02-10 10:23:02,3728373,car,4856", "2022-02-10 10:23:02,3728373,car,4856",
			"('2022-02-10 10:23:02',3728373,'car',4856)"},
		{toll.Event{Time: toll.MinWallTime, Vehicle: 0, Type: "a b-c_d", Plaza: toll.MinPlaza},
			"1000-01-01 00:00:00,0,a b-c_d,-32768", "1000-01-01 00:00:00,0,a b-c_d,-32768",
			"('1000-01-01 00:00:00',0,'a b-c_d',-32768)"},
		{toll.Event{Time: toll.MaxWallTime, Vehicle: toll.MaxVehicle, Type: "x,y\\z\n\r\x00\t'",
			Plaza: toll.MaxPlaza},
			"9999-12-31 23:59:59,2147483647,x,y\\z\n\r\x00\t',32767",
			`9999-12-31 23:59:59,2147483647,x\,y\\z\n\r\0` + "\t',32767",
			"('9999-12-31 23:59:59',2147483647,_utf8mb4 0x782c795c7a0a0d000927,32767)"},
		{toll.Event{Time: at, Vehicle: 1, Type: "Täxi🚕", Plaza: 1},
			"2022-02-10 10:23:02,1,Täxi🚕,1", "2022-02-10 10:23:02,1,Täxi🚕,1",
			"('2022-02-10 10:23:02',1,_utf8mb4 0x54c3a47869f09f9a95,1)"},
	} {
		r := new(rows)
		r.Append(&toll.Event{Time: at, Type: "before"})
		sum := r.Append(&test.event)
		if want := crc32.ChecksumIEEE([]byte(test.text)); sum != want {
			t.Errorf("%q: checksum %08x, want %08x", test.text, sum, want)
		}
		if got := string(r.line(1)); got != test.line {
			t.Errorf("line %q, want %q", got, test.line)
		}
		if got := string(r.appendTuple(nil, 1)); got != test.tuple {
			t.Errorf("tuple %q, want %q", got, test.tuple)
		}
	}
}

func TestRowsReuse(t *testing.T) {
	r := new(rows)
	for day := range toll.WallTime(40) {
		r.Append(&toll.Event{Time: day * 86400, Type: "car"})
	}
	if r.Len() != 40 || string(r.line(31)) != "1970-02-01 00:00:00,0,car,0" {
		t.Errorf("%d rows, the 32nd %q", r.Len(), r.line(31))
	}
	r.Reset()
	if r.Len() != 0 || r.Size() != 0 {
		t.Error("rows are left after Reset")
	}
	fill := func() {
		for i := range int32(100) {
			r.Append(&toll.Event{Time: toll.WallTime(i), Vehicle: i, Type: "truck", Plaza: 4000})
		}
		r.Reset()
	}
	fill()
	if n := testing.AllocsPerRun(20, fill); n > 0 {
		t.Errorf("%v allocations for 100 rows", n)
	}
}

func BenchmarkRows(b *testing.B) {
	r := new(rows)
	e := toll.Event{Time: 1644488582, Vehicle: 3728373, Type: "car", Plaza: 4856}
	b.ReportAllocs()
	for b.Loop() {
		e.Time++
		r.Append(&e)
		if r.Len() == 10_000 {
			r.Reset()
		}
	}
}

func ExampleParseLoadMode() {
	mode, err := ParseLoadMode("insert")
	fmt.Println(mode == LoadInsert, err)
	// Output: true <nil>
}
