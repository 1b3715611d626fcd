package kafka

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// Admin asks about topics and groups, and changes them. Its errors hold sarama's for what a broker
// refuses. Each call ends with its context, and after [fetch.RequestTimeout] at the latest. It is
// safe for concurrent use.
type Admin struct {
	conn *fetch.Conn

	mu      sync.Mutex
	readers map[string]*fetch.Client // by topic
}

// NewAdmin returns an Admin that connects when it is used first.
func NewAdmin(options ...kgo.Opt) (*Admin, error) {
	conn, err := fetch.Connect(append(options,
		// The callers retry by themselves, and report the errors meanwhile.
		kgo.RequestRetries(3), kgo.RetryBackoffFn(func(int) time.Duration {
			return 100 * time.Millisecond
		}))...)
	if err != nil {
		return nil, err
	}
	return &Admin{conn: conn, readers: map[string]*fetch.Client{}}, nil
}

// Close closes the connections.
func (a *Admin) Close() { a.conn.Close() }

// Ping asks any broker whether it is there.
func (a *Admin) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetch.RequestTimeout)
	defer cancel()
	return Coded(a.conn.Ping(ctx))
}

// Topic is what a cluster says of a topic.
type Topic struct {
	Name       string
	ID         string // as Kafka prints it, 22 characters
	Partitions int
	Replicas   int // of the first partition
}

// Topic returns what the cluster says of a topic, and false where there is none.
func (a *Admin) Topic(ctx context.Context, name string) (t Topic, found bool, err error) {
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &name
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = append(request.Topics, asked)
	topic, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.MetadataResponse) []kmsg.MetadataResponseTopic { return r.Topics },
		func(i *kmsg.MetadataResponseTopic) (int16, *string) { return i.ErrorCode, nil })
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return Topic{}, false, nil
	case err != nil:
		return Topic{}, false, fmt.Errorf("describe topic %s: %w", name, Coded(err))
	}
	t = Topic{Name: name, ID: base64.RawURLEncoding.EncodeToString(topic.TopicID[:]),
		Partitions: len(topic.Partitions)}
	if len(topic.Partitions) > 0 {
		t.Replicas = len(topic.Partitions[0].Replicas)
	}
	return t, true, nil
}

// CreateTopic creates a topic. That it exists is an error.
func (a *Admin) CreateTopic(ctx context.Context, name string, partitions, replicas int,
	settings map[string]string) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions),
		int16(replicas)
	for key, value := range settings {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = key, &value
		topic.Configs = append(topic.Configs, config)
	}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis, request.Topics = serverTimeout, append(request.Topics, topic)
	_, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.CreateTopicsResponse) []kmsg.CreateTopicsResponseTopic { return r.Topics },
		func(i *kmsg.CreateTopicsResponseTopic) (int16, *string) { return i.ErrorCode, i.ErrorMessage })
	return wrap(err, "create topic %s", name)
}

// DeleteTopic deletes a topic. That there is none is an error.
func (a *Admin) DeleteTopic(ctx context.Context, name string) error {
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = &name
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TimeoutMillis = serverTimeout
	request.TopicNames, request.Topics = append(request.TopicNames, name), append(request.Topics,
		topic)
	_, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.DeleteTopicsResponse) []kmsg.DeleteTopicsResponseTopic { return r.Topics },
		func(i *kmsg.DeleteTopicsResponseTopic) (int16, *string) { return i.ErrorCode, i.ErrorMessage })
	return wrap(err, "delete topic %s", name)
}

// Settings returns settings of a topic by name, all of them for no names.
func (a *Admin) Settings(ctx context.Context, topic string, names ...string) (map[string]string,
	error) {
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeTopic,
		topic, names
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.Resources = append(request.Resources, resource)
	described, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.DescribeConfigsResponse) []kmsg.DescribeConfigsResponseResource {
			return r.Resources
		},
		func(i *kmsg.DescribeConfigsResponseResource) (int16, *string) {
			return i.ErrorCode, i.ErrorMessage
		})
	if err != nil {
		return nil, wrap(err, "read the settings of topic %s", topic)
	}
	settings := map[string]string{}
	for _, c := range described.Configs {
		if c.Value != nil {
			settings[c.Name] = *c.Value
		}
	}
	return settings, nil
}

// Members returns how many members a group has.
func (a *Admin) Members(ctx context.Context, group string) (int, error) {
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = append(request.Groups, group)
	described, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.DescribeGroupsResponse) []kmsg.DescribeGroupsResponseGroup { return r.Groups },
		func(i *kmsg.DescribeGroupsResponseGroup) (int16, *string) { return i.ErrorCode, nil })
	if err != nil {
		return 0, wrap(err, "describe group %s", group)
	}
	return len(described.Members), nil
}

// DeleteGroup deletes a group's offsets. That there is none is an error.
func (a *Admin) DeleteGroup(ctx context.Context, group string) error {
	request := kmsg.NewPtrDeleteGroupsRequest()
	request.Groups = append(request.Groups, group)
	_, err := one(ctx, a, request.RequestWith,
		func(r *kmsg.DeleteGroupsResponse) []kmsg.DeleteGroupsResponseGroup { return r.Groups },
		func(i *kmsg.DeleteGroupsResponseGroup) (int16, *string) { return i.ErrorCode, nil })
	return wrap(err, "delete group %s", group)
}

// RemoveMember takes a static member out of a group.
func (a *Admin) RemoveMember(ctx context.Context, group, instance string) error {
	ctx, cancel := context.WithTimeout(ctx, fetch.RequestTimeout)
	defer cancel()
	member := kmsg.NewLeaveGroupRequestMember()
	member.InstanceID = &instance
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.Members = group, append(request.Members, member)
	response, err := request.RequestWith(ctx, a.conn)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	for i := 0; err == nil && i < len(response.Members); i++ {
		err = kerr.ErrorForCode(response.Members[i].ErrorCode)
	}
	return wrap(err, "take %s out of group %s", instance, group)
}

// At is one of the offsets that a partition is known by.
type At int

// The offsets of a partition.
const (
	Oldest At = iota // its first record
	Newest           // behind the last record that all in-sync replicas have
	Stable           // its first record of an open transaction, or Newest where there is none
)

// Offsets returns one of the offsets of each partition.
func (a *Admin) Offsets(ctx context.Context, topic string, at At,
	partitions ...int32) (map[int32]int64, error) {
	offsets := make(map[int32]int64, len(partitions))
	if len(partitions) == 0 {
		return offsets, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetch.RequestTimeout)
	defer cancel()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for _, partition := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = partition, -1
		if at == Oldest {
			p.Timestamp = -2
		}
		asked.Partitions = append(asked.Partitions, p)
	}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.Topics = -1, append(request.Topics, asked)
	if at == Stable {
		request.IsolationLevel = 1
	}
	response, err := request.RequestWith(ctx, a.conn)
	if err != nil {
		return nil, wrap(err, "read the offsets of topic %s", topic)
	}
	for i := range response.Topics {
		for _, p := range response.Topics[i].Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, wrap(err, "read the offsets of partition %d of topic %s", p.Partition, topic)
			}
			offsets[p.Partition] = p.Offset
		}
	}
	for _, partition := range partitions {
		if _, ok := offsets[partition]; !ok {
			return nil, wrap(fetch.ErrUnexpectedResponse, "read the offsets of partition %d of topic %s",
				partition, topic)
		}
	}
	return offsets, nil
}

// Committed is what a group has committed of a partition.
type Committed struct {
	Offset   int64
	Metadata string
}

// Committed returns what a group has committed of partitions. Those of which it has nothing are not
// there.
func (a *Admin) Committed(ctx context.Context, group, topic string,
	partitions ...int32) (map[int32]Committed, error) {
	committed := make(map[int32]Committed, len(partitions))
	if len(partitions) == 0 {
		return committed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetch.RequestTimeout)
	defer cancel()
	asked := kmsg.NewOffsetFetchRequestTopic()
	asked.Topic, asked.Partitions = topic, partitions
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group, request.Topics = group, append(request.Topics, asked)
	response, err := request.RequestWith(ctx, a.conn)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		return committed, nil
	case err != nil:
		return nil, wrap(err, "read the offsets of group %s", group)
	}
	for i := range response.Topics {
		for _, p := range response.Topics[i].Partitions {
			switch err := kerr.ErrorForCode(p.ErrorCode); {
			case errors.Is(err, kerr.UnknownTopicOrPartition): // nothing is committed of what is not there
			case err != nil:
				return nil, wrap(err, "read the offset of group %s in partition %d of topic %s", group,
					p.Partition, topic)
			case p.Offset >= 0:
				committed[p.Partition] = Committed{Offset: p.Offset}
				if p.Metadata != nil {
					committed[p.Partition] = Committed{p.Offset, *p.Metadata}
				}
			}
		}
	}
	return committed, nil
}

// Read returns records of a partition from an offset on, about a MiB of them, as a consumer of
// committed records gets them, and the offset to go on at. That is the same one where nothing came
// within half a second: the end was reached, or a transaction is open.
func (a *Admin) Read(ctx context.Context, topic string, partition int32,
	from int64) (records []*kgo.Record, next int64, err error) {
	a.mu.Lock()
	c := a.readers[topic]
	if c == nil {
		c = a.conn.Topic(topic)
		a.readers[topic] = c
	}
	a.mu.Unlock()
	records, next, err = c.ReadSome(ctx, partition, from)
	return records, next, wrap(err, "read partition %d of topic %s from offset %d", partition, topic,
		from)
}

// serverTimeout is how long a broker may take to create or delete a topic, in milliseconds.
const serverTimeout = 15_000

// one sends a request about one thing, and returns what the response says of it, with the error of
// its code and message.
func one[R, T any](ctx context.Context, a *Admin,
	send func(context.Context, kmsg.Requestor) (*R, error), items func(*R) []T,
	code func(*T) (int16, *string)) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, fetch.RequestTimeout)
	defer cancel()
	response, err := send(ctx, a.conn)
	if err != nil {
		return nil, err
	}
	all := items(response)
	if len(all) != 1 {
		return nil, fetch.ErrUnexpectedResponse
	}
	return &all[0], explained(code(&all[0]))
}

// explained is the error of a code, with what the broker said of it.
func explained(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if text := cmp.Or(message, new(string)); err != nil && *text != "" {
		return fmt.Errorf("%w: %s", err, *text)
	}
	return err
}

// wrap says what an error of the protocol is about; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, Coded(err))...)
}
