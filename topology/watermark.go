package topology

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"tollstream/toll"
)

// WatermarkReader tells the stream's watermark by the rule of a processor, to those who only look on. It connects when it
// is first read. One reads at a time.
type WatermarkReader struct {
	cluster Cluster
	topic   string
	emptied map[int32][2]int64
	blocked *openTransactions // of partitions that the watermark leaves out, or will
	open    *openTransactions

	mu     sync.Mutex // so that it can be closed while someone reads
	client sarama.Client
	closed bool
}

// NewWatermarkReader returns a reader for a topic of events.
func NewWatermarkReader(cluster Cluster, topic string) *WatermarkReader {
	return &WatermarkReader{cluster: cluster, topic: topic, emptied: map[int32][2]int64{},
		blocked: newOpenTransactions(), open: newOpenTransactions()}
}

// Read returns the watermark of cursors that were read at one moment. Kafka is asked for the end of those partitions
// alone that would be left out as idle.
func (r *WatermarkReader) Read(cursors []toll.Cursor, lateness, idle time.Duration) (toll.Watermark, error) {
	client, err := r.connect()
	if err != nil {
		return toll.Watermark{}, explainKafka(err)
	}
	// Asked anew each time: what the client remembers would hide for long that the broker is away.
	if err := client.RefreshMetadata(r.topic); err != nil {
		return toll.Watermark{}, explainKafka(fmt.Errorf("describe topic %s: %w", r.topic, err))
	}
	partitions, err := client.Partitions(r.topic)
	if err != nil {
		return toll.Watermark{}, explainKafka(fmt.Errorf("describe topic %s: %w", r.topic, err))
	}
	cfg := &Config{Topic: r.topic, Lateness: lateness, Idle: idle}
	w := watcher{cfg: cfg, client: client, emptied: r.emptied, blocked: r.blocked}
	h, err := horizonOf(cfg, cursors, len(partitions), func(partition int32, next int64) (bool, error) {
		caughtUp, err := w.caughtUp(partition, next)
		if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			return false, nil // those who look on may not be allowed to read the events
		}
		return caughtUp, err
	})
	if err != nil {
		return toll.Watermark{}, explainKafka(err)
	}
	return h.mark, nil
}

// Backlog is what of the topic is not stored yet.
type Backlog struct {
	// Offsets at or above the cursors: records that are not stored yet, and perhaps a few of Kafka's
	// own. The cursors were read before, so what comes meanwhile counts as well.
	Offsets int64
	// Open are the transactions that keep some of them from being read, ascending by partition.
	Open []OpenTransaction
}

// Backlog returns what of the topic is not stored yet.
func (r *WatermarkReader) Backlog(cursors []toll.Cursor) (Backlog, error) {
	client, err := r.connect()
	if err != nil {
		return Backlog{}, explainKafka(err)
	}
	partitions, err := client.Partitions(r.topic)
	if err != nil {
		return Backlog{}, explainKafka(fmt.Errorf("describe topic %s: %w", r.topic, err))
	}
	next := map[int32]int64{}
	for _, c := range cursors {
		next[c.Partition] = c.Next
	}
	var b Backlog
	for _, p := range partitions {
		end, err := client.GetOffset(r.topic, p, sarama.OffsetNewest)
		from, begun := next[p]
		if err == nil && !begun {
			from, err = client.GetOffset(r.topic, p, sarama.OffsetOldest)
		}
		if err != nil {
			return Backlog{}, explainKafka(fmt.Errorf("read the bounds of partition %d of topic %s: %w", p, r.topic, err))
		}
		b.Offsets += max(0, end-from)
		stable := end
		if from < end { // else nothing of it waits for the end of a transaction
			if stable, err = stableEnd(client, r.topic, p); err != nil {
				return Backlog{}, explainKafka(err)
			}
		}
		if t, open := r.open.look(p, stable, end); open {
			b.Open = append(b.Open, t)
		}
	}
	return b, nil
}

func (r *WatermarkReader) connect() (sarama.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, sarama.ErrClosedClient
	}
	if r.client == nil {
		client, err := sarama.NewClient(r.cluster.Brokers, r.cluster.Config("watermark"))
		if err != nil {
			return nil, r.cluster.explainConnect(err)
		}
		r.client = client
	}
	return r.client, nil
}

// Close ends the connection, if there is one.
func (r *WatermarkReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.client == nil {
		return nil
	}
	err := r.client.Close()
	r.client = nil
	return err
}
