// Package testkit holds what the tests of several packages share.
package testkit

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

// ServicesRequired reports whether a missing service fails a test instead of skipping it.
func ServicesRequired() bool { return os.Getenv("TOLLSTREAM_REQUIRE_SERVICES") == "1" }

// NeedService skips a test for want of something that is not installed on this machine, or fails
// it where services are required.
func NeedService(t testing.TB, what string, installed bool) {
	t.Helper()
	switch {
	case installed:
	case ServicesRequired():
		t.Fatalf("%s is not installed, and this run requires it", what)
	default:
		t.Skipf("%s is not installed", what)
	}
}

// NeedDatabase is NeedService for an engine of the database, with devstack.HasDatabase.
func NeedDatabase(t testing.TB, engine string, has func(engine string) bool) {
	t.Helper()
	if engine == "embedded" {
		if err := BuildEmbedded(); err != nil {
			t.Fatal(err)
		}
	}
	NeedService(t, engine, has(engine))
}

// MostlyWait runs at least so many parallel tests at a time, unless -parallel says otherwise, for a
// TestMain of tests that wait for servers more than they compute.
func MostlyWait(least int) {
	flag.Parse()
	const name = "test.parallel"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	n, err := strconv.Atoi(flag.Lookup(name).Value.String())
	if err == nil && n < least && !given {
		_ = flag.Set(name, strconv.Itoa(least))
	}
}

// Build builds the tollstream command into a folder and returns its path.
func Build(dir string) (path string, err error) {
	path = filepath.Join(dir, "tollstream")
	build := goBuild(path, "github.com/tollstream/tollstream/cmd/tollstream")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tollstream: %w\n%s", err, bytes.TrimSpace(out))
	}
	return path, nil
}

// goBuild returns a command that builds a package as make build does, without cgo: the race
// detector turns that on for this process, and half of all packages would be compiled once more.
func goBuild(path, pkg string) *exec.Cmd {
	build := exec.Command("go", "build", "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	return build
}

// embeddedCommand is devstack.EmbeddedCommand. This package imports none of ours, so that all of
// their tests can import it.
const embeddedCommand = "tollstream-embedded-mysql"

// BuildEmbedded builds the embedded database's command, once in this process, where the environment
// does not name one, and makes devstack find it, here and in the processes that the tests start.
var BuildEmbedded = sync.OnceValue(func() error {
	if os.Getenv("TOLLSTREAM_EMBEDDED") != "" {
		return nil
	}
	path, err := buildEmbedded()
	if err != nil {
		return fmt.Errorf("build the embedded database: %w", err)
	}
	return os.Setenv("TOLLSTREAM_EMBEDDED", path)
})

func buildEmbedded() (path string, err error) {
	root, err := sourceTree()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "bin")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	// Test binaries run in parallel. The first one builds, the others find it up to date.
	lock := flock.New(filepath.Join(dir, "lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer lock.Close()
	path = filepath.Join(dir, embeddedCommand)
	build := goBuild(path, "./cmd/"+embeddedCommand)
	build.Dir = filepath.Join(root, "embedded")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	return path, nil
}

// sourceTree returns the repository's root.
func sourceTree() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "embedded", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not in tollstream's source tree")
		}
	}
	return "", err
}

// Buffer is a buffer that can be read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Bytes returns a copy of what was written.
func (b *Buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.b.Bytes())
}

func (b *Buffer) String() string { return string(b.Bytes()) }
