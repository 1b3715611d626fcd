package tui

import (
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// style is how a span of text stands out. Colours are those of the terminal's own palette, which
// suits its background, and none is the only sign of something.
type style uint8

const (
	plain  style = iota
	strong       // bold
	faint
	good     // what is proved
	alarm    // too much
	notice   // too little
	marked   // underlined
	chosen   // the line that the cursor is on
	critical // must not be overlooked
)

var sgr = [...]string{
	strong:   ansi.NewStyle().Bold().String(),
	faint:    ansi.NewStyle().Faint().String(),
	good:     ansi.NewStyle().ForegroundColor(ansi.Green).String(),
	alarm:    ansi.NewStyle().Bold().ForegroundColor(ansi.Red).String(),
	notice:   ansi.NewStyle().Bold().ForegroundColor(ansi.Magenta).String(),
	marked:   ansi.NewStyle().Underline(true).String(),
	chosen:   ansi.NewStyle().Reverse(true).String(),
	critical: ansi.NewStyle().Bold().Reverse(true).ForegroundColor(ansi.Red).String(),
}

// span is a text in one style. It holds nothing that a terminal would do other than to show it, see
// [text.Cell].
type span struct {
	text  string
	style style
}

// line is a line of a screen.
type line []span

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
		return append(l[:len(l):len(l)], span{strings.Repeat(" ", columns-n), plain})
	}
	var cut line
	room := columns - 1 // for the ellipsis
	for _, p := range l {
		if n := cells(p.text); n <= room {
			cut, room = append(cut, p), room-n
			continue
		}
		return append(cut, span{ansi.Truncate(p.text, room, "") + "…", p.style}).to(columns)
	}
	return cut.to(columns)
}

// in returns the line in one style.
func (l line) in(k style) line { return line{{l.String(), k}} }

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
			if p.style == plain || p.text == "" {
				b.WriteString(p.text)
				continue
			}
			b.WriteString(sgr[p.style])
			b.WriteString(p.text)
			b.WriteString(ansi.ResetStyle)
		}
	}
	return b.String()
}

// cells returns how many columns a text takes.
func cells(s string) int {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return ansi.StringWidth(s)
		}
	}
	return len(s) // of ASCII, as most texts are: the library takes ten times as long
}

// ellipsed cuts a text to so many columns, with an ellipsis.
func ellipsed(s string, columns int) string { return ansi.Truncate(s, max(columns, 1), "…") }

// fill pads a text to so many columns, a number to the right.
func fill(s string, columns int, right bool) string {
	blanks := strings.Repeat(" ", max(columns-cells(s), 0))
	if right {
		return blanks + s
	}
	return s + blanks
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
