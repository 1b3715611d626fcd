package kafka

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestWithin ends a call of sarama, which takes no context, to a broker that accepts connections
// and does not answer.
func TestWithin(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cluster := Cluster{Brokers: []string{silent.Addr().String()}, ClientID: "test"}.Within(ctx)
	ended := make(chan error, 1)
	go func() {
		client, err := sarama.NewClient(cluster.Brokers, cluster.Config("test"))
		if err == nil {
			_ = client.Close()
		}
		ended <- err
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it connected")
		}
	case <-time.After(cluster.Config("test").Net.ReadTimeout / 2):
		t.Error("it waits for an answer still")
	}
}

var quietOnce = sync.OnceFunc(QuietLibraries)

// testBroker starts a broker in this process, with the topic toll.
func testBroker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, Cluster) {
	t.Helper()
	quietOnce()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1),
		kfake.SeedTopics(4, "toll")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, Cluster{Brokers: c.ListenAddrs(), ClientID: "test"}
}

// TestStall lets a connection write until the process stalled for longer than its place in
// the group lasts, and never again after.
func TestStall(t *testing.T) {
	start := time.Now()
	for _, clock := range []struct {
		name  string
		after func(d time.Duration) time.Time
	}{
		{"stopped", start.Add},
		// only the wall clock went on
		{"asleep", func(d time.Duration) time.Time { return start.Round(0).Add(d) }},
	} {
		t.Run(clock.name, func(t *testing.T) {
			now := start
			s := NewStall(StallLimit(10*time.Second), func() time.Time { return now })
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := server.Read(b); err != nil {
						return
					}
				}
			}()
			pipe := func(context.Context, string, string) (net.Conn, error) { return client, nil }
			conn, err := s.Dial(pipe)(t.Context(), "tcp", "anywhere")
			if err != nil {
				t.Fatal(err)
			}
			now = clock.after(7 * time.Second)
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatalf("after 7 s: %v", err)
			}
			now = clock.after(7*time.Second + time.Nanosecond)
			if _, err := conn.Write([]byte("x")); err == nil ||
				!strings.Contains(err.Error(), "stalled for 7s") {
				t.Fatalf("after more than 7 s: %v", err)
			}
			now = start
			s.beat.Store(&start)
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Fatal("a connection is usable after a stall")
			}
			if _, err := s.Dial(pipe)(t.Context(), "tcp", "anywhere"); err == nil {
				t.Fatal("a connection was made after a stall")
			}
			var failed error
			s.Watch(t.Context(), func(err error) { failed = err })
			if failed == nil {
				t.Fatal("the watch says nothing")
			}
		})
	}
}

// storedBatch is a batch of records with these values as a broker stores it, at the offsets [first,
// next).
func storedBatch(first, next int64, values ...string) []byte {
	b := kmsg.RecordBatch{FirstOffset: first, Magic: 2, LastOffsetDelta: int32(next - first - 1),
		NumRecords: int32(len(values))}
	for i, value := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Key: []byte("key"), Value: []byte(value)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // all but itself
		b.Records = r.AppendTo(b.Records)
	}
	const lengthAt, crcAt, summedAt = 8, 17, 21
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[lengthAt:], uint32(len(raw)-lengthAt-4))
	binary.BigEndian.PutUint32(raw[crcAt:],
		crc32.Checksum(raw[summedAt:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// batchEnd returns the offset behind a batch.
func batchEnd(b []byte) int64 {
	var batch kmsg.RecordBatch
	_ = batch.ReadFrom(b) // one of ours
	return batch.FirstOffset + int64(batch.LastOffsetDelta) + 1
}

// TestReadEmptiedBatches reads a partition as compaction leaves it. A fetch is answered from one
// file of the log, which may hold nothing but emptied batches; behind them are records.
func TestReadEmptiedBatches(t *testing.T) {
	const topic, end = "table", 13
	logFiles := [][][]byte{
		{storedBatch(0, 3), storedBatch(3, 5)},
		{storedBatch(5, 7, "a", "b"), storedBatch(7, 8)},
		{storedBatch(9, 10)}, // 8 was compacted away
		{storedBatch(10, 11), storedBatch(11, 13, "c", "d")},
	}
	for name, c := range map[string]struct {
		missing int // log files of which nothing comes
		want    []string
	}{
		"all of it":                    {0, []string{"a", "b", "c", "d"}},
		"nothing comes before the end": {1, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			broker, cluster := testBroker(t, kfake.SeedTopics(1, topic))
			client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers...), kgo.DefaultProduceTopic(topic),
				kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for range end { // so that the partition ends there
				if err := client.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			broker.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
				broker.KeepControl()
				asked := request.(*kmsg.FetchRequest).Topics[0]
				answer := request.ResponseKind().(*kmsg.FetchResponse)
				partition := kmsg.NewFetchResponseTopicPartition()
				partition.HighWatermark, partition.LastStableOffset = end, end
				for _, batches := range logFiles[:len(logFiles)-c.missing] {
					for _, b := range batches {
						if batchEnd(b) > asked.Partitions[0].FetchOffset {
							partition.RecordBatches = append(partition.RecordBatches, b...)
						}
					}
					if len(partition.RecordBatches) > 0 {
						break
					}
				}
				topic := kmsg.NewFetchResponseTopic()
				topic.Topic, topic.TopicID = asked.Topic, asked.TopicID
				topic.Partitions = append(topic.Partitions, partition)
				answer.Topics = append(answer.Topics, topic)
				return answer, nil, true
			})
			admin, err := cluster.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			var got []string
			err = admin.ReadAll(t.Context(), topic, 0, func(_, value []byte) error {
				got = append(got, string(value))
				return nil
			})
			if !slices.Equal(got, c.want) || (err != nil) != (c.missing > 0) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
