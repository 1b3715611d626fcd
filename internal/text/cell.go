package text

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Cell makes a text fit for a cell of a full screen, where it must take the same number of columns
// on every terminal. It is stricter than [Escape]: besides control characters it escapes what
// terminals differ about, see [Steady], unless composing it with the character before helps.
func Cell(s string) string { return escapeUnless(Steady, norm.NFC.String(s)) }

// Steady reports whether all terminals show a character in the same number of columns, where it
// stands. They differ about marks that join the character before them, scripts that are written
// from right to left, and emoji. Letters of East Asian scripts take two columns everywhere.
func Steady(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r <= '~'
	}
	if !Printable(r) || unicode.IsMark(r) {
		return false
	}
	properties, _ := bidi.LookupRune(r)
	switch properties.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return false
	}
	switch {
	case r >= 0x1100 && r <= 0x11ff, r >= 0xa960 && r <= 0xa97f, r >= 0xd7b0 && r <= 0xd7ff:
		return false // parts of Korean syllables, which some terminals join
	case r >= 0x1f000 && r <= 0x1faff: // emoji, flags and the like
		return false
	case CellWidth(string(r)) == 2:
		return unicode.IsLetter(r) || unicode.IsPunct(r) || unicode.IsDigit(r)
	}
	return true
}
