package arrows

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
}

// rest are such words that unfinished still has.
var rest = []word{
	{`made again`, "recreated"},
	{`beside`, "alongside, next to, compared with"},
	{`standstill|stands? still`, "stalled"},
	{`add(?:ed|ing) up`, "rollup, sum"},
	{`settle[sd]?|settling`, "commit, store, resolve"},
	{`troubles?d?`, "outage, problem"},
}

// names are what keeps a word: tables, metrics, flags and JSON have it in their names.
var names = regexp.MustCompile("tollstream_upkeep_\\w+|allow-anyone|ALLOW_ANYONE|`settle`")

// TestWords keeps the words those of the field.
func TestWords(t *testing.T) {
	all := slices.Concat(dialect, rest)
	some, any := anyOf(dialect), anyOf(all)
	for _, name := range tracked(t) {
		words := any
		if unfinished.MatchString(name) {
			words = some
		}
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSuffix(line, "\n")
			for i, found := range words.FindStringSubmatch(names.ReplaceAllString(line, "")) {
				if i > 0 && found != "" {
					t.Errorf("%s:%d says %q; say: %s", name, n, found, all[i-1].instead)
				}
			}
		}
	}
}

// anyOf returns an expression with a group for each word.
func anyOf(words []word) *regexp.Regexp {
	patterns := make([]string, len(words))
	for i, w := range words {
		patterns[i] = `(\b(?:` + w.pattern + `)\b)`
	}
	return regexp.MustCompile(`(?i)` + strings.Join(patterns, "|"))
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
