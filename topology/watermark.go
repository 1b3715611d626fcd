package topology

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
	"github.com/tollstream/tollstream/topology/kafka"
)

// WatermarkReader computes the stream's watermark as a processor does, for those who only read. It
// connects when it is first read. One reads at a time.
type WatermarkReader struct {
	cluster kafka.Cluster
	topic   string
	ends    *closing.Ends // of partitions that the watermark leaves out, or will
	open    *kafka.OpenTransactions

	mu     sync.Mutex // so that it can be closed while someone reads
	admin  *kafka.Admin
	closed bool
}

// NewWatermarkReader returns a reader for a topic of events.
func NewWatermarkReader(cluster kafka.Cluster, topic string) *WatermarkReader {
	return &WatermarkReader{cluster: cluster, topic: topic, ends: closing.NewEnds(topic),
		open: kafka.NewOpenTransactions()}
}

// Read returns the watermark of cursors that were read at one moment. Kafka is asked for the end of
// those partitions alone that would be left out as idle.
func (r *WatermarkReader) Read(ctx context.Context, cursors []toll.Cursor, lateness,
	idle time.Duration) (toll.Watermark, error) {
	admin, err := r.connect(ctx)
	if err != nil {
		return toll.Watermark{}, err
	}
	info, err := admin.Existing(ctx, r.topic)
	if err != nil {
		return toll.Watermark{}, err
	}
	h, err := closing.HorizonOf(&closing.Config{Windowing: toll.Windowing{Lateness: lateness},
		Idle: idle}, cursors,
		info.Partitions,
		func(next map[int32]int64) (map[int32]bool, error) {
			done, err := r.ends.CaughtUp(ctx, admin, idle, next)
			if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
				return nil, nil // those who look on may not be allowed to read the events
			}
			return done, err
		})
	if err != nil {
		return toll.Watermark{}, kafka.Explain(err)
	}
	return h.Mark, nil
}

// Backlog is what of the topic is not stored yet.
type Backlog struct {
	// Offsets at or above the cursors: records that are not stored yet, and perhaps a few of Kafka's
	// own. The cursors were read before, so what comes meanwhile counts as well.
	Offsets int64
	// ByPartition are the same of the partitions that have any and wait for no transaction.
	ByPartition map[int32]int64
	// Ends is the sum of the ends of all partitions: it grows as records arrive.
	Ends int64
	// Open are the transactions that keep some of them from being read, ascending by partition.
	Open []kafka.OpenTransaction
}

// Backlog returns what of the topic is not stored yet.
func (r *WatermarkReader) Backlog(ctx context.Context, cursors []toll.Cursor) (b Backlog,
	err error) {
	defer func() { err = kafka.Explain(err) }()
	admin, err := r.connect(ctx)
	if err != nil {
		return b, err
	}
	info, err := admin.Existing(ctx, r.topic)
	if err != nil {
		return b, err
	}
	partitions := kafka.UpTo(info.Partitions)
	ends, err := admin.Offsets(ctx, r.topic, kafka.Newest, partitions...)
	if err != nil {
		return b, err
	}
	from, err := admin.Offsets(ctx, r.topic, kafka.Oldest, partitions...)
	if err != nil {
		return b, err
	}
	for _, c := range cursors {
		from[c.Partition] = c.Next
	}
	// Of the others nothing waits for the end of a transaction.
	behind := slices.DeleteFunc(slices.Clone(partitions), func(p int32) bool {
		return from[p] >= ends[p]
	})
	stable, err := admin.Offsets(ctx, r.topic, kafka.Stable, behind...)
	if err != nil {
		return b, err
	}
	b.ByPartition = map[int32]int64{}
	for _, p := range partitions {
		waiting := max(0, ends[p]-from[p])
		b.Offsets, b.Ends = b.Offsets+waiting, b.Ends+ends[p]
		readable, found := stable[p]
		if !found {
			readable = ends[p]
		}
		if t, open := r.open.Look(p, readable, ends[p]); open {
			b.Open = append(b.Open, t)
		} else if waiting > 0 {
			b.ByPartition[p] = waiting
		}
	}
	return b, nil
}

func (r *WatermarkReader) connect(ctx context.Context) (*kafka.Admin, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, kgo.ErrClientClosed
	}
	if r.admin == nil {
		admin, err := r.cluster.Connect(ctx)
		if err != nil {
			return nil, err
		}
		r.admin = admin
	}
	return r.admin, nil
}

// Close ends the connection, if there is one.
func (r *WatermarkReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.admin != nil {
		r.admin.Close()
		r.admin = nil
	}
	return nil
}
