package topology

import (
	"hash"
	"hash/fnv"
	"io"
	"log"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// Cluster says how to reach Kafka.
type Cluster struct {
	Brokers  []string
	ClientID string // prefix of the client ids, for the broker's logs and quotas
	Security Security
}

// kafkaVersion is the protocol that we speak: that of the oldest brokers supported. Static membership needs 2.3 and
// topic ids need 2.8; goka's own default is 2.0.
var kafkaVersion = sarama.V2_8_0_0

// Config returns a client configuration of its own for each caller: goka's builders change the one that they are given.
func (c Cluster) Config(role string) *sarama.Config {
	cfg := goka.DefaultConfig()
	cfg.Version = kafkaVersion
	cfg.ClientID = c.ClientID + "-" + role
	cfg.Net.DialTimeout = 5 * time.Second
	cfg.Net.ReadTimeout = 30 * time.Second
	cfg.Net.WriteTimeout = 30 * time.Second
	cfg.Metadata.Retry.Max = 3
	cfg.Metadata.AllowAutoTopicCreation = false
	cfg.Consumer.IsolationLevel = sarama.ReadCommitted
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Security.apply(cfg)
	return cfg
}

// ProducerConfig returns the configuration of an idempotent producer that waits for all replicas: an acknowledged
// message is in the log once and in the order of sending.
func (c Cluster) ProducerConfig(role string) *sarama.Config {
	cfg := c.Config(role)
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Retry.Max = 30 // with growing pauses, about a minute: a leader election passes
	cfg.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration {
		return min(time.Duration(retries)*100*time.Millisecond, 3*time.Second)
	}
	cfg.Producer.MaxMessageBytes = 1 << 20
	return cfg
}

// Hasher is the hash that places a key in a partition, goka's own: FNV-1a.
func Hasher() hash.Hash32 { return fnv.New32a() }

// Admin connects an administrative client. The caller closes both; closing the admin closes the client too.
func (c Cluster) Admin() (sarama.Client, sarama.ClusterAdmin, error) {
	client, err := sarama.NewClient(c.Brokers, c.Config("admin"))
	if err != nil {
		return nil, nil, c.explainConnect(err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, nil, c.explainConnect(err)
	}
	return client, admin, nil
}

// QuietLibraries silences what sarama prints by itself, once per process.
func QuietLibraries() { sarama.Logger = log.New(io.Discard, "", 0) }
