// Package demo plays a weekday's morning on servers of its own: emitter, processor and page in one
// process, with a verdict at the end.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// Config is how [Run] plays a demo.
type Config struct {
	Speed  float64       // of event time, in times the clock's
	Length time.Duration // 0: until interrupted
	Out    io.Writer
	// OpenPage opens the live view, which listens and does not run yet.
	OpenPage func(ctx context.Context, con endpoint.Connection) (*Page, error)
}

// Page is the live view of a demo.
type Page struct {
	URL string
	// read what the page shows
	Board    func(ctx context.Context) (*board.Board, error)
	Journeys func(ctx context.Context) (*board.Journeys, error)
	Run      func(ctx context.Context) error // serves the page until ctx ends
}

// morning is when a demo begins.
const morning = 5*time.Hour + 30*time.Minute

// incidents returns what happens in a demo that starts at a time: half an hour in, a quiet plaza
// gets several times its traffic, and ten minutes later another one lets few vehicles pass.
func incidents(start time.Time) []simulate.Incident {
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	return []simulate.Incident{
		{Plaza: 4010, Kind: simulate.Surge, Size: 5, Start: at(30), End: at(120)},
		{Plaza: 4007, Kind: simulate.Blockage, Size: 0.3, Start: at(40), End: at(80)},
	}
}

// quiet is the log of what runs inside the demo.
var quiet = slog.New(slog.DiscardHandler)

// demo is the whole pipeline in one process.
type demo struct {
	cfg       Config
	con       endpoint.Connection
	store     *sql.Store
	page      *Page
	processor *topology.Processor
	plazas    []toll.Plaza
	passing   passing
	display   display
	journeys  atomic.Pointer[board.Journeys] // as last read
	inMemory  bool                           // the database
}

// Run starts servers and plays a morning on them. It reports whether all was exact.
func Run(ctx context.Context, cfg Config) (exact bool, err error) {
	fmt.Fprintln(cfg.Out, "Starting a broker and a database …")
	servers, err := sandbox.Start(ctx, sandbox.Config{
		KafkaListen: "127.0.0.1:0", MySQLListen: "127.0.0.1:0", Location: time.UTC, Log: quiet,
		Topics: kafka.Topics{Topic: endpoint.DefaultTopic, Group: endpoint.DefaultGroup,
			Partitions: endpoint.DefaultPartitions, Replication: endpoint.DefaultReplication},
	})
	if err != nil {
		if ctx.Err() != nil {
			return true, nil
		}
		return false, err
	}
	defer servers.Close()
	name := "MariaDB"
	if servers.InMemory() {
		name = "an embedded MySQL in memory (no MariaDB is installed here)"
	}
	fmt.Fprintf(cfg.Out, "Kafka at %s, %s at %s\n", servers.Broker.Addr(), name,
		servers.Database.Addr())
	d := &demo{cfg: cfg, con: servers.Connection(), plazas: emit.SamplePlazas(),
		inMemory: servers.InMemory()}
	if d.store, err = d.con.OpenStore(quiet); err != nil {
		return false, err
	}
	defer d.store.Close()
	if _, _, err := d.store.Run(ctx, "indexes", nil); err != nil && ctx.Err() == nil {
		return false, err
	}
	d.display.out = cfg.Out
	return d.play(ctx)
}

// play runs emitter, processor and page until the demo ends, waits until every event has arrived,
// and returns the verdict.
func (d *demo) play(ctx context.Context) (exact bool, err error) {
	state, err := os.MkdirTemp("", "tollstream-demo-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(state)
	shown, stopShowing := context.WithCancel(ctx)
	if d.cfg.Length > 0 {
		shown, stopShowing = context.WithTimeout(ctx, d.cfg.Length)
	}
	defer stopShowing()
	// an interrupt ends the emitter first
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()

	started := make(chan *topology.Processor, 1)
	processed := make(chan error, 1)
	background.Go(func() {
		defer stopShowing()
		processed <- d.process(running, state, func(p *topology.Processor, _ *ingest.Writer) {
			started <- p
		})
	})
	emitted := make(chan error, 1)
	background.Go(func() { emitted <- d.emit(shown) })
	select {
	case d.processor = <-started:
	case err := <-processed:
		return false, err
	}
	if d.page, err = d.cfg.OpenPage(running, d.con); err != nil {
		return false, err
	}
	background.Go(func() { _ = d.page.Run(running) })
	if !d.inMemory { // that takes seconds for it, and then the demo has less to show
		background.Go(func() { d.readJourneys(running) })
	}
	fmt.Fprintf(d.cfg.Out, "The live view: %s\n", d.page.URL)
	if d.cfg.Length == 0 {
		fmt.Fprintln(d.cfg.Out, "Ctrl-C ends the demo with the verdict.")
	}
	fmt.Fprintln(d.cfg.Out)
	if err := d.showUntilEnd(shown); err != nil {
		return false, err
	}
	select {
	case err := <-processed:
		return false, cmp.Or(err, errors.New("the processor stopped"))
	default:
	}
	if err := <-emitted; err != nil {
		return false, err
	}
	if err := d.awaitEnd(running); err != nil {
		return false, err
	}
	if err := d.show(running); err != nil {
		return false, err
	}
	return d.verdict(running)
}

// process runs the processor and what belongs to it.
func (d *demo) process(ctx context.Context, state string,
	started func(*topology.Processor, *ingest.Writer)) error {
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group = d.con.Cluster, d.con.Topic, d.con.Group
	cfg.Instance, cfg.StateDir = "demo", state
	cfg.NewToken, cfg.Log = sql.NewToken, quiet
	windows := pipeline.DefaultWindows()
	windows.Plazas = d.plazas
	return pipeline.Run(ctx, pipeline.Config{Topology: cfg, Store: d.store,
		Windows: windows, Retention: maintenance.DefaultRetention(), Started: started})
}

// showUntilEnd shows the state again and again until ctx ends.
func (d *demo) showUntilEnd(ctx context.Context) error {
	every := 2 * time.Second
	if text.IsTerminal(d.cfg.Out) {
		every = 500 * time.Millisecond
	}
	for range wait.Every(ctx, every) {
		if err := d.show(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// readJourneys reads travel times again and again until ctx ends, apart from what is shown: a
// database that is slow at it holds nothing up.
func (d *demo) readJourneys(ctx context.Context) {
	for range wait.Every(ctx, time.Second) {
		if j, err := d.page.Journeys(ctx); err == nil {
			d.journeys.Store(j)
		}
	}
}

func (d *demo) show(ctx context.Context) error {
	b, err := d.page.Board(ctx)
	if err != nil {
		return err
	}
	var sections []board.Section
	if j := d.journeys.Load(); j != nil {
		sections = j.Sections
	}
	vehicles, emitted := d.passing.read()
	return d.display.show(b, sections, vehicles, emitted)
}

// emit sends a morning's events until ctx ends.
func (d *demo) emit(ctx context.Context) error {
	start := mondayBefore(time.Now().Add(-minAge)).Add(morning)
	return emit.Run(ctx, emit.Config{
		Cluster: d.con.Cluster, Topic: d.con.Topic, Location: time.UTC,
		Profile: &emit.Profile{Speed: d.cfg.Speed, Day: simulate.ProfileConfig{
			Plazas: d.plazas, Location: time.UTC, Start: start, Seed: uint64(time.Now().UnixNano()),
			Incidents: incidents(start),
		}, Trips: &emit.Trips{Stops: simulate.DefaultStops}},
		Observe: d.passing.add,
		Stdout:  io.Discard, Stderr: io.Discard,
	})
}

// minAge is how far back the demo's morning is, at least: event time that runs ahead of the clocks
// is a warning, and hours of a demo are weeks.
const minAge = 28 * 24 * time.Hour

// mondayBefore returns the last midnight of a Monday, in UTC, that is not after a time.
func mondayBefore(t time.Time) time.Time {
	day := t.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}

// awaitEnd waits until all that was emitted is counted.
func (d *demo) awaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	end, err := d.con.Cluster.FindEnd(ctx, d.con.Topic)
	if err != nil {
		return err
	}
	if err := d.processor.AwaitEnd(ctx, end); err != nil {
		return err
	}
	return d.processor.CloseAll(ctx)
}

// verdict verifies everything, checksums of the rows included, prints the result, and reports
// whether all is exact.
func (d *demo) verdict(ctx context.Context) (exact bool, err error) {
	states, err := table.Read(ctx, d.con.Cluster, d.con.Group)
	if err != nil {
		return false, err
	}
	in := verify.Input{States: states, Deep: true}
	if in.Windows, in.Zones, err = d.store.StoredWindows(ctx, time.UTC); err != nil {
		return false, err
	}
	report, err := d.store.Verify(ctx, in)
	if err != nil {
		return false, err
	}
	_, emitted := d.passing.read()
	if report.Status == verify.Exact && report.Rows == emitted && report.Merged == emitted {
		fmt.Fprintf(d.cfg.Out,
			"\nexact: %s emitted = %s rows in MySQL = %s counted per plaza; every row's checksum agrees\n",
			text.Number(emitted), text.Number(report.Rows), text.Number(report.Merged))
		fmt.Fprintf(d.cfg.Out, "       %s closed; each holds the vehicles that the rows say\n",
			text.Count(report.Windows, "window"))
		return true, nil
	}
	fmt.Fprintf(d.cfg.Out, "\n%s: %s emitted, %s rows in MySQL, %s counted per plaza\n",
		report.Status, text.Number(emitted), text.Number(report.Rows), text.Number(report.Merged))
	for _, p := range report.Problems {
		fmt.Fprintf(d.cfg.Out, "  %s\n", p.Text)
	}
	return false, nil
}
