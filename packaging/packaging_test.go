// Package packaging holds tests of what users install: packages, units, the image and the releases.
package packaging

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
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

// TestRPM installs the rpm into a folder that has a shell and notes what is asked of systemd; edits
// the settings, upgrades and removes it.
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
	asked := withShell(t, dir)
	rpm("--initdb")
	rpm("--install", "--nodeps", built(t, "packages/tollstream-*.x86_64.rpm"))
	const reload, services = "daemon-reload\n", " tollstream-process.service tollstream-view.service\n"
	if got, want := asked(), reload+"try-restart"+services; got != want {
		t.Errorf("an install asks systemd for\n%swant\n%s", got, want)
	}
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
	rpm("--upgrade", "--nodeps", later(t, "rpm"))
	if text, err := os.ReadFile(settings); err != nil || string(text) != "topic: edited\n" {
		t.Errorf("the upgrade changed the settings: %q, %v", text, err)
	}
	if got, want := asked(), reload+"try-restart"+services+reload; got != want {
		t.Errorf("an upgrade asks systemd for\n%swant\n%s", got, want)
	}
	rpm("--erase", "tollstream")
	if got, want := asked(), "disable --now"+services+reload; got != want {
		t.Errorf("a removal asks systemd for\n%swant\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/tollstream")); err == nil {
		t.Error("a removal left the command")
	}
}

// withShell puts a shell into the root of a machine, and a systemctl that notes what it is asked
// for. asked returns that, since the last call.
func withShell(t *testing.T, dir string) (asked func() string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	libraries, err := exec.Command("ldd", "/bin/sh").Output()
	must(err)
	for _, file := range append(regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1),
		"/bin/sh") {
		content, err := os.ReadFile(file)
		must(err)
		must(os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755))
		must(os.WriteFile(filepath.Join(dir, file), content, 0o755))
	}
	must(os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755))
	must(os.MkdirAll(filepath.Join(dir, "run/systemd/system"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "usr/bin/systemctl"),
		[]byte("#!/bin/sh\necho \"$@\" >>/asked\n"), 0o755))
	return func() string {
		file := filepath.Join(dir, "asked")
		text, err := os.ReadFile(file)
		must(err)
		must(os.Truncate(file, 0))
		return string(text)
	}
}

// TestArm64 compares the packages for arm64 with those for amd64, which the tests install: they
// hold the same files, and a command for that machine.
func TestArm64(t *testing.T) {
	need(t, installed("dpkg-deb") && installed("rpm"), "dpkg-deb, and rpm")
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			t.Fatalf("%s %q: %v", name, args, err)
		}
		return strings.TrimSpace(string(out))
	}
	deb, rpm := built(t, "packages/tollstream_*_arm64.deb"),
		built(t, "packages/tollstream-*.aarch64.rpm")
	if arch := run("dpkg-deb", "--field", deb, "Architecture"); arch != "arm64" {
		t.Errorf("the deb is for %s", arch)
	}
	if arch := run("rpm", "--query", "--package", "--queryformat", "%{ARCH}", rpm); arch != "aarch64" {
		t.Errorf("the rpm is for %s", arch)
	}
	files := func(deb string, commandOf io.Writer) (names []string) {
		unpack := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
		out, err := unpack.StdoutPipe()
		if err == nil {
			err = unpack.Start()
		}
		for in := tar.NewReader(out); err == nil; {
			var h *tar.Header
			if h, err = in.Next(); err == nil {
				names = append(names, h.Name)
				if strings.HasSuffix(h.Name, "/usr/bin/tollstream") {
					_, err = io.Copy(commandOf, in)
				}
			}
		}
		if wait := unpack.Wait(); !errors.Is(err, io.EOF) || wait != nil {
			t.Fatalf("%s: %v, %v", deb, err, wait)
		}
		return names
	}
	var command bytes.Buffer
	if got, want := files(deb, &command), files(built(t, "packages/tollstream_*_amd64.deb"),
		io.Discard); !slices.Equal(got, want) {
		t.Errorf("the deb holds %q, that for amd64 %q", got, want)
	}
	binary, err := elf.NewFile(bytes.NewReader(command.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := binary.ImportedLibraries(); binary.Machine != elf.EM_AARCH64 || err != nil ||
		len(libraries) > 0 {
		t.Errorf("the command is for %v, with the libraries %q, %v", binary.Machine, libraries, err)
	}
	list := func(rpm string) string { return run("rpm", "--query", "--package", "--list", rpm) }
	if got, want := list(rpm), list(built(t, "packages/tollstream-*.x86_64.rpm")); got != want {
		t.Errorf("the rpm holds %s\nthat for amd64 %s", got, want)
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
		secret := filepath.Join(dir, "etc/tollstream/token")
		if err := errors.Join(os.MkdirAll(state, 0o755), os.MkdirAll(filepath.Dir(secret), 0o755),
			os.WriteFile(secret, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		script := exec.Command("sh", filepath.Join("scripts", name+".sh"), arg)
		script.Env = append(os.Environ(), "DPKG_ROOT="+dir)
		if out, err := script.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for _, file := range []string{state, filepath.Dir(secret)} {
			if _, err := os.Stat(file); (err == nil) == (name == "postremove") {
				t.Errorf("%s: %s is there: %v", name, file, err == nil)
			}
		}
	}
}
