package topology

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

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
