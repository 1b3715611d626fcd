package arrows

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns bounds the lines of Go code and comments; a tab is one column.
const maxColumns = 100

func TestLines(t *testing.T) {
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		raw := map[int]bool{}
		if strings.HasSuffix(name, "_test.go") {
			raw = rawLines(text)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			columns := utf8.RuneCountInString(strings.TrimSuffix(line, "\n"))
			if columns > maxColumns && !raw[n] && !strings.HasPrefix(line, "//go:") {
				t.Errorf("%s:%d has %d columns, want at most %d", name, n, columns, maxColumns)
			}
		}
	}
}

// rawLines returns the lines of a test with a raw string or a part of one, for what a test expects
// may be longer.
func rawLines(text []byte) map[int]bool {
	lines := map[int]bool{}
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(text))
	s.Init(file, text, nil, 0)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return lines
		}
		if tok == token.STRING && literal[0] == '`' {
			for n := range strings.Count(literal, "\n") + 1 {
				lines[file.Line(pos)+n] = true
			}
		}
	}
}
