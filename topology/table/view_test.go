package table

import (
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
)

// TestTableLeavesNothing reads the group table again and again, as a process does to roll up old
// batches: nothing of it stays.
func TestTableLeavesNothing(t *testing.T) {
	_, cluster := simtest.Broker(t, kfake.SeedTopics(4, kafka.TableTopic("group")))
	read := func() {
		t.Helper()
		states, err := Read(t.Context(), cluster, "group")
		if err != nil || len(states) != 0 {
			t.Fatalf("%d states, %v", len(states), err)
		}
	}
	read() // what is made once
	const times = 10
	before := runtime.NumGoroutine()
	for range times {
		read()
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() >= before+
		times; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestTableScan reads a table's topic, and what was added to it since.
func TestTableScan(t *testing.T) {
	_, cluster := simtest.Broker(t, kfake.SeedTopics(2, kafka.TableTopic("group")))
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	put := func(partition int32, key string, events int64) {
		t.Helper()
		r := &kgo.Record{Topic: kafka.TableTopic("group"), Partition: partition, Key: []byte(key)}
		if events > 0 {
			var err error
			if r.Value, err = (wire.StateCodec{}).Encode(&toll.State{Epoch: 1,
				Events: events}); err != nil {
				t.Fatal(err)
			}
		}
		if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	scan, err := NewScan(t.Context(), cluster, "group")
	if err != nil {
		t.Fatal(err)
	}
	defer scan.Close()
	expect := func(want map[int16]int64) {
		t.Helper()
		if err := scan.Advance(t.Context()); err != nil {
			t.Fatal(err)
		}
		states, err := scan.States()
		if err != nil {
			t.Fatal(err)
		}
		got := map[int16]int64{}
		for plaza, s := range states {
			got[plaza] = s.Events
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	expect(map[int16]int64{})
	put(0, "4000", 1)
	put(1, "4001", 2)
	put(0, "4000", 3)
	put(0, "not ours", 9)
	put(1, "4002", 4)
	put(1, "-7", 5)
	put(1, "4002", 0) // a tombstone
	expect(map[int16]int64{4000: 3, 4001: 2, -7: 5})
	expect(map[int16]int64{4000: 3, 4001: 2, -7: 5})
	put(0, "4000", 6)
	put(1, "4002", 7)
	expect(map[int16]int64{4000: 6, 4001: 2, -7: 5, 4002: 7})
	if states, err := Read(t.Context(), cluster, "group"); err != nil ||
		!slices.Equal(slices.Sorted(maps.Keys(states)), []int16{-7, 4000, 4001, 4002}) {
		t.Errorf("got %v, %v", states, err)
	}

	_, missing := simtest.Broker(t)
	if _, err := NewScan(t.Context(), missing, "group"); !toll.IsPermanent(err) {
		t.Errorf("a table that does not exist: %v", err)
	}
}
