package text

import (
	"strings"
	"unicode"
)

// CSVCell returns one line of valid UTF-8 that a spreadsheet does not evaluate as a formula.
func CSVCell(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || unicode.In(r, unicode.Cc, unicode.Cf) {
			return ' '
		}
		return r
	}, s)
	if start := strings.TrimLeft(s, " "); start != "" &&
		strings.ContainsRune("=+-@", rune(start[0])) {
		return "'" + s
	}
	return s
}
