package arrows

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Bounds of a package outside of its tests. What grows beyond them is two packages.
const (
	maxLines = 2500
	maxFiles = 20
	// maxCommandLines bounds each file of cmd/tollstream, which has a file per command: flags and
	// wiring, nothing else.
	maxCommandLines = 160
)

func TestPackageSizes(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		lines, files := 0, 0
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.HasPrefix(text, []byte("// Code generated")) {
				continue
			}
			n := bytes.Count(text, []byte("\n"))
			lines, files = lines+n, files+1
			if name == "cmd/tollstream" && n > maxCommandLines {
				t.Errorf("%s/%s has %d lines, want at most %d: flags and wiring only", name, file, n,
					maxCommandLines)
			}
		}
		if name != "cmd/tollstream" && (lines > maxLines || files > maxFiles) {
			t.Errorf("package %s has %d lines in %d files, want at most %d in %d", name, lines, files,
				maxLines, maxFiles)
		}
	}
}
