package mapping

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// TimeFormat is how times are written. Its zero value stands for the course's form, ISO 8601 and
// RFC 3339.
type TimeFormat struct {
	// PerSecond is how many units of an epoch make a second; 0 for no epoch.
	PerSecond int64
	// DayFirst and MonthFirst read dates such as 10/02/2022.
	DayFirst, MonthFirst bool
	// Pattern is of strptime, and Layout the same for Go's time.Parse; "" for none.
	Pattern, Layout string
}

// Named forms of time.
var timeFormats = []struct {
	name   string
	format TimeFormat
}{
	{"auto", TimeFormat{}},
	{"epoch_s", TimeFormat{PerSecond: 1}},
	{"epoch_ms", TimeFormat{PerSecond: 1e3}},
	{"epoch_us", TimeFormat{PerSecond: 1e6}},
	{"epoch_ns", TimeFormat{PerSecond: 1e9}},
	{"day_first", TimeFormat{DayFirst: true}},
	{"month_first", TimeFormat{MonthFirst: true}},
}

// directives of strptime, as layouts of Go's time package.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'j': "002", 'b': "Jan", 'B': "January",
	'a': "Mon", 'A': "Monday", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
	'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", '%': "%",
}

// ParseTimeFormat reads the name of a form, or a pattern of strptime such as %d/%m/%Y %H:%M:%S.
func ParseTimeFormat(s string) (TimeFormat, error) {
	for _, f := range timeFormats {
		if s == f.name {
			return f.format, nil
		}
	}
	if !strings.Contains(s, "%") {
		var names []string
		for _, f := range timeFormats {
			names = append(names, f.name)
		}
		return TimeFormat{}, fmt.Errorf("time_format: %q is none of %s, nor a pattern such as %s", s,
			strings.Join(names, ", "), "%d/%m/%Y %H:%M:%S")
	}
	layout, err := layoutOf(s)
	return TimeFormat{Pattern: s, Layout: layout}, err
}

// layoutOf translates a pattern of strptime to Go's.
func layoutOf(pattern string) (string, error) {
	var layout strings.Builder
	apart := true // from the directive before
	for rest := pattern; rest != ""; {
		literal, behind, ok := strings.Cut(rest, "%")
		// Letters and digits would be parts of a time to Go.
		other := func(r rune) bool { return r != 'T' && (unicode.IsLetter(r) || unicode.IsDigit(r)) }
		if strings.ContainsFunc(literal, other) {
			return "", fmt.Errorf("time_format: %q can't stand between the parts of a time", literal)
		}
		layout.WriteString(literal)
		apart = apart || literal != ""
		if !ok {
			break
		}
		behind = strings.TrimPrefix(behind, "-") // as in %-d
		if behind == "" {
			return "", fmt.Errorf("time_format: %q ends within a part of a time", pattern)
		}
		part, known := directives[behind[0]]
		switch rest = behind[1:]; {
		case behind[0] == 'f': // a fraction, which Go reads behind the seconds by itself
			text := layout.String()
			layout.Reset()
			part = strings.TrimRight(text, ".,")
		case !known:
			return "", fmt.Errorf("time_format: %%%c is unknown", behind[0])
		case apart && !strings.HasPrefix(rest, "%") && len(part) == 2 && part != "06":
			part = strings.TrimPrefix(part, "0") // which takes one digit as well as two
		}
		layout.WriteString(part)
		apart = false
	}
	return layout.String(), nil
}

// String writes a form as [ParseTimeFormat] reads it.
func (t TimeFormat) String() string {
	if t.Pattern != "" {
		return t.Pattern
	}
	for _, f := range timeFormats {
		if t == f.format {
			return f.name
		}
	}
	return "auto"
}

// NumericDate reads a date of three numbers with '/', '.' or '-' between, the year last or first,
// and a time of day behind a blank, a comma or a T: 10/02/2022 10:23, 10.2.2022, 10:23:02,
// 02/10/2022 10:23:02 PM. A year that comes first is followed by month and day. It returns the time
// of day as "hh:mm:ss", and what follows it.
func NumericDate(b []byte, dayFirst bool) (date [3]int, hms [8]byte, rest []byte, ok bool) {
	end := bytes.IndexAny(b, " ,Tt")
	if end < 0 {
		return date, hms, nil, false
	}
	var part [3]int
	rest = b[:end]
	for i := range part {
		n := 0
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		var err error
		if part[i], err = strconv.Atoi(string(rest[:n])); err != nil || n > 4 || i > 0 &&
			(len(rest) == n) != (i == 2) {
			return date, hms, nil, false
		}
		if rest = rest[n:]; i < 2 {
			if len(rest) == 0 || rest[0] != '/' && rest[0] != '.' && rest[0] != '-' {
				return date, hms, nil, false
			}
			rest = rest[1:]
		}
	}
	year, month, day := part[2], part[1], part[0]
	switch {
	case bytes.IndexAny(b, "/.-") == 4:
		year, day = day, year
	case !dayFirst:
		month, day = day, month
	}
	if month > 12 && day <= 12 {
		return date, hms, nil, false
	}
	hms, rest, ok = clockTime(bytes.TrimLeft(b[end:], " ,Tt"))
	return [3]int{year, month, day}, hms, rest, ok
}

// clockTime reads h:mm or hh:mm:ss, with AM or PM or none, and returns it as "hh:mm:ss" with what
// follows it.
func clockTime(b []byte) (hms [8]byte, rest []byte, ok bool) {
	hms = [8]byte([]byte("00:00:00"))
	for i := range 3 {
		n := 0
		for n < len(b) && n < 2 && isDigit(b[n]) {
			n++
		}
		if n == 0 || i > 0 && n < 2 {
			return hms, nil, false
		}
		copy(hms[3*i+2-n:], b[:n])
		if b = b[n:]; i == 2 || len(b) == 0 || b[0] != ':' {
			if i == 0 {
				return hms, nil, false
			}
			break
		}
		b = b[1:]
	}
	if half := bytes.TrimSpace(b); len(half) >= 2 && (half[1] == 'M' || half[1] == 'm') {
		hour := int(hms[0]-'0')*10 + int(hms[1]-'0')
		if hour < 1 || hour > 12 {
			return hms, nil, false
		}
		switch hour %= 12; half[0] {
		case 'P', 'p':
			hour += 12
		case 'A', 'a':
		default:
			return hms, nil, false
		}
		hms[0], hms[1] = byte('0'+hour/10), byte('0'+hour%10)
		b = half[2:]
	}
	return hms, b, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
