// Package pipeline runs the processor, which stores events as rows, exactly once, and counts them
// per plaza. It waits for both servers first, and runs maintenance in parallel.
package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/incidents"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/toll"
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
	// Started is called before the processor runs; nil for nothing.
	Started func(*topology.Processor, *ingest.Writer)
}

// errBeforeEnd is the error of a run until the end that is stopped before: a job that is judged by
// its exit status must not count as complete.
var errBeforeEnd = toll.Permanent("nothing is lost; start it again to continue there",
	"stopped before all that was in the topic at the start was stored, published and merged")

// awaitGrace bounds how long the search for the end may take to notice that its context ended: an
// unavailable server must not delay the end of the process.
const awaitGrace = 300 * time.Millisecond

// Run processes until ctx ends, or with UntilEnd until the end of the topic as it is now.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Topology.Stats == nil {
		cfg.Topology.Stats = monitor.NewStats()
	}
	if cfg.Maintenance == nil {
		cfg.Maintenance = maintenance.NewStats()
	}
	boundHeap()
	reached, err := (&pipeline{cfg}).run(ctx)
	if err == nil && cfg.UntilEnd && !reached {
		return errBeforeEnd
	}
	return err
}

type pipeline struct{ cfg Config }

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
	if err := p.process(ctx, cancel, processor, writer, heart); err != nil {
		return false, err
	}
	if cfg.UntilEnd {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				return false, err
			}
			reached = err == nil
		case <-time.After(awaitGrace):
		}
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
		found, ok, err := t.Cluster.Describe(ctx, t.Topic)
		if err != nil {
			return err
		}
		if !ok {
			return topics.Missing()
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
