package projectfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	markdownLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	markdownHeading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	linkInHeading   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// TestLinks finds relative links to files or headings that do not exist, in all Markdown of ours.
func TestLinks(t *testing.T) {
	for _, page := range markdownFiles(t) {
		for _, m := range markdownLink.FindAllStringSubmatch(withoutCode(read(t, page)), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s links to %s: %s has no such heading", page, m[1], target)
			}
		}
	}
}

var (
	pathInText = regexp.MustCompile(
		"`((?:cmd|codecs|docs|internal|scripts|sql|toll|topology|web)" +
			"(?:/[\\w.-]+)+)`")
	testInText = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	testInCode = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
)

// TestNamesInText finds files, packages and tests that a page names and that do not exist.
func TestNamesInText(t *testing.T) {
	tests := map[string]bool{}
	for _, file := range trackedFiles(t, "*_test.go") {
		for _, m := range testInCode.FindAllStringSubmatch(read(t, file), -1) {
			tests[m[1]] = true
		}
	}
	for _, page := range markdownFiles(t) {
		if page == "CHANGELOG.md" { // of files as they were
			continue
		}
		text := withoutBlocks(read(t, page))
		for _, m := range pathInText.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s: %v", page, m[1], err)
			}
		}
		for _, m := range testInText.FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

func TestAnchors(t *testing.T) {
	got := anchors(
		"# One, `two`: three_4\n```sh\n# no heading\n```\n## [Link](x.md) & \"more\"\n## Twice\n## " +
			"Twice\n#none\n")
	for _, want := range []string{"one-two-three_4", "link--more", "twice", "twice-1"} {
		if !got[want] {
			t.Errorf("no anchor %s in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
}

func markdownFiles(t *testing.T) []string { return trackedFiles(t, "*.md") }

// trackedFiles returns the names of all files of ours that are tracked, or would be.
func trackedFiles(t *testing.T, pattern string) []string {
	t.Helper()
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", pattern)
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Skipf("list files: %v", err) // not in a clone
	}
	var files []string
	for name := range strings.Lines(string(out)) {
		files = append(files, strings.TrimSpace(name))
	}
	if len(files) == 0 {
		t.Fatalf("git lists no %s", pattern)
	}
	return files
}

// anchors returns the anchors that GitHub gives a page's headings.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(withoutBlocks(text)) {
		m := markdownHeading.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkInHeading.ReplaceAllString(m[1], "$1"))
		for n, base := 1, name; all[name]; n++ {
			name = base + "-" + string(rune('0'+n))
		}
		all[name] = true
	}
	return all
}

var codeSpan = regexp.MustCompile("`[^`\n]*`")

// withoutCode leaves out what is no link although it looks like one.
func withoutCode(text string) string { return codeSpan.ReplaceAllString(withoutBlocks(text), "") }

// withoutBlocks leaves out fenced blocks.
func withoutBlocks(text string) string {
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		} else if !fenced {
			b.WriteString(line)
		}
	}
	return b.String()
}
