package topology

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
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

// TestOpenTransaction has a partition with an open transaction, another one goes on. Windows of the
// other must close, though not before the transaction was open for as long as Idle.
func TestOpenTransaction(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID("a"), kgo.DefaultProduceTopic("toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	send := func(partition int32, records int) {
		t.Helper()
		for range records {
			if err := producer.ProduceSync(t.Context(),
				&kgo.Record{Partition: partition, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := func(commit kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	begin := func() {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	send(1, 2)
	end(kgo.TryCommit) // offset 2 is the marker
	begin()
	send(1, 3)

	cluster := kafka.Cluster{Brokers: broker.ListenAddrs(), ClientID: "test"}
	admin, err := cluster.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if stable, err := admin.Offsets(t.Context(), "toll", kafka.Stable, 1); err != nil ||
		stable[1] != 3 {
		t.Fatalf("stable end %d, %v, want 3", stable, err)
	}
	now := time.Now()
	cfg := testConfig()
	cfg.Idle = 30 * time.Second
	ends := closing.NewEnds("toll")
	ends.Blocked.Now = func() time.Time { return now }
	cursor := func(partition int32, next, at int64) toll.Cursor {
		clock := toll.Clock{Time: at, Record: at * 1000, Events: 1}
		return toll.Cursor{Partition: partition, Next: next, Chain: wire.AppendChain(nil, nil),
			Clock: wire.AppendClock(nil, &clock)}
	}
	const late, early = 1_000_000, 996_400
	expect := func(what string, next, want int64) {
		t.Helper()
		h, err := closing.HorizonOf(cfg.closing(),
			[]toll.Cursor{cursor(0, 0, late), cursor(1, next, early)}, 2,
			func(next map[int32]int64) (map[int32]bool, error) {
				return ends.CaughtUp(t.Context(), admin, cfg.Idle, next)
			})
		if err != nil || !h.Mark.Known || h.Mark.Time != want-60 || h.Mark.All != early-60 {
			t.Errorf("%s: %+v, %v, want the watermark of %d", what, h, err, want)
		}
	}
	expect("records can be read", 1, early)
	now = now.Add(time.Hour)
	expect("records can be read still", 1, early)
	expect("all is stored that can be read", 2, early)
	now = now.Add(cfg.Idle)
	expect("for as long as Idle", 2, early)
	now = now.Add(1)
	expect("for longer", 2, late)
	expect("the same behind the marker", 3, late)

	end(kgo.TryCommit)
	expect("its records can be read", 2, early)
	expect("some are stored", 4, early)
	expect("all are stored", 6, late)

	// Another transaction is another wait.
	begin()
	send(1, 1)
	expect("another transaction", 6, early)
	now = now.Add(cfg.Idle + 1)
	expect("another transaction for long", 6, late)
	end(kgo.TryAbort)
	expect("it was aborted", 6, late)

	// Those who look on are told too.
	r := NewWatermarkReader(cluster, "toll")
	defer r.Close()
	cursors := []toll.Cursor{cursor(1, 6, early)}
	if b, err := r.Backlog(t.Context(), cursors); err != nil || b.Offsets != 3 || len(b.Open) != 0 {
		t.Errorf("backlog without an open transaction: %+v, %v", b, err)
	}
	begin()
	send(1, 1)
	first, err := r.Backlog(t.Context(), cursors)
	if err != nil || len(first.Open) != 1 || first.Open[0].Partition != 1 ||
		first.Open[0].Offset != 9 || first.Open[0].Since.IsZero() {
		t.Errorf("backlog: %+v, %v", first, err)
	}
	if again, err := r.Backlog(t.Context(), cursors); err != nil || len(again.Open) != 1 ||
		again.Open[0] != first.Open[0] {
		t.Errorf("backlog again: %+v, %v", again, err)
	}
	end(kgo.TryAbort)
}

// TestTransactionLog logs one line for a transaction that is open for long, and one for its end.
func TestTransactionLog(t *testing.T) {
	var log strings.Builder
	l := kafka.NewTransactionLog(slog.New(slog.NewTextHandler(&log, nil)))
	start := time.Now()
	lines := func(seconds int, offset int64, want int) {
		t.Helper()
		open := kafka.OpenTransaction{}
		if offset > 0 {
			open = kafka.OpenTransaction{Partition: 3, Offset: offset, Since: start}
		}
		l.Note(3, open, 110, start.Add(time.Duration(seconds)*time.Second))
		if n := strings.Count(log.String(), "\n"); n != want {
			t.Errorf("after %d s: %d lines, want %d\n%s", seconds, n, want, &log)
		}
	}
	lines(0, 100, 0)
	lines(29, 100, 0)
	lines(30, 100, 1)
	lines(90, 100, 1)
	lines(95, 0, 2)
	lines(100, 0, 2)
	for _, text := range []string{"transaction is open", "partition=3 offset=100 for=30s waiting=10",
		"transaction ended", "after=1m35s"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log lacks %q:\n%s", text, &log)
		}
	}
}
