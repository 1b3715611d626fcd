// Package text writes numbers, durations and words for people, and makes foreign text safe to show
// on a terminal.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine makes a text safe for a terminal and puts it on one line.
func OneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return Escape(strings.Join(lines, "; "))
}

// Escape makes a text safe for a terminal: control characters, escape sequences, characters that
// turn the direction of writing or can't be seen, and bytes that are no UTF-8 come out as Go writes
// them in a string, \x1b.
func Escape(s string) string { return escapeUnless(Printable, s) }

// escapeUnless escapes bytes that are no UTF-8 and all characters but ASCII's visible ones and
// those that may be kept.
func escapeUnless(keep func(rune) bool, s string) string {
	if isPlainText(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case keep(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

func isPlainText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Printable reports whether a terminal may show a character. Marks are no characters of their own
// but belong to scripts; Cf (bidi overrides, zero width) and Cc are not graphic.
func Printable(r rune) bool {
	return unicode.IsGraphic(r) && (r == ' ' || !unicode.IsSpace(r))
}
