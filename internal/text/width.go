package text

import (
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// IsTerminal reports whether a person reads (or writes) there.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Wrap breaks words into lines of at most a width. A number stays with its unit.
func Wrap(words string, width int) []string {
	var parts []string
	for word := range strings.FieldsSeq(words) {
		if n := len(parts); n > 0 &&
			(word == "%" || word == "pc/h" || strings.HasSuffix(parts[n-1], "(z")) {
			parts[n-1] += " " + word
			continue
		}
		parts = append(parts, word)
	}
	var lines []string
	for _, part := range parts {
		last := len(lines) - 1
		if last >= 0 && text.StringWidth(lines[last])+1+text.StringWidth(part) <= width {
			lines[last] += " " + part
		} else {
			lines = append(lines, part)
		}
	}
	return lines
}

// Cut shortens a line to a width, as a longer one would take two.
func Cut(line string, width int) string {
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

// Width returns the columns of a terminal, or 80 for a file or a pipe.
func Width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// CellWidth returns how many cells of a terminal a text takes.
func CellWidth(s string) int { return text.StringWidth(s) }

// Pad fills a text with spaces up to a number of cells.
func Pad(s string, cells int) string { return text.Pad(s, cells, ' ') }
