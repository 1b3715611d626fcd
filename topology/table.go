package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"

	"tollstream/codecs"
	"tollstream/toll"
)

// Table reads the group table, in memory and apart from any processor's store.
type Table struct {
	view *goka.View
}

// NewTable returns a reader of a group's table that has not started. A table that does not exist is a
// [toll.PermanentError].
func NewTable(cluster Cluster, group string, log *slog.Logger) (*Table, error) {
	info, found, err := cluster.Describe(TableTopic(group))
	if err != nil {
		return nil, err
	}
	if !found || info.Partitions == 0 {
		return nil, toll.Permanent("run: tollstream init; then: tollstream process", "the group table, topic %s, does not exist", TableTopic(group))
	}
	consumer := cluster.Config("view")
	consumer.Consumer.MaxWaitTime = 20 * time.Millisecond // goka waits for a fetch to return when it opens and when it closes
	tm := goka.NewTopicManagerConfig()
	tm.NoCreate = true
	view, err := goka.NewView(cluster.Brokers, goka.GroupTable(goka.Group(group)), codecs.StateCodec{},
		goka.WithViewLogger(gokaLogger{log}),
		goka.WithViewHasher(Hasher),
		goka.WithViewClientID(cluster.ClientID),
		goka.WithViewStorageBuilder(storage.MemoryBuilder()),
		goka.WithViewConsumerSaramaBuilder(goka.SaramaConsumerBuilderWithConfig(consumer)),
		goka.WithViewTopicManagerBuilder(goka.TopicManagerBuilderWithConfig(cluster.Config("topics"), tm)),
		goka.WithViewAutoReconnect(),
	)
	if err != nil {
		return nil, explainKafka(fmt.Errorf("open the group table: %w", err))
	}
	return &Table{view}, nil
}

// Run keeps the table up to date until ctx ends, and returns nil then.
func (t *Table) Run(ctx context.Context) error {
	err := t.view.Run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return explainKafka(fmt.Errorf("read the group table: %w", err))
	}
	return nil
}

// Recovered reports whether the table holds all that was in its topic when Run began.
func (t *Table) Recovered() bool { return t.view.Recovered() }

// WaitRecovered waits until the table holds all that was in its topic when Run began.
func (t *Table) WaitRecovered(ctx context.Context) error {
	for {
		if t.Recovered() {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// States returns the state of every plaza. The caller owns them.
func (t *Table) States() (map[int16]*toll.State, error) {
	it, err := t.view.Iterator()
	if err != nil {
		return nil, fmt.Errorf("read the group table: %w", err)
	}
	defer it.Release()
	states := map[int16]*toll.State{}
	for it.Next() {
		plaza, err := strconv.ParseInt(it.Key(), 10, 16)
		if err != nil {
			continue // not ours
		}
		v, err := it.Value()
		if err != nil {
			return nil, fmt.Errorf("read plaza %d of the group table: %w", plaza, err)
		}
		if state, ok := v.(*toll.State); ok {
			states[int16(plaza)] = state
		}
	}
	return states, nil
}

// ReadTable returns the state of every plaza, as it is in the group table's topic now.
func ReadTable(ctx context.Context, cluster Cluster, group string, log *slog.Logger) (map[int16]*toll.State, error) {
	t, err := NewTable(cluster, group, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx) }()
	recovered := make(chan error, 1)
	go func() { recovered <- t.WaitRecovered(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			err = ctx.Err()
		}
		return nil, err
	case err := <-recovered:
		if err != nil {
			return nil, err
		}
	}
	states, err := t.States()
	cancel()
	<-done
	return states, err
}

// LoopConsumed reports whether the group has consumed all that was in the loop when it was called, waiting a moment for it. Its offsets follow
// the acknowledged changelog, so whatever was published before the call is then in the group table's topic.
func (c Cluster) LoopConsumed(group string) (bool, error) {
	client, admin, err := c.Admin()
	if err != nil {
		return false, explainKafka(err)
	}
	defer admin.Close()
	loop := LoopTopic(group)
	partitions, err := client.Partitions(loop)
	if err != nil {
		return false, explainKafka(fmt.Errorf("read the partitions of %s: %w", loop, err))
	}
	ends := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		if ends[p], err = client.GetOffset(loop, p, sarama.OffsetNewest); err != nil {
			return false, explainKafka(fmt.Errorf("read the end of %s: %w", loop, err))
		}
	}
	for deadline := time.Now().Add(loopPatience); ; time.Sleep(50 * time.Millisecond) {
		consumed, err := consumedTo(admin, group, loop, ends)
		if err != nil || consumed || time.Now().After(deadline) {
			return consumed, err
		}
	}
}

// loopPatience is how long the group may take to consume what was in the loop: its offsets are committed once a second.
const loopPatience = 2 * time.Second

// consumedTo reports whether a group's committed offsets of a topic are at or behind its ends.
func consumedTo(admin sarama.ClusterAdmin, group, topic string, ends map[int32]int64) (bool, error) {
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: slices.Collect(maps.Keys(ends))})
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		offsets, err = &sarama.OffsetFetchResponse{}, nil
	}
	if err != nil {
		return false, explainKafka(fmt.Errorf("read the offsets of group %s: %w", group, err))
	}
	for p, end := range ends {
		if b := offsets.GetBlock(topic, p); end > 0 && (b == nil || b.Offset < end) {
			return false, nil
		}
	}
	return true, nil
}
