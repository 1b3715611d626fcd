package sql

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzByType: what toll_window holds in by_type is read as it was written, in memory by its size.
func FuzzByType(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{`{}`, `{"car":9,"truck":2}`, `{"\u001b[2J":1}`, `{"a\"b":1,"a\\":2}`,
		`{"car":-1}`, `{"car":1e3}`, `{"car":9223372036854775807}`, `{"car":1,"car":2}`, `null`, `[]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // which the column can't hold
		}
		var r typesReader
		var types []toll.TypeCount
		var err error
		if n, most := allocated(func() { types, err = r.decode(nil, text) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil || !slices.IsSortedFunc(types, func(a, b toll.TypeCount) int {
			if a.Type < b.Type {
				return -1
			}
			return 1
		}) {
			return // not in the order in which they are written
		}
		again, err := r.decode(nil, appendTypes(nil, types))
		if err != nil || !slices.Equal(again, types) {
			t.Fatalf("%s became %+v became %+v, %v", text, types, again, err)
		}
	})
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

// FuzzSum: a sum that a server returns is read modulo 2^64, in memory by its size, or refused; what
// is called exact is.
func FuzzSum(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{"0", "18446744073709551616", "-1", "9007199254740993", "1.5e300",
		"1e15", "NaN", "Inf", "0x10", "", "-1e5", "1_000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return // a server's sums have 65 digits at most
		}
		var sum uint64
		var exact bool
		var err error
		if n, most := allocated(func() { sum, exact, err = parseSum(text) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil || !exact {
			return
		}
		if n, ok := new(big.Int).SetString(text, 10); ok {
			if want := new(big.Int).Mod(n, new(big.Int).Lsh(big.NewInt(1), 64)); want.Uint64() != sum {
				t.Fatalf("%q is read as %d", text, sum)
			}
		} else if sum >= 1<<53 {
			t.Fatalf("%q is read as %d and called exact", text, sum)
		}
	})
}

// FuzzAssessment: what toll_congestion and toll_transition hold as JSON is refused, or read and
// written as what it was, in memory by its size.
func FuzzAssessment(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{`{}`, `null`, `[]`,
		`{"state":"busy","since":5,"why":"x","first":1,"until":9,"last":{}}`, `{"state":"none"}`,
		`{"state":7}`, `{"last":{"vc":1e999}}`} {
		f.Add([]byte(text))
	}
	seed, err := json.Marshal(traffic.Assessment{State: traffic.Saturated, Since: -5, Why: "\u202e",
		First: -1 << 31, Until: 1<<31 - 1, Candidate: traffic.Busy, Streak: 3, Asked: 7, Quiet: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, text []byte) {
		var a traffic.Assessment
		var err error
		if n, most := allocated(func() { err = json.Unmarshal(text, &a) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil {
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s became %+v: %v", text, a, err)
		}
		var again traffic.Assessment
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s became %s: %v", text, written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || string(rewritten) != string(written) {
			t.Fatalf("%s became %s became %s, %v", text, written, rewritten, err)
		}
	})
}
