package ingest

import (
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// rows holds events as LOAD DATA reads them: one line a row, `2022-02-10
// 10:23:02,3728373,car,4856`, in which only the type can need escapes. Without them a line is the
// row's text, the one that checksums are made of.
type rows struct {
	buf  []byte
	ends []uint32 // where each line ends in buf, behind its newline

	day     int64 // the date in dayText, in days since 1970-01-01
	dayText [10]byte
	hasDay  bool
	scratch []byte

	statement []byte // the last INSERT of these rows, kept for its memory
}

func (r *rows) Len() int  { return len(r.ends) }
func (r *rows) Size() int { return len(r.buf) }
func (r *rows) Reset()    { r.buf, r.ends = r.buf[:0], r.ends[:0] }

// Append implements [toll.Rows].
func (r *rows) Append(e *toll.Event) uint32 {
	day, second := e.Time.Day()
	if !r.hasDay || day != r.day {
		copy(r.dayText[:], e.Time.AppendFormat(r.scratch[:0], "2006-01-02"))
		r.day, r.hasDay = day, true
	}
	b := r.buf
	start := len(b)
	b = append(b, r.dayText[:]...)
	hour, minute, sec := second/3600, second/60%60, second%60
	b = append(b, ' ', digits[hour/10], digits[hour%10], ':', digits[minute/10], digits[minute%10],
		':', digits[sec/10], digits[sec%10], ',')
	b = appendVehicle(b, uint32(e.Vehicle))
	b = append(b, ',')
	typeAt := len(b)
	b = append(b, e.Type...)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(e.Plaza), 10)
	sum := crc32.ChecksumIEEE(b[start:])
	if special(e.Type) {
		tail := string(b[typeAt+len(e.Type):])
		b = append(appendEscaped(b[:typeAt], e.Type), tail...)
	}
	r.buf = append(b, '\n')
	r.ends = append(r.ends, uint32(len(r.buf)))
	return sum
}

const digits = "0123456789"

// appendVehicle appends a number in decimal.
func appendVehicle(b []byte, v uint32) []byte { return strconv.AppendUint(b, uint64(v), 10) }

func special(t string) bool {
	for i := 0; i < len(t); i++ {
		switch t[i] {
		case ',', '\\', '\n', '\r', 0:
			return true
		}
	}
	return false
}

func appendEscaped(b []byte, t string) []byte {
	for i := 0; i < len(t); i++ {
		switch c := t[i]; c {
		case 0:
			b = append(b, '\\', '0')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case ',', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\n`, "\n", `\r`, "\r", `\0`, "\x00")

// line returns the i-th line without its newline.
func (r *rows) line(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.buf[start : r.ends[i]-1]
}

// appendTuple appends row i as a tuple of an INSERT, ('2022-02-10 10:23:02',3728373,'car',4856). A
// type that is not plain letters and digits is written as a hexadecimal literal, so no text of an
// event is ever read as SQL.
func (r *rows) appendTuple(b []byte, i int) []byte {
	line := r.line(i)
	const timeEnd = len("2006-01-02 15:04:05")
	vehicleEnd := timeEnd + 1
	for line[vehicleEnd] != ',' {
		vehicleEnd++
	}
	typeEnd := len(line) - 1
	for line[typeEnd] != ',' {
		typeEnd--
	}
	b = append(b, '(', '\'')
	b = append(b, line[:timeEnd]...)
	b = append(b, '\'')
	b = append(b, line[timeEnd:vehicleEnd+1]...)
	b = appendLiteral(b, line[vehicleEnd+1:typeEnd])
	b = append(b, line[typeEnd:]...)
	return append(b, ')')
}

func appendLiteral(b, escaped []byte) []byte {
	plain := true
	for _, c := range escaped {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ' ' ||
			c == '-' || c == '_') {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '\'')
		b = append(b, escaped...)
		return append(b, '\'')
	}
	const hex = "0123456789abcdef"
	b = append(b, "_utf8mb4 0x"...)
	for _, c := range []byte(unescaper.Replace(string(escaped))) {
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}
