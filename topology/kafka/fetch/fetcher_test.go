package fetch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tollstream/tollstream/toll"
)

const testTopic = "toll"

// newCluster starts brokers inside this process. They are no real Kafka: a batch is kept as it is
// sent, and nothing is replicated.
func newCluster(t *testing.T, brokers int, partitions int32) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.SeedTopics(partitions, testTopic),
		kfake.BrokerConfigs(map[string]string{"max.message.bytes": "4194304"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newTestClient(t *testing.T, c *kfake.Cluster) *Client {
	t.Helper()
	client, err := NewClient(testTopic, kgo.SeedBrokers(c.ListenAddrs()...),
		kgo.MaxVersions(kversion.V2_8_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newProducer(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	p,
		err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...),
		kgo.DefaultProduceTopic(testTopic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(4 << 20)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func produce(t *testing.T, p *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := p.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// startFetcher runs a fetcher until the test ends.
func startFetcher(t *testing.T, c *Client) *Fetcher {
	t.Helper()
	f := c.NewFetcher()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// taken returns records one by one, as they are taken.
func taken(t *testing.T, records Records) (all []*kgo.Record) {
	t.Helper()
	for {
		r := new(kgo.Record)
		if ok, err := records.Next(r); err != nil {
			t.Fatal(err)
		} else if !ok {
			return all
		}
		all = append(all, r)
	}
}

// take returns the next n records of a partition, and whether one of their chunks was unsure.
func take(t *testing.T, p *Partition, n int) (records []*kgo.Record, unsure bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(records) < n {
		c, err := p.Next(ctx)
		if err != nil || c.Err != nil || c.Oversized != nil {
			t.Fatalf("after %d records: %v, %v", len(records), err, c.Err)
		}
		records, unsure = append(records, taken(t, c.Records)...), unsure || c.Unsure
	}
	return records, unsure
}

// TestFetcher reads all partitions of several brokers whole and in order, while leaders move and
// one partition's records are not taken for long.
func TestFetcher(t *testing.T) {
	const partitions, each = 5, 3000
	cluster := newCluster(t, 3, partitions)
	producer := newProducer(t, cluster)
	client := newTestClient(t, cluster)
	f := startFetcher(t, client)
	for p := range int32(partitions) {
		part := f.Add(p, 0, client.Connects())
		t.Run(fmt.Sprint("partition ", p), func(t *testing.T) {
			t.Parallel()
			if p == 0 {
				time.Sleep(500 * time.Millisecond)
			}
			records, _ := take(t, part, each)
			for i, r := range records {
				if r.Offset != int64(i) || string(r.Value) != fmt.Sprint(p, " ", i) {
					t.Fatalf("record %d is %d %q", i, r.Offset, r.Value)
				}
			}
			if len(records) != each {
				t.Errorf("%d records, want %d", len(records), each)
			}
		})
	}
	go func() {
		for i := range each {
			for p := range int32(partitions) {
				producer.Produce(t.Context(), &kgo.Record{Partition: p, Value: fmt.Append(nil, p, " ", i)},
					func(*kgo.Record, error) {})
			}
			if i%1000 == 500 {
				_ = cluster.MoveTopicPartition(testTopic, int32(i/1000), int32(i/500%3))
			}
		}
	}()
}

// TestFetcherOversized reads past a batch that inflates too far, in each compression.
func TestFetcherOversized(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{"gzip": kgo.GzipCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(t, 1, 1)
			producer := newProducer(t, cluster, kgo.ProducerBatchCompression(codec),
				kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(100<<20))
			produce(t, producer, kgo.StringRecord("before"))
			produce(t, producer, &kgo.Record{Value: make([]byte, MaxInflated)})
			produce(t, producer, kgo.StringRecord("after"))
			client := newTestClient(t, cluster)
			part := startFetcher(t, client).Add(0, 0, 0)
			take(t, part, 1)
			c, err := part.Next(t.Context())
			if err != nil || c.First != 1 || c.Next != 2 || len(c.Oversized) == 0 ||
				len(c.Oversized) > 1<<20 || time.Since(c.Time) > time.Hour {
				t.Fatalf("chunk %d to %d, %d bytes, %v, %v", c.First, c.Next, len(c.Oversized), c.Err, err)
			}
			if records, _ := take(t, part, 1); string(records[0].Value) != "after" {
				t.Errorf("then comes %q", records[0].Value)
			}
		})
	}
}

// TestFetcherErrors: an offset that the log does not hold ends the partition, an answer that may
// pass does not.
func TestFetcherErrors(t *testing.T) {
	cluster := newCluster(t, 1, 1)
	produce(t, newProducer(t, cluster), kgo.StringRecord("a"), kgo.StringRecord("b"))
	client := newTestClient(t, cluster)
	f := startFetcher(t, client)
	c, err := f.Add(0, 7, 0).Next(t.Context())
	if err != nil || !errors.Is(c.Err, kerr.OffsetOutOfRange) {
		t.Errorf("beyond the end: %v, %v", c.Err, err)
	}
	var refusals atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if refusals.Add(1) > 2 {
			return nil, nil, false
		}
		asked := request.(*kmsg.FetchRequest).Topics[0]
		answer := request.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition, p.ErrorCode = asked.Partitions[0].Partition, kerr.FencedLeaderEpoch.Code
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID, topic.Partitions = asked.Topic, asked.TopicID,
			append(topic.Partitions, p)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	part := f.Add(0, 0, client.Connects())
	if _, unsure := take(t, part, 2); !unsure {
		t.Error("after an error the log is taken for the same one")
	}
}

// TestFetcherConnects: what comes over a new connection is unsure, what follows is not.
func TestFetcherConnects(t *testing.T) {
	cluster := newCluster(t, 1, 1)
	producer := newProducer(t, cluster)
	client := newTestClient(t, cluster)
	f := startFetcher(t, client)
	part := f.Add(0, 0, client.Connects())
	for i, want := range []bool{true, false, true, false} {
		if i == 2 { // the next fetch comes over a new connection
			part.Want()
			var broken atomic.Bool
			cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
				broken.Store(true)
				return nil, errors.New("broken"), true
			})
			for deadline := time.Now().Add(10 * time.Second); !broken.Load() &&
				time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			}
		}
		produce(t, producer, kgo.StringRecord("x"))
		if _, unsure := take(t, part, 1); unsure != want {
			t.Errorf("record %d: unsure is %v", i, unsure)
		}
	}
}

// TestCheckLog compares logs of all kinds with what was consumed of them.
func TestCheckLog(t *testing.T) {
	defer func(d time.Duration) { confirmAfter = d }(confirmAfter)
	confirmAfter = time.Millisecond
	cluster := newCluster(t, 1, 1)
	producer := newProducer(t, cluster)
	at := time.UnixMilli(1_700_000_000_000)
	record := func(key, value string) *kgo.Record {
		return &kgo.Record{Key: []byte(key), Value: []byte(value), Timestamp: at}
	}
	produce(t, producer, record("k", "a"), record("", "b"), record("k", "c"))
	epoch := func() int32 {
		l, err := newTestClient(t, cluster).leader(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return l.epoch
	}()
	id := func(offset int64, key, value string) toll.LastRecord {
		return toll.LastRecord{Known: true, Offset: offset, LeaderEpoch: epoch, Timestamp: at.UnixMilli(),
			CRC: toll.RecordCRC([]byte(key), []byte(value))}
	}
	later := id(1, "", "b")
	later.Timestamp++
	other := id(1, "", "b")
	other.LeaderEpoch = -1
	tooNew := id(0, "k", "a")
	tooNew.LeaderEpoch = epoch + 1
	for _, c := range []struct {
		name     string
		next     int64
		last     toll.LastRecord
		trim     int64 // records below are deleted first
		replaced string
		unsure   string
	}{
		{"the same", 2, id(1, "", "b"), 0, "", ""},
		{"the same, of no known epoch", 2, other, 0, "", ""},
		{"the last one of the log", 3, id(2, "k", "c"), 0, "", ""},
		{"another value", 2, id(1, "", "B"), 0, "offset 1 is not the one", ""},
		{"another key", 2, id(1, "k", "b"), 0, "offset 1 is not the one", ""},
		{"another time", 2, later, 0, "offset 1 is not the one", ""},
		{"shorter", 4, id(3, "k", "d"), 0, "ends at offset 3, and up to 4 was stored", ""},
		{"shorter, nothing known", 4, toll.LastRecord{}, 0, "ends at offset 3, and up to 4 was stored",
			""},
		{"nothing known", 3, toll.LastRecord{}, 0, "", "not known"},
		{"deleted by retention", 2, id(0, "k", "a"), 2, "", "the log begins at 2"},
		{"deleted, of an epoch to come", 2, tooNew, 2, "of the later epoch", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.trim > 0 {
				deleteRecords(t, producer, c.trim)
			}
			f, err := newTestClient(t, cluster).CheckLog(t.Context(), 0, c.next, c.last)
			if err != nil || !strings.Contains(f.Replaced, c.replaced) ||
				(f.Replaced == "") != (c.replaced == "") ||
				!strings.Contains(f.Unchecked, c.unsure) || (f.Unchecked == "") != (c.unsure == "") {
				t.Errorf("%+v, %v, want %q, %q", f, err, c.replaced, c.unsure)
			}
		})
	}
}

func deleteRecords(t *testing.T, client *kgo.Client, below int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = testTopic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = below
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

// TestCheckLogBehind: a leader that was elected just now may know of an end below that of its log.
// That is no loss.
func TestCheckLogBehind(t *testing.T) {
	cluster := newCluster(t, 1, 1)
	produce(t, newProducer(t, cluster), kgo.StringRecord("a"), kgo.StringRecord("b"))
	var old atomic.Int32
	cluster.ControlKey(int16(kmsg.ListOffsets),
		func(request kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			asked := request.(*kmsg.ListOffsetsRequest).Topics[0]
			if asked.Partitions[0].Timestamp != -1 || old.Load() == 3 {
				return nil, nil, false
			}
			old.Add(1)
			answer := request.ResponseKind().(*kmsg.ListOffsetsResponse)
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Offset = 1
			topic := kmsg.NewListOffsetsResponseTopic()
			topic.Topic, topic.Partitions = asked.Topic, append(topic.Partitions, p)
			answer.Topics = append(answer.Topics, topic)
			return answer, nil, true
		})
	f, err := newTestClient(t, cluster).CheckLog(t.Context(), 0, 2, toll.LastRecord{})
	if err != nil || f.Replaced != "" || old.Load() != 3 {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestFetcherLingers: after an answer that had little, the next request waits for as long as the
// fetcher is told to.
func TestFetcherLingers(t *testing.T) {
	cluster := newCluster(t, 1, 1)
	producer := newProducer(t, cluster)
	client := newTestClient(t, cluster)
	const linger = 300 * time.Millisecond
	var asked atomic.Int64
	f := client.NewFetcher()
	f.Linger = func() time.Duration { asked.Add(1); return linger }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	part := f.Add(0, 0, client.Connects())
	produce(t, producer, &kgo.Record{Value: []byte("little")})
	take(t, part, 1)
	began := time.Now()
	large := make([]byte, 2*littleBytes)
	_, _ = rand.Read(large) // so that it does not compress
	produce(t, producer, &kgo.Record{Value: large})
	take(t, part, 1)
	if waited := time.Since(began); waited < linger*9/10 {
		t.Errorf("the next record came after %v, want %v at least", waited, linger)
	}
	produce(t, producer, &kgo.Record{Value: []byte("little")})
	take(t, part, 1)
	if n := asked.Load(); n > 2 {
		t.Errorf("lingered %d times, want once for each answer that had little", n)
	}
}
