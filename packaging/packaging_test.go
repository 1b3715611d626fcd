// Package packaging holds tests of what users install: packages, units, the image and the releases.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

const root = ".."

// need skips a test that lacks something, or fails it where nothing may be skipped.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("TOLLSTREAM_REQUIRE_SERVICES") != "":
		t.Fatalf("this needs %s", what)
	default:
		t.Skipf("this needs %s", what)
	}
}

func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// built returns the only file that make built and that a pattern matches.
func built(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "bin", pattern))
	if err != nil {
		t.Fatal(err)
	}
	need(t, len(names) == 1, "make packages image; bin/"+pattern+" is not one file")
	name, err := filepath.Abs(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRelease reads goreleaser's configuration as goreleaser does, strictly, and compares it with
// what the Makefile builds.
func TestRelease(t *testing.T) {
	project, err := config.Load(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, goos := range project.Builds[0].Goos {
		for _, goarch := range project.Builds[0].Goarch {
			platforms = append(platforms, goos+"/"+goarch)
		}
	}
	if want := "PLATFORMS = " + strings.Join(platforms, " ") + "\n"; !strings.Contains(
		string(makefile), want) {
		t.Errorf("the Makefile builds other platforms than goreleaser: want %s", want)
	}
	for _, pattern := range project.Archives[0].Files {
		if _, err := os.Stat(filepath.Join(root, pattern.Source)); err != nil &&
			!strings.HasPrefix(pattern.Source, "bin/") { // built
			t.Error(err)
		}
	}
}

// TestRPM installs the rpm into a folder, without its scripts, which need a shell there; edits the
// settings, upgrades and removes it.
func TestRPM(t *testing.T) {
	need(t, os.Getuid() == 0 && installed("rpm"), "root, and rpm")
	dir := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append([]string{"--root=" + dir}, args...)...).Output()
		if err != nil {
			t.Fatalf("rpm %q: %v", args, err)
		}
		return string(out)
	}
	rpm("--initdb")
	rpm("--install", "--nodeps", "--noscripts", built(t, "packages/tollstream-*.x86_64.rpm"))
	if changed := rpm("--verify", "tollstream"); changed != "" {
		t.Errorf("other files than in the package:\n%s", changed)
	}
	for _, name := range []string{"usr/bin/tollstream",
		"usr/lib/systemd/system/tollstream-process.service",
		"usr/lib/systemd/system/tollstream-view.service"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	settings := filepath.Join(dir, "etc/tollstream/tollstream.yaml")
	if err := os.WriteFile(settings, []byte("topic: edited\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rpm("--upgrade", "--nodeps", "--noscripts", later(t, "rpm"))
	if text, err := os.ReadFile(settings); err != nil || string(text) != "topic: edited\n" {
		t.Errorf("the upgrade changed the settings: %q, %v", text, err)
	}
	rpm("--erase", "--noscripts", "tollstream")
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/tollstream")); err == nil {
		t.Error("a removal left the command")
	}
}

// TestUnits checks the units as systemd reads them, and how much they leave a service to reach.
func TestUnits(t *testing.T) {
	need(t, installed("systemd-analyze"), "systemd-analyze")
	for _, name := range []string{"tollstream-process.service", "tollstream-view.service"} {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// A unit's command must exist where it is checked.
		dir := t.TempDir()
		command := filepath.Join(dir, "tollstream")
		if err := os.WriteFile(command, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, name)
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/tollstream", command))
		if err := os.WriteFile(unit, text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		out, err = exec.Command("systemd-analyze", "security", "--offline=yes", unit).CombinedOutput()
		exposure := regexp.MustCompile(`Overall exposure level for \S+: (\S+)`).FindSubmatch(out)
		if err != nil || exposure == nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		if level, err := strconv.ParseFloat(string(exposure[1]), 64); err != nil || level > 1.5 {
			t.Errorf("%s: exposure %s of 10, want 1.5 or less\n%s", name, exposure[1], out)
		}
	}
}

// TestScripts runs the packages' scripts as dpkg does in a folder, where systemd does not run.
func TestScripts(t *testing.T) {
	need(t, runtime.GOOS == "linux" && installed("sh"), "a shell")
	for name, arg := range map[string]string{"postinstall": "configure", "preremove": "remove",
		"postremove": "purge"} {
		dir := t.TempDir()
		state := filepath.Join(dir, "var/lib/private/tollstream/partition")
		if err := os.MkdirAll(state, 0o755); err != nil {
			t.Fatal(err)
		}
		script := exec.Command("sh", filepath.Join("scripts", name+".sh"), arg)
		script.Env = append(os.Environ(), "DPKG_ROOT="+dir)
		if out, err := script.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := os.Stat(state); (err == nil) == (name == "postremove") {
			t.Errorf("%s: the state is there: %v", name, err == nil)
		}
	}
}
