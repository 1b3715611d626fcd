package topology

import (
	"context"
	"hash"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

func (r *run) graph() *goka.GroupGraph {
	return goka.DefineGroup(goka.Group(r.cfg.Group),
		goka.Input(goka.Stream(r.cfg.Topic), codecs.Raw{}, r.ingest),
		goka.Loop(wire.DeltasCodec{}, r.aggregate),
		goka.Visitor(visitor, r.visit),
		goka.Persist(wire.StateCodec{}),
	)
}

// partitionChannel is how many messages goka queues per partition: deltas of the loop, and bundles,
// of which fewer can wait.
const partitionChannel = 1024

func (r *run) options(partitions int, stateDir string) []goka.ProcessorOption {
	cluster := r.cfg.Cluster
	tm := goka.NewTopicManagerConfig()
	tm.Stream.Replication, tm.Table.Replication = r.cfg.Replication, r.cfg.Replication
	tm.Stream.Retention = kafka.LoopRetention
	tm.NoCreate = true // they were made with settings that goka does not know
	options := []goka.ProcessorOption{
		goka.WithClientID(cluster.ClientID),
		goka.WithLogger(kafka.GokaLogger{Log: r.cfg.Log}),
		goka.WithHasher(kafka.Hasher),
		goka.WithNilHandling(goka.NilProcess),
		goka.WithPartitionChannelSize(partitionChannel),
		goka.WithStorageBuilder((&table.Stores{Dir: stateDir, Log: r.cfg.Log, Damaged: r.damaged}).Open),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithConfig(cluster.Config("topics"), tm)),
		goka.WithConsumerSaramaBuilder(
			kafka.TapConsumer(goka.SaramaConsumerBuilderWithConfig(r.consumerConfig("table")), r.judge)),
		goka.WithConsumerGroupBuilder(r.buildConsumerGroup),
		goka.WithProducerBuilder(func([]string, string, func() hash.Hash32) (goka.Producer, error) {
			return kafka.NewOrderedProducer(r.producer, partitions), nil
		}),
	}
	if r.cfg.HotStandby {
		options = append(options, goka.WithHotStandby(), goka.WithRecoverAhead())
	}
	return options
}

// consumerConfig has small fetches: sarama asks for all partitions of a broker in one request and
// waits for the slowest taker, so a backlog of events in large portions would starve the loop, and
// fill the memory.
func (r *run) consumerConfig(role string) *sarama.Config {
	cfg := r.cfg.Cluster.Config(role)
	cfg.Consumer.Fetch.Default = 256 << 10
	cfg.Consumer.MaxWaitTime = 50 * time.Millisecond // a partition that is added waits as long
	cfg.Consumer.MaxProcessingTime = 100 * time.Millisecond
	cfg.Consumer.Offsets.AutoCommit.Interval = 250 * time.Millisecond // verify waits for the loop's
	return cfg
}

const (
	// goka waits up to 60 s for its changelog when a session ends; no other member may take over
	// before that.
	rebalanceTimeout = 90 * time.Second
	// maxSessionTimeout is far below what brokers allow by default (half an hour), and more than
	// anyone should wait.
	maxSessionTimeout = 5 * time.Minute
)

func (r *run) buildConsumerGroup(brokers []string, group, clientID string) (sarama.ConsumerGroup,
	error) {
	cfg := r.consumerConfig("group")
	// as the loop is consumed for long, and is idle most of the time
	cfg.Consumer.MaxWaitTime = 500 * time.Millisecond
	cfg.Consumer.Group.InstanceId = r.cfg.Instance
	cfg.Consumer.Group.Session.Timeout = r.cfg.SessionTimeout
	cfg.Consumer.Group.Rebalance.Timeout = rebalanceTimeout
	// how soon a topic that was deleted or grew is noticed
	cfg.Metadata.RefreshFrequency = 30 * time.Second
	cfg.Consumer.Group.Heartbeat.Interval = kafka.HeartbeatInterval(r.cfg.SessionTimeout)
	g, err := sarama.NewConsumerGroup(brokers, group, cfg)
	if err != nil {
		return nil, err
	}
	return &groupConsumer{g, r, kafka.TapErrors(g.Errors(), r.judge)}, nil
}

// judge ends the run after an error of goka's consumers that is non-retryable.
func (r *run) judge(err error) {
	if err = kafka.ConsumeError(err); toll.IsPermanent(err) {
		r.fail(err)
	}
}

func (r *run) assigned(partitions []int32) {
	r.stats.Assigned()
	r.cfg.Log.Info("processing", "partitions", len(partitions), "topic", r.cfg.Topic)
}

// ingest receives the events of the topic in bundles, each partition's in a goroutine of its own.
func (r *run) ingest(ctx goka.Context, _ any) {
	p := r.partitions.get(ctx.Partition())
	if p == nil {
		return // the session is ending; the records are read again
	}
	if err := p.Passed(ctx.Offset()); err != nil {
		r.fail(err)
	}
}

// emitDeltas sends a message of deltas to the loop.
func (r *run) emitDeltas(plaza int16, message []byte, done func(error)) error {
	r.producer.Emit(kafka.LoopTopic(r.cfg.Group), strconv.Itoa(int(plaza)), message).Then(done)
	return nil
}

// publishNotice sends a result to the topic of congestion.
func (r *run) publishNotice(plaza int16, payload []byte, done func(error)) error {
	r.producer.Emit(kafka.CongestionTopic(r.cfg.Topic), strconv.Itoa(int(plaza)), payload).Then(done)
	return nil
}

// aggregate merges the deltas of a message into their plaza's state.
//
// It sets the value on every path. goka writes its local store before the changelog is
// acknowledged, so after a crash the local state may be ahead of the changelog, and a delta that is
// skipped here may not be in it yet. And goka marks a message at once whose callback emitted
// nothing, past earlier ones whose changelog writes are still under way.
//
// Once a run is ending, goka's table calls fail without saying so: Value gives nil, SetValue writes
// nothing, and the message would be marked all the same. So every message is marked by its own
// deferred commit, with an error then.
func (r *run) aggregate(ctx goka.Context, msg any) {
	done := ctx.DeferCommit()
	defer func() { done(ctx.Context().Err()) }()
	state, _ := ctx.Value().(*toll.State)
	if ctx.Context().Err() != nil {
		return
	}
	if state == nil {
		state = toll.NewState(0)
	}
	deltas, ok := msg.([]*toll.Delta)
	if !ok {
		failure, _ := msg.(error)
		r.cfg.Log.Error("a message of the loop holds no deltas and was skipped", "partition",
			ctx.Partition(), "offset", ctx.Offset(),
			"key", ctx.Key(), "error", failure)
	}
	var few [8]toll.Outcome
	outcomes := few[:0]
	var merged []*toll.Delta
	for _, d := range deltas {
		outcome := state.Merge(d)
		if outcome == toll.Gap && r.gaps.News(d.Plaza, d.Partition, state.MergedIn(d.Partition)) {
			r.cfg.Log.Warn(
				"a delta is missing before this one, which was not merged; what is missing is sent again soon",
				"plaza", d.Plaza, "partition", d.Partition, "first", d.First, "next", d.Next, "merged",
				state.MergedIn(d.Partition), "wants", d.Prev)
		}
		if outcome == toll.Applied {
			merged = append(merged, d)
		}
		outcomes = append(outcomes, outcome)
	}
	if len(deltas) > 0 {
		r.windows.Step(deltas[0].Plaza, state, merged...)
	}
	ctx.SetValue(state)
	for i, d := range deltas {
		r.stats.Merged(d, outcomes[i])
	}
}

// visitor is the name of the visits that close windows.
const visitor = "windows"

// closeWindows has goka visit all plazas where the watermark moved on, until the session ends.
func (r *run) closeWindows(ctx context.Context) {
	r.windows.Watch(ctx, closing.Session{Store: r.store, Kafka: r.brokers,
		Partitions: len(r.partitions.slots), Database: r.database, Progress: r.partitions.progress,
		Check: checkProgress,
		Visit: func(ctx context.Context) error { return r.proc.VisitAll(ctx, visitor, nil) }})
}

// visit closes the windows of a plaza that the watermark has passed.
func (r *run) visit(ctx goka.Context, _ any) {
	if ctx.Context().Err() != nil {
		return
	}
	plaza, err := strconv.ParseInt(ctx.Key(), 10, 16)
	if err != nil {
		return // not ours
	}
	if !r.windows.Wants(int16(plaza)) {
		return
	}
	state, _ := ctx.Value().(*toll.State)
	if state == nil || ctx.Context().Err() != nil {
		return
	}
	if r.windows.Step(int16(plaza), state) {
		ctx.SetValue(state)
	}
}
