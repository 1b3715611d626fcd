package mapping

import (
	"fmt"
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
