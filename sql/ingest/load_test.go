package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
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

// FuzzRows: whatever a valid event holds, its row is one line of four values for LOAD DATA and one
// tuple of four for INSERT, nothing of which is read as SQL, and both say what the event does.
func FuzzRows(f *testing.F) {
	corpus.Add(f)
	for _, typ := range []string{"car", `'; DROP TABLE`, "a,b", `\`, `\n`, "\n\r\x00", "x\\,\\0",
		"\U0001f69b", "a\u202eb", `_utf8mb4 0x41`} {
		f.Add(int64(1644488582), int32(3728373), typ, int16(4856))
	}
	f.Fuzz(func(t *testing.T, at int64, vehicle int32, typ string, plaza int16) {
		e := toll.Event{Time: toll.WallTime(at), Vehicle: vehicle, Type: typ, Plaza: plaza}
		if e.Validate() != nil {
			return
		}
		r := new(rows)
		r.Append(&toll.Event{Time: e.Time, Type: "before"})
		sum := r.Append(&e)
		text := fmt.Sprintf("%s,%d,%s,%d", e.Time, vehicle, typ, plaza)
		if want := crc32.ChecksumIEEE([]byte(text)); sum != want {
			t.Fatalf("checksum %08x, want %08x", sum, want)
		}
		// As a server reads it: a backslash takes the next character with it, a comma ends a value.
		var fields []string
		var value strings.Builder
		line := string(r.line(1))
		for i := 0; i < len(line); i++ {
			switch c := line[i]; {
			case c == '\\' && i+1 < len(line):
				i++
				meant, ok := map[byte]byte{'0': 0, 'n': '\n', 'r': '\r', ',': ',', '\\': '\\'}[line[i]]
				if !ok {
					t.Fatalf("line %q", line)
				}
				value.WriteByte(meant)
			case c == ',':
				fields = append(fields, value.String())
				value.Reset()
			case c == '\n' || c == '\r' || c == 0 || c == '\\':
				t.Fatalf("line %q", line)
			default:
				value.WriteByte(c)
			}
		}
		fields = append(fields, value.String())
		if want := []string{e.Time.String(), fmt.Sprint(vehicle), typ,
			fmt.Sprint(plaza)}; !slices.Equal(fields, want) {
			t.Fatalf("line %q holds %q, want %q", line, fields, want)
		}
		tuple := string(r.appendTuple(nil, 1))
		literal, ok := strings.CutPrefix(tuple, fmt.Sprintf("('%s',%d,", e.Time, vehicle))
		literal, end := strings.CutSuffix(literal, fmt.Sprintf(",%d)", plaza))
		if !ok || !end {
			t.Fatalf("tuple %q", tuple)
		}
		if digits, isHex := strings.CutPrefix(literal, "_utf8mb4 0x"); isHex {
			if b, err := hex.DecodeString(digits); err != nil || string(b) != typ {
				t.Fatalf("tuple %q holds %q, %v", tuple, b, err)
			}
		} else if literal != "'"+typ+"'" || strings.ContainsAny(typ, "'\\\"`\x00\n\r\x1a") {
			t.Fatalf("tuple %q", tuple)
		}
	})
}

// TestTurnsByDistance checks how many statements may load at a time, by what was measured of them.
func TestTurnsByDistance(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name            string
		base            int
		roundTrip, work time.Duration
		want            int
	}{
		{"near", 1, ms / 10, 30 * ms, 1},
		{"near, more cores", 4, ms / 10, 30 * ms, 4},
		{"another room", 1, 5 * ms, 30 * ms, 1},
		{"another city", 1, 20 * ms, 30 * ms, 2},
		{"another country", 1, 50 * ms, 30 * ms, 4},
		{"another country, more cores", 2, 50 * ms, 30 * ms, 9},
		{"small batches", 1, 50 * ms, ms, maxLoads},
	} {
		turns := &turns{base: test.base}
		if n := turns.limit(); n != test.base {
			t.Errorf("%s: %d before anything was measured, want %d", test.name, n, test.base)
		}
		for range 10 {
			turns.measured(test.roundTrip, test.roundTrip+test.work)
		}
		// A wait for a lock, or for the machine, is no distance.
		turns.measured(test.roundTrip+500*ms, test.roundTrip+test.work)
		if n := turns.limit(); n < test.want || n > test.want+test.base {
			t.Errorf("%s: %d, want %d", test.name, n, test.want)
		}
		for range 1000 {
			turns.measured(ms/10, 30*ms)
		}
		if n := turns.limit(); n != test.base {
			t.Errorf("%s, and then near: %d, want %d", test.name, n, test.base)
		}
	}
}

// TestTurnsInOrder checks that turns are given in the order in which they were asked for, and that
// one that comes as its context ends is not lost.
func TestTurnsInOrder(t *testing.T) {
	turns := &turns{base: 1}
	take := func(ctx context.Context) chan *turn {
		got := make(chan *turn, 1)
		go func() {
			mine, err := turns.take(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			got <- mine
		}()
		return got
	}
	waiting := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			turns.mu.Lock()
			is := len(turns.waiting)
			turns.mu.Unlock()
			if is == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, want %d", is, n)
			}
		}
	}
	first := <-take(t.Context())
	second := take(t.Context())
	waiting(1)
	ctx, cancel := context.WithCancel(t.Context())
	third := take(ctx)
	waiting(2)
	fourth := take(t.Context())
	waiting(3)
	cancel()
	if <-third != nil {
		t.Error("a turn was given while another one had it")
	}
	first.end()
	first.end() // which is none more
	(<-second).end()
	(<-fourth).end()

	for range 1000 { // the turn and the end of the context come together
		first := <-take(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		second := take(ctx)
		waiting(1)
		go cancel()
		first.end()
		if mine := <-second; mine != nil {
			mine.end()
		}
	}
	if turns.taken != 0 {
		t.Errorf("%d turns were lost", turns.taken)
	}
}

// SetLoadMode sets how rows are loaded.
func (w *Writer) SetLoadMode(m LoadMode) { w.loader.mode.Store(int32(m)) }

// Together reports whether the last attempt to send statements together failed, and whether the
// server refuses them.
func (w *Writer) Together() (failed, refused bool) {
	return w.multi.failed.Load(), w.multi.refused.Load()
}

// TakeAllTurns takes all turns near the server, and returns what ends each.
func (w *Writer) TakeAllTurns(ctx context.Context) (ends []func(), err error) {
	for range w.loader.turns.base {
		turn, err := w.loader.turns.take(ctx)
		if err != nil {
			return nil, err
		}
		ends = append(ends, turn.end)
	}
	return ends, nil
}

// TurnsTaken returns how many turns are taken.
func (w *Writer) TurnsTaken() int { return w.loader.turns.taken }

const InsertRows = insertRows
const PageBatches = pageBatches
const PageBytes = pageBytes

var NeverAboutRows = neverAboutRows
