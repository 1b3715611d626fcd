package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// TestEmptiedBatches reads the group table's topic as a real broker's compaction leaves it: files
// of the log that hold nothing but batches without records, of which it keeps the last one of each
// producer. What is behind them counts: a reset that took the table for empty would use an epoch
// again.
func TestEmptiedBatches(t *testing.T) {
	inParallel(t)
	k, err := devstack.StartKafka(t.Context(),
		devstack.KafkaConfig{Jars: kafkaJars(t), Addr: "127.0.0.1:0",
			Properties: map[string]string{"log.cleaner.backoff.ms": "100"}})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() { _ = k.Close() })
	const group, epoch, file = "emptied", 9, 1 << 20
	topic := kafka.TableTopic(group)
	client := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.Addr()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	setting := func(text string) *string { return &text }
	if err := admin.CreateTopic(topic,
		&sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{
			"cleanup.policy": setting("compact"), "segment.bytes": setting(strconv.Itoa(file)),
			"min.cleanable.dirty.ratio": setting("0.01"),
		}}, false); err != nil {
		t.Fatal(err)
	}
	filler := make([]byte, file*2/3) // two don't go into one file
	_, _ = rand.Read(filler)
	state := wire.AppendState(nil, &toll.State{Epoch: epoch})
	for _, records := range [][]*kgo.Record{
		{{Key: []byte("1"), Value: filler}},
		{{Key: []byte("1"), Value: filler}},
		{{Key: []byte("4000"), Value: state}, {Key: []byte("1"), Value: filler}},
		{{Key: []byte("1"), Value: filler}}, // in the open file, which is not compacted
	} {
		producer := client(kgo.DefaultProduceTopic(topic))
		for _, r := range records {
			if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); !bytes.Equal(firstKey(t,
		client(kgo.ConsumeTopics(topic))), []byte("4000")); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the broker does not compact the topic")
		}
	}
	got, err := kafka.Cluster{Brokers: []string{k.Addr()}, ClientID: "test"}.Epochs(t.Context(),
		group, "toll")
	if err != nil || got.Highest != epoch || got.Plazas != 1 {
		t.Errorf("%+v, %v, want epoch %d of 1 plaza", got, err, epoch)
	}
}

// firstKey returns the key of the first record that a consumer gets.
func firstKey(t *testing.T, consumer *kgo.Client) []byte {
	t.Helper()
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		if records := fetches.Records(); len(records) > 0 {
			return records[0].Key
		}
	}
}
