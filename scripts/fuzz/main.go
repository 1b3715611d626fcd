// Command fuzz runs the fuzz targets of the packages given, one after the other, and keeps a small
// part of what the engine found interesting as seeds, so that every later go test runs them.
//
//	go run ./scripts/fuzz -time 10m -run 'State|Delta' ./...
//
// The engine collects its inputs in Go's build cache, often hundreds per target. Each of them, and
// what was kept before, is run alone under coverage, and few that reach all of it are kept; see
// choose. They are packed into the package's testdata/corpus.txtar. What is in testdata/fuzz are
// inputs that once failed: they stay as they are.
//
// A target that fails does not end the run. It exits with 1 at the end, and names the failing input
// of each such target.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(stderr)
	duration := flags.String("time", "20s",
		"how long each target is fuzzed, as of go test -fuzztime; 0 only keeps what there is")
	names := flags.String("run", "", "a regular expression of the targets' `names`; empty for all")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	match, err := regexp.Compile(*names)
	if err != nil {
		fmt.Fprintln(stderr, "fuzz: -run:", err)
		return 2
	}
	patterns := flags.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	targets, err := findTargets(ctx, patterns)
	if err != nil {
		fmt.Fprintln(stderr, "fuzz:", err)
		return 1
	}
	targets = slices.DeleteFunc(targets, func(t target) bool { return !match.MatchString(t.name) })
	if len(targets) == 0 {
		fmt.Fprintln(stderr, "fuzz: no fuzz target matches")
		return 1
	}
	cache, err := goTool(ctx, "env", "GOCACHE")
	if err != nil {
		fmt.Fprintln(stderr, "fuzz:", err)
		return 1
	}
	var failures []string
	for i, t := range targets {
		fmt.Fprintf(stdout, "%s of %s, %d of %d\n", t.name, t.pkg, i+1, len(targets))
		err := t.fuzz(ctx, *duration, stdout)
		if err == nil {
			err = t.keepCorpus(ctx, filepath.Join(cache, "fuzz", filepath.FromSlash(t.pkg), t.name),
				stdout)
		}
		if ctx.Err() != nil {
			fmt.Fprintln(stderr, "fuzz: interrupted")
			return 1
		}
		if err != nil {
			failures = append(failures, fmt.Sprintf("%s of %s: %v", t.name, t.pkg, err))
		}
	}
	for _, f := range failures {
		fmt.Fprintln(stderr, "fuzz:", f)
	}
	if len(failures) > 0 {
		return 1
	}
	return 0
}

// target is a fuzz target.
type target struct {
	name string
	pkg  string // import path
	dir  string // folder of the package
}

// kept is the archive of the inputs that are kept of the package's targets.
func (t target) kept() string { return filepath.Join(t.dir, corpus.File) }

// failures is the folder of the inputs for which the target once failed.
func (t target) failures() string { return filepath.Join(t.dir, "testdata", "fuzz", t.name) }

var targetLine = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(\w+ \*testing\.F\)`)

// findTargets returns the fuzz targets of packages, by package and name.
func findTargets(ctx context.Context, patterns []string) ([]target, error) {
	list, err := goTool(ctx,
		append([]string{"list", "-f",
			`{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}}	{{$p.Dir}}	{{.}}{{"\n"}}{{end}}` +
				`{{range .XTestGoFiles}}{{$p.ImportPath}}	{{$p.Dir}}	{{.}}{{"\n"}}{{end}}`}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var targets []target
	for line := range strings.Lines(list) {
		parts := strings.Split(strings.TrimSpace(line), "\t")
		if len(parts) != 3 {
			continue // between packages
		}
		text, err := os.ReadFile(filepath.Join(parts[1], parts[2]))
		if err != nil {
			return nil, err
		}
		for _, m := range targetLine.FindAllSubmatch(text, -1) {
			targets = append(targets, target{name: string(m[1]), pkg: parts[0], dir: parts[1]})
		}
	}
	slices.SortFunc(targets, func(a, b target) int {
		return strings.Compare(a.pkg+" "+a.name, b.pkg+" "+b.name)
	})
	return targets, nil
}

// failingInput matches what the engine says of an input that fails, and where it wrote it.
var failingInput = regexp.MustCompile(`Failing input written to (\S+)`)

// fuzz runs the engine on a target for a time, as go test -fuzztime takes it, 0 for not at all.
func (t target) fuzz(ctx context.Context, duration string, stdout io.Writer) error {
	if duration == "" || strings.Trim(duration, "0sx") == "" {
		return nil
	}
	// Minimizing goes by coverage, which varies where code keeps memory from call to call, and then
	// takes very long: little of it is worth while.
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime",
		duration, "-fuzzminimizetime", "5x", t.pkg)
	// go test then ends its workers
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var said bytes.Buffer
	cmd.Stdout = io.MultiWriter(stdout, &said)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	if m := failingInput.FindSubmatch(said.Bytes()); err != nil && m != nil {
		return fmt.Errorf("fails with the input %s", filepath.Join(t.dir, string(m[1])))
	}
	return err
}

// goTool runs go and returns what it prints, without blanks around it.
func goTool(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

const (
	// fileHeader begins every input of Go's fuzz engine.
	fileHeader = "go test fuzz v1\n"
	// inputTimeout bounds the run of one input.
	inputTimeout = time.Minute
	// What is looked at and kept of a target, at most.
	maxInputs = 1500 // the smallest ones
	maxFiles  = 40
	maxBytes  = 64 << 10
)

// input is one input of a target with the blocks of code that it reaches.
type input struct {
	data   string
	blocks []string
}

// choose returns inputs that together reach what all do and the seeds do not, within bounds. Those
// that reach the most come first, of those that reach as much the smaller.
func choose(inputs []input, seeds []string) (chosen []input) {
	reached := map[string]bool{}
	reach := func(blocks []string) (more bool) {
		for _, b := range blocks {
			more = more || !reached[b]
			reached[b] = true
		}
		return more
	}
	reach(seeds)
	slices.SortStableFunc(inputs, func(a, b input) int {
		return cmp.Or(cmp.Compare(len(b.blocks), len(a.blocks)), cmp.Compare(len(a.data), len(b.data)))
	})
	size := 0
	for _, i := range inputs {
		if len(chosen) < maxFiles && size+len(i.data) <= maxBytes && reach(i.blocks) {
			chosen = append(chosen, i)
			size += len(i.data)
		}
	}
	return chosen
}

// keepCorpus chooses among the inputs in the engine's cache and those kept before, and replaces
// these.
func (t target) keepCorpus(ctx context.Context, cache string, stdout io.Writer) error {
	data, err := corpus.Read(t.kept(), t.name)
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil {
		return err
	}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if values, ok := strings.CutPrefix(string(text), fileHeader); ok {
			data = append(data, values)
		}
	}
	slices.SortFunc(data, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	data = slices.Compact(data)
	data = data[:min(len(data), maxInputs)]
	if len(data) == 0 {
		fmt.Fprintln(stdout, "no inputs to keep")
		return nil
	}
	m, err := newMeter(ctx, t)
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	// The kept inputs are no seeds here, since the binary runs in a folder that has none.
	seeds, said, err := m.run(ctx, "^seed#")
	if err != nil {
		return fmt.Errorf("the target's seeds: %w\n%s", err, said)
	}
	var inputs []input
	for _, d := range data {
		blocks, err := m.measure(ctx, d)
		if err != nil {
			return err
		}
		inputs = append(inputs, input{d, blocks})
	}
	var keep []string
	for _, i := range choose(inputs, seeds) {
		keep = append(keep, i.data)
	}
	fmt.Fprintf(stdout, "%d of %d inputs are kept\n", len(keep), len(data))
	return corpus.Write(t.kept(), t.name, keep)
}

// meter runs inputs of a target, each alone, and reports what they cover.
type meter struct {
	target target
	dir    string // holds the test binary, and a corpus of one input at a time
}

// newMeter builds the target's test with coverage of our packages that it is made of.
func newMeter(ctx context.Context, t target) (*meter, error) {
	deps, err := goTool(ctx, "list", "-deps", "-f",
		`{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}`, t.pkg)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fuzz-")
	if err != nil {
		return nil, err
	}
	_, err = goTool(ctx, "test", "-c", "-covermode", "set", "-coverpkg",
		strings.Join(strings.Fields(deps), ","), "-o", filepath.Join(dir, "target.test"), t.pkg)
	return &meter{target: t, dir: dir}, err
}

var staleInput = regexp.MustCompile(
	`mismatched types in corpus entry|wrong number of values in corpus entry`)

// measure returns what one input covers, nothing for one of an older form of the target. It fails
// where the target fails for it.
func (m *meter) measure(ctx context.Context, data string) (blocks []string, err error) {
	write := func(folder, name string) (path string, err error) {
		path = filepath.Join(folder, name)
		return path, errors.Join(os.MkdirAll(folder, 0o777),
			os.WriteFile(path, []byte(fileHeader+data), 0o666))
	}
	if _, err := write(filepath.Join(m.dir, "testdata", "fuzz", m.target.name), "input"); err != nil {
		return nil, err
	}
	blocks, said, err := m.run(ctx, "^input$")
	switch {
	case err == nil || ctx.Err() != nil:
		return blocks, err
	case staleInput.Match(said):
		return nil, nil
	}
	// As the engine does with what it finds: it stays, and fails every test from now on.
	sum := sha256.Sum256([]byte(data))
	failing, e := write(m.target.failures(), fmt.Sprintf("%x", sum[:8]))
	if e != nil {
		return nil, e
	}
	return nil, fmt.Errorf("fails with the input %s: %w\n%s", failing, err, said)
}

// run runs the inputs whose names match, and returns the blocks of code that they reach.
func (m *meter) run(ctx context.Context, match string) (blocks []string, said []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, inputTimeout)
	defer cancel()
	profile := filepath.Join(m.dir, "coverage")
	cmd := exec.CommandContext(ctx, filepath.Join(m.dir, "target.test"),
		"-test.run", "^"+m.target.name+"$/"+match, "-test.coverprofile", profile)
	cmd.Dir = m.dir
	cmd.WaitDelay = 5 * time.Second
	if said, err = cmd.CombinedOutput(); err != nil {
		return nil, said, err
	}
	text, err := os.ReadFile(profile)
	// package/file.go:1.2,3.4 statements reached
	for line := range bytes.Lines(text) {
		if block, ok := strings.CutSuffix(string(line), " 1\n"); ok {
			blocks = append(blocks, block)
		}
	}
	return blocks, said, err
}
