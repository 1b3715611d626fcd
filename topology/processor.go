package topology

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/topology/reconcile"
	"github.com/tollstream/tollstream/topology/table"
)

// Processor runs the goka group: it stores the events of the topic exactly once and keeps the group
// table.
//
// A goka processor runs once. Processor rebuilds it with backoff after a retryable failure, and
// ends with a [toll.PermanentError] after a non-retryable one.
type Processor struct {
	cfg     Config
	store   Store
	results closing.Results
	stats   *monitor.Stats
	windows atomic.Pointer[closing.Windows] // of the run, nil before the first

	database, kafka *monitor.Outage

	policy  policyLog     // of the topic of events
	damaged table.Damaged // found by the runs so far
}

// NewProcessor returns a processor that has not started anything.
func NewProcessor(cfg Config, store Store, results closing.Results) (*Processor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	stats := cfg.Stats
	if stats == nil {
		stats = monitor.NewStats()
		cfg.Stats = stats
	}
	stats.Trace(cfg.Tracer, cfg.Log)
	return &Processor{
		cfg: cfg, store: &observedStore{ingest.Observe(store, stats), store, stats},
		results: closing.Observe(results, stats), stats: stats,
		database: monitor.NewOutage(cfg.Log, "MySQL failed; retrying with backoff",
			"MySQL recovered"),
		kafka: monitor.NewOutage(cfg.Log, "Kafka is unavailable; retrying",
			"Kafka recovered"),
	}, nil
}

// stopDeadline bounds a clean stop when servers do not answer.
const stopDeadline = 4500 * time.Millisecond

// Run runs the group until ctx ends, and returns nil then. What was being stored is stored by then,
// or not begun.
func (p *Processor) Run(ctx context.Context) error {
	folder, err := p.lockState()
	if err != nil {
		return err
	}
	defer func() { _ = folder.Unlock() }()
	pauses := p.cfg.Backoff()
	var lastText string
	for {
		started := time.Now()
		err := p.runBounded(ctx)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				p.cfg.Log.Debug("stopped", "error", err)
			}
			return nil
		}
		if toll.IsPermanent(err) {
			p.leave(context.WithoutCancel(ctx))
			return err
		}
		if err == nil {
			err = errors.New("the processor ended by itself")
		}
		if time.Since(started) > time.Minute {
			pauses.Reset()
			lastText = ""
		}
		p.stats.Restarting()
		// each stall is another one, also where it took as long
		if text := kafka.Brief(err); text != lastText || errors.Is(err, kafka.ErrStalled) {
			lastText = text
			p.cfg.Log.Warn("processing stopped; restarting with backoff", "error", text)
		}
		if wait.For(ctx, pauses.NextBackOff()) != nil {
			p.leave(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// runBounded runs once and leaves the group if ctx ended. Kafka has until the deadline to answer
// then; after it the connections are closed, so that nothing waits for their timeouts.
func (p *Processor) runBounded(ctx context.Context) error {
	connected, sever := context.WithCancel(context.WithoutCancel(ctx))
	defer sever()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(stopDeadline):
			p.cfg.Log.Warn(
				"stopping without an answer from Kafka or MySQL; what was not stored is read again at the " +
					"next start")
			sever()
		case <-connected.Done():
		}
	})()
	err := p.runOnce(ctx, connected)
	if ctx.Err() != nil {
		p.leave(connected)
	}
	return err
}

// lockState takes the folder of the instance's local state, which only one process may use.
func (p *Processor) lockState() (*flock.Flock, error) {
	dir := p.stateDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, toll.Permanent("choose another with --state-dir", "make the state folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, toll.Permanent("choose another with --state-dir", "lock the state folder: %w", err)
	}
	if !ok {
		return nil,
			toll.Permanent("stop the other process, or give this one a name of its own with --instance",
				"the state folder of instance %q is in use by another process", p.cfg.Instance)
	}
	return lock, nil
}

func (p *Processor) stateDir() string { return filepath.Join(p.cfg.StateDir, p.cfg.Instance) }

// tableDir returns the folder of the local copies of one table topic, and removes those of others:
// of a topic that was deleted and recreated goka would take the copies for current ones.
func (p *Processor) tableDir(topicID string) (string, error) {
	entries, err := os.ReadDir(p.stateDir())
	if err != nil {
		return "", fmt.Errorf("read the state folder: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != topicID {
			if err := os.RemoveAll(filepath.Join(p.stateDir(), e.Name())); err != nil {
				return "", fmt.Errorf("remove the local copy of an older group table: %w", err)
			}
		}
	}
	return filepath.Join(p.stateDir(), topicID), nil
}

// run is one life of the goka processor.
type run struct {
	cfg        *Config
	store      Store
	stats      *monitor.Stats
	brokers    brokers
	log        ingest.LogChecker
	fetcher    *fetch.Fetcher // of the topic of events
	proc       *goka.Processor
	producer   goka.Producer // of deltas, of states, and of results
	deltas     *ingest.Sender
	partitions partitions
	windows    *closing.Windows
	gaps       reconcile.GapLog

	damaged *table.Damaged

	stall    *kafka.Stall
	policy   *policyLog      // watchPolicy's alone while the run lasts
	database *monitor.Outage // with the store
	kafka    *monitor.Outage

	cancel context.CancelFunc
	failMu sync.Mutex
	failed error
}

// fail ends the run with an error; the first one counts.
func (r *run) fail(err error) {
	r.failMu.Lock()
	defer r.failMu.Unlock()
	if r.failed == nil && err != nil && !errors.Is(err, context.Canceled) {
		r.failed = err
	}
	r.stats.RunFails()
	r.cancel()
}

func (r *run) failure() error {
	r.failMu.Lock()
	defer r.failMu.Unlock()
	return r.failed
}

// runOnce runs until parent ends, or something fails. Its connections end with connected.
func (p *Processor) runOnce(parent, connected context.Context) error {
	cfg := p.cfg
	cfg.Cluster = cfg.Cluster.Within(connected)
	defer p.stats.RunEnded()
	info, err := cfg.Cluster.Check(parent,
		kafka.Topics{Topic: cfg.Topic, Group: cfg.Group, Partitions: 1,
			Replication: cfg.Replication})
	if err != nil {
		return kafka.Explain(err)
	}
	if err := cfg.checkTopicID(info); err != nil {
		return err
	}
	admin, err := cfg.Cluster.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	warnings, err := admin.CheckPolicy(parent, cfg.Topic, cfg.MinRetention)
	if err != nil {
		return err
	}
	p.policy.report(&cfg, warnings)
	tableTopic, _, err := admin.Topic(parent, kafka.TableTopic(cfg.Group))
	if err != nil {
		return kafka.Explain(err)
	}
	tableDir, err := p.tableDir(tableTopic.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	r := &run{database: p.database, kafka: p.kafka, policy: &p.policy, damaged: &p.damaged,
		cfg: &cfg, store: p.store, stats: p.stats, cancel: cancel}
	r.stall = kafka.NewStall(kafka.StallLimit(cfg.SessionTimeout), time.Now)
	r.partitions.slots = make([]atomic.Pointer[ingest.Partition], info.Partitions)
	p.stats.SetPartitions(info.Partitions)
	r.brokers = admin
	reader, err := cfg.Cluster.LogClient(cfg.Topic)
	if err != nil {
		return err
	}
	defer reader.Close()
	r.log, r.fetcher = reader, reader.NewFetcher()

	// It sends nothing more once this process may have lost its place.
	producer, err := cfg.Cluster.Through(r.stall.Dial).NewProducer(connected)
	if err != nil {
		return err
	}
	defer producer.Close(0)
	defer context.AfterFunc(connected, func() { producer.Close(0) })()
	r.producer = producer.Shared()

	r.windows = closing.New(cfg.closing(), p.results, r.publishNotice, r.fail)
	r.proc, err = goka.NewProcessor(cfg.Cluster.Brokers, r.graph(),
		r.options(info.Partitions, tableDir)...)
	if err != nil {
		return kafka.Explain(err)
	}
	r.deltas = ingest.NewSender(r.emitDeltas, ingest.MessagePause, r.cfg.Latency)
	r.fetcher.Linger = r.deltas.Linger
	p.windows.Store(r.windows)
	r.stall.Renew()
	// The sender outlives the sessions, which a stop lets finish what they send.
	sending, endSending := context.WithCancel(context.WithoutCancel(ctx))
	defer endSending()
	var sender sync.WaitGroup
	sender.Go(func() { r.deltas.Run(sending, ctx) })
	var tasks sync.WaitGroup
	tasks.Go(func() { r.watchTopic(ctx) })
	tasks.Go(func() { r.watchPolicy(ctx) })
	tasks.Go(func() { r.fetcher.Run(ctx) })
	tasks.Go(func() {
		r.stall.Watch(ctx, func(err error) {
			r.fail(err)
			producer.Close(0) // it can send nothing more, and goka waits for what it was given
		})
	})
	tasks.Go(func() { r.watchLag(ctx) })
	tasks.Go(func() { r.windows.Run(ctx) })
	tasks.Go(func() { r.stats.WatchClosing(ctx, r.cfg.Log) })
	runErr := r.proc.Run(ctx)
	cancel()
	tasks.Wait()
	endSending()
	producer.Close(ingest.StopGrace)
	sender.Wait()
	if err := r.failure(); err != nil {
		return kafka.Explain(err)
	}
	if runErr != nil {
		return kafka.Explain(fmt.Errorf("run the goka group: %w", runErr))
	}
	return nil
}

// leave takes this static member out of the group, or gives up when Kafka does not answer. It would
// otherwise keep its partitions until its session times out.
func (p *Processor) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopDeadline)
	defer cancel()
	admin, err := p.cfg.Cluster.Admin()
	if err == nil {
		err = admin.RemoveMember(ctx, p.cfg.Group, p.cfg.Instance)
		admin.Close()
	}
	if err != nil {
		p.cfg.Log.Debug("leave the group", "error", err)
	}
}
