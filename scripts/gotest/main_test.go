package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRerun runs go test on a module of tests that fail in one way each, the first time or always.
func TestRerun(t *testing.T) {
	const once = `
// once fails the first time that it is called, as a test that met a busy machine.
func once(t *testing.T, how func()) {
	if _, err := os.Stat("failed-" + filepath.Base(t.Name())); err == nil {
		return
	}
	if err := os.WriteFile("failed-"+filepath.Base(t.Name()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	how()
}
`
	for _, test := range []struct {
		name, tests string
		passes      bool
		prints      string
	}{
		{"passes", `func TestA(t *testing.T) {}`, true, "ok  "},
		{"flaky", `func TestA(t *testing.T) { once(t, func() { t.Fatal("too slow") }) }`, true,
			"FLAKY m TestA"},
		{"a flaky subtest",
			`func TestA(t *testing.T) { t.Run("a b", func(t *testing.T) { once(t, func() { t.Fatal("too slow") }) }) }`, true, "FLAKY m TestA/a_b"},
		{"fails always", `func TestA(t *testing.T) { t.Fatal("wrong") }`, false, "once more: m TestA"},
		{"an event lost",
			`func TestA(t *testing.T) { once(t, func() { t.Fatal("3 rows lost, 0 doubled") }) }`, false,
			"3 rows lost"},
		{"verify fails", `func TestA(t *testing.T) { once(t, func() { t.Fatal("verify --deep: {}") }) }`,
			false, "verify"},
		{"panic", `func TestA(t *testing.T) { once(t, func() { panic("oh") }) }`, false, "panic: oh"},
		{"exit", `func TestA(t *testing.T) { once(t, func() { os.Exit(3) }) }`, false, "FAIL"},
		{"does not build", `func TestA(t *testing.T) { x }`, false, "undefined: x"},
		{"too many", `func TestA(t *testing.T) { for _, n := range []string{"1", "2", "3", "4"} {
			t.Run(n, func(t *testing.T) { once(t, func() { t.Fatal("too slow") }) }) } }`, false, "TestA/4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module m\n\ngo 1.25\n")
			write(t, filepath.Join(dir, "m_test.go"),
				"package m\n\nimport (\n\t\"os\"\n\t\"path/filepath\"\n\t\"testing\"\n)\n"+once+test.tests)
			var out bytes.Buffer
			r := newReport(&out)
			r.dir = dir
			status, err := r.run([]string{"./..."})
			if err != nil {
				t.Fatal(err)
			}
			if passes := status == 0 || r.rerun([]string{"./..."}); passes != test.passes {
				t.Errorf("passes: %v, want %v", passes, test.passes)
			}
			if !strings.Contains(out.String(), test.prints) {
				t.Errorf("does not print %q:\n%s", test.prints, &out)
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
