package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
)

func TestChoose(t *testing.T) {
	in := func(size int, blocks string) input {
		return input{strings.Repeat("x", size), strings.Split(blocks, "")}
	}
	for _, c := range []struct {
		name   string
		inputs []input
		seeds  []string
		want   []int // sizes, in the order in which they are chosen
	}{
		{"nothing", nil, nil, nil},
		{"the one that reaches the most first, and no more than needed",
			[]input{in(1, "a"), in(2, "b"), in(5, "abc"), in(9, "cd")}, nil, []int{5, 9}},
		{"the smaller of two that reach as much", []input{in(7, "ab"), in(3, "ab")}, nil, []int{3}},
		{"what the seeds reach is no reason", []input{in(1, "a"), in(2, "ab")}, []string{"a", "b"}, nil},
		{"as many bytes as allowed",
			[]input{in(4, "a"), in(maxBytes-3, "bc"), in(maxBytes+1, "defg")}, nil, []int{maxBytes - 3}},
		{"just as many bytes as allowed", []input{in(4, "a"), in(maxBytes-4, "bc")}, nil,
			[]int{maxBytes - 4, 4}},
	} {
		var got []int
		for _, i := range choose(c.inputs, c.seeds) {
			got = append(got, len(i.data))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	var many []input
	for i := range maxFiles + 1 {
		many = append(many, in(1, string(rune('A'+i))))
	}
	if got := len(choose(many, nil)); got != maxFiles {
		t.Errorf("as many as allowed: got %d", got)
	}
}

// steps is code whose parts are reached by inputs of a known form.
const steps = `package example

func steps(b []byte) int {
	n := 0
	if len(b) > 0 && b[0] == 'a' {
		n++
	}
	if len(b) > 1 && b[1] == 'b' {
		n++
	}
	return n
}
`

// targets are its fuzz targets, of which one fails.
const targets = `package example

import "testing"

func FuzzSteps(f *testing.F) {
	f.Add([]byte("known"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if steps(b) < 0 || string(b) == "bad" {
			t.Fatal("it fails")
		}
	})
}

func FuzzFails(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			t.Fatal("it fails")
		}
	})
}
`

// TestRun goes through a module of its own: what is kept, what stays, and what fails.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	module := fmt.Sprintf("tollstream-fuzz-%d.test/example", os.Getpid())
	write := func(text string, path ...string) {
		t.Helper()
		file := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("module "+module+"\n\ngo 1.24\n", "go.mod")
	write(steps, "example.go")
	write(targets, "example_test.go")
	t.Chdir(dir)
	t.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -mod=mod") // the packages that are compiled
	t.Setenv("GOWORK", "off")
	cache, err := goTool(t.Context(), "env", "GOCACHE")
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "fuzz", filepath.Dir(module))
	t.Cleanup(func() { _ = os.RemoveAll(cache) })
	found := func(name, value string) {
		t.Helper()
		file := filepath.Join(cache, "example", "FuzzSteps", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(value), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	failures := []string{"testdata", "fuzz", "FuzzSteps"}
	bytesInput := func(text string) string {
		return fileHeader + "[]byte(" + fmt.Sprintf("%q", text) + ")\n"
	}
	found("1", bytesInput("a"))
	found("2", bytesInput("ab"))
	found("3", bytesInput("xb and much more"))
	found("4", bytesInput("nothing new"))
	found("5", fileHeader+"int(5)\n") // of an older form of the target
	found("6", "no input at all")
	write("-- FuzzSteps --\n[]byte(\"xb\")\n", corpus.File)
	write(bytesInput("failed once"), append(failures, "0123456789abcdef")...)
	kept := func() []string {
		t.Helper()
		inputs, err := corpus.Read(corpus.File, "FuzzSteps")
		if err != nil {
			t.Fatal(err)
		}
		return inputs
	}
	command := func(args ...string) (int, string, string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), args, &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, of := range []int{6, 5} { // the second time nothing changes
		code, stdout, stderr := command("-time", "0", "-run", "Steps")
		if code != 0 || stderr != "" ||
			!strings.Contains(stdout,
				fmt.Sprintf("1 of %d inputs are kept\n", of)) {
			t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
		}
		// "ab" reaches all that the others do.
		if got := kept(); len(got) != 1 || got[0] != "[]byte(\"ab\")\n" {
			t.Fatalf("kept: %q", got)
		}
		if b, err := os.ReadFile(filepath.Join(append(failures, "0123456789abcdef")...)); err != nil ||
			string(b) != bytesInput("failed once") {
			t.Fatalf("the failure of the past: %q, %v", b, err)
		}
	}

	// An input that fails is written down, and what was kept stays.
	found("7", bytesInput("bad"))
	code, stdout, stderr := command("-time", "0s", "-run", "Steps")
	at := strings.Index(stderr, filepath.Join(append([]string{dir}, failures...)...)+
		string(filepath.Separator))
	if code != 1 || at < 0 || len(kept()) != 1 {
		t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
	}
	failing, _, _ := strings.Cut(stderr[at:], ":")
	if b, err := os.ReadFile(failing); err != nil || string(b) != bytesInput("bad") {
		t.Fatalf("%s: %q, %v", failing, b, err)
	}

	// The engine's own finding is named, and the other target is run nevertheless.
	if err := os.Remove(failing); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cache, "example", "FuzzSteps", "7")); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = command("-time", "20x")
	if code != 1 ||
		!strings.Contains(stderr, "FuzzFails of "+module+": fails with the input "+filepath.Join(dir,
			"testdata", "fuzz", "FuzzFails")) ||
		!strings.Contains(stdout, "FuzzSteps of "+module+", 2 of 2") || len(kept()) == 0 {
		t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzFails")); err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{{"-run", "("}, {"-nosuch"}} {
		if code, _, stderr := command(args...); code != 2 || stderr == "" {
			t.Errorf("%v: exit status %d, %q", args, code, stderr)
		}
	}
	if code, _, stderr := command("-run", "NoSuch"); code != 1 ||
		!strings.Contains(stderr, "no fuzz target matches") {
		t.Errorf("exit status %d, %q", code, stderr)
	}
}
