package projectfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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
		out, err := exec.Command(binary, append(args, "--help")...).Output()
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
