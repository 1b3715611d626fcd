package topology

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Places within a batch of records, by Kafka's protocol, version 2 of the format.
const (
	batchLengthAt    = 8
	batchLastDeltaAt = 23
	batchTimeAt      = 27
	batchRecordsAt   = 57
	batchHeaderBytes = 61
)

// rawClient fetches batches as they are stored, which sarama does not give out. It connects when it is asked first.
type rawClient struct {
	cluster Cluster
	client  *kgo.Client
}

func (r *rawClient) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// fetch returns what a partition holds from an offset on: a batch, and what follows it within some bytes, of which the last
// may be cut off.
func (r *rawClient) fetch(ctx context.Context, leader int32, topic string, partition int32, offset int64, most int32) ([]byte, error) {
	if r.client == nil {
		client, err := kgo.NewClient(r.cluster.kgoOptions("raw")...)
		if err != nil {
			return nil, err
		}
		r.client = client
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes, request.SessionEpoch = 100, 1, most, -1
	wanted := kmsg.NewFetchRequestTopic()
	wanted.Topic = topic
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, most
	wanted.Partitions = append(wanted.Partitions, part)
	request.Topics = append(request.Topics, wanted)
	answer, err := r.client.Broker(int(leader)).Request(ctx, request)
	if err != nil {
		return nil, err
	}
	response, ok := answer.(*kmsg.FetchResponse)
	if !ok || len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, sarama.ErrIncompleteResponse
	}
	p := &response.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, sarama.KError(p.ErrorCode)
	}
	return p.RecordBatches, nil
}

// emptiedBytes is how much is fetched to find where batches without records end: some thousand of them.
const emptiedBytes = 128 << 10

// passEmptied returns the offset behind the batches without records that a partition holds from an offset on, which is below
// its end. Compaction leaves such: it keeps the last batch of each producer, emptied, for the producer's sequence. sarama
// hides them, and where they end.
func (r *rawClient) passEmptied(ctx context.Context, client sarama.Client, topic string, partition int32, offset int64) (int64, error) {
	leader, err := client.Leader(topic, partition)
	if err != nil {
		return 0, err
	}
	b, err := r.fetch(ctx, leader.ID(), topic, partition, offset, emptiedBytes)
	if err != nil {
		return 0, fmt.Errorf("fetch partition %d of %s: %w", partition, topic, err)
	}
	next := behindEmptied(b, offset)
	if next == offset {
		return 0, fmt.Errorf("fetch partition %d of %s: nothing came from offset %d on, which is not its end", partition, topic, offset)
	}
	return next, nil
}

// behindEmptied returns the offset behind the batches without records with which b begins, and at least from.
func behindEmptied(b []byte, from int64) int64 {
	for len(b) >= batchHeaderBytes && binary.BigEndian.Uint32(b[batchRecordsAt:]) == 0 {
		_, next, size := batchBounds(b)
		if size < batchHeaderBytes || size > int64(len(b)) {
			break
		}
		from = max(from, next)
		b = b[size:]
	}
	return from
}

// batchBounds reads from a batch's header its offsets [first, next) and its size in bytes, none of them checked.
func batchBounds(b []byte) (first, next, size int64) {
	first = int64(binary.BigEndian.Uint64(b))
	next = first + int64(int32(binary.BigEndian.Uint32(b[batchLastDeltaAt:]))) + 1
	return first, next, int64(int32(binary.BigEndian.Uint32(b[batchLengthAt:]))) + batchLengthAt + 4
}

// parseBatch reads the header of the batch that holds an offset.
func parseBatch(b []byte, offset int64) (oversized, error) {
	if len(b) < batchHeaderBytes {
		return oversized{}, errors.New("it is cut off")
	}
	first, next, size := batchBounds(b)
	if size < batchHeaderBytes || offset < first || offset >= next {
		return oversized{}, fmt.Errorf("it holds the offsets %d to %d in %d bytes, which can't be", first, next-1, size)
	}
	return oversized{
		first: first, next: next,
		time:  time.UnixMilli(int64(binary.BigEndian.Uint64(b[batchTimeAt:]))),
		batch: b[:min(size, int64(len(b)))],
	}, nil
}

// kgoOptions are the options of a franz-go client that reaches the cluster as sarama does.
func (c Cluster) kgoOptions(role string) []kgo.Opt {
	// Newer versions name topics by their ids.
	options := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID(c.ClientID + "-" + role), kgo.MaxVersions(kversion.V2_8_0())}
	if c.Security.TLS != nil {
		options = append(options, kgo.DialTLSConfig(c.Security.TLS.Clone()))
	} else {
		options = append(options, kgo.Dialer((&net.Dialer{Timeout: 5 * time.Second}).DialContext))
	}
	user, password := c.Security.User, string(c.Security.Password)
	switch c.Security.Mechanism {
	case Plain:
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case ScramSHA256:
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case ScramSHA512:
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return options
}
