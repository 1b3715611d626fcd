package pagetest

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFilesNeedNothingElse keeps out what the content policy forbids, and what would be fetched
// from elsewhere.
func TestFilesNeedNothingElse(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		"an address elsewhere": regexp.MustCompile(`(?i)https?://|//[a-z0-9-]+\.[a-z]`),
		"a style or script within": regexp.MustCompile(
			`(?i)<style|\sstyle=|<script>|\son[a-z]+=|javascript:`),
		"data that may become markup": regexp.MustCompile(
			`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML`),
		"code that is made of text":    regexp.MustCompile(`\beval\(|new Function|setTimeout\(['"]`),
		"a style that is an attribute": regexp.MustCompile(`setAttribute\('style'|\{ style: `),
		"an import of another package": regexp.MustCompile(`from '[^.]|@import|url\(`),
	}
	static := os.DirFS("../static")
	names, err := fs.Glob(static, "*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(static, name)
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range forbidden {
			if found := pattern.Find([]byte(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg",
				""))); found != nil {
				t.Errorf("%s has %s: %q", name, what, found)
			}
		}
	}
}
