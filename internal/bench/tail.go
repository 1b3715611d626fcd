package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
)

// tail reads a group table's changelog from its end on, as a view does, and notes when what was
// merged.
type tail struct {
	client *kgo.Client
	ended  chan struct{}

	mu     sync.Mutex
	merges map[mergeKey][]merge
	err    error
}

// mergeKey is a plaza and the partition of the events.
type mergeKey struct {
	plaza     int16
	partition int32
}

// merge is when a state with all events below an offset was in the changelog, and when it was read.
type merge struct {
	next         int64
	merged, read time.Time
}

// follow starts a tail. It has reached the end of the changelog when it returns.
func (w *world) follow(ctx context.Context) (*tail, error) {
	topic := w.name + "-table"
	client, err := kgo.NewClient(kgo.SeedBrokers(w.b.kafka.Addr()), kgo.ConsumeTopics(topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return nil, err
	}
	t := &tail{client: client, ended: make(chan struct{}), merges: map[mergeKey][]merge{}}
	go t.run(ctx)
	return t, nil
}

func (t *tail) close() {
	t.client.Close()
	<-t.ended
}

func (t *tail) run(ctx context.Context) {
	defer close(t.ended)
	for {
		fetches := t.client.PollFetches(ctx)
		if fetches.IsClientClosed() || ctx.Err() != nil {
			return
		}
		now := time.Now()
		t.mu.Lock()
		fetches.EachError(func(_ string, _ int32, err error) { t.err = err })
		fetches.EachRecord(func(r *kgo.Record) {
			if err := t.add(r, now); err != nil {
				t.err = err
			}
		})
		t.mu.Unlock()
	}
}

func (t *tail) add(r *kgo.Record, now time.Time) error {
	if len(r.Value) == 0 {
		return nil
	}
	state, err := wire.DecodeState(r.Value)
	if err != nil {
		return fmt.Errorf("read the group table: %w", err)
	}
	var plaza int16
	if _, err := fmt.Sscan(string(r.Key), &plaza); err != nil {
		return fmt.Errorf("read a plaza of the group table: %w", err)
	}
	for _, m := range state.Merged {
		key := mergeKey{plaza, m.Partition}
		seen := t.merges[key]
		if len(seen) == 0 || seen[len(seen)-1].next < m.Next {
			t.merges[key] = append(seen, merge{m.Next, r.Timestamp, now})
		}
	}
	return nil
}

// merged returns when a plaza's events of a partition below an offset were merged.
func (t *tail) merged(plaza int16, partition int32, next int64) (merge, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.merges[mergeKey{plaza, partition}]
	i, _ := slices.BinarySearchFunc(seen, next, func(m merge, next int64) int {
		return int(m.next - next)
	})
	if i == len(seen) {
		return merge{}, false, t.err
	}
	return seen[i], true, t.err
}

// latencies are those of batches, in milliseconds from when a batch's oldest event was produced:
// until the batch was stored, the last of its plazas was merged, and that was read.
type latencies struct{ stored, merged, read []float64 }

// batch is a row of toll_batch, with its records.
type batch struct {
	partition   int32
	first, next int64
	stored      time.Time
	oldest      time.Time
	plazas      map[int16]int64 // per plaza the offset after its last event
}

// latencies returns those of the batches whose oldest event was produced from a moment on. It waits
// until all are merged.
func (w *world) latencies(ctx context.Context, t *tail, from time.Time) (*latencies, error) {
	batches, err := w.batches(ctx, from)
	if err != nil {
		return nil, err
	}
	l := &latencies{}
	since := func(b *batch, at time.Time) float64 {
		return float64(at.Sub(b.oldest).Microseconds()) / 1000
	}
	for _, b := range batches {
		if b.oldest.Before(from) {
			continue
		}
		var merged, read time.Time
		for plaza, next := range b.plazas {
			var m merge
			err := await(ctx, "a batch to be merged", func() (ok bool, err error) {
				m, ok, err = t.merged(plaza, b.partition, next)
				return ok, err
			})
			if err != nil {
				return nil, err
			}
			if m.merged.After(merged) {
				merged = m.merged
			}
			if m.read.After(read) {
				read = m.read
			}
		}
		l.stored = append(l.stored, since(b, b.stored))
		l.merged = append(l.merged, since(b, merged))
		l.read = append(l.read, since(b, read))
	}
	if len(l.stored) == 0 {
		return nil, fmt.Errorf("no batch was timed")
	}
	return l, nil
}

// batches returns those that were stored from a moment on, once all records are stored.
func (w *world) batches(ctx context.Context, from time.Time) ([]*batch, error) {
	records, err := w.b.records(ctx, func(topic string) bool { return topic == w.topic })
	if err != nil {
		return nil, err
	}
	err = await(ctx, "all records to be stored", func() (bool, error) {
		var stored int64
		err := w.db.QueryRowContext(ctx,
			`SELECT COALESCE(SUM(next_offset), 0) FROM toll_cursor`).Scan(&stored)
		return stored >= records, err
	})
	if err != nil {
		return nil, err
	}
	rows, err := w.db.QueryContext(ctx, `SELECT partition_id, first_offset, next_offset,
		CAST(stored_at AS CHAR) FROM toll_batch WHERE events > 0 AND stored_at >= ?
		ORDER BY partition_id, first_offset`, from.UTC().Format(storedAt))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var batches []*batch
	for rows.Next() {
		b := batch{plazas: map[int16]int64{}}
		var text string
		if err := rows.Scan(&b.partition, &b.first, &b.next, &text); err != nil {
			return nil, err
		}
		if b.stored, err = time.Parse(storedAt, text); err != nil {
			return nil, err
		}
		batches = append(batches, &b)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return batches, w.readRecords(ctx, batches)
}

// readRecords reads the records of batches from the topic.
func (w *world) readRecords(ctx context.Context, batches []*batch) error {
	byPartition := map[int32][]*batch{}
	starts := map[int32]kgo.Offset{}
	var left int64
	for _, b := range batches {
		if byPartition[b.partition] == nil {
			starts[b.partition] = kgo.NewOffset().At(b.first)
		}
		byPartition[b.partition] = append(byPartition[b.partition], b)
		left += b.next - b.first
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(w.b.kafka.Addr()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.topic: starts}))
	if err != nil {
		return err
	}
	defer client.Close()
	decoder := codecs.NewDecoder(codecs.CSV, nil)
	var e toll.Event
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			of := byPartition[r.Partition]
			for len(of) > 0 && of[0].next <= r.Offset {
				of = of[1:]
			}
			byPartition[r.Partition] = of
			if len(of) == 0 || r.Offset < of[0].first {
				return
			}
			left--
			b := of[0]
			if b.oldest.IsZero() || r.Timestamp.Before(b.oldest) {
				b.oldest = r.Timestamp
			}
			if decodeErr := decoder.Decode(r.Value, "", &e); decodeErr != nil {
				err = decodeErr
				return
			}
			b.plazas[e.Plaza] = r.Offset + 1
		})
		if err != nil {
			return err
		}
	}
	return nil
}
