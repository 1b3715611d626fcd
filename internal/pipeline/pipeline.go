// Package pipeline runs the processor, which stores events as rows, exactly once, and counts them
// per plaza. It waits for both servers first, and runs maintenance in parallel.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/incidents"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Config is what [Run] works with.
type Config struct {
	// Topology is completed by Run from the database and the topic: TopicID, Windows, Lateness and
	// PlazaZones.
	Topology    topology.Config
	Store       *sql.Store
	Windows     Windows
	Retention   maintenance.Retention
	Maintenance *maintenance.Stats // nil for none
	Version     string             // of this build
	UntilEnd    bool               // end once all that is in the topic at the start is counted
	Notify      *incidents.Config  // nil for no notifications; Run sets Group and Log
	Status      *text.StatusLine   // nil for none
	// NewPlazas brings what takes the place of Windows.Plazas while it runs; nil for nothing.
	NewPlazas <-chan []toll.Plaza
	// Started is called before the processor runs; nil for nothing.
	Started func(*topology.Processor, *ingest.Writer)
}

// errBeforeEnd is the error of a run until the end that is stopped before: a job that is judged by
// its exit status must not count as complete.
var errBeforeEnd = toll.Permanent("nothing is lost; start it again to continue there",
	"stopped before all that was in the topic at the start was stored, published and merged")

// Run processes until ctx ends, or with UntilEnd until the end of the topic as it is now.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Topology.Stats == nil {
		cfg.Topology.Stats = monitor.NewStats()
	}
	if cfg.Maintenance == nil {
		cfg.Maintenance = maintenance.NewStats()
	}
	boundHeap()
	reached, err := (&pipeline{cfg: cfg}).run(ctx)
	if err == nil && cfg.UntilEnd && !reached {
		return errBeforeEnd
	}
	return err
}

type pipeline struct {
	cfg     Config
	results *reloadable
}

// run reports whether the end was reached.
func (p *pipeline) run(ctx context.Context) (reached bool, err error) {
	cfg, t := &p.cfg, &p.cfg.Topology
	if err := p.awaitReady(ctx); err != nil || ctx.Err() != nil {
		return false, err
	}
	var results closing.Results
	heart := &heart{pipeline: p, started: time.Now()}
	err = retryOutage(ctx, t.Log, func() (err error) {
		if results, err = p.openResults(ctx); err != nil {
			return err
		}
		return heart.start(ctx)
	})
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	defer func() { heart.end(ctx, reached) }()
	writer := cfg.Store.Writer(t.TopicID)
	processor, err := topology.NewProcessor(*t, writer, results)
	if err != nil {
		return false, err
	}
	if cfg.Started != nil {
		cfg.Started(processor, writer)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	if cfg.UntilEnd {
		var end kafka.End
		err := retryOutage(ctx, t.Log, func() (err error) {
			end, err = t.Cluster.FindEnd(ctx, t.Topic)
			return err
		})
		if err != nil || ctx.Err() != nil {
			return false, err
		}
		go func() {
			err := processor.AwaitEnd(ctx, end)
			if err == nil {
				err = processor.CloseAll(ctx)
			}
			ended <- err
			cancel()
		}()
	}
	err = p.process(ctx, cancel, processor, writer, heart)
	cancel()
	if cfg.UntilEnd {
		endErr := <-ended
		reached = err == nil && endErr == nil
		if err == nil && !errors.Is(endErr, context.Canceled) {
			err = endErr
		}
	}
	if err != nil {
		return false, err
	}
	s := t.Stats.Read()
	t.Log.Info("stopped", "stored", text.Number(s.Events), "rejected", text.Number(s.Rejected),
		"late", text.Number(s.Late), "too_late", text.Number(s.TooLate))
	return reached, nil
}

// process runs the processor, and until it ends, maintenance and the status line.
func (p *pipeline) process(ctx context.Context, cancel context.CancelFunc,
	processor *topology.Processor, writer *ingest.Writer, heart *heart) error {
	cfg, t := &p.cfg, &p.cfg.Topology
	maintainer := maintenance.New(maintenance.Config{Topology: *t, Retention: cfg.Retention,
		Store: cfg.Store, Writer: writer, Stats: cfg.Maintenance})
	defer maintainer.Close()
	var background sync.WaitGroup
	background.Go(func() { maintainer.Run(ctx) })
	if cfg.Notify != nil {
		notify := *cfg.Notify
		notify.Group, notify.Log = t.Group, t.Log
		background.Go(func() { incidents.NewNotifier(notify, cfg.Store).Run(ctx) })
	}
	background.Go(func() { p.takePlazas(ctx) })
	// Heartbeats and the status line stay while the processor stops, which may take a while.
	showing, hide := context.WithCancel(context.WithoutCancel(ctx))
	background.Go(func() { heart.run(showing) })
	if cfg.Status != nil {
		background.Go(func() { showStatus(showing, cfg.Status, t.Stats) })
	}
	err := processor.Run(ctx)
	hide()
	cancel()
	background.Wait()
	return err
}

// awaitReady waits until both servers answer, and checks that they are as the processor needs them.
func (p *pipeline) awaitReady(ctx context.Context) error {
	t, store := &p.cfg.Topology, p.cfg.Store
	topics := kafka.Topics{Topic: t.Topic, Group: t.Group, Partitions: 1,
		Replication: t.Replication}
	return retryOutage(ctx, t.Log, func() (err error) {
		defer func() { t.Stats.Checked(err) }()
		found, err := t.Cluster.DescribeEvents(ctx, t.Topic)
		if err != nil {
			return err
		}
		// The processor warns; what it would refuse is refused before it creates topics of its own.
		if _, err := t.Cluster.CheckPolicy(ctx, t.Topic, 0); err != nil {
			return err
		}
		// The database goes first: a process of another group is refused before it creates topics of
		// its own.
		meta, err := store.Check(ctx, sql.Identity{Group: t.Group, Topic: t.Topic, TopicID: found.ID,
			Timezone: t.Zone.Location().String()})
		if err != nil {
			return err
		}
		if meta.TopicID == "" {
			if err := store.SetTopicID(ctx, found.ID); err != nil {
				return err
			}
		}
		store.Bind(meta)
		info, err := t.Cluster.Check(ctx, topics)
		t.TopicID = info.ID
		return err
	})
}

// heapPercent is how much of the live heap the garbage collector lets come on top of it. Events
// allocate nothing, so less than Go's 100 costs little CPU, and saves memory where plazas are many.
const heapPercent = 45

// boundHeap sets heapPercent, unless the environment says otherwise.
func boundHeap() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(heapPercent)
	}
}

// Windows are the windows that are closed, and how their congestion is judged.
type Windows struct {
	Kinds    []toll.WindowKind
	Lateness time.Duration
	// Whether Kinds and Lateness were configured. What was not is as the database has it, and what was
	// must not differ from that.
	KindsSet, LatenessSet bool
	Plazas                []toll.Plaza // stored as configured; nil leaves the stored ones
	Equivalents           traffic.Equivalents
	Holidays              traffic.Holidays // nil for none
	// The plazas of the simulator, which are stored where none are configured and these are all that
	// there are; nil for never.
	Simulated []toll.Plaza
}

// DefaultWindows returns the windows of a process that is not configured otherwise.
func DefaultWindows() Windows {
	kinds, err := toll.ParseWindows(toll.DefaultWindows)
	if err != nil {
		panic(err)
	}
	return Windows{Kinds: kinds, Lateness: toll.DefaultLateness,
		Equivalents: traffic.DefaultEquivalents()}
}

// openResults fixes the windows of the database, and returns where their results are stored. It
// completes the topology's configuration.
func (p *pipeline) openResults(ctx context.Context) (closing.Results, error) {
	w, store := &p.cfg.Windows, p.cfg.Store
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	text, lateness := toll.FormatWindows(w.Kinds), w.Lateness
	if meta.Windows != "" && !w.KindsSet {
		text = meta.Windows
	}
	if meta.Windows != "" && !w.LatenessSet {
		lateness = meta.Lateness
	}
	text, seconds, err := store.RecordWindows(ctx, text, int(lateness/time.Second),
		w.KindsSet || w.LatenessSet)
	if err != nil {
		return nil, err
	}
	t := &p.cfg.Topology
	if t.Windows, err = toll.ParseWindows(text); err != nil {
		return nil, toll.Permanent("toll_meta.windows is damaged; restore the database",
			"read the windows that the database has: %w", err)
	}
	t.Lateness = time.Duration(seconds) * time.Second
	if w.Plazas != nil {
		if err := store.SetPlazas(ctx, w.Plazas); err != nil {
			return nil, err
		}
	}
	configured, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, err
	}
	if t.PlazaZones, err = sql.PlazaZones(configured, t.Zone.Location()); err != nil {
		return nil, err
	}
	cfg := results.Config{
		Windows: t.Windows, Location: t.Zone.Location(), Plazas: plazasByID(configured),
		PlazaZones:  t.PlazaZones,
		Equivalents: w.Equivalents, Holidays: w.Holidays, Notify: p.cfg.Notify != nil,
	}
	p.results = &reloadable{Results: store.Results(t.TopicID, cfg), p: p, cfg: cfg}
	if len(configured) == 0 && len(w.Simulated) > 0 {
		p.results.Results = &simulated{Results: p.results.Results, p: p, cfg: cfg,
			cursors: store.Writer(t.TopicID).Cursors}
	}
	return p.results, nil
}

// reloadable are results whose plazas can be replaced.
type reloadable struct {
	closing.Results
	p    *pipeline
	cfg  results.Config
	next atomic.Pointer[map[int16]toll.Plaza] // nil for as they are
}

// Store takes new plazas before it stores. One goroutine uses it, as [results.Writer] asks for.
func (r *reloadable) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	if plazas := r.next.Swap(nil); plazas != nil {
		r.cfg.Plazas = *plazas
		r.Results = r.p.cfg.Store.Results(r.p.cfg.Topology.TopicID, r.cfg)
	}
	return r.Results.Store(ctx, closings, published)
}

// takePlazas stores new plazas, by which windows that close from then on are judged. Windows keep
// the timezones that they had at the start.
func (p *pipeline) takePlazas(ctx context.Context) {
	t := &p.cfg.Topology
	for {
		var plazas []toll.Plaza
		select {
		case plazas = <-p.cfg.NewPlazas:
		case <-ctx.Done():
			return
		}
		err := retryOutage(ctx, t.Log, func() error { return p.cfg.Store.SetPlazas(ctx, plazas) })
		if err != nil || ctx.Err() != nil {
			t.Log.Error("the plazas are not stored", "err", err)
			continue
		}
		zones, err := sql.PlazaZones(plazas, t.Zone.Location())
		if err != nil || !maps.EqualFunc(zones, t.PlazaZones, func(a, b *toll.Zone) bool {
			return a.Location().String() == b.Location().String()
		}) {
			t.Log.Warn("timezones of plazas changed; windows follow them after the next start")
		}
		next := plazasByID(plazas)
		p.results.next.Store(&next)
		t.Log.Info("plazas reloaded", "plazas", text.Number(int64(len(plazas))))
	}
}

func plazasByID(plazas []toll.Plaza) map[int16]toll.Plaza {
	byID := map[int16]toll.Plaza{}
	for _, plaza := range plazas {
		byID[plaza.ID] = plaza
	}
	return byID
}

// simulatedEvery is how often it is looked at which plazas there are, until that decides.
const simulatedEvery = 200 * time.Millisecond

// simulated are results that take the plazas of the simulator from its built-in file, once these
// are all the plazas that there are. Each of them must have sent something and no other one may
// have: a network of the same dozen numbers that is not simulated does not exist, whereas one of
// these numbers may well be somebody's plaza, whose capacity must not be made up.
type simulated struct {
	closing.Results // of what is configured: nothing, before it is decided
	p               *pipeline
	cfg             results.Config
	cursors         func(context.Context) ([]toll.Cursor, error)
	looked          time.Time
	decided         bool
}

// Store looks at the plazas before it stores. One goroutine uses it, as [results.Writer] asks for.
func (s *simulated) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	if !s.decided && time.Since(s.looked) >= simulatedEvery {
		if err := s.look(ctx); err != nil {
			return nil, false, err
		}
	}
	return s.Results.Store(ctx, closings, published)
}

// look decides where it can.
func (s *simulated) look(ctx context.Context) error {
	cursors, err := s.cursors(ctx)
	if err != nil {
		return err
	}
	wanted, seen := map[int16]toll.Plaza{}, map[int16]bool{}
	for _, p := range s.p.cfg.Windows.Simulated {
		wanted[p.ID] = p
	}
	for i := range cursors {
		chain, err := wire.DecodeChain(cursors[i].Chain)
		if err != nil {
			return fmt.Errorf("read the plazas of partition %d: %w", cursors[i].Partition, err)
		}
		for plaza := range chain {
			if _, ok := wanted[plaza]; !ok {
				s.decided = true
				return nil
			}
			seen[plaza] = true
		}
	}
	if len(seen) < len(wanted) {
		if len(seen) > 0 {
			s.looked = time.Now()
		}
		return nil
	}
	s.decided = true
	log := s.p.cfg.Topology.Log
	// Another process may have been first, or have a file.
	configured, err := s.p.cfg.Store.ConfiguredPlazas(ctx)
	if err != nil {
		return err
	}
	if len(configured) == 0 {
		counts, err := s.p.cfg.Store.SampleCounts(ctx)
		if err != nil {
			return err
		}
		took := "names, lanes and capacities"
		configured = slices.Clone(s.p.cfg.Windows.Simulated)
		if evenlySpread(configured, counts) {
			took = "names, and no lanes, since as many vehicles pass each,"
			for i := range configured {
				configured[i].Lanes, configured[i].CapacityPerLane = 0, 0
			}
		}
		if err := s.p.cfg.Store.SetPlazas(ctx, configured); err != nil {
			log.Warn("the plazas are the simulated ones and stay without names and capacities", "err", err)
			return nil
		}
		log.Info("the plazas are the simulated ones: took " + took + " from the built-in file; " +
			"--plazas-file chooses another")
	}
	for _, p := range configured {
		s.cfg.Plazas[p.ID] = p
	}
	s.Results = s.p.cfg.Store.Results(s.p.cfg.Topology.TopicID, s.cfg)
	return nil
}

// evenlySpread reports whether counts are more likely where each plaza has as many vehicles, as
// plain simulated events have it, than where each has those of its day. A rate of one's choice says
// nothing about what lanes can take: by them half of the plazas would look wrong.
func evenlySpread(plazas []toll.Plaza, counts map[int16]int64) bool {
	perDay := 0.0
	for i := range plazas {
		perDay += plazas[i].VehiclesPerDay
	}
	likelihood := 0.0 // of the day's, as the logarithm of a ratio
	for i := range plazas {
		likelihood += float64(counts[plazas[i].ID]) *
			math.Log(plazas[i].VehiclesPerDay/perDay*float64(len(plazas)))
	}
	return likelihood < 0
}
