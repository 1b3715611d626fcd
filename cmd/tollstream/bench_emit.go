package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tollstream/codecs"
	"tollstream/internal/simulate"
	"tollstream/toll"
	"tollstream/topology"
)

// emitTopic takes what is emitted for its speed alone.
const emitTopic = "emitted"

// emit measures the emit command, as fast as it goes, and franz-go's producer with the same events, one after the other;
// every other round the other goes first. Both times run from connecting to the last acknowledgement.
func (b *bench) emit(ctx context.Context, round int) error {
	if round == 0 {
		topics := topology.Topics{Topic: emitTopic, Group: emitTopic, Partitions: b.settings.Partitions, Replication: 1}
		if _, _, err := b.con.cluster.Create(topics); err != nil {
			return err
		}
		if err := b.emitOurs(ctx, b.settings.Events/10); err != nil { // warms the broker up
			return err
		}
	}
	type producer struct {
		figure string
		emit   func(context.Context, int) error
		rate   float64
	}
	ours, theirs := &producer{"emit_events_per_second", b.emitOurs, 0}, &producer{"kgo_events_per_second", b.emitTheirs, 0}
	turns := []*producer{ours, theirs}
	if round%2 == 1 {
		turns = []*producer{theirs, ours}
	}
	for _, p := range turns {
		began := time.Now()
		if err := p.emit(ctx, b.settings.Events); err != nil {
			return err
		}
		p.rate = float64(b.settings.Events) / time.Since(began).Seconds()
		b.record(p.figure, p.rate)
	}
	b.record("emit_over_kgo", ours.rate/theirs.rate)
	return nil
}

// emitOurs is `tollstream emit --count N --rate 0`.
func (b *bench) emitOurs(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	s := &emitSettings{connection: b.con, count: int64(n), plazas: benchPlazas(b.settings.Plazas), seed: 3, format: codecs.CSV}
	s.topic = emitTopic
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	return a.emit(ctx, s)
}

// The settings of topology's emitter, for franz-go's producer.
const (
	kgoBatchBytes    = 512 << 10
	kgoBufferedBytes = 8 << 20
	kgoLinger        = 10 * time.Millisecond
)

// emitTheirs sends the same events, keyed and placed in the same way, by franz-go's producer: idempotent, acknowledged
// by all replicas, not compressed. Its records are allocated by the thousand, as it keeps each until it is acknowledged.
func (b *bench) emitTheirs(ctx context.Context, n int) error {
	placement := kgo.SaramaCompatHasher(func(key []byte) uint32 {
		h := fnv.New32a()
		h.Write(key)
		return h.Sum32()
	})
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.con.cluster.Brokers...), kgo.DefaultProduceTopic(emitTopic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(kgoLinger), kgo.ProducerBatchMaxBytes(kgoBatchBytes),
		kgo.MaxBufferedRecords(1<<30), kgo.MaxBufferedBytes(kgoBufferedBytes),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(placement)))
	if err != nil {
		return err
	}
	defer client.Close()
	g := simulate.New(benchPlazas(b.settings.Plazas), 3, simulate.Live(func() time.Time { return time.Now().In(b.con.location) }))
	keys := map[int16][]byte{}
	var failed atomic.Pointer[error]
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(&err)
		}
	}
	var records []kgo.Record
	var arena []byte
	var e toll.Event
	for range n {
		if len(records) == 0 {
			records = make([]kgo.Record, 1024)
			arena = make([]byte, 0, 64<<10) // grows where that is not enough for 1024 events; what is in use stays
		}
		g.Next(&e)
		key, ok := keys[e.Plaza]
		if !ok {
			key = fmt.Append(nil, e.Plaza)
			keys[e.Plaza] = key
		}
		start := len(arena)
		arena = codecs.AppendCSV(arena, &e)
		record := &records[0]
		records = records[1:]
		record.Key, record.Value = key, arena[start:]
		client.Produce(ctx, record, done)
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
