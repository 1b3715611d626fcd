package arrows

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// word is a regular expression of words, and what to say instead.
type word struct{ pattern, instead string }

// dialect are words that the documentation of Kafka, Flink, Prometheus and MySQL does not use, each
// with one that it does.
var dialect = []word{
	{`anew`, "again, recreate, recompute"},
	{`told of`, "reported, logged"},
	{`no retry mends`, "non-retryable"},
	{`works again`, "recovered"},
	{`for ever`, "the thing itself"},
	{`hand(?:s|ed)? over`, "submit"},
	{`keeps house`, "maintenance"},
	{`until it works`, "retrying with backoff"},
	{`sign of life`, "heartbeat"},
	{`waits? to be stored`, "lag"},
	{`grown up|keeps? its word`, "the thing itself"},
	{`(?:everyone|anyone) (?:may )?(?:look|see)`, "no authentication"},
	{`stood still`, "stalled"},
	{`hand-over`, "submission"},
	{`upkeep`, "maintenance"},
	{`made again`, "recreated"},
	{`beside`, "alongside, next to, compared with"},
	{`standstill|stands? still`, "stalled"},
	{`add(?:ed|ing) up`, "rollup, sum"},
	{`settle[sd]?|settling`, "commit, store, resolve"},
	{`troubles?d?`, "outage, problem"},
}

// names are what keeps a word: tables, metrics, flags and JSON have it in their names.
var names = regexp.MustCompile("tollstream_upkeep_\\w+|allow-anyone|ALLOW_ANYONE|[`\"]settle[`\"]")

// TestWords keeps the words those of the field.
func TestWords(t *testing.T) {
	patterns := make([]string, len(dialect))
	for i, w := range dialect {
		patterns[i] = `(\b(?:` + w.pattern + `)\b)`
	}
	any := regexp.MustCompile(`(?i)` + strings.Join(patterns, "|"))
	for _, name := range tracked(t) {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !any.Match(text) {
			continue // much faster than line by line
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSuffix(line, "\n")
			for i, found := range any.FindStringSubmatch(names.ReplaceAllString(line, "")) {
				if i > 0 && found != "" {
					t.Errorf("%s:%d says %q; say: %s", name, n, found, dialect[i-1].instead)
				}
			}
		}
	}
}

// tracked returns the names of the files whose style is ours.
func tracked(t *testing.T) []string {
	t.Helper()
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.go",
		"*.md",
		"*.js", "*.html", "*.css", "*.sql", "*.yaml", "*.txtar", ":!third_party", ":!*/third_party/*",
		":!CHANGELOG.md", ":!*.pb.go", ":!*axe-core*", ":!internal/arrows/words_test.go",
		":!sql/testdata/schema*.sql")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Skipf("list files: %v", err) // not in a clone
	}
	return strings.Fields(string(out))
}

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
