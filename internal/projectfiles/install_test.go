package projectfiles

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// TestGoInstall installs the command as go install would from a proxy, which refuses a module that
// replaces a dependency, or lacks a file that only a clone has.
func TestGoInstall(t *testing.T) {
	const command = "github.com/tollstream/tollstream/cmd/tollstream"
	version := module.Version{Path: "github.com/tollstream/tollstream",
		Version: fmt.Sprintf("v0.0.0-test%d", os.Getpid())}
	proxy, bin := t.TempDir(), t.TempDir()
	writeModule(t, proxy, version)
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		_ = os.RemoveAll(filepath.Join(cache, version.String()))
		downloaded, _ := filepath.Glob(filepath.Join(cache, "cache", "download", version.Path, "@v",
			version.Version+".*"))
		for _, name := range downloaded {
			_ = os.Remove(name)
		}
	})
	install := exec.Command("go", "install", command+"@"+version.Version)
	install.Dir = bin // in no module
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOWORK=off", "GOSUMDB=off",
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -modcacherw"),
		// the dependencies, as this module's tests have them
		"GOPROXY="+fileURL(proxy)+","+fileURL(filepath.Join(cache, "cache", "download")))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install: %v\n%s", err, out)
	}
	out, err = exec.Command(filepath.Join(bin, "tollstream"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), version.Version) {
		t.Errorf("tollstream --version: %v\n%swant %s", err, out, version.Version)
	}
}

func fileURL(dir string) string { return "file://" + filepath.ToSlash(dir) }

// writeModule writes the module of this repository where a proxy has it.
func writeModule(t *testing.T, proxy string, version module.Version) {
	t.Helper()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var files []modzip.File
	for _, name := range trackedFiles(t, "*") {
		if !strings.HasPrefix(name, "embedded/") { // a module of its own
			files = append(files, sourceFile(name))
		}
	}
	var archive bytes.Buffer
	if err := modzip.Create(&archive, version, files); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(proxy, version.Path, "@v")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"list":                    []byte(version.Version + "\n"),
		version.Version + ".info": fmt.Appendf(nil, `{"Version":%q}`, version.Version),
		version.Version + ".mod":  mod,
		version.Version + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// sourceFile is a file of this repository, by its path below the root.
type sourceFile string

func (f sourceFile) Path() string                 { return string(f) }
func (f sourceFile) Lstat() (os.FileInfo, error)  { return os.Lstat(path.Join(root, string(f))) }
func (f sourceFile) Open() (io.ReadCloser, error) { return os.Open(path.Join(root, string(f))) }
