package table

import (
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
)

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
