package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
)

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
	data, err := corpus.Read(t.kept())
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
	return corpus.Write(t.kept(), keep)
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
