// Command fuzz runs the fuzz targets of the packages given, one after the other, and keeps a small
// part of what the engine found interesting as seeds, so that every later go test runs them.
//
//	go run ./scripts/fuzz -time 10m -run 'State|Delta' ./...
//
// The engine collects its inputs in Go's build cache, often hundreds per target. Each of them, and
// what was kept before, is run alone under coverage, and few that reach all of it are kept; see
// choose. They are packed into testdata/corpus/<Target>.txt. What is in
// testdata/fuzz are inputs that once failed: they stay as they are.
//
// A target that fails does not end the run. It exits with 1 at the end, and names the failing input
// of each such target.
package main

import (
	"bytes"
	"context"
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

// kept is the file of the inputs that are kept of the target.
func (t target) kept() string { return filepath.Join(t.dir, corpus.File(t.name)) }

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
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
