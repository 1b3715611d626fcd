// Package bench measures built tollstream commands from outside: it starts a Kafka and a MySQL of
// its own, runs the commands as child processes, and takes its figures from /proc, from the tables
// and from the topics. So several builds can be compared in one run, in which they take turns.
//
// A run that is measured ends with verify --deep: a figure counts only where the rows are exact.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// Config sets what is measured, and how.
type Config struct {
	// Binaries are the tollstream commands that take turns. With more than one, each figure of the
	// first is also divided by that of the last.
	Binaries []string
	// Only names the scenarios; nil for all.
	Only []string
	// Rounds is how often each scenario is measured.
	Rounds int
	// Scale multiplies the events and the times of all scenarios. 1 gives the figures of the
	// documentation, less a quick look.
	Scale float64
	// Partitions of the topics, but of the idle scenario.
	Partitions int
	// Plazas are the numbers of plazas of the backlog scenario.
	Plazas []int
	// Process holds more flags of `tollstream process`.
	Process []string
	// Engine is the database server: mariadb, mysql or tidb.
	Engine string
	// Log takes a line for each thing that is done and measured; nil drops them.
	Log io.Writer
}

// DefaultConfig returns what `make bench` measures.
func DefaultConfig() Config {
	return Config{
		Binaries: []string{filepath.Join("bin", "tollstream")}, Rounds: 5, Scale: 1, Partitions: 4,
		Plazas: []int{12, 1_000, 10_000}, Engine: "mariadb",
	}
}

// Validate reports every violation.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Binaries) > 0, "no binary to measure")
	for _, name := range c.Only {
		check(slices.Contains(Scenarios(), name), "there is no scenario %q, only %s", name,
			strings.Join(Scenarios(), ", "))
	}
	check(c.Rounds >= 1, "rounds are %d, want 1 or more", c.Rounds)
	check(c.Scale > 0 && c.Scale <= 100, "scale is %v, want more than 0 and at most 100", c.Scale)
	check(c.Partitions >= 1, "partitions are %d, want 1 or more", c.Partitions)
	check(len(c.Plazas) > 0, "no number of plazas for the backlog")
	for _, n := range c.Plazas {
		check(n >= 1 && n <= toll.MaxPlaza, "plazas are %d, want 1 to %d", n, toll.MaxPlaza)
	}
	return errors.Join(errs...)
}

// scenario is one situation that is measured.
type scenario struct {
	name    string
	figures []figures.Figure
	// setUp is run once, before all rounds. It may be nil.
	setUp func(context.Context, *Bench) error
	// shared measures once a round what does not depend on tollstream. It may be nil.
	shared func(context.Context, *Bench) error
	// measure is run once a round for each binary.
	measure func(context.Context, *run) error
	// tearDown is run once, after all rounds, however they ended. It may be nil.
	tearDown func(context.Context, *Bench) error
}

// scenarios returns all of them, in the order of the report.
func scenarios(c *Config) []scenario {
	return []scenario{
		backlogScenario(c), yearScenario(), steadyScenario(), latencyScenario(), farScenario(),
		idleScenario(), readScenario(), startScenario(), emitScenario(),
	}
}

// Scenarios returns the names that Config.Only may hold.
func Scenarios() []string {
	var names []string
	for _, s := range scenarios(&Config{}) {
		names = append(names, s.name)
	}
	return names
}

func newReport(c *Config) *figures.Report {
	return &figures.Report{
		Date:     time.Now().Format(time.DateOnly),
		Machine:  fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Binaries: c.Binaries, Rounds: c.Rounds, Scale: c.Scale, Process: c.Process,
	}
}

// Bench is a run of the benchmark.
type Bench struct {
	cfg Config
	*servers
	report  *figures.Report
	current *scenario
	// values holds what was recorded for a figure: one list for each binary, or one for all.
	values map[string][][]float64
	worlds int // made so far
}

// run is one binary's turn in a round.
type run struct {
	*Bench
	binary int // index in Config.Binaries
}

// Run measures. The report holds what was measured, also where something else failed.
func Run(ctx context.Context, cfg Config) (_ *figures.Report, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Log = cmp.Or[io.Writer](cfg.Log, io.Discard)
	binaries := make([]string, len(cfg.Binaries))
	for i, name := range cfg.Binaries {
		if _, err := os.Stat(name); err != nil {
			return nil, fmt.Errorf("there is no binary to measure: %w", err)
		}
		if binaries[i], err = filepath.Abs(name); err != nil {
			return nil, err
		}
	}
	cfg.Binaries = binaries
	b := &Bench{cfg: cfg, report: newReport(&cfg)}
	if b.servers, err = startServers(ctx, &cfg); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.servers.close()) }()
	b.report.Servers = b.servers.describe()
	if err := b.warm(ctx); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	var errs []error
	for _, s := range scenarios(&cfg) {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, s.name) {
			continue
		}
		if err := b.scenario(ctx, &s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			b.logf("%v", errs[len(errs)-1])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return b.report, errors.Join(errs...)
}

// warm works off a backlog that is not measured: Java's machine is slow until it has compiled what
// is called most.
func (b *Bench) warm(ctx context.Context) error {
	const topic = "warm"
	events := b.events(1_000_000)
	b.logf("warming up")
	if err := b.fill(ctx, topic, backlogFeed(courseBacklog, events)); err != nil {
		return err
	}
	if _, err := (&run{b, 0}).workOff(ctx, topic, events, nil); err != nil {
		return err
	}
	return b.deleteTopics(ctx, topic)
}

// scenario measures one scenario in rounds. In every other round the binaries come in reverse.
func (b *Bench) scenario(ctx context.Context, s *scenario) (err error) {
	b.current, b.values = s, map[string][][]float64{}
	began := time.Now()
	defer func() {
		b.report.Add(s.figures, b.values)
		b.logf("%s: took %v", s.name, time.Since(began).Round(time.Second))
	}()
	if s.tearDown != nil {
		defer func() { err = errors.Join(err, s.tearDown(context.WithoutCancel(ctx), b)) }()
	}
	if s.setUp != nil {
		b.logf("%s: preparing", s.name)
		if err := s.setUp(ctx, b); err != nil {
			return err
		}
	}
	for round := range b.cfg.Rounds {
		b.logf("%s: round %d of %d", s.name, round+1, b.cfg.Rounds)
		if s.shared != nil {
			if err := s.shared(ctx, b); err != nil {
				return err
			}
		}
		turns := make([]int, len(b.cfg.Binaries))
		for i := range turns {
			turns[i] = i
		}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, binary := range turns {
			if err := b.turn(ctx, s, binary); err != nil {
				return fmt.Errorf("%s: %w", b.cfg.Binaries[binary], err)
			}
		}
	}
	return nil
}

// turn measures one binary once. What is left running where that fails is interrupted.
func (b *Bench) turn(ctx context.Context, s *scenario, binary int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return s.measure(ctx, &run{b, binary})
}

// record adds a value that does not depend on the binary.
func (b *Bench) record(figure string, v float64) { b.recordAt(figure, 0, v) }

// record adds a value of the binary whose turn it is.
func (r *run) record(figure string, v float64) { r.recordAt(figure, r.binary, v) }

func (b *Bench) recordAt(figure string, binary int, v float64) {
	i := slices.IndexFunc(b.current.figures, func(f figures.Figure) bool { return f.Name == figure })
	if b.values[figure] == nil {
		b.values[figure] = make([][]float64, len(b.cfg.Binaries))
	}
	b.values[figure][binary] = append(b.values[figure][binary], v)
	f := &b.current.figures[i]
	which := ""
	if len(b.cfg.Binaries) > 1 && !f.Shared {
		which = fmt.Sprintf(" [%d]", binary+1)
	}
	b.logf("  %s%s: %s", f.Title, which, f.Text(v))
}

func (b *Bench) logf(format string, args ...any) { fmt.Fprintf(b.cfg.Log, format+"\n", args...) }

// events returns how many events a scenario has that has n at full scale.
func (b *Bench) events(n int) int { return max(int(float64(n)*b.cfg.Scale), 1_000) }

// lasts returns how long something is measured that takes d at full scale.
func (b *Bench) lasts(d time.Duration) time.Duration {
	return max(time.Duration(float64(d)*b.cfg.Scale), time.Second)
}

// patience is how long something may take that should take a moment.
const patience = time.Minute

// await waits until something is so.
func await(ctx context.Context, what string, so func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s", patience, what)
		}
		if err := wait.For(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// FindServers reports what is missing on this machine to run a benchmark with an engine.
func FindServers(engine string) error {
	if _, ok := devstack.FindKafka(); !ok {
		return errors.New("the benchmark needs a real Kafka, and its jars are not there: make kafka")
	}
	if !devstack.HasDatabase(engine) {
		return fmt.Errorf("the benchmark needs %s, which is not installed", engine)
	}
	return nil
}
