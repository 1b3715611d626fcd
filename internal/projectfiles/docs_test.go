package projectfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/tollstream/tollstream/internal/testkit"
)

// TestDocsHaveAllSettings compares the README's commands and docs/settings.md with what the
// command's own help says: commands, flags, variables.
func TestDocsHaveAllSettings(t *testing.T) {
	readme := read(t, "README.md")
	binary, err := testkit.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	help := func(args ...string) string {
		out, err := exec.Command(binary, append(args, "--help-all")...).Output()
		if err != nil {
			t.Fatalf("help of %v: %v", args, err)
		}
		return string(out)
	}

	flags, variables := map[string]bool{}, map[string]bool{}
	commands := names(help(), "Commands:", regexp.MustCompile(`^  ([a-z][a-z-]*) `))
	var take func(path ...string)
	take = func(path ...string) {
		text := help(path...)
		for _, m := range regexp.MustCompile(`(?m)^  (--[a-z-]+)`).FindAllStringSubmatch(text, -1) {
			flags[m[1]] = true
		}
		for _, v := range regexp.MustCompile(`TOLLSTREAM_[A-Z_]+`).FindAllString(text, -1) {
			variables[v] = true
		}
		for _, sub := range names(text, "Commands:", regexp.MustCompile(`^  ([a-z][a-z-]*) `)) {
			take(append(slices.Clone(path), sub)...)
		}
	}
	for _, c := range commands {
		if !strings.Contains(readme, "| `tollstream "+c+"` |") {
			t.Errorf("README.md does not list the command %s", c)
		}
		take(c)
	}
	listed := regexp.MustCompile("(?m)^\\| `tollstream ([a-z-]+)` \\|")
	for _, m := range listed.FindAllStringSubmatch(readme, -1) {
		if !slices.Contains(commands, m[1]) {
			t.Errorf("README.md lists the command %s, which does not exist", m[1])
		}
	}

	settings := read(t, "docs/settings.md")
	for f := range flags {
		if !strings.Contains(settings, "`"+f+"`") {
			t.Errorf("docs/settings.md lacks %s", f)
		}
	}
	for _, f := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(settings, -1) {
		if !flags[f[1]] {
			t.Errorf("docs/settings.md has %s, which no command knows", f[1])
		}
	}
	for v := range variables {
		flag := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(v, "TOLLSTREAM_"), "_", "-"))
		secret := strings.Contains(settings, "| – | `"+v+"` |") && !flags[flag] // has no flag
		if !secret && !strings.Contains(settings, "| `"+flag+"` | `"+v+"` |") {
			t.Errorf("docs/settings.md lacks a row for %s, %s", flag, v)
		}
	}
	for _, v := range regexp.MustCompile(`TOLLSTREAM_[A-Z_]+`).FindAllString(settings, -1) {
		if !variables[v] {
			t.Errorf("docs/settings.md has %s, which no command reads", v)
		}
	}
}

// names returns what a pattern finds in the lines below a heading, up to the next empty line.
func names(text, heading string, pattern *regexp.Regexp) []string {
	_, below, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		return nil
	}
	below, _, _ = strings.Cut(below, "\n\n")
	var all []string
	for line := range strings.Lines(below) {
		if m := pattern.FindStringSubmatch(line); m != nil {
			all = append(all, m[1])
		}
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

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

// TestSymptoms finds texts of docs/operations.md that are said to be printed and that are not.
func TestSymptoms(t *testing.T) {
	var source strings.Builder
	for _, file := range slices.Concat(trackedFiles(t, "*.go"), trackedFiles(t, "*.js")) {
		if !strings.HasSuffix(file, "_test.go") {
			source.WriteString(read(t, file))
		}
	}
	_, table, _ := strings.Cut(read(t, "docs/operations.md"), "| symptom |")
	found := 0
	for line := range strings.Lines(table) {
		symptom, _, row := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !row {
			continue
		}
		for _, m := range codeSpan.FindAllString(symptom, -1) {
			for _, part := range strings.Split(strings.Trim(m, "`"), "…") {
				part = strings.TrimSpace(part)
				found++
				if kafkas := part == "not authorized"; !kafkas && !strings.Contains(source.String(), part) {
					t.Errorf("docs/operations.md: nothing prints %q", part)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d symptoms were found", found)
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
