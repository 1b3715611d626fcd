package ingest

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

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
