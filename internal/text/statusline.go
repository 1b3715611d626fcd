package text

import (
	"bytes"
	"io"
	"sync"
)

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
