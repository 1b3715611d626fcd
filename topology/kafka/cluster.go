package kafka

import (
	"context"
	"hash"
	"hash/fnv"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// Cluster says how to reach Kafka.
type Cluster struct {
	Brokers  []string
	ClientID string // prefix of the client ids, for the broker's logs and quotas
	Security Security

	dial  DialFunc     // nil for Dial
	ended func() error // not nil once connections have ended; nil for never
}

// Through returns the cluster as reached over connections that wrap makes of another dial function.
func (c Cluster) Through(wrap func(DialFunc) DialFunc) Cluster {
	c.dial = wrap(c.dialer())
	return c
}

// Within returns the cluster as reached over connections that end with ctx. Whatever still waits
// for a broker fails then, also in sarama and goka, most of whose calls take no context.
func (c Cluster) Within(ctx context.Context) Cluster {
	c.ended = ctx.Err
	return c.Through(func(inner DialFunc) DialFunc {
		return func(dialing context.Context, network, addr string) (net.Conn, error) {
			dialing, cancel := context.WithCancel(dialing)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			conn, err := inner(dialing, network, addr)
			if err != nil {
				return nil, err
			}
			return &boundConn{conn, context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
		}
	})
}

// boundConn is a connection that ends with a context.
type boundConn struct {
	net.Conn
	unbind func() bool
}

// Close implements [net.Conn].
func (c *boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}

func (c Cluster) dialer() DialFunc {
	if c.dial == nil {
		return Dial
	}
	return c.dial
}

// proxyDialer is a DialFunc for sarama.
type proxyDialer DialFunc

// Dial implements proxy.Dialer.
func (d proxyDialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

// kafkaVersion is the protocol that we speak: that of the oldest brokers supported. Static
// membership needs 2.3 and topic ids need 2.8; goka's own default is 2.0.
var kafkaVersion = sarama.V2_8_0_0

// Config returns a client configuration of its own for each caller: goka's builders change the one
// that they are given.
func (c Cluster) Config(role string) *sarama.Config {
	cfg := goka.DefaultConfig()
	cfg.Version = kafkaVersion
	cfg.ClientID = c.ClientID + "-" + role
	cfg.Net.DialTimeout = 5 * time.Second
	cfg.Net.ReadTimeout = 30 * time.Second
	cfg.Net.WriteTimeout = 30 * time.Second
	cfg.Metadata.Retry.Max = 3
	cfg.Metadata.Retry.BackoffFunc = func(int, int) time.Duration {
		if c.ended != nil && c.ended() != nil {
			return 0
		}
		return 250 * time.Millisecond
	}
	cfg.Metadata.AllowAutoTopicCreation = false
	cfg.Consumer.IsolationLevel = sarama.ReadCommitted
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = c.dial != nil, proxyDialer(c.dialer())
	c.Security.apply(cfg)
	return cfg
}

// DialFunc connects to a broker.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial connects to a broker, within five seconds.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
}

// Options are those of a franz-go client that reaches the cluster as sarama does.
func (c Cluster) Options(role string) []kgo.Opt {
	// Newer versions name topics by their ids.
	return append(c.Security.options(c.dialer()),
		kgo.SeedBrokers(c.Brokers...), kgo.ClientID(c.ClientID+"-"+role),
		kgo.MaxVersions(kversion.V2_8_0()))
}

// NewProducer returns a producer of the group's topics.
func (c Cluster) NewProducer(ctx context.Context) (*Producer, error) {
	return NewProducer(ctx, producerLinger, c.Options("producer")...)
}

// producerLinger lets the deltas of a round, or the states that a bundle of them changed, share
// requests.
const producerLinger = 2 * time.Millisecond

// Hasher is the hash that places a key in a partition, goka's own: FNV-1a.
func Hasher() hash.Hash32 { return fnv.New32a() }

// Admin returns a client for questions and changes, which connects when it is used first.
func (c Cluster) Admin() (*Admin, error) {
	return NewAdmin(c.Options("admin")...)
}

// Connect connects a client for questions and changes. The caller closes it.
func (c Cluster) Connect(ctx context.Context) (*Admin, error) {
	admin, err := c.Admin()
	if err != nil {
		return nil, err
	}
	if err := admin.Ping(ctx); err != nil {
		admin.Close()
		return nil, c.explainConnect(err)
	}
	return admin, nil
}

// QuietLibraries silences what sarama prints by itself, once per process.
func QuietLibraries() { sarama.Logger = log.New(io.Discard, "", 0) }

// LogClient returns a client that reads the topic of events as brokers store it. It connects when
// it is used first.
func (c Cluster) LogClient(topic string) (*fetch.Client, error) {
	return fetch.NewClient(topic, c.Options("log")...)
}

// EpochMetadata is the metadata of the group's offsets of the topic of events: the epoch in which
// they were stored.
func EpochMetadata(epoch uint64) string { return "epoch=" + strconv.FormatUint(epoch, 10) }

// ParseEpochMetadata reads an EpochMetadata. It returns 0 for what is no epoch.
func ParseEpochMetadata(s string) uint64 {
	text, _ := strings.CutPrefix(s, "epoch=")
	epoch, _ := strconv.ParseUint(text, 10, 64)
	return epoch
}

// Epoch returns the epoch in which an offset of the topic of events was committed, 0 for not known.
// These offsets follow what is stored, so one that is ahead of the database shows that the database
// was restored, unless it is of an earlier epoch: a rebuild takes note of that.
func (c Committed) Epoch() uint64 { return ParseEpochMetadata(c.Metadata) }

// Epochs is what Kafka knows of a group's epochs.
type Epochs struct {
	Highest uint64 // of the plazas' states and of the group's offsets; 0 for none
	Plazas  int    // that have a state
}

// Epochs reads what the group table and the group's offsets know of epochs. They know none where
// the topics don't exist.
func (c Cluster) Epochs(ctx context.Context, group, topic string) (Epochs, error) {
	var e Epochs
	admin, err := c.Connect(ctx)
	if err != nil {
		return e, err
	}
	defer admin.Close()
	table, _, err := describe(ctx, admin, TableTopic(group))
	if err != nil {
		return e, err
	}
	plazas := map[string]bool{}
	for p := range int32(table.Partitions) {
		err := admin.ReadAll(ctx, table.Name, p, func(key, value []byte) error {
			if epoch, _, err := wire.DecodeProgress(value); err == nil {
				e.Highest = max(e.Highest, epoch)
				plazas[string(key)] = true
			}
			return nil
		})
		if err != nil {
			return e, Explain(err)
		}
	}
	e.Plazas = len(plazas)
	events, found, err := describe(ctx, admin, topic)
	if err != nil || !found {
		return e, err
	}
	offsets, err := admin.Committed(ctx, group, topic, UpTo(events.Partitions)...)
	for _, o := range offsets {
		e.Highest = max(e.Highest, o.Epoch())
	}
	return e, Explain(err)
}

// UpTo returns the partitions of a topic that has so many.
func UpTo(partitions int) []int32 {
	all := make([]int32, partitions)
	for p := range all {
		all[p] = int32(p)
	}
	return all
}
