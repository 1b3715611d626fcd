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

	mu     sync.Mutex // so that it can be closed while someone reads
	client sarama.Client
	closed bool
}

// NewWatermarkReader returns a reader for a topic of events.
func NewWatermarkReader(cluster Cluster, topic string) *WatermarkReader {
	return &WatermarkReader{cluster: cluster, topic: topic, emptied: map[int32][2]int64{}}
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
	w := watcher{cfg: cfg, client: client, emptied: r.emptied}
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

// Waiting returns how many offsets of the topic are at or above the cursors: records that are not stored yet, and perhaps a few of
// Kafka's own. The cursors were read before, so what comes meanwhile counts as well.
func (r *WatermarkReader) Waiting(cursors []toll.Cursor) (int64, error) {
	client, err := r.connect()
	if err != nil {
		return 0, explainKafka(err)
	}
	partitions, err := client.Partitions(r.topic)
	if err != nil {
		return 0, explainKafka(fmt.Errorf("describe topic %s: %w", r.topic, err))
	}
	next := map[int32]int64{}
	for _, c := range cursors {
		next[c.Partition] = c.Next
	}
	var waiting int64
	for _, p := range partitions {
		end, err := client.GetOffset(r.topic, p, sarama.OffsetNewest)
		from, begun := next[p]
		if err == nil && !begun {
			from, err = client.GetOffset(r.topic, p, sarama.OffsetOldest)
		}
		if err != nil {
			return 0, explainKafka(fmt.Errorf("read the bounds of partition %d of topic %s: %w", p, r.topic, err))
		}
		waiting += max(0, end-from)
	}
	return waiting, nil
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
