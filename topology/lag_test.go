package topology

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// TestMeasureLag compares the lag with what topics hold, and a group has committed.
func TestMeasureLag(t *testing.T) {
	const group = "lagging"
	loop := kafka.LoopTopic(group)
	_, cluster := simtest.Broker(t, kfake.SeedTopics(4, loop))
	admin, err := cluster.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	// Later versions of the protocol name topics by their ids.
	c, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers...), kgo.MaxVersions(kversion.V2_8_0()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func(topic string, partition int32, n int) {
		t.Helper()
		var records []*kgo.Record
		for i := range n {
			records = append(records,
				&kgo.Record{Topic: topic, Partition: partition, Value: []byte(strconv.Itoa(i))})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send("toll", 1, 30)
	send("toll", 2, 7)
	send(loop, 1, 20)
	send(loop, 3, 4)
	commit := func(partition int32, offset int64) {
		t.Helper()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = partition, offset
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic, topic.Partitions = loop, append(topic.Partitions, p)
		request := kmsg.NewPtrOffsetCommitRequest()
		request.Group, request.Generation, request.Topics = group, -1, append(request.Topics, topic)
		response, err := request.RequestWith(t.Context(), c)
		if err != nil || response.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal(err, response)
		}
	}
	commit(1, 15)

	cfg := testConfig()
	cfg.Cluster, cfg.Group = cluster, group
	r := &run{cfg: cfg, stats: monitor.NewStats(), brokers: admin}
	measure := func(ctx context.Context) error {
		return r.measureLag(ctx, kafka.NewOpenTransactions(), kafka.NewTransactionLog(cfg.Log))
	}
	if err := measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for partition, next := range map[int32]int64{1: 10, 2: 7, 3: 0} {
		r.stats.Opened(partition, next, 0)
	}
	expect := func(want map[int32]monitor.PartitionSnapshot, lag int64) {
		t.Helper()
		if err := measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		snap := r.stats.Read()
		for partition, w := range want {
			if got := snap.ByPartition[partition]; got != w {
				t.Errorf("partition %d: %+v, want %+v", partition, got, w)
			}
		}
		if snap.Lag != lag || snap.Owned != len(want) {
			t.Errorf("%+v", snap)
		}
	}
	// nothing of 3 was ever committed
	expect(map[int32]monitor.PartitionSnapshot{1: {Lag: 20, Unmerged: 5}, 2: {}, 3: {Unmerged: 4}}, 20)
	send("toll", 2, 3)
	commit(1, 20)
	commit(3, 1)
	r.stats.Closed(1)
	expect(map[int32]monitor.PartitionSnapshot{2: {Lag: 3}, 3: {Unmerged: 3}}, 3)

	// Whoever wants it to end need not wait for an answer.
	ended, end := context.WithCancel(t.Context())
	end()
	if err := measure(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
