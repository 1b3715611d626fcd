package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
)

// demoLength is how long a demo runs where nobody is there to interrupt it.
const demoLength = 25 * time.Second

const (
	demoSpeed    = 240 // of event time: four minutes a second
	demoMaxSpeed = 3600
	// The morning of a demo, and what happens in it: half an hour in, a quiet plaza gets several times
	// its traffic.
	demoStart         = 5*time.Hour + 30*time.Minute
	demoIncident      = 30 * time.Minute
	demoIncidentSpan  = 90 * time.Minute
	demoIncidentSize  = 5
	demoIncidentPlaza = 4010
)

func (a *app) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "runs the whole pipeline in one process, on servers of its own",
		Description: "Starts a broker and a database on free ports and lets a weekday's morning pass, four minutes a second: the rush hour builds up, " +
			"and one plaza gets far more traffic than it can take. A page shows it live. Vehicles are stored and counted, windows close, congestion is noticed, and table and counts agree. " +
			"Ctrl-C ends it with the verdict. Without a terminal, or with --for, it ends by itself; the exit status is 0 if all was exact, 1 if not.",
		UsageText: "tollstream demo\ntollstream demo --for 30s --speed 600",
		Flags: append([]cli.Flag{
			&cli.DurationFlag{Name: "for", DefaultText: "until interrupted, on a terminal",
				Usage: "end after this `TIME`"},
			&cli.Float64Flag{Name: "speed", Value: demoSpeed,
				Usage: "event time goes `N` times as fast as the clock"},
		}, command.LogFlags()...),
		Action: func(c *cli.Context) error {
			speed, length := c.Float64("speed"), c.Duration("for")
			if speed < 1 || speed > demoMaxSpeed {
				return hint.Usagef("--speed: %v is not between 1 and %s", speed, text.Number(demoMaxSpeed))
			}
			if length < 0 {
				return hint.Usagef("--for: %v is negative", length)
			}
			if length == 0 && !text.IsTerminal(a.stdout) {
				length = demoLength
			}
			d := &demo{out: a.stdout, err: a.stderr, speed: speed, length: length}
			return d.run(c.Context)
		},
	}
}

// demo is the whole pipeline in one process.
type demo struct {
	out, err io.Writer
	speed    float64
	length   time.Duration // 0 until interrupted

	con       connection
	processor *topology.Processor
	plazas    []toll.Plaza
	passing   passing
	states    map[int16]traffic.Assessment // as they were last shown
	news      []string                     // what was noticed, the newest last
	counted   time.Time                    // when rows were counted last
	countTook time.Duration
	drawn     int // lines of the last screen
}

func (d *demo) run(ctx context.Context) error {
	fmt.Fprintln(d.out, "Starting a broker and a database …")
	stack, err := startStack(ctx, stackConfig{
		kafkaListen: "127.0.0.1:0", mysqlListen: "127.0.0.1:0", location: time.UTC, log: quietLog(),
		topics: topology.Topics{Topic: defaultTopic, Group: defaultGroup, Partitions: defaultPartitions,
			Replication: defaultReplication},
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
	return d.play(ctx)
}

// play runs emitter and processor until the demo is over, lets all of it arrive, and gives the
// verdict.
func (d *demo) play(ctx context.Context) error {
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
	// an interrupt ends the emitter first
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = d.con.cluster, d.con.topic, d.con.group
	cfg.Instance, cfg.StateDir = "demo", state
	cfg.NewToken, cfg.Log = sql.NewToken, quietLog()
	d.plazas = emit.SamplePlazas()
	windows := pipeline.DefaultWindows()
	windows.Plazas = d.plazas
	ready := make(chan *topology.Processor, 1)
	store, err := d.con.openStore(sql.LoadAuto, cfg.Log)
	if err != nil {
		return err
	}
	defer store.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	processed := make(chan error, 1)
	wg.Go(func() {
		processed <- pipeline.Run(running, pipeline.Config{Topology: cfg, Location: d.con.location,
			Store: store, Windows: windows, Retention: maintenance.DefaultRetention(), Log: cfg.Log,
			Started: func(p *topology.Processor, _ *sql.Writer) { ready <- p }})
	})
	emitted := make(chan error, 1)
	wg.Go(func() { emitted <- d.emit(shown) })
	select {
	case d.processor = <-ready:
	case err := <-processed:
		return err
	}
	pageEnded, err := d.page(running)
	if err != nil {
		return err
	}
	defer func() { stop(); pageEnded() }()
	if d.length == 0 {
		fmt.Fprintln(d.out, "Ctrl-C ends the demo with the verdict.")
	}
	fmt.Fprintln(d.out)
	table, err := topology.NewTable(d.con.cluster, d.con.group, cfg.Log)
	if err != nil {
		return err
	}
	wg.Go(func() { _ = table.Run(running) })

	checker := store.PlazaChecker()
	every := 2 * time.Second
	if text.IsTerminal(d.out) {
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
			if err := d.show(running, store, table, checker); err != nil {
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
	if err := d.show(running, store, table, checker); err != nil {
		return err
	}
	return d.verdict(running, store, table)
}

// emit sends a morning's events until ctx ends.
func (d *demo) emit(ctx context.Context) error {
	start := mondayBefore(time.Now().Add(-demoAgo)).Add(demoStart)
	return emit.Run(ctx, emit.Config{
		Cluster: d.con.cluster, Topic: d.con.topic, Location: time.UTC,
		Profile: &emit.Profile{Speed: d.speed, Day: simulate.ProfileConfig{
			Plazas: d.plazas, Location: time.UTC, Start: start, Seed: uint64(time.Now().UnixNano()),
			Incidents: []simulate.Incident{{Plaza: demoIncidentPlaza, Kind: simulate.Surge,
				Size:  demoIncidentSize,
				Start: start.Add(demoIncident), End: start.Add(demoIncident + demoIncidentSpan)}},
		}},
		Observe: d.passing.add,
		Stdout:  io.Discard, Stderr: io.Discard,
	})
}

// demoAgo is how far back the demo's morning is, at least: event time that runs ahead of the clocks
// is a warning, and hours of a demo are weeks.
const demoAgo = 28 * 24 * time.Hour

// mondayBefore returns the last midnight of a Monday, in UTC, that is not after a time.
func mondayBefore(t time.Time) time.Time {
	day := t.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}

// settleLimit bounds how long a demo waits at its end for all that was emitted to be counted.
const settleLimit = 2 * time.Minute

func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	end, err := d.con.cluster.FindEnd(ctx, d.con.topic)
	if err != nil {
		return err
	}
	if err := d.processor.AwaitEnd(ctx, end); err != nil {
		return err
	}
	return d.processor.CloseAll(ctx)
}

// passing keeps the last vehicles for the screen.
type passing struct {
	mu   sync.Mutex
	last []toll.Event
	n    int64
}

const passingShown = 3

func (p *passing) add(e *toll.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if len(p.last) == passingShown {
		p.last = append(p.last[:0], p.last[1:]...)
	}
	p.last = append(p.last, *e)
}

func (p *passing) read() ([]toll.Event, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last), p.n
}

// show draws the state of things: in place on a terminal, else as one line.
func (d *demo) show(ctx context.Context, store *sql.Store, table *topology.Table,
	checker *sql.PlazaChecker) error {
	if !table.Recovered() {
		return nil
	}
	states, err := table.States()
	if err != nil {
		return err
	}
	checks, err := d.check(ctx, states, checker)
	if err != nil {
		return err
	}
	congestion, err := store.Congestion(ctx)
	if err != nil {
		return err
	}
	noticed := d.notice(congestion)
	last, n := d.passing.read()
	sums := d.sumChecks(checks)
	if !text.IsTerminal(d.out) {
		for _, line := range noticed {
			fmt.Fprintf(d.out, "%s\n", line)
		}
		clock := ""
		if len(last) > 0 {
			clock = last[len(last)-1].Time.Format("15:04  ")
		}
		fmt.Fprintf(d.out, "%s%s\n", clock, sums.line(n))
		return nil
	}
	var screen bytes.Buffer
	for _, e := range last {
		fmt.Fprintf(&screen, "  %s\n", sentence(e))
	}
	screen.WriteByte('\n')
	d.table(&screen, states, congestion, checks)
	screen.WriteByte('\n')
	for i := range newsShown {
		line := ""
		if at := len(d.news) - newsShown + i; at >= 0 {
			line = d.news[at]
		} else if i < len(d.news) && len(d.news) < newsShown {
			line = d.news[i]
		}
		fmt.Fprintf(&screen, "  %s\n", clip(line, text.Width(d.out)-3))
	}
	fmt.Fprintf(&screen, "\n%s\n", sums.line(n))
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\x1b[J", d.drawn)
	}
	d.drawn = bytes.Count(screen.Bytes(), []byte{'\n'})
	_, err = d.out.Write(screen.Bytes())
	return err
}

// check compares table, outbox and rows. Rows are counted so often that it takes a fifth of the
// time at most.
func (d *demo) check(ctx context.Context, states map[int16]*toll.State,
	checker *sql.PlazaChecker) ([]sql.PlazaCheck, error) {
	began := time.Now()
	o := sql.PlazaOptions{CountOnly: true, SkipRows: began.Sub(d.counted) < 5*d.countTook}
	checks, err := checker.Plazas(ctx, states, o)
	if err != nil || o.SkipRows {
		return checks, err
	}
	d.counted, d.countTook = began, time.Since(began)
	return checks, nil
}

// newsShown is how many of the last changes stay on the screen.
const newsShown = 6

// notice returns what changed since the last look, a line each, the earliest first.
func (d *demo) notice(congestion map[int16]traffic.Assessment) []string {
	var changed []traffic.Assessment
	var ids []int16
	for plaza, a := range congestion {
		before, known := d.states[plaza]
		if known && before.State == a.State && before.Since == a.Since || !known &&
			(a.State == traffic.Free || a.State == traffic.NoData) {
			continue
		}
		if known && before.State == traffic.NoData && a.State == traffic.Free {
			continue
		}
		at := len(changed)
		for at > 0 && changed[at-1].Since > a.Since {
			at--
		}
		changed, ids = slices.Insert(changed, at, a), slices.Insert(ids, at, plaza)
	}
	d.states = congestion
	var lines []string
	for i, a := range changed {
		lines = append(lines,
			fmt.Sprintf("%s  plaza %d %s: %s since %s: %s", a.Until.Time().Format("15:04"), ids[i],
				d.nameOf(ids[i]), a.State,
				a.Since.Time().Format("15:04"), a.Why))
	}
	d.news = append(d.news, lines...)
	d.news = d.news[max(0, len(d.news)-newsShown):]
	return lines
}

func (d *demo) nameOf(plaza int16) string {
	for i := range d.plazas {
		if d.plazas[i].ID == plaza {
			return d.plazas[i].Name
		}
	}
	return ""
}

// clip cuts a line to a width.
func clip(line string, width int) string {
	if runes := []rune(line); len(runes) > width && width > 1 {
		return string(runes[:width-1]) + "…"
	}
	return line
}

// sentence tells of one vehicle.
func sentence(e toll.Event) string {
	return fmt.Sprintf("%s  %-5s %8d passed plaza %d", e.Time.Format("15:04:05"), text.Escape(e.Type),
		e.Vehicle, e.Plaza)
}

// table draws a line for each plaza, along the road.
func (d *demo) table(w io.Writer, states map[int16]*toll.State,
	congestion map[int16]traffic.Assessment, checks []sql.PlazaCheck) {
	t := table.New(w, table.Right("plaza"), table.Left(""),
		table.Right("veh/h"), table.Right("v/c"),
		table.Left("state"), table.Left("last hours"), table.Right("counted"), table.Left("verdict"))
	byPlaza := map[int16]sql.PlazaCheck{}
	for _, c := range checks {
		if c.Plaza >= toll.MinPlaza {
			byPlaza[int16(c.Plaza)] = c
		}
	}
	for _, plaza := range slices.Sorted(maps.Keys(states)) {
		s, c := states[plaza], byPlaza[plaza]
		flow, vc, state := "–", "–", ""
		if a, ok := congestion[plaza]; ok {
			flow = text.Number(int64(a.Last.FlowPerHour))
			if a.Last.VC != nil {
				vc = fmt.Sprintf("%.2f", *a.Last.VC)
			}
			state = a.State.String()
		}
		t.AppendRow([]any{plaza, d.nameOf(plaza), flow, vc, state, quarterLine(s), text.Number(s.Events),
			verdictWords(c.Status, c.InFlight)})
	}
	t.Render()
}

// quarterLine draws the last quarters of an hour that are complete, the highest of them as a full
// column.
func quarterLine(s *toll.State) string {
	const shown = 12
	quarters := s.Quarters.List
	if len(quarters) > 0 {
		quarters = quarters[:len(quarters)-1]
	}
	quarters = quarters[max(0, len(quarters)-shown):]
	counts := make([]int64, len(quarters))
	for i := range quarters {
		counts[i] = quarters[i].Count()
	}
	if len(counts) == 0 {
		return ""
	}
	return text.Sparkline(counts, slices.Max(counts))
}

func verdictWords(status string, inFlight int64) string {
	switch status {
	case sql.Exact:
		return "exact"
	case sql.InFlight:
		return text.Number(inFlight) + " in flight"
	}
	return "MISMATCH"
}

// sums are the checks of all plazas added up.
type sums struct {
	rows, counted, inFlight int64
	rowsKnown               bool // whether rows were counted this time
	mismatch                bool
}

func (d *demo) sumChecks(checks []sql.PlazaCheck) sums {
	var s sums
	for _, c := range checks {
		if c.StoredRows != nil {
			s.rows += *c.StoredRows
			s.rowsKnown = true
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
	rows := "stored"
	if s.rowsKnown {
		rows = "rows in MySQL " + text.Number(s.rows)
	} else {
		rows += " " + text.Number(s.counted+s.inFlight)
	}
	return fmt.Sprintf("emitted %s · %s = counted per plaza %s + in flight %s · %s",
		text.Number(emitted),
		rows, text.Number(s.counted), text.Number(s.inFlight), verdict)
}

// verdict verifies everything, checksums of the rows included, and says what came out.
func (d *demo) verdict(ctx context.Context, store *sql.Store, table *topology.Table) error {
	states, err := table.States()
	if err != nil {
		return err
	}
	in := sql.VerifyInput{States: states, Deep: true}
	if in.Windows, in.Zones, err = pipeline.StoredWindows(ctx, store, time.UTC); err != nil {
		return err
	}
	report, err := store.Verify(ctx, in)
	if err != nil {
		return err
	}
	_, emitted := d.passing.read()
	if report.Status == sql.Exact && report.Rows == emitted && report.Merged == emitted {
		fmt.Fprintf(d.out,
			"\nexact: %s emitted = %s rows in MySQL = %s counted per plaza; every row's checksum agrees\n",
			text.Number(emitted), text.Number(report.Rows), text.Number(report.Merged))
		fmt.Fprintf(d.out, "       %s closed; each holds the vehicles that the rows say\n",
			text.Count(report.Windows, "window"))
		return nil
	}
	fmt.Fprintf(d.out, "\n%s: %s emitted, %s rows in MySQL, %s counted per plaza\n",
		report.Status, text.Number(emitted), text.Number(report.Rows), text.Number(report.Merged))
	for _, p := range report.Problems {
		fmt.Fprintf(d.out, "  %s\n", p.Text)
	}
	return command.ErrReported
}

// quietLog returns a logger for what runs inside another command.
func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
