package codecs

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

func TestReadPlazas(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []toll.Plaza
	}{
		{"only numbers", "id\n4000\n-1\n32767\n", []toll.Plaza{{ID: 4000}, {ID: -1}, {ID: 32767}}},
		{"no end of line", "id\n4000", []toll.Plaza{{ID: 4000}}},
		{"no plaza", "# nothing\nid,name\n", nil},
		{"all columns",
			"id,name,road,position_km,lanes,capacity_per_lane,timezone,vehicles_per_day,heavy_share\n" +
				"4000,Boughton,I-355,4.5,14,650,America/Chicago,86640,0.092\n",
			[]toll.Plaza{{ID: 4000, Name: "Boughton", Road: "I-355", PositionKm: 4.5, Lanes: 14,
				CapacityPerLane: 650, Timezone: "America/Chicago", VehiclesPerDay: 86640, HeavyShare: 0.092}}},
		{"columns in another order, comments, blank lines, empty fields",
			"\xef\xbb\xbf# plazas\n\nlanes,id , name\n# the first\n , 4000,\"Mill, lane\"\n\n4,4001,\r\n",
			[]toll.Plaza{{ID: 4000, Name: "Mill, lane"}, {ID: 4001, Lanes: 4}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.text),
				iotest.OneByteReader(strings.NewReader(c.text))} {
				got, err := ReadPlazas(r)
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%+v %v", got, err)
				}
			}
		})
	}
}

func TestReadPlazasRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "no header row"},
		{"comments alone", "# id\n\n", "no header row"},
		{"a header that can't be meant", "# x\nname,lines,id,Name,id\n1,2,3,4,5\n",
			`line 2: unknown column "lines"; there are id, name, road, position_km, lanes, capacity_per_lane, timezone, vehicles_per_day, heavy_share, state, f_system, station, direction, lane, classes
line 2: unknown column "Name"; there are id, name, road, position_km, lanes, capacity_per_lane, timezone, vehicles_per_day, heavy_share, state, f_system, station, direction, lane, classes
line 2: column id is there twice`},
		{"no id", "name\nx\n", "line 1: column id is missing"},
		{"every violation of every line", `id,name,lanes,vehicles_per_day,heavy_share
4000,a,,
,a,4.5,many,NaN
40000,a,1,0x10,1_0
4001,a,1,1,0.1

# a comment
4001,"b
c",1,1,0.1
4002,a"b,,,
4001,,,,
4003,,,1e999,
`, `line 2: 4 fields, the header has 5
line 3: id is empty
line 3: lanes "4.5" is not a whole number
line 3: vehicles_per_day "many" is not a number
line 3: heavy_share "NaN" is not a number
line 4: id "40000" is not a number from -32768 to 32767
line 4: vehicles_per_day "0x10" is not a number
line 4: heavy_share "1_0" is not a number
line 8: name "b\nc" has control characters
line 10: bare " in non-quoted-field
line 11: plaza 4001 is on line 5 already
line 12: vehicles_per_day "1e999" is not a number`},
		{"a quote without an end", "id,name\n1,\"a\n2,b\n",
			`line 3: extraneous or missing " in quoted-field`},
		{"a field that is long", "id\n" + strings.Repeat("7", 500) + "\n",
			`line 2: id "` + strings.Repeat("7", clipBytes) + `"... is not a number from -32768 to 32767`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := ReadPlazas(strings.NewReader(c.text)); err == nil || err.Error() != c.want ||
				got != nil {
				t.Errorf("%+v\n%v", got, err)
			}
		})
	}
	// What package toll refuses has a line too.
	_,
		err := ReadPlazas(
		strings.NewReader(
			"id,heavy_share,lanes,timezone\n1,0.5,4,UTC\n2,1.5,-1,Mars/Olympus\n3,,,Local\n"))
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 4 ||
		!strings.HasPrefix(lines[0], "line 3: lanes") ||
		!strings.HasPrefix(lines[1], "line 3: heavy share") ||
		lines[2] != `line 3: timezone "Mars/Olympus" is not a known zone` ||
		!strings.HasPrefix(lines[3], "line 4: timezone") {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := ReadPlazas(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestReadPlazasLimits(t *testing.T) {
	var all strings.Builder
	all.WriteString("id\n")
	for id := toll.MinPlaza; id <= toll.MaxPlaza; id++ {
		fmt.Fprintln(&all, id)
	}
	if got, err := ReadPlazas(strings.NewReader(all.String())); err != nil || len(got) != MaxPlazas {
		t.Errorf("%d plazas, %v", len(got), err)
	}
	all.WriteString("1\n")
	if _, err := ReadPlazas(strings.NewReader(all.String())); err == nil ||
		err.Error() != "line 65538: more than 65536 plazas" {
		t.Error(err)
	}
	for _, n := range []int{19, 20, 21, 1000} {
		_, err := ReadPlazas(strings.NewReader("id\n" + strings.Repeat("x\n", n)))
		want := min(n, maxPlazaErrors)
		if n > maxPlazaErrors {
			want++ // that there are more
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != want ||
			(n > maxPlazaErrors) != (lines[len(lines)-1] == "and more") {
			t.Errorf("of %d violations %d lines, the last %q", n, len(lines), lines[len(lines)-1])
		}
	}
	comment := strings.Repeat("# a comment\n", MaxPlazasBytes/12)
	for _, n := range []int{-1, 0, 1} {
		text := "id\n1\n" + comment
		text += strings.Repeat("\n", max(0, MaxPlazasBytes+n-len(text)))
		text = text[:MaxPlazasBytes+n]
		if got, err := ReadPlazas(strings.NewReader(text)); (err != nil) != (n > 0) ||
			(len(got) == 1) != (n <= 0) {
			t.Errorf("of %d bytes: %v, %v", len(text), got, err)
		}
	}
}

// FuzzPlazas: whatever is accepted is valid and, written again, is read the same; whatever is not
// has an error of bounded length.
func FuzzPlazas(f *testing.F) {
	corpus.Add(f)
	f.Add([]byte(simulate.SamplePlazas))
	f.Add([]byte("id\n1\n"))
	f.Add([]byte("name,id,timezone\n\"a\nb\",1,Europe/Berlin\n# c\nx\",2,\n"))
	f.Add([]byte("\xef\xbb\xbfid,lanes,capacity_per_lane\n 7 , 4,1e3\n7,,\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		plazas, err := ReadPlazas(bytes.NewReader(text))
		_, stations, errStations := ReadPlazasFile(bytes.NewReader(text))
		if (err == nil) != (errStations == nil) || len(stations) != len(plazas) {
			t.Fatalf("%v; %v", err, errStations)
		}
		if err != nil {
			if n := strings.Count(err.Error(), "\n"); n > maxPlazaErrors {
				t.Fatalf("%d lines of errors", n+1)
			}
			return
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
		w.Write(strings.Split(plazaColumnNames, ", "))
		for _, p := range plazas {
			s := stations[p.ID]
			if err := errors.Join(p.Validate(), s.Validate()); err != nil {
				t.Fatalf("%+v is accepted: %v", p, err)
			}
			w.Write([]string{strconv.Itoa(int(p.ID)), p.Name, p.Road, number(p.PositionKm),
				strconv.Itoa(p.Lanes), number(p.CapacityPerLane),
				p.Timezone, number(p.VehiclesPerDay), number(p.HeavyShare), s.State, s.FSystem, s.ID,
				s.Direction, s.Lane, s.Classes})
		}
		w.Flush()
		if again, err := ReadPlazas(&b); err != nil || !reflect.DeepEqual(again, plazas) {
			t.Fatalf("%+v\n%+v\n%v", plazas, again, err)
		}
	})
}
