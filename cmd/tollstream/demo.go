package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"tollstream/codecs"
	"tollstream/internal/simulate"
	"tollstream/sql"
	"tollstream/toll"
	"tollstream/topology"
)

// demoLength is how long a demo runs where nobody is there to interrupt it.
const demoLength = 12 * time.Second

func (a *app) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "shows all of it at work in one process, on servers of its own",
		Description: "Starts a broker and a database on free ports, emits simulated vehicles, stores and counts them, and shows that table and counts agree. " +
			"Ctrl-C ends it with the verdict. Without a terminal, or with --for, it ends by itself; the exit status is 0 if all was exact, 1 if not.",
		UsageText: "tollstream demo\ntollstream demo --for 30s --rate 2000",
		Flags: append([]cli.Flag{
			&cli.DurationFlag{Name: "for", DefaultText: "until interrupted, on a terminal", Usage: "end after this `TIME`"},
			&cli.Float64Flag{Name: "rate", Value: 100, Usage: "`EVENTS` per second"},
		}, logFlags()...),
		Action: func(c *cli.Context) error {
			rate, length := c.Float64("rate"), c.Duration("for")
			if rate < 0.1 || rate > 1e6 {
				return usagef("--rate: %v is not between 0.1 and 1,000,000", rate)
			}
			if length < 0 {
				return usagef("--for: %v is negative", length)
			}
			if length == 0 && !isTerminal(a.stdout) {
				length = demoLength
			}
			d := &demo{out: a.stdout, err: a.stderr, rate: rate, length: length}
			return d.run(c.Context)
		},
	}
}

// demo is the whole pipeline in one process.
type demo struct {
	out, err io.Writer
	rate     float64
	length   time.Duration // 0 until interrupted

	con       connection
	processor *topology.Processor
	passing   passing
	drawn     int // lines of the last screen
}

func (d *demo) run(ctx context.Context) error {
	fmt.Fprintln(d.out, "Starting a broker and a database …")
	stack, err := startStack(ctx, stackConfig{
		kafkaListen: "127.0.0.1:0", mysqlListen: "127.0.0.1:0", location: time.UTC, log: quietLog(),
		topics: topology.Topics{Topic: defaultTopic, Group: defaultGroup, Partitions: defaultPartitions, Replication: defaultReplication},
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer stack.Close()
	d.con = stack.connection()
	name := "MariaDB"
	if stack.embedded() {
		name = "an embedded MySQL in memory (no MariaDB is installed here)"
	}
	fmt.Fprintf(d.out, "Kafka at %s, %s at %s\n", stack.broker.Addr(), name, stack.database.Addr())
	if d.length == 0 {
		fmt.Fprintln(d.out, "Ctrl-C ends the demo with the verdict.")
	}
	fmt.Fprintln(d.out)
	return d.pipeline(ctx)
}

// pipeline runs emitter and processor until the demo is over, lets all of it arrive, and gives the verdict.
func (d *demo) pipeline(ctx context.Context) error {
	state, err := os.MkdirTemp("", "tollstream-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	shown, stopShowing := context.WithCancel(ctx)
	if d.length > 0 {
		shown, stopShowing = context.WithTimeout(ctx, d.length)
	}
	defer stopShowing()
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // an interrupt ends the emitter first
	defer stop()

	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = d.con.cluster, d.con.topic, d.con.group
	cfg.Instance, cfg.StateDir = "demo", state
	cfg.NewToken, cfg.Log = sql.NewToken, quietLog()
	ready := make(chan *topology.Processor, 1)
	p := &process{con: d.con, cfg: cfg, log: cfg.Log, ready: func(p *topology.Processor) { ready <- p }}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	processed := make(chan error, 1)
	wg.Go(func() { processed <- p.run(running, false) })
	emitted := make(chan error, 1)
	wg.Go(func() { emitted <- d.emit(shown, running) })
	select {
	case d.processor = <-ready:
	case err := <-processed:
		return err
	}
	store, err := d.con.openStore(sql.LoadAuto, cfg.Log)
	if err != nil {
		return err
	}
	defer store.Close()
	table, err := topology.NewTable(d.con.cluster, d.con.group, cfg.Log)
	if err != nil {
		return err
	}
	wg.Go(func() { _ = table.Run(running) })

	checker := store.PlazaChecker()
	every := 2 * time.Second
	if isTerminal(d.out) {
		every = 500 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for shown.Err() == nil {
		select {
		case err := <-processed:
			return cmp.Or(err, errors.New("the processor ended by itself"))
		case <-shown.Done():
		case <-ticker.C:
			if err := d.show(running, table, checker); err != nil {
				return err
			}
		}
	}
	if err := <-emitted; err != nil {
		return err
	}
	if err := d.settle(running); err != nil {
		return err
	}
	if err := d.show(running, table, checker); err != nil {
		return err
	}
	return d.verdict(running, store, table)
}

// emit sends events until shown ends; running bounds how long the last acknowledgements are waited for.
func (d *demo) emit(shown, running context.Context) error {
	e, err := topology.NewEmitter(running, topology.EmitterConfig{
		Cluster: d.con.cluster, Topic: d.con.topic, Format: codecs.CSV, Location: time.UTC,
	})
	if err != nil {
		return err
	}
	g := simulate.New(simulate.DefaultPlazas(), uint64(time.Now().UnixNano()), simulate.Live(time.Now))
	pace := newPacer(d.rate)
	var event toll.Event
	for n := int64(0); pace.wait(shown, n, func() {}) && shown.Err() == nil; n++ {
		g.Next(&event)
		if err := e.Emit(running, &event); err != nil {
			return err
		}
		d.passing.add(event)
	}
	return e.Close(running)
}

// settleLimit bounds how long a demo waits at its end for all that was emitted to be counted.
const settleLimit = 30 * time.Second

func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	end, err := d.con.cluster.FindEnd(d.con.topic)
	if err != nil {
		return err
	}
	return d.processor.AwaitEnd(ctx, end)
}

// passing keeps the last vehicles for the screen.
type passing struct {
	mu   sync.Mutex
	last []toll.Event
	n    int64
}

const passingShown = 3

func (p *passing) add(e toll.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if len(p.last) == passingShown {
		p.last = append(p.last[:0], p.last[1:]...)
	}
	p.last = append(p.last, e)
}

func (p *passing) read() ([]toll.Event, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last), p.n
}

// show draws the state of things: in place on a terminal, else as one line.
func (d *demo) show(ctx context.Context, table *topology.Table, checker *sql.PlazaChecker) error {
	if !table.Recovered() {
		return nil
	}
	states, err := table.States()
	if err != nil {
		return err
	}
	checks, err := checker.Plazas(ctx, states, sql.PlazaOptions{CountOnly: true})
	if err != nil {
		return err
	}
	last, n := d.passing.read()
	sums := sumChecks(checks)
	if !isTerminal(d.out) {
		passed := ""
		if len(last) > 0 {
			passed = "  last: " + sentence(last[len(last)-1])
		}
		fmt.Fprintf(d.out, "%s%s\n", sums.line(n), passed)
		return nil
	}
	var screen bytes.Buffer
	for _, e := range last {
		fmt.Fprintf(&screen, "  %s\n", sentence(e))
	}
	screen.WriteByte('\n')
	d.plazas(&screen, states, checks)
	fmt.Fprintf(&screen, "\n%s\n", sums.line(n))
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\x1b[J", d.drawn)
	}
	d.drawn = bytes.Count(screen.Bytes(), []byte{'\n'})
	_, err = d.out.Write(screen.Bytes())
	return err
}

// sentence tells of one vehicle.
func sentence(e toll.Event) string {
	return fmt.Sprintf("%s  %-5s %8d passed plaza %d", e.Time.Format("15:04:05"), escape(e.Type), e.Vehicle, e.Plaza)
}

func (d *demo) plazas(w io.Writer, states map[int16]*toll.State, checks []sql.PlazaCheck) {
	t := newTable(w, column{name: "plaza", number: true}, column{name: "counted", number: true}, column{name: "rows in MySQL", number: true},
		column{name: "by type"}, column{name: "verdict"})
	byPlaza := map[int16]sql.PlazaCheck{}
	for _, c := range checks {
		if c.Plaza >= toll.MinPlaza {
			byPlaza[int16(c.Plaza)] = c
		}
	}
	order := slices.SortedFunc(maps.Keys(states), func(a, b int16) int {
		return cmp.Or(cmp.Compare(states[b].Events, states[a].Events), cmp.Compare(a, b))
	})
	for _, plaza := range order {
		s, c := states[plaza], byPlaza[plaza]
		rows := "–"
		if c.StoredRows != nil {
			rows = number(*c.StoredRows)
		}
		var types []string
		for _, tc := range s.Types {
			types = append(types, fmt.Sprintf("%s %s", escape(tc.Type), number(tc.Count)))
		}
		t.AppendRow([]any{plaza, number(s.Events), rows, strings.Join(types, " · "), verdictWords(c.Status, c.InFlight)})
	}
	t.Render()
}

func verdictWords(status string, inFlight int64) string {
	switch status {
	case sql.Exact:
		return "exact"
	case sql.InFlight:
		return number(inFlight) + " in flight"
	}
	return "MISMATCH"
}

// sums are the checks of all plazas added up.
type sums struct {
	rows, counted, inFlight int64
	mismatch                bool
}

func sumChecks(checks []sql.PlazaCheck) sums {
	var s sums
	for _, c := range checks {
		if c.StoredRows != nil {
			s.rows += *c.StoredRows
		}
		s.counted += c.TableCount
		s.inFlight += c.InFlight
		s.mismatch = s.mismatch || c.Status == sql.Mismatch
	}
	return s
}

func (s sums) line(emitted int64) string {
	verdict := "they agree"
	if s.mismatch {
		verdict = "MISMATCH"
	}
	return fmt.Sprintf("emitted %s · rows in MySQL %s = counted per plaza %s + in flight %s · %s",
		number(emitted), number(s.rows), number(s.counted), number(s.inFlight), verdict)
}

// verdict verifies everything, checksums of the rows included, and says what came out.
func (d *demo) verdict(ctx context.Context, store *sql.Store, table *topology.Table) error {
	states, err := table.States()
	if err != nil {
		return err
	}
	report, err := store.Verify(ctx, sql.VerifyInput{States: states, Deep: true})
	if err != nil {
		return err
	}
	_, emitted := d.passing.read()
	if report.Status == sql.Exact && report.Rows == emitted && report.Merged == emitted {
		fmt.Fprintf(d.out, "\nexact: %s emitted = %s rows in MySQL = %s counted per plaza; every row's checksum agrees\n",
			number(emitted), number(report.Rows), number(report.Merged))
		return nil
	}
	fmt.Fprintf(d.out, "\n%s: %s emitted, %s rows in MySQL, %s counted per plaza\n",
		report.Status, number(emitted), number(report.Rows), number(report.Merged))
	for _, p := range report.Problems {
		fmt.Fprintf(d.out, "  %s\n", p.Text)
	}
	return exitWith(exitFailed)
}
