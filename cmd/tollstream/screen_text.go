package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"

	"github.com/tollstream/tollstream/internal/text"
)

// look is how a piece of text stands out. Colours are those of the terminal's own palette, which
// suits its background, and none tells what the words do not.
type look uint8

const (
	plain  look = iota
	strong      // bold
	faint
	good   // what is proved
	alarm  // too much
	notice // too little
	marked // underlined
	chosen // the line that the cursor is on
	loud   // must not be overlooked
)

var sgr = [...]string{
	strong: ansi.NewStyle().Bold().String(),
	faint:  ansi.NewStyle().Faint().String(),
	good:   ansi.NewStyle().ForegroundColor(ansi.Green).String(),
	alarm:  ansi.NewStyle().Bold().ForegroundColor(ansi.Red).String(),
	notice: ansi.NewStyle().Bold().ForegroundColor(ansi.Magenta).String(),
	marked: ansi.NewStyle().Underline(true).String(),
	chosen: ansi.NewStyle().Reverse(true).String(),
	loud:   ansi.NewStyle().Bold().Reverse(true).ForegroundColor(ansi.Red).String(),
}

// piece is a text in one look. It holds nothing that a terminal would do other than to show it, see
// [shown].
type piece struct {
	text string
	look look
}

// line is a line of a screen.
type line []piece

func textLine(text string) line { return line{{text, plain}} }

func (l line) width() int {
	n := 0
	for _, p := range l {
		n += cells(p.text)
	}
	return n
}

// to returns the line in exactly so many columns: filled up with blanks, or cut, with an ellipsis.
func (l line) to(columns int) line {
	n := l.width()
	if n <= columns {
		if n == columns {
			return l
		}
		return append(l[:len(l):len(l)], piece{strings.Repeat(" ", columns-n), plain})
	}
	var cut line
	room := columns - 1 // for the ellipsis
	for _, p := range l {
		if n := cells(p.text); n <= room {
			cut, room = append(cut, p), room-n
			continue
		}
		return append(cut, piece{firstCells(p.text, room), p.look}, piece{"…", p.look}).to(columns)
	}
	return cut.to(columns)
}

// in returns the line in one look.
func (l line) in(k look) line {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.text)
	}
	return line{{b.String(), k}}
}

// String returns the text alone.
func (l line) String() string {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.text)
	}
	return b.String()
}

// styled writes lines for a terminal.
func styled(lines []line) string {
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, p := range l {
			if p.look == plain || p.text == "" {
				b.WriteString(p.text)
				continue
			}
			b.WriteString(sgr[p.look])
			b.WriteString(p.text)
			b.WriteString(ansi.ResetStyle)
		}
	}
	return b.String()
}

// cells returns how many columns a text takes that holds no other characters than [shown] lets
// through.
func cells(s string) int {
	n := 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i, n = i+1, n+1
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		n++
		if isWide(r) {
			n++
		}
		i += size
	}
	return n
}

// firstCells returns the start of a text that fits into so many columns.
func firstCells(s string, columns int) string {
	for i, r := range s {
		n := 1
		if isWide(r) {
			n = 2
		}
		if columns -= n; columns < 0 {
			return s[:i]
		}
	}
	return s
}

// ellipsed cuts a text to so many columns, with an ellipsis.
func ellipsed(s string, columns int) string {
	if cells(s) <= columns {
		return s
	}
	return firstCells(s, max(columns-1, 0)) + "…"
}

// fill pads a text to so many columns, a number to the right.
func fill(s string, columns int, right bool) string {
	blanks := strings.Repeat(" ", max(columns-cells(s), 0))
	if right {
		return blanks + s
	}
	return s + blanks
}

// shown makes a text fit for a cell, which must have the width that we take it to have on every
// terminal. It is stricter than [text.Escape]: besides control characters it writes out what
// terminals differ about. These are marks that join the character before them, where the two have
// no common character; scripts that run from right to left; and emoji. Letters of East Asian
// scripts take two columns everywhere, and stay.
func shown(s string) string { return text.EscapeUnless(steady, norm.NFC.String(s)) }

// steady reports whether all terminals show a character in the same number of columns, where it
// stands.
func steady(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r <= '~'
	}
	if !text.Printable(r) || unicode.IsMark(r) {
		return false
	}
	properties, _ := bidi.LookupRune(r)
	switch properties.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return false
	}
	switch {
	case isJamo(r), r >= 0x1f000 && r <= 0x1faff: // the latter are emoji, flags and the like
		return false
	case isWide(r):
		return unicode.IsLetter(r) || unicode.IsPunct(r) || unicode.IsDigit(r)
	}
	return true
}

// isWide reports whether a character takes two columns.
func isWide(r rune) bool {
	// of these, which are frequent, none is
	if r < 0x1100 || r >= 0x2000 && r < 0x231a || r >= 0x2500 && r < 0x25fd {
		return false
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return true
	}
	return false
}

// isJamo reports whether a character is a part of a Korean syllable, which terminals may join.
func isJamo(r rune) bool {
	return r >= 0x1100 && r <= 0x11ff || r >= 0xa960 && r <= 0xa97f || r >= 0xd7b0 && r <= 0xd7ff
}

// firstFit returns the first text that fits into so many columns, or else the last.
func firstFit(columns int, texts ...string) string {
	for _, text := range texts {
		if cells(text) <= columns {
			return text
		}
	}
	return texts[len(texts)-1]
}
