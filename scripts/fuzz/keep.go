package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
)

// fileHeader begins every input of Go's fuzz engine.
const fileHeader = "go test fuzz v1\n"

// inputTimeout bounds the run of one input.
const inputTimeout = time.Minute

// bounds are how much of a target is kept.
type bounds struct{ files, bytes int }

// input is one input of a target with what it reaches.
type input struct {
	data     []byte
	features []feature
}

// feature is a block of code that was run about so many times: once, twice, 3 times, 4 to 7, 8 to
// 15 and so on.
type feature struct {
	block string
	times int
}

// timesOf returns the class of a number of runs, above 0.
func timesOf(n uint64) int {
	if n <= 3 {
		return int(n)
	}
	return bits.Len64(n) + 1
}

// choose returns as few inputs as reach all that the others do and the known do not, or the best of
// them within bounds. Again and again it takes the one that adds the most, of those that add as
// much the smaller.
func choose(inputs []input, known []feature, most bounds) []input {
	reached := map[feature]bool{}
	for _, f := range known {
		reached[f] = true
	}
	left := slices.Clone(inputs)
	slices.SortStableFunc(left, func(a, b input) int {
		return cmp.Or(cmp.Compare(len(a.data), len(b.data)), bytes.Compare(a.data, b.data))
	})
	var chosen []input
	size := 0
	for len(chosen) < most.files {
		best, adds := -1, 0
		for i := range left {
			if size+len(left[i].data) > most.bytes {
				break // as are those that follow, being larger
			}
			n := 0
			for _, f := range left[i].features {
				if !reached[f] {
					n++
				}
			}
			if n > adds {
				best, adds = i, n
			}
		}
		if best < 0 {
			break
		}
		for _, f := range left[best].features {
			reached[f] = true
		}
		chosen = append(chosen, left[best])
		size += len(left[best].data)
		left = slices.Delete(left, best, best+1)
	}
	return chosen
}

// parseProfile reads what a run covered.
func parseProfile(text []byte) ([]feature, error) {
	covered := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "mode:") {
			continue
		}
		// package/file.go:1.2,3.4 statements times
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return nil, fmt.Errorf("read the coverage: %q", line)
		}
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the coverage: %q", line)
		}
		if n > 0 {
			covered[parts[0]] += n
		}
	}
	var features []feature
	for _, block := range slices.Sorted(maps.Keys(covered)) {
		features = append(features, feature{block, timesOf(covered[block])})
	}
	return features, nil
}

// keepCorpus chooses among the inputs in the engine's cache and those kept before, and replaces
// these.
func (t target) keepCorpus(ctx context.Context, cache string, o options, stdout io.Writer) error {
	data, err := readInputs(cache)
	if err != nil {
		return err
	}
	kept, err := corpus.Read(t.kept())
	if err != nil {
		return err
	}
	for _, input := range kept {
		data = append(data, []byte(fileHeader+input))
	}
	slices.SortFunc(data, func(a, b []byte) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
	})
	data = slices.CompactFunc(data, bytes.Equal)
	data = data[:min(len(data), o.count)]
	if len(data) == 0 {
		fmt.Fprintln(stdout, "no inputs to keep")
		return nil
	}
	m, err := newMeter(ctx, t)
	if err != nil {
		return err
	}
	defer m.close()
	known, err := m.seeds(ctx)
	if err != nil {
		return err
	}
	var inputs []input
	stale := 0
	for _, d := range data {
		features, err := m.measure(ctx, d)
		if errors.Is(err, errStale) {
			stale++
			continue
		}
		if err != nil {
			return err
		}
		inputs = append(inputs, input{d, features})
	}
	chosen := choose(inputs, known, o.keep)
	var keep []string
	for i := range chosen {
		keep = append(keep, strings.TrimPrefix(string(chosen[i].data), fileHeader))
	}
	if err := corpus.Write(t.kept(), keep); err != nil {
		return err
	}
	size := 0
	for i := range chosen {
		size += len(chosen[i].data)
	}
	fmt.Fprintf(stdout, "%d of %d inputs are kept, %d bytes", len(chosen), len(data), size)
	if stale > 0 {
		fmt.Fprintf(stdout, "; %d are of an older form of the target", stale)
	}
	fmt.Fprintln(stdout)
	return nil
}

// readInputs returns the inputs in the engine's cache of a target, none where it has no cache.
func readInputs(dir string) ([][]byte, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var inputs [][]byte
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(b, []byte(fileHeader)) {
			inputs = append(inputs, b)
		}
	}
	return inputs, nil
}

// meter runs inputs of a target, each alone, and says what they cover.
type meter struct {
	target target
	dir    string // holds the test binary, and a corpus of one input at a time
}

// newMeter builds the target's test with coverage of our packages that it is made of.
func newMeter(ctx context.Context, t target) (*meter, error) {
	dir, err := os.MkdirTemp("", "fuzz-")
	if err != nil {
		return nil, err
	}
	m := &meter{target: t, dir: dir}
	deps, err := goTool(ctx, "list", "-deps", "-f",
		`{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}`, t.pkg)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	ours := strings.Fields(deps)
	if _, err := goTool(ctx, "test", "-c", "-covermode", "count", "-coverpkg", strings.Join(ours, ","),
		"-o", m.binary(), t.pkg); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *meter) close() error    { return os.RemoveAll(m.dir) }
func (m *meter) binary() string  { return filepath.Join(m.dir, "target.test") }
func (m *meter) profile() string { return filepath.Join(m.dir, "coverage") }

// errStale says that an input was made for a target that took other arguments.
var errStale = errors.New("the input does not fit the target")

var staleInput = regexp.MustCompile(
	`mismatched types in corpus entry|wrong number of values in corpus entry`)

// measure returns what one input covers. It fails where the target fails for it.
func (m *meter) measure(ctx context.Context, data []byte) ([]feature, error) {
	folder := filepath.Join(m.dir, "testdata", "fuzz", m.target.name)
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o777)); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "input")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		return nil, err
	}
	said, err := m.run(ctx, "^"+m.target.name+"$/^input$")
	if err == nil {
		return m.covered()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if staleInput.Match(said) {
		return nil, errStale
	}
	// As the engine does with what it finds: it stays, and fails every test from now on.
	sum := sha256.Sum256(data)
	failing := filepath.Join(m.target.failures(), fmt.Sprintf("%x", sum[:8]))
	if err := errors.Join(os.MkdirAll(m.target.failures(), 0o777),
		os.WriteFile(failing, data, 0o666)); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("fails with the input %s: %w\n%s", failing, err, said)
}

var seedName = regexp.MustCompile(`(?m)^=== RUN   \w+/(seed#\d+)$`)

// seeds returns what the seeds in the target's code cover, each run alone as the inputs are. The
// kept inputs are no seeds here, since the binary runs in a folder that has none.
func (m *meter) seeds(ctx context.Context) ([]feature, error) {
	said, err := m.run(ctx, "^"+m.target.name+"$/^seed#", "-test.v")
	if err != nil {
		return nil, fmt.Errorf("the target's seeds: %w\n%s", err, said)
	}
	var all []feature
	for _, name := range seedName.FindAllSubmatch(said, -1) {
		if said, err := m.run(ctx, "^"+m.target.name+"$/^"+string(name[1])+"$"); err != nil {
			return nil, fmt.Errorf("the target's seed %s: %w\n%s", name[1], err, said)
		}
		features, err := m.covered()
		if err != nil {
			return nil, err
		}
		all = append(all, features...)
	}
	return all, nil
}

func (m *meter) run(ctx context.Context, match string, more ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, inputTimeout)
	defer cancel()
	if err := os.RemoveAll(m.profile()); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, m.binary(),
		append([]string{"-test.run", match, "-test.coverprofile", m.profile()}, more...)...)
	cmd.Dir = m.dir
	cmd.WaitDelay = 5 * time.Second
	return cmd.CombinedOutput()
}

func (m *meter) covered() ([]feature, error) {
	text, err := os.ReadFile(m.profile())
	if err != nil {
		return nil, err
	}
	return parseProfile(text)
}
