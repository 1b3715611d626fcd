// Package topology is the goka graph and what runs it: the processor with its sessions and its
// aggregate. Rooms below it reach Kafka (kafka, and fetch below that), store partitions (ingest),
// close windows (closing), read the group table (table), send again what that lacks (reconcile),
// count and watch (monitor), and send events (emitter).
//
// What it needs of a database it declares as a small interface, [Store]; it never imports the
// package that implements it.
package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/topology/reconcile"
)

// Config says how a processor works. Fill in what has no default, call [Config.Validate], pass it
// to [NewProcessor].
type Config struct {
	ingest.Config
	Cluster kafka.Cluster
	// TopicID is the topic's id that the database has stored events of. A topic that has another was
	// recreated: its offsets mean other records. Empty for not known.
	TopicID string
	Group   string // consumer group; the loop and the group table are topics named after it

	// Instance names this member of the group: it is its static member id and the folder of its local
	// state, so a process that was killed takes its place again at once. Two live processes must not
	// share it.
	Instance string
	// StateDir holds the local copies of the group table, below a folder per instance. It can be
	// deleted while no process runs; it is then restored from Kafka.
	StateDir string

	// SessionTimeout is how long the group's coordinator waits for a heartbeat before it gives this
	// process's partitions to others. A static member that was killed and comes back within it keeps
	// its place.
	SessionTimeout time.Duration
	// HotStandby keeps the local copies of all partitions of the group table up to date, not only
	// those of the partitions that this process counts, so that it needn't read what it missed when it
	// takes over.
	HotStandby bool

	// Idle is how far the record time of a partition may be behind the others' before the watermark
	// goes on without it.
	Idle time.Duration

	// Latency is what an event may take until it is stored, behind no backlog. Batches fill for as
	// long where the events are of many plazas, which costs far less; those of few plazas wait for 20
	// ms. The group table follows after twice as long. 0 stores at once whatever there is.
	Latency time.Duration

	// MinRetention of the topic of events, below which a warning is due; 0 for none.
	MinRetention time.Duration

	// SkipGone lets a partition go on where the broker's retention deleted records that were never
	// read. Without it that is an error that names them.
	SkipGone bool

	// Reconcile is the time between two looks at what the group table's changelog holds: a plaza that
	// lacks what was published is sent it again after twice as long at most. Where a look takes long
	// they are rarer.
	Reconcile time.Duration

	// Replication of the loop and the group table where they are created here.
	Replication int

	// Stats counts what is done. A caller that wants to read it before there is a processor gives its
	// own; nil for none.
	Stats *monitor.Stats
	// Tracer receives the steps of batches and results, once they are done. May be nil.
	Tracer monitor.Tracer
}

// Defaults of a Config.
const (
	DefaultBatchRows  = 10_000
	DefaultBatchBytes = 8 << 20
	DefaultLatency    = 250 * time.Millisecond

	DefaultSessionTimeout = 10 * time.Second
)

// DefaultConfig returns a configuration that lacks what has no default.
func DefaultConfig() Config {
	return Config{
		Config: ingest.Config{Topic: "toll", Format: codecs.Auto,
			Windowing: toll.Windowing{Zone: toll.NewZone(time.UTC), Lateness: toll.DefaultLateness},
			BatchRows: DefaultBatchRows, BatchBytes: DefaultBatchBytes,
			Log: slog.Default(), Backoff: pauses},
		Group:   "tollstream",
		Idle:    toll.DefaultIdle,
		Latency: DefaultLatency,

		SessionTimeout: DefaultSessionTimeout,
		MinRetention:   kafka.DefaultMinRetention,
		Reconcile:      reconcile.DefaultInterval,
		Replication:    1,
	}
}

// Validate reports every value that can't work, each with what it is.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Cluster.Brokers) > 0, "no brokers given")
	check(c.Topic != "", "no topic given")
	check(c.Group != "", "no group given")
	check(c.Instance != "", "no instance given")
	check(c.StateDir != "", "no state folder given")
	check(c.Log != nil, "no logger given")
	check(c.Latency >= 0 && c.Latency <= time.Minute, "--latency: %v is not from 0s to 1m", c.Latency)
	check(c.SessionTimeout >= 2*time.Second && c.SessionTimeout <= maxSessionTimeout,
		"--session-timeout: %v is not from 2s to %v", c.SessionTimeout, maxSessionTimeout)
	check(c.Reconcile >= time.Second && c.Reconcile <= time.Hour,
		"--reconcile: %v is not from 1s to 1h", c.Reconcile)
	check(c.MinRetention >= 0, "--min-retention: %v is below 0s", c.MinRetention)
	check(c.Replication >= 1, "--replication: %d is below 1", c.Replication)
	return errors.Join(append(errs, c.closing().Validate(), c.Config.Validate())...)
}

// closing returns the configuration of what closes windows.
func (c *Config) closing() *closing.Config {
	return &closing.Config{Topic: c.Topic, Windowing: c.Windowing, Idle: c.Idle, Log: c.Log,
		Backoff: c.Backoff, Stats: c.Stats}
}

// pauses are those between attempts to reach a server: from a tenth of a second up to five.
func pauses() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.MaxInterval = 5 * time.Second
	return b
}

// checkTopicID refuses a topic that was recreated since the database stored events of it.
func (c *Config) checkTopicID(info kafka.Topic) error {
	if c.TopicID == "" || info.ID == c.TopicID {
		return nil
	}
	return toll.Permanent(
		"to empty the tables for a replay of the new topic, run: tollstream reset --yes",
		"topic %s was recreated: the database has stored topic id %s, Kafka has %s", c.Topic,
		c.TopicID, info.ID)
}

// brokers is what the processor asks Kafka. It is a [kafka.Admin].
type brokers interface {
	closing.Kafka
	reconcile.Brokers
	Topic(ctx context.Context, name string) (kafka.Topic, bool, error)
	CheckPolicy(ctx context.Context, topic string, minRetention time.Duration) ([]string, error)
	Committed(ctx context.Context, group, topic string,
		partitions ...int32) (map[int32]kafka.Committed, error)
}

// Store is what the processor needs of a database. Its errors are [toll.ErrCursorMoved],
// [toll.ErrNoCursor], [toll.RejectedError] and [toll.PermanentError] where their comments say so;
// any other is taken for an outage that passes.
type Store interface {
	ingest.Store
	closing.Store
	// Load returns, in one snapshot, a partition's cursor and what is not known to be published. A
	// partition without a cursor gets one at the offset earliest, or is [toll.ErrNoCursor] where
	// earliest is negative.
	Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor, toll.Unpublished, error)
}

// observedStore is a Store whose calls are noted in the stats.
type observedStore struct {
	ingest.Store // observed
	store        Store
	stats        *monitor.Stats
}

func (o *observedStore) Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor,
	toll.Unpublished, error) {
	cursor, unpublished, err := o.store.Load(ctx, partition, earliest)
	return cursor, unpublished, o.stats.Noted(monitor.Load, err)
}

func (o *observedStore) Cursors(ctx context.Context) ([]toll.Cursor, error) {
	cursors, err := o.store.Cursors(ctx)
	return cursors, o.stats.Noted(monitor.ReadWatermark, err)
}
