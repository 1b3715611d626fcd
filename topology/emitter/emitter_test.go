package emitter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
)

func newTestEmitter(t testing.TB, cfg Config) *Emitter {
	t.Helper()
	if cfg.Topic == "" {
		cfg.Topic = "toll"
	}
	e, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// readAll reads n records of a topic.
func readAll(t testing.TB, cluster kafka.Cluster, topic string, n int) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read %d records, want %d", len(all), n)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

func testEvent(i int) toll.Event {
	return toll.Event{Time: 1644488582 + toll.WallTime(i), Vehicle: int32(10_000 + i), Type: "car",
		Plaza: int16(4000 + i%11)}
}

func closeEmitter(t testing.TB, e *Emitter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestEmitterKeepsOrderAndPlacement(t *testing.T) {
	_, cluster := simtest.Broker(t)
	e := newTestEmitter(t, Config{Cluster: cluster})
	const n = 20_000
	for i := range n {
		event := testEvent(i)
		if err := e.Emit(t.Context(), &event); err != nil {
			t.Fatal(err)
		}
	}
	closeEmitter(t, e)
	if s := e.Stats(); s != (Stats{Emitted: n, Acknowledged: n}) {
		t.Fatalf("stats %+v", s)
	}
	placement := sarama.NewCustomHashPartitioner(kafka.Hasher)("toll") // goka's
	next := map[string]int32{}
	for _, r := range readAll(t, cluster, "toll", n) {
		want, err := placement.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(r.Key)}, 4)
		if err != nil || r.Partition != want {
			t.Fatalf("key %s is in partition %d, goka puts it into %d (%v)", r.Key, r.Partition, want, err)
		}
		if len(r.Headers) > 0 {
			t.Fatalf("CSV has headers: %v", r.Headers)
		}
		var event toll.Event
		if err := codecs.NewDecoder(codecs.CSV, toll.NewZone(time.UTC)).Decode(r.Value, "",
			&event); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(event.Plaza) != string(r.Key) {
			t.Fatalf("plaza %d has key %s", event.Plaza, r.Key)
		}
		if event.Vehicle <= next[string(r.Key)] {
			t.Fatalf("plaza %s: vehicle %d after %d", r.Key, event.Vehicle, next[string(r.Key)])
		}
		next[string(r.Key)] = event.Vehicle
	}
}

func TestEmitterFormatsAndHeaders(t *testing.T) {
	for _, format := range []codecs.Format{codecs.JSON, codecs.Protobuf} {
		t.Run(format.String(), func(t *testing.T) {
			_, cluster := simtest.Broker(t)
			e := newTestEmitter(t, Config{Cluster: cluster, Format: format})
			want := testEvent(1)
			if err := e.Emit(t.Context(), &want); err != nil {
				t.Fatal(err)
			}
			closeEmitter(t, e)
			r := readAll(t, cluster, "toll", 1)[0]
			if len(r.Headers) != 1 || r.Headers[0].Key != codecs.ContentTypeHeader {
				t.Fatalf("headers %v", r.Headers)
			}
			var got toll.Event
			if err := codecs.NewDecoder(codecs.Auto, toll.NewZone(time.UTC)).Decode(r.Value,
				string(r.Headers[0].Value), &got); err != nil || got != want {
				t.Fatalf("got %v (%v), want %v", got, err, want)
			}
		})
	}
}

func TestEmitterRaw(t *testing.T) {
	_, cluster := simtest.Broker(t)
	e := newTestEmitter(t, Config{Cluster: cluster})
	payload := []byte("not an event")
	if err := e.EmitRaw(t.Context(), "4856", payload, goka.Headers{"k": []byte("v")}); err != nil {
		t.Fatal(err)
	}
	copy(payload, "overwritten!") // the emitter keeps a copy
	if err := e.EmitRaw(t.Context(), "4856", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.EmitRaw(t.Context(), "", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	closeEmitter(t, e)
	for _, r := range readAll(t, cluster, "toll", 3) {
		switch {
		case r.Key == nil && string(r.Value) == "x":
		case string(r.Key) == "4856" && r.Value == nil && len(r.Headers) == 0:
		case string(r.Key) == "4856" && string(r.Value) == "not an event" && len(r.Headers) == 1:
		default:
			t.Errorf("unexpected record %+v", r)
		}
	}
}

func TestEmitterRefusesInvalidEvent(t *testing.T) {
	_, cluster := simtest.Broker(t)
	e := newTestEmitter(t, Config{Cluster: cluster})
	bad := toll.Event{Time: 0, Vehicle: -1, Type: "car", Plaza: 4000}
	if err := e.Emit(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Fatalf("error %v", err)
	}
	closeEmitter(t, e)
}

func TestEmitterMissingTopic(t *testing.T) {
	_, cluster := simtest.Broker(t)
	_, err := New(t.Context(), Config{Cluster: cluster, Topic: "nothere"})
	var permanent *toll.PermanentError
	if !errors.As(err, &permanent) || permanent.Hint != "tollstream init" {
		t.Fatalf("error %#v", err)
	}
}

func TestEmitterWaitsForKafka(t *testing.T) {
	simtest.Quiet()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var dials, after atomic.Int64
	cluster := kafka.Cluster{Brokers: []string{"127.0.0.1:1"}}.Through(
		func(dial kafka.DialFunc) kafka.DialFunc {
			return func(ctx context.Context, network, addr string) (net.Conn, error) {
				const enough = 4 // for several attempts
				if n := after.Load(); dials.Add(1) > n+enough && n > 0 {
					cancel()
				}
				return dial(ctx, network, addr)
			}
		})
	away := make(chan error, 1)
	_, err := New(ctx, Config{
		Cluster: cluster, Topic: "toll",
		OnAway: func(err error) { // would block if called twice
			away <- err
			after.Store(dials.Load())
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if len(away) != 1 {
		t.Fatal("OnAway was not called")
	}
}

// TestEmitterOutage takes acknowledgements and connections away while events are sent: each is in
// the topic once.
func TestEmitterOutage(t *testing.T) {
	c, cluster := simtest.Broker(t)
	var requests, dropped atomic.Int64
	c.ControlKey(0, func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		// Each third request is not processed but answered with a dropped connection.
		if requests.Add(1)%3 == 0 {
			dropped.Add(1)
			return nil, errors.New("drop the connection"), true
		}
		return nil, nil, false
	})
	e := newTestEmitter(t, Config{Cluster: cluster})
	const n = 3000
	for i := range n {
		event := testEvent(i)
		if err := e.Emit(t.Context(), &event); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			time.Sleep(2 * batchLinger)
		}
	}
	closeEmitter(t, e)
	// How many requests there are depends on how full the batches become.
	if dropped.Load() < 2 {
		t.Fatalf("only %d of %d requests were dropped", dropped.Load(), requests.Load())
	}
	seen := map[string]bool{}
	for _, r := range readAll(t, cluster, "toll", n) {
		if seen[string(r.Value)] {
			t.Fatalf("%s is there twice", r.Value)
		}
		seen[string(r.Value)] = true
	}
}

// TestEmitterGivesUp closes while the broker answers nothing.
func TestEmitterGivesUp(t *testing.T) {
	c, cluster := simtest.Broker(t)
	e := newTestEmitter(t, Config{Cluster: cluster})
	event := testEvent(1)
	if err := e.Emit(t.Context(), &event); err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for i := range 10 {
		event := testEvent(i)
		if err := e.Emit(t.Context(), &event); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	if err := e.Close(ctx); !errors.Is(err, errGivenUp) {
		t.Fatalf("error %v", err)
	}
	if took := time.Since(started); took > 30*time.Second {
		t.Fatalf("took %v", took)
	}
	if s := e.Stats(); s != (Stats{Emitted: 11, Acknowledged: 1}) {
		t.Fatalf("stats %+v", s)
	}
}

func TestEmitterRecordTooLarge(t *testing.T) {
	_, cluster := simtest.Broker(t)
	admin, err := cluster.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CreateTopic(t.Context(), "small", 1, 1,
		map[string]string{maxMessageBytes: "2000"}); err != nil {
		t.Fatal(err)
	}
	e := newTestEmitter(t, Config{Cluster: cluster, Topic: "small"})
	big := []byte(strings.Repeat("x", 4000))
	for i := range 300 {
		payload := []byte("payload")
		if i == 150 {
			payload = big
		}
		if err := e.EmitRaw(t.Context(), "4000", payload, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err = e.Close(ctx)
	s := e.Stats()
	if !errors.Is(err, sarama.ErrMessageSizeTooLarge) ||
		s != (Stats{Emitted: 300, Acknowledged: 299, Failed: 1}) {
		t.Fatalf("error %v, stats %+v", err, s)
	}
}

// benchCluster is the broker of TOLLSTREAM_BENCH_BROKERS, with a topic toll, or one in this
// process.
func benchCluster(b *testing.B) kafka.Cluster {
	if brokers := os.Getenv("TOLLSTREAM_BENCH_BROKERS"); brokers != "" {
		simtest.Quiet()
		return kafka.Cluster{Brokers: strings.Split(brokers, ","), ClientID: "bench"}
	}
	_, cluster := simtest.Broker(b)
	return cluster
}

func benchEvents() []toll.Event {
	r := rand.New(rand.NewPCG(1, 1))
	events := make([]toll.Event, 4096)
	for i := range events {
		events[i] = testEvent(int(r.Int32N(9_000_000)))
		events[i].Time = 1644488582
	}
	return events
}

func BenchmarkEmit(b *testing.B) {
	b.Run("goka", func(b *testing.B) {
		e := newTestEmitter(b, Config{Cluster: benchCluster(b)})
		events := benchEvents()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := e.Emit(b.Context(), &events[i%len(events)]); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		closeEmitter(b, e)
	})
	b.Run("kgo", func(b *testing.B) {
		c, err := kgo.NewClient(kgo.SeedBrokers(benchCluster(b).Brokers...),
			kgo.DefaultProduceTopic("toll"),
			kgo.ProducerBatchMaxBytes(maxBatchBytes), kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.MaxBufferedRecords(200_000),
			kgo.ProducerLinger(batchLinger))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		events := benchEvents()
		keys := map[int16][]byte{}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			event := &events[i%len(events)]
			key, ok := keys[event.Plaza]
			if !ok {
				key = fmt.Append(nil, event.Plaza)
				keys[event.Plaza] = key
			}
			c.Produce(b.Context(),
				&kgo.Record{Key: key, Value: codecs.AppendCSV(make([]byte, 0, 64), event)}, func(_ *kgo.Record,
					err error) {
					if err != nil {
						b.Error(err)
					}
				})
		}
		if err := c.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}
