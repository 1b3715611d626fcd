// Package fetch reads partitions of a topic as the brokers store them: with leader epochs, batch by
// batch, and with an answer to whether a log is still the one that was consumed.
//
// A consumer of a client library hides what this needs. sarama shows no leader epochs; kgo's
// consumer goes on at an offset of its own choice where a log lost its end. So this package sends
// the requests itself, over kgo's connections.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/wait"
)

// MaxInflated is the most that a batch of records may inflate to, in bytes. Producers gather a
// megabyte by default before they compress. It is this tight because records may be as small as 8
// bytes, of which each takes some hundred in memory.
const MaxInflated = 16 << 20

// Client reads the partitions of one topic. It is safe for concurrent use.
type Client struct {
	topic    string
	conn     *Conn
	connects atomic.Int64 // connections to brokers so far

	mu      sync.Mutex
	leaders map[int32]leader
}

// leader is where a partition is read.
type leader struct {
	id    int32
	epoch int32
}

// NewClient returns a client that connects when it is used first. The options say where the brokers
// are and how they are reached.
func NewClient(topic string, options ...kgo.Opt) (*Client, error) {
	c := &Client{topic: topic, leaders: map[int32]leader{}}
	var err error
	c.conn, err = Connect(append(options, kgo.WithHooks(connectHook{c}))...)
	return c, err
}

// Conn is connections to brokers that several clients may share.
type Conn struct {
	*kgo.Client
	decompressor kgo.Decompressor // with the bound
}

// Connect returns connections that are made when they are used first.
func Connect(options ...kgo.Opt) (*Conn, error) {
	cl, err := kgo.NewClient(append(options, kgo.MaxDecompressBatchBytes(MaxInflated))...)
	if err != nil {
		return nil, err
	}
	decompressor, ok := cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	if !ok {
		cl.Close()
		return nil, errors.New("the Kafka client has no decompressor")
	}
	return &Conn{cl, decompressor}, nil
}

// Topic returns a client of one topic that shares the connections, and is not to be closed.
func (c *Conn) Topic(topic string) *Client {
	return &Client{topic: topic, conn: c, leaders: map[int32]leader{}}
}

// Close closes the connections.
func (c *Client) Close() { c.conn.Close() }

// Connects returns how many connections were made so far. What is read after the number was read
// comes from those brokers, running without a break, that were connected by then, until the number
// changes.
func (c *Client) Connects() int64 { return c.connects.Load() }

type connectHook struct{ c *Client }

// OnBrokerConnect implements kgo.HookBrokerConnect. It is called before a connection is used.
func (h connectHook) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) {
	h.c.connects.Add(1)
}

// leader returns the leader of a partition, as it was asked for last.
func (c *Client) leader(ctx context.Context, partition int32) (leader, error) {
	c.mu.Lock()
	l, ok := c.leaders[partition]
	c.mu.Unlock()
	if ok {
		return l, nil
	}
	if err := c.findLeaders(ctx, partition); err != nil {
		return leader{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok = c.leaders[partition]; !ok {
		return leader{}, fmt.Errorf("topic %s has no partition %d: %w", c.topic, partition,
			kerr.UnknownTopicOrPartition)
	}
	return l, nil
}

// findLeaders asks who leads the partitions. That one of them has no leader is an error for that
// one alone.
func (c *Client) findLeaders(ctx context.Context, partition int32) error {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &c.topic
	req.Topics = append(req.Topics, topic)
	response, err := req.RequestWith(ctx, c.conn.Client)
	if err != nil {
		return fmt.Errorf("ask for the leaders of topic %s: %w", c.topic, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range response.Topics {
		t := &response.Topics[i]
		if t.Topic == nil || *t.Topic != c.topic {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("ask for the leaders of topic %s: %w", c.topic, err)
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if p.ErrorCode == 0 || p.ErrorCode == kerr.ReplicaNotAvailable.Code {
				c.leaders[p.Partition] = leader{p.Leader, p.LeaderEpoch}
			} else if p.Partition == partition {
				return fmt.Errorf("ask for the leader of partition %d of topic %s: %w", partition, c.topic,
					kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	return nil
}

// followLeaders asks for the leaders now and then, until ctx ends.
func (c *Client) followLeaders(ctx context.Context) {
	for range wait.Every(ctx, leadersEvery) {
		_ = c.findLeaders(ctx, -1) // those that were known stay
	}
}

// knownLeader returns the broker that leads a partition by what is known, -1 for not known.
func (c *Client) knownLeader(partition int32) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.leaders[partition]; ok {
		return l.id
	}
	return -1
}

// forgetLeader makes the next request ask again who leads a partition.
func (c *Client) forgetLeader(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leaders, partition)
}

// forget makes the next request ask again who leads a partition, unless that is known already.
func (c *Client) forget(partition int32, old leader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaders[partition] == old {
		delete(c.leaders, partition)
	}
}

// ErrUnexpectedResponse is a response without what was requested.
var ErrUnexpectedResponse = errors.New("the broker's answer lacks what was asked for")

// RequestTimeout bounds a request of which a broker need not wait for anything.
const RequestTimeout = 30 * time.Second

// ask sends a request to the leader of a partition. check returns the error in the response. Where
// that says that another broker leads, or that this one can't answer yet, it is tried again until
// ctx ends, at most for RequestTimeout.
func (c *Client) ask(ctx context.Context, partition int32, request func(leader) kmsg.Request,
	check func(kmsg.Response) error) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		l, err := c.leader(ctx, partition)
		if err == nil {
			var response kmsg.Response
			if response, err = c.conn.Broker(int(l.id)).Request(ctx, request(l)); err == nil {
				err = check(response)
			}
			if err != nil {
				c.forget(partition, l)
			}
		}
		if err == nil || !temporary(err) || wait.For(ctx, pause) != nil {
			return err
		}
	}
}

// temporary reports whether an error of one request may pass within moments.
func temporary(err error) bool {
	var refused *kerr.Error
	return errors.As(err, &refused) && refused.Retriable
}

// Bounds returns the first offset that a partition holds, and the one behind the last that all
// in-sync replicas have.
func (c *Client) Bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	if start, err = c.listOffset(ctx, partition, -2); err == nil {
		end, err = c.listOffset(ctx, partition, -1)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the offsets of partition %d of topic %s: %w", partition, c.topic,
			err)
	}
	return start, end, nil
}

func (c *Client) listOffset(ctx context.Context, partition int32, timestamp int64) (offset int64,
	err error) {
	err = c.ask(ctx, partition, func(l leader) kmsg.Request {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.Timestamp = partition, l.epoch, timestamp
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic, t.Partitions = c.topic, append(t.Partitions, p)
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID, req.Topics = -1, append(req.Topics, t)
		return req
	}, func(response kmsg.Response) error {
		r, ok := response.(*kmsg.ListOffsetsResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return ErrUnexpectedResponse
		}
		p := &r.Topics[0].Partitions[0]
		offset = p.Offset
		return kerr.ErrorForCode(p.ErrorCode)
	})
	return offset, err
}

// epochEnd returns, of the highest leader epoch up to one, where it ends in the leader's log; -1
// where the leader knows none. An epoch below 0 stands for the present one, which ends where the
// leader's log does. current is the present epoch.
func (c *Client) epochEnd(ctx context.Context, partition, epoch int32) (end int64, current int32,
	err error) {
	err = c.ask(ctx, partition, func(l leader) kmsg.Request {
		current = l.epoch
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, l.epoch, epoch
		if epoch < 0 {
			p.LeaderEpoch = l.epoch
		}
		t := kmsg.NewOffsetForLeaderEpochRequestTopic()
		t.Topic, t.Partitions = c.topic, append(t.Partitions, p)
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID, req.Topics = -1, append(req.Topics, t)
		return req
	}, func(response kmsg.Response) error {
		r, ok := response.(*kmsg.OffsetForLeaderEpochResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return ErrUnexpectedResponse
		}
		p := &r.Topics[0].Partitions[0]
		end = p.EndOffset
		return kerr.ErrorForCode(p.ErrorCode)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask where epoch %d of partition %d of topic %s ends: %w", epoch,
			partition, c.topic, err)
	}
	return end, current, nil
}

// fetchRequest asks a leader for what partitions hold from their offsets on.
func (c *Client) fetchRequest(wait time.Duration, most int32, isolation int8,
	parts ...kmsg.FetchRequestTopicPartition) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, most
	req.IsolationLevel, req.SessionEpoch = isolation, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = c.topic, parts
	req.Topics = append(req.Topics, t)
	return req
}

// fetchOne asks the leader of a partition for what it holds from an offset on, about most bytes of
// it.
func (c *Client) fetchOne(ctx context.Context, partition int32, offset int64, pause time.Duration,
	most int32, isolation int8, check func(*kmsg.FetchResponseTopicPartition) error) error {
	return c.ask(ctx, partition, func(l leader) kmsg.Request {
		return c.fetchRequest(pause, most, isolation, fetchPartition(partition, offset, l.epoch, most))
	}, func(response kmsg.Response) error {
		r, ok := response.(*kmsg.FetchResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return ErrUnexpectedResponse
		}
		p := &r.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return err
		}
		return check(p)
	})
}

func fetchPartition(partition int32, offset int64, epoch,
	most int32) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.PartitionMaxBytes = partition, offset, epoch,
		most
	return p
}

// record returns the record at an offset, nil where the log holds none there. It is temporary that
// nothing comes at all.
func (c *Client) record(ctx context.Context, partition int32,
	offset int64) (found *kgo.Record, err error) {
	check := func(p *kmsg.FetchResponseTopicPartition) error {
		if len(p.RecordBatches) == 0 {
			return kerr.OffsetNotAvailable
		}
		records, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true,
			Offset: offset, Topic: c.topic, Partition: partition},
			p, c.conn.decompressor, nil)
		for _, candidate := range records.Records {
			if candidate.Offset == offset {
				found = candidate
				return nil
			}
		}
		return records.Err
	}
	// Of one byte brokers make one batch.
	if err := c.fetchOne(ctx, partition, offset, 100*time.Millisecond, 1, 0, check); err != nil {
		return nil, fmt.Errorf("read the record at offset %d of partition %d of topic %s: %w", offset,
			partition, c.topic, err)
	}
	return found, nil
}

// Reading of a topic of ours, from its beginning or up to its end.
const (
	readBytes = 1 << 20
	readWait  = 500 * time.Millisecond
)

// ReadSome returns records of a partition from an offset on, about a MiB of them, as a consumer of
// committed records gets them, and the offset to go on at. That is the same one where nothing came
// within half a second: the end was reached, or a transaction is open.
func (c *Client) ReadSome(ctx context.Context, partition int32, from int64) (records []*kgo.Record,
	next int64, err error) {
	check := func(p *kmsg.FetchResponseTopicPartition) error {
		var fetched kgo.FetchPartition
		fetched, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
			Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: c.topic, Partition: partition,
		}, p, c.conn.decompressor, nil)
		if records = fetched.Records; len(records) > 0 {
			return nil // an error is met again
		}
		return fetched.Err
	}
	err = c.fetchOne(ctx, partition, from, readWait, readBytes, 1, check)
	return records, next, err
}

// Read reads the committed records of a partition from an offset up to another, and returns where
// to go on: at that offset or behind it, or, with an error, where it stopped. Each record is valid
// until each returns.
func (c *Client) Read(ctx context.Context, partition int32, from, to int64,
	each func(*kgo.Record)) (next int64, err error) {
	for next = from; next < to; {
		records, end, err := c.ReadSome(ctx, partition, next)
		if err != nil {
			return next, fmt.Errorf("read partition %d of topic %s from offset %d: %w", partition, c.topic,
				next, err)
		}
		for _, record := range records {
			each(record)
		}
		next = end // also behind batches that compaction emptied
	}
	return next, nil
}
