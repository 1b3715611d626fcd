package text

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"

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

// StatusLine keeps one line about what is going on at the bottom of a terminal. Lines that are
// written to it, such as those of a log, go above. Several goroutines may use it. Where there is no
// terminal, there is no status, and what is written goes through.
type StatusLine struct {
	out   io.Writer
	shown bool // whether there is a terminal

	mu     sync.Mutex
	status string
	inLine bool // whether what was written last has not ended its line
}

// NewStatusLine returns a status line at the end of a stream.
func NewStatusLine(out io.Writer) *StatusLine {
	return &StatusLine{out: out, shown: IsTerminal(out)}
}

// Shown reports whether a person sees the status.
func (s *StatusLine) Shown() bool { return s.shown }

// Set shows another status; an empty one clears the line.
func (s *StatusLine) Set(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shown || status == s.status {
		return
	}
	var b bytes.Buffer
	s.clear(&b)
	s.status = status
	s.draw(&b)
	_, _ = s.out.Write(b.Bytes()) // a status is no result
}

// Write writes lines above the status.
func (s *StatusLine) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shown || len(lines) == 0 {
		return s.out.Write(lines)
	}
	var b bytes.Buffer
	s.clear(&b)
	b.Write(lines)
	s.inLine = lines[len(lines)-1] != '\n'
	s.draw(&b)
	if _, err := s.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(lines), nil
}

func (s *StatusLine) clear(b *bytes.Buffer) {
	if s.status != "" && !s.inLine {
		b.WriteString("\r\x1b[K")
	}
}

// draw shows the status, cut to the width of the terminal: what is longer would take two lines, of
// which one would stay.
func (s *StatusLine) draw(b *bytes.Buffer) {
	if s.status != "" && !s.inLine {
		b.WriteString(Cut(s.status, Width(s.out)-1))
	}
}
