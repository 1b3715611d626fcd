package topology

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// TestMergeProgress counts only the time in which all servers answer and nothing is merged.
func TestMergeProgress(t *testing.T) {
	start := time.Now()
	p := mergeProgress{moved: start}
	at := func(seconds int, events int64, outage, want bool) {
		t.Helper()
		if got := p.stalls(start.Add(time.Duration(seconds)*time.Second), events, outage); got != want {
			t.Errorf("after %d s, %d events, outage %v: stalls %v", seconds, events, outage, got)
		}
	}
	at(59, 0, false, false)
	at(60, 0, false, false)
	at(61, 7, false, false) // merged something
	at(100, 7, true, false)
	at(1000, 7, true, false) // however long a server is unavailable
	at(1060, 7, false, false)
	at(1061, 7, false, true)
}

// TestAwaitEndOutage looks for the end while Kafka is unavailable.
func TestAwaitEndOutage(t *testing.T) {
	simtest.Quiet()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	taken.Close()
	cfg := testConfig()
	cfg.Cluster, cfg.Group = kafka.Cluster{Brokers: []string{addr}, ClientID: "test"}, "waiting"
	p := &Processor{cfg: *cfg, stats: monitor.NewStats()}
	ended := make(chan error, 1)
	go func() { ended <- p.AwaitEnd(t.Context(), kafka.End{}) }()
	select {
	case err := <-ended:
		t.Fatalf("it ended in the outage: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	n, _ := strconv.Atoi(port)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(n),
		kfake.SeedTopics(1, "toll", kafka.TableTopic(cfg.Group)))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end after the outage")
	}
	// A table that is not there is no outage.
	p.cfg.Group = "none"
	if err := p.AwaitEnd(t.Context(), kafka.End{}); !toll.IsPermanent(err) {
		t.Errorf("without a group table: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.AwaitEnd(ctx, kafka.End{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// TestFindEndWithoutTopic has no topic, of which everything would be stored.
func TestFindEndWithoutTopic(t *testing.T) {
	_, cluster := simtest.Broker(t)
	if end, err := cluster.FindEnd(t.Context(), "nothere"); err == nil {
		t.Errorf("it ends at %v", end)
	}
	if consumed, err := cluster.LoopConsumed(t.Context(), "nothere"); err == nil {
		t.Errorf("its loop is consumed: %v", consumed)
	}
	r := NewWatermarkReader(cluster, "nothere")
	defer r.Close()
	if b, err := r.Backlog(t.Context(), nil); err == nil {
		t.Errorf("its backlog is %+v", b)
	}
}

func TestCheckProgress(t *testing.T) {
	mine := []toll.Cursor{{}, {Epoch: 5, Next: 10}}
	for _, c := range []struct {
		epoch uint64
		next  int64
		want  string
	}{
		{5, 10, ""}, {5, 11, ""},
		{6, 10, "its epoch is not the one"}, {4, 10, "its epoch is not the one"},
		{5, 9, "restored from a backup"},
	} {
		err := checkProgress(mine, c.epoch, []int64{3, c.next})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("epoch %d, next %d: %v", c.epoch, c.next, err)
		}
	}
}

func TestEpochMetadata(t *testing.T) {
	for text, want := range map[string]uint64{kafka.EpochMetadata(0): 0,
		kafka.EpochMetadata(1_772_431_200_000): 1_772_431_200_000, "": 0, "x": 0, "epoch=x": 0} {
		if got := kafka.ParseEpochMetadata(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func newSlots(n int) []atomic.Pointer[ingest.Partition] {
	return make([]atomic.Pointer[ingest.Partition], n)
}

// TestWatermarkReader looks at two partitions, of which the second is an hour behind in event time
// and in record time.
func TestWatermarkReader(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 {
		if err := client.ProduceSync(t.Context(),
			&kgo.Record{Topic: "toll", Partition: 1, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cursor := func(partition int32, next, at int64) toll.Cursor {
		clock := toll.Clock{Time: at, Record: at * 1000, Events: 1}
		return toll.Cursor{Partition: partition, Next: next, Chain: wire.AppendChain(nil, nil),
			Clock: wire.AppendClock(nil, &clock)}
	}
	const now, before = 1_000_000, 996_400
	r := NewWatermarkReader(kafka.Cluster{Brokers: broker.ListenAddrs(), ClientID: "test"}, "toll")
	for _, c := range []struct {
		name    string
		cursors []toll.Cursor
		want    toll.Watermark
	}{
		{"nothing is stored", nil, toll.Watermark{}},
		{"one has records that are not stored", []toll.Cursor{cursor(0, 0, now)}, toll.Watermark{}},
		{"one is behind with what is to be stored",
			[]toll.Cursor{cursor(0, 0, now), cursor(1, 1, before)}, toll.Watermark{Known: true,
				Time: before - 60, All: before - 60}},
		{"one is idle", []toll.Cursor{cursor(0, 0, now), cursor(1, 2, before)},
			toll.Watermark{Known: true, Time: now - 60, All: before - 60}},
		{"one never had a record", []toll.Cursor{cursor(1, 2, before)},
			toll.Watermark{Known: true, Time: before - 60, All: before - 60}},
	} {
		got, err := r.Read(t.Context(), c.cursors, time.Minute, toll.DefaultIdle)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got.Known != c.want.Known || got.Known && got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(t.Context(), nil, time.Minute, toll.DefaultIdle); err == nil {
		t.Error("it was read after it was closed")
	}
}
