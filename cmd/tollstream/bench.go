package main

import (
	"bufio"
	"bytes"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v2"

	"tollstream/codecs"
	"tollstream/internal/devstack"
	"tollstream/internal/simulate"
	"tollstream/sql"
	"tollstream/toll"
	"tollstream/topology"
)

func (a *app) benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measures the speed from topic to table beside LOAD DATA of the same rows",
		Description: "Starts a Kafka and a MariaDB of its own in a temporary folder (both must be installed; see `make kafka`), fills a topic, and then " +
			"takes turns: LOAD DATA LOCAL of the same rows from a file, by one connection and by four, and `tollstream process` on the topic. " +
			"Then it emits at a steady rate and times each batch from its oldest event's production to its merge into the group table.",
		UsageText: "tollstream bench\ntollstream bench --events 2000000 --rounds 5",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "events", Value: 1_000_000, Usage: "`EVENTS` in the topic"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "`ROUNDS` that take turns; the medians are shown"},
			&cli.IntFlag{Name: "partitions", Value: 4, Usage: "`PARTITIONS` of the topic"},
			&cli.IntFlag{Name: "batch-rows", EnvVars: env("batch-rows"), Value: topology.DefaultBatchRows, Usage: "most `ROWS` that one transaction stores"},
			&cli.DurationFlag{Name: "batch-wait", EnvVars: env("batch-wait"), Value: topology.DefaultBatchWait, Usage: "longest `TIME` that a row waits for others"},
			&cli.StringFlag{Name: "load", EnvVars: env("load"), Value: "auto", Usage: "how rows are loaded: auto, local or insert"},
			&cli.IntFlag{Name: "rate", Value: 20_000, Usage: "`EVENTS` per second while latency is measured; 0 leaves that out"},
			&cli.DurationFlag{Name: "for", Value: 15 * time.Second, Usage: "how long latency is measured"},
			&cli.BoolFlag{Name: "json", Usage: "print the figures as JSON"},
		},
		Action: func(c *cli.Context) error {
			load, err := sql.ParseLoadMode(setting(c, "load", "auto"))
			if err != nil {
				return usagef("--load: %v", err)
			}
			b := &bench{
				app: a, events: c.Int("events"), rounds: c.Int("rounds"), partitions: c.Int("partitions"),
				batchRows: c.Int("batch-rows"), batchWait: c.Duration("batch-wait"), load: setting(c, "load", "auto"), mode: load,
				rate: c.Int("rate"), length: c.Duration("for"),
			}
			if b.events < 1 || b.rounds < 1 || b.partitions < 1 || b.rate < 0 {
				return usagef("--events, --rounds and --partitions must be 1 or more, --rate 0 or more")
			}
			figures, err := b.run(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(a.stdout, figures)
			}
			figures.print(a.stdout)
			return nil
		},
	}
}

// bench measures on servers of its own.
type bench struct {
	app                        *app
	events, rounds, partitions int
	batchRows                  int
	batchWait                  time.Duration
	load                       string
	mode                       sql.LoadMode
	rate                       int
	length                     time.Duration

	dir string
	con connection
}

// benchFigures are the results: medians over the rounds, except where they say otherwise.
type benchFigures struct {
	Machine        string  `json:"machine"`
	Kafka          string  `json:"kafka"`
	Events         int     `json:"events"`
	Partitions     int     `json:"partitions"`
	Rounds         int     `json:"rounds"`
	EmitPerSecond  float64 `json:"emit_events_per_second"`
	LoadOne        float64 `json:"load_data_1_connection_rows_per_second"`
	LoadFour       float64 `json:"load_data_4_connections_rows_per_second"`
	Process        float64 `json:"process_rows_per_second"` // from the first fetch to the last commit
	Ratio          float64 `json:"process_over_best_load_data"`
	CPUPerMillion  float64 `json:"process_cpu_seconds_per_million"`
	PeakMemoryMB   float64 `json:"process_peak_memory_mb"` // the highest of all rounds
	LatencyRate    int     `json:"latency_at_events_per_second,omitempty"`
	LatencyP50     float64 `json:"produced_to_merged_p50_ms,omitempty"`
	LatencyP99     float64 `json:"produced_to_merged_p99_ms,omitempty"`
	LatencyBatches int     `json:"latency_deltas,omitempty"`
	Verified       string  `json:"verified"` // verify --deep after the last round
}

func (f *benchFigures) print(w io.Writer) {
	fmt.Fprintf(w, "%s events on %d partitions, %s, %s, median of %s\n\n", number(int64(f.Events)), f.Partitions, f.Kafka, f.Machine, counted(int64(f.Rounds), "round"))
	t := newTable(w, column{name: "figure"}, column{name: "value", number: true}, column{name: "unit"})
	row := func(name, value, unit string) { t.AppendRow([]any{name, value, unit}) }
	thousands := func(v float64) string { return number(int64(math.Round(v/1000)) * 1000) }
	row("emit, as fast as it goes", thousands(f.EmitPerSecond), "events/s")
	row("LOAD DATA LOCAL, 1 connection", thousands(f.LoadOne), "rows/s")
	row("LOAD DATA LOCAL, 4 connections", thousands(f.LoadFour), "rows/s")
	row("process, first fetch to last commit", thousands(f.Process), "rows/s")
	row("process over the better LOAD DATA", fmt.Sprintf("%.2f", f.Ratio), "")
	row("process, CPU", fmt.Sprintf("%.2f", f.CPUPerMillion), "s per million events")
	row("process, peak memory", fmt.Sprintf("%.0f", f.PeakMemoryMB), "MB")
	if f.LatencyRate > 0 {
		row(fmt.Sprintf("produced to merged at %s/s, p50", number(int64(f.LatencyRate))), fmt.Sprintf("%.0f", f.LatencyP50), "ms")
		row(fmt.Sprintf("produced to merged at %s/s, p99", number(int64(f.LatencyRate))), fmt.Sprintf("%.0f", f.LatencyP99), "ms")
	}
	row("verify --deep", f.Verified, "")
	t.Render()
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.app.stderr, format+"\n", args...) }

func (b *bench) run(ctx context.Context) (*benchFigures, error) {
	jars, ok := devstack.FindKafka()
	if !ok {
		return nil, withHint(errors.New("bench needs a real Kafka, and its jars are not there"), "fetch them with: make kafka")
	}
	dir, err := os.MkdirTemp("", "tollstream-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	b.say("starting Kafka and MariaDB …")
	kafka, err := devstack.StartKafka(ctx, devstack.KafkaConfig{Jars: jars, Dir: filepath.Join(dir, "kafka"), Addr: "127.0.0.1:0", Heap: "1g"})
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	defer kafka.Close()
	db, err := devstack.StartDatabase(ctx, devstack.DatabaseConfig{Addr: "127.0.0.1:0", DataDir: filepath.Join(dir, "mysql"), Engine: "mariadb"})
	if err != nil {
		return nil, fmt.Errorf("start MariaDB: %w", err)
	}
	defer db.Close()
	b.con = connection{
		cluster: topology.Cluster{Brokers: []string{kafka.Addr()}, ClientID: "tollstream-bench"},
		topic:   "toll", group: "bench", dsn: db.DSN(), location: time.UTC,
	}
	f := &benchFigures{
		Machine: fmt.Sprintf("%d cores", runtime.NumCPU()), Kafka: "Apache Kafka and MariaDB on the same machine",
		Events: b.events, Partitions: b.partitions, Rounds: b.rounds,
	}
	if err := b.prepare(ctx, f); err != nil {
		return nil, err
	}
	if err := b.takeTurns(ctx, f); err != nil {
		return nil, err
	}
	if b.rate > 0 {
		if err := b.latency(ctx, f); err != nil {
			return nil, err
		}
	}
	f.Verified, err = b.verify(ctx)
	return f, err
}

// prepare makes topic and tables, emits the events, and writes the same rows to a file.
func (b *bench) prepare(ctx context.Context, f *benchFigures) error {
	info, _, err := b.con.cluster.Create(topology.Topics{Topic: b.con.topic, Group: b.con.group, Partitions: b.partitions, Replication: 1})
	if err != nil {
		return err
	}
	store, err := b.con.openStore(b.mode, quietLog())
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Init(ctx, b.con.identity(info.ID)); err != nil {
		return err
	}
	b.say("emitting %s events …", number(int64(b.events)))
	start := time.Date(2022, 2, 10, 0, 0, 0, 0, time.UTC)
	generator := func() *simulate.Generator {
		return simulate.New(simulate.DefaultPlazas(), 1, simulate.Steady(start, float64(b.events)/3600))
	}
	emitter, err := topology.NewEmitter(ctx, topology.EmitterConfig{Cluster: b.con.cluster, Topic: b.con.topic, Format: codecs.CSV, Location: time.UTC})
	if err != nil {
		return err
	}
	began := time.Now()
	var e toll.Event
	g := generator()
	for range b.events {
		g.Next(&e)
		// Keyless, as the course's generator sends: the partitions fill evenly.
		if err := emitter.EmitRaw(ctx, "", codecs.AppendCSV(nil, &e), map[string][]byte{}); err != nil {
			return err
		}
	}
	if err := emitter.Close(ctx); err != nil {
		return err
	}
	f.EmitPerSecond = float64(b.events) / time.Since(began).Seconds()
	return b.writeFiles(generator())
}

func (b *bench) file(n int) string { return filepath.Join(b.dir, fmt.Sprintf("rows-%d.csv", n)) }

// writeFiles writes the rows in load format: rows-0 holds all, rows-1 to rows-4 a quarter each.
func (b *bench) writeFiles(g *simulate.Generator) error {
	writers := make([]*bufio.Writer, 5)
	for i := range writers {
		file, err := os.Create(b.file(i))
		if err != nil {
			return err
		}
		defer file.Close()
		writers[i] = bufio.NewWriterSize(file, 1<<20)
	}
	var e toll.Event
	for i := range b.events {
		g.Next(&e)
		line := fmt.Appendf(nil, "%s,%d,%s,%d\n", e.Time, e.Vehicle, e.Type, e.Plaza)
		for _, w := range []*bufio.Writer{writers[0], writers[1+i%4]} {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	}
	for _, w := range writers {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) takeTurns(ctx context.Context, f *benchFigures) error {
	var one, four, process, cpu []float64
	for round := range b.rounds {
		b.say("round %d of %d …", round+1, b.rounds)
		for _, turn := range []struct {
			into  *[]float64
			files []int
		}{{&one, []int{0}}, {&four, []int{1, 2, 3, 4}}} {
			rate, err := b.loadData(ctx, turn.files)
			if err != nil {
				return fmt.Errorf("LOAD DATA: %w", err)
			}
			*turn.into = append(*turn.into, rate)
		}
		p, err := b.process(ctx)
		if err != nil {
			return err
		}
		process, cpu = append(process, p.rate), append(cpu, p.cpu.Seconds()/float64(b.events)*1e6)
		f.PeakMemoryMB = max(f.PeakMemoryMB, p.memoryMB)
		b.say("  LOAD DATA %.0f and %.0f rows/s, process %.0f rows/s, %.2f s CPU per million, %.0f MB", one[round], four[round], p.rate, cpu[round], p.memoryMB)
	}
	f.LoadOne, f.LoadFour, f.Process, f.CPUPerMillion = median(one), median(four), median(process), median(cpu)
	f.Ratio = f.Process / max(f.LoadOne, f.LoadFour)
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// loadData loads files, each by a connection of its own, into an empty table like livetolldata. It returns rows/s.
func (b *bench) loadData(ctx context.Context, files []int) (float64, error) {
	db, err := dbsql.Open("mysql", b.con.dsn)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for _, statement := range []string{`DROP TABLE IF EXISTS bench_load`, `CREATE TABLE bench_load LIKE livetolldata`} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	defer db.ExecContext(context.WithoutCancel(ctx), `DROP TABLE bench_load`)
	began := time.Now()
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for i, n := range files {
		wg.Go(func() {
			mysql.RegisterLocalFile(b.file(n))
			defer mysql.DeregisterLocalFile(b.file(n))
			_, errs[i] = db.ExecContext(ctx, `LOAD DATA LOCAL INFILE '`+b.file(n)+`' INTO TABLE bench_load CHARACTER SET utf8mb4
				FIELDS TERMINATED BY ',' LINES TERMINATED BY '\n' (timestamp, vehicle_id, vehicle_type, toll_plaza_id)`)
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	var rows int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM bench_load`).Scan(&rows); err != nil {
		return 0, err
	}
	if rows != b.events {
		return 0, fmt.Errorf("%d rows loaded, want %d", rows, b.events)
	}
	return float64(rows) / took.Seconds(), nil
}

// processed is one run of the process command on the whole topic.
type processed struct {
	rate     float64 // rows/s, from the first fetch to the last commit
	cpu      time.Duration
	memoryMB float64
}

// process empties what was derived from the topic and runs `tollstream process --until-end` as a process of its own.
func (b *bench) process(ctx context.Context) (processed, error) {
	var p processed
	if err := b.reset(ctx); err != nil {
		return p, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, err
	}
	state, err := os.MkdirTemp(b.dir, "state-")
	if err != nil {
		return p, err
	}
	cmd := exec.CommandContext(ctx, self, "process", "--until-end", "--log-format", "json", "--instance", "bench",
		"--state-dir", state, "--load", b.load, "--batch-rows", fmt.Sprint(b.batchRows), "--batch-wait", b.batchWait.String())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), b.environment()...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Run(); err != nil {
		return p, fmt.Errorf("process: %w: %s", err, strings.TrimSpace(log.String()))
	}
	first, err := firstFetch(log.Bytes())
	if err != nil {
		return p, err
	}
	last, err := b.lastCommit(ctx)
	if err != nil {
		return p, err
	}
	p.rate = float64(b.events) / last.Sub(first).Seconds()
	p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		p.memoryMB = float64(usage.Maxrss) / 1024
	}
	return p, nil
}

// environment points a process at the bench's servers, whatever the environment says.
func (b *bench) environment() []string {
	return []string{
		"TOLLSTREAM_BROKERS=" + strings.Join(b.con.cluster.Brokers, ","), "TOLLSTREAM_MYSQL=" + b.con.dsn, "TOLLSTREAM_MYSQL_FILE=",
		"TOLLSTREAM_TOPIC=" + b.con.topic, "TOLLSTREAM_GROUP=" + b.con.group, "TOLLSTREAM_TIMEZONE=UTC",
	}
}

// firstFetch finds when a process began to fetch, in its log.
func firstFetch(log []byte) (time.Time, error) {
	for line := range bytes.Lines(log) {
		var entry struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "processing" {
			return entry.Time, nil
		}
	}
	return time.Time{}, fmt.Errorf("process never began: %s", strings.TrimSpace(string(log)))
}

func (b *bench) lastCommit(ctx context.Context) (time.Time, error) {
	db, err := dbsql.Open("mysql", b.con.dsn)
	if err != nil {
		return time.Time{}, err
	}
	defer db.Close()
	var rows int
	var last string
	if err := db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM livetolldata), CAST(MAX(stored_at) AS CHAR) FROM toll_batch`).Scan(&rows, &last); err != nil {
		return time.Time{}, err
	}
	if rows != b.events {
		return time.Time{}, fmt.Errorf("process stored %d rows, want %d", rows, b.events)
	}
	return time.Parse("2006-01-02 15:04:05.999999", last)
}

func (b *bench) reset(ctx context.Context) error {
	topics := topology.Topics{Topic: b.con.topic, Group: b.con.group, Partitions: b.partitions, Replication: 1}
	if _, err := b.con.cluster.Reset(topics); err != nil {
		return err
	}
	store, err := b.con.openStore(b.mode, quietLog())
	if err != nil {
		return err
	}
	defer store.Close()
	info, _, err := b.con.cluster.Describe(b.con.topic)
	if err != nil {
		return err
	}
	_, err = store.Reset(ctx, b.con.identity(info.ID), sql.ResetOptions{})
	return err
}

// latency emits at a steady rate beside a running processor, and times each delta from the production of its batch's
// oldest event to its merge.
func (b *bench) latency(ctx context.Context, f *benchFigures) error {
	b.say("measuring latency at %s events/s for %v …", number(int64(b.rate)), b.length)
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = b.con.cluster, b.con.topic, b.con.group
	cfg.Instance, cfg.StateDir = "bench", filepath.Join(b.dir, "state-latency")
	cfg.BatchRows, cfg.BatchWait = b.batchRows, b.batchWait
	cfg.NewToken, cfg.Log = sql.NewToken, quietLog()
	times := &mergeTimes{}
	p := &process{con: b.con, cfg: cfg, load: b.mode, log: cfg.Log, observer: times}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.run(ctx, false) }()
	emitter, err := topology.NewEmitter(ctx, topology.EmitterConfig{Cluster: b.con.cluster, Topic: b.con.topic, Format: codecs.CSV, Location: time.UTC})
	if err != nil {
		return err
	}
	g := simulate.New(simulate.DefaultPlazas(), 2, simulate.Live(time.Now))
	pace := newPacer(float64(b.rate))
	var e toll.Event
	warmUp := time.Now().Add(5 * time.Second)
	for n := int64(0); time.Since(warmUp) < b.length; n++ {
		if !pace.wait(ctx, n, func() {}) {
			break
		}
		if times.begun.IsZero() && time.Now().After(warmUp) {
			times.begin()
		}
		g.Next(&e)
		if err := emitter.EmitRaw(ctx, "", codecs.AppendCSV(nil, &e), map[string][]byte{}); err != nil {
			return err
		}
	}
	if err := emitter.Close(ctx); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		return err
	}
	f.LatencyRate = b.rate
	f.LatencyBatches = len(times.taken)
	f.LatencyP50, f.LatencyP99 = times.percentile(50), times.percentile(99)
	return nil
}

func (b *bench) verify(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	finish := exec.CommandContext(ctx, self, "process", "--until-end", "--instance", "bench", "--state-dir", filepath.Join(b.dir, "state-latency"))
	finish.Env = append(os.Environ(), b.environment()...)
	if b.rate == 0 {
		finish = exec.CommandContext(ctx, self, "--version")
	}
	if out, err := finish.CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: %w: %s", err, strings.TrimSpace(string(out)))
	}
	cmd := exec.CommandContext(ctx, self, "verify", "--deep", "--json")
	cmd.Env = append(os.Environ(), b.environment()...)
	out, err := cmd.Output()
	var report struct{ Status string }
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		return "", fmt.Errorf("verify: %w", errors.Join(err, jsonErr))
	}
	return report.Status, nil
}

// mergeTimes collects how long deltas took. It is a topology.Observer.
type mergeTimes struct {
	mu    sync.Mutex
	begun time.Time // zero while the pipeline warms up; written by the emitting goroutine alone
	taken []float64 // milliseconds
}

func (m *mergeTimes) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = time.Now()
}

// Stored implements topology.Observer.
func (m *mergeTimes) Stored(int32, int, int, time.Duration) {}

// Merged implements topology.Observer.
func (m *mergeTimes) Merged(_ *toll.Delta, outcome toll.Outcome, oldest time.Time) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if outcome == toll.Applied && !oldest.IsZero() && !m.begun.IsZero() && oldest.After(m.begun) {
		m.taken = append(m.taken, float64(now.Sub(oldest).Microseconds())/1000)
	}
}

// percentile returns the p-th percentile in milliseconds, by nearest rank.
func (m *mergeTimes) percentile(p int) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.taken) == 0 {
		return math.NaN()
	}
	slices.Sort(m.taken)
	return m.taken[min(len(m.taken)-1, (len(m.taken)*p+99)/100-1)]
}

// quietLog returns a logger for what runs inside another command.
func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
