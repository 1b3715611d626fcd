package devstack

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BrokerConfig sets where an embedded broker listens and what it keeps.
type BrokerConfig struct {
	// Addr is the host:port to listen on and to advertise to clients. Port 0 takes a free one, "" is
	// 127.0.0.1:0.
	Addr string
	// DataDir keeps topics, records, groups and transactions over restarts. "" keeps them in memory
	// only. Records reach the operating system before they are acknowledged, as with Kafka: they
	// survive a killed process, not a power cut.
	DataDir string
	// Logf takes the broker's warnings and errors; nil drops them.
	Logf func(format string, args ...any)
}

// Broker is a Kafka broker inside this process: the real protocol with idempotent producers,
// transactions and static group members, on one node. Topics must be created before use.
type Broker struct {
	cluster *kfake.Cluster
	folder  *folder // nil: memory only
	addr    string
	log     *brokerLog

	once     sync.Once
	closeErr error
}

// StartBroker starts a broker and returns when it takes connections.
func StartBroker(cfg BrokerConfig) (*Broker, error) {
	b, err := startBroker(cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded Kafka broker: %w", err)
	}
	return b, nil
}

func startBroker(cfg BrokerConfig) (*Broker, error) {
	host, port, err := splitAddr(cfg.Addr)
	if err != nil {
		return nil, err
	}
	b := &Broker{log: &brokerLog{logf: cfg.Logf}}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("devstack"),
		kfake.DefaultNumPartitions(1), // as Apache Kafka
		// Shorter than Apache Kafka's 6 s, so that tests of failing members needn't wait that long.
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}),
		kfake.WithLogger(b.log),
	}
	if cfg.DataDir != "" {
		if b.folder, err = openFolder(cfg.DataDir, "broker"); err != nil {
			return nil, err
		}
		opts = append(opts, kfake.DataDir(b.folder.join("kafka")))
	}
	l, err := listen(host, port)
	if err != nil {
		return nil, errors.Join(err, b.closeFolder())
	}
	b.addr = l.Addr().String()
	opts = append(opts, kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }))
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		l.Close()
		return nil, errors.Join(err, b.closeFolder())
	}
	return b, nil
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes what its folder doesn't hold yet.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.cluster.Close()
		if err := errors.Join(b.log.lastError(), b.closeFolder()); err != nil {
			b.closeErr = fmt.Errorf("close embedded Kafka broker: %w", err)
		}
	})
	return b.closeErr
}

func (b *Broker) closeFolder() error {
	if b.folder == nil {
		return nil
	}
	return b.folder.close()
}

// brokerLog passes warnings on and remembers the last error, because kfake's Close returns none.
type brokerLog struct {
	logf func(format string, args ...any)
	mu   sync.Mutex
	err  error
}

// Logf implements kfake.Logger.
func (l *brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn {
		return
	}
	if level == kfake.LogLevelError {
		l.mu.Lock()
		l.err = fmt.Errorf(format, args...)
		l.mu.Unlock()
	}
	if l.logf != nil {
		l.logf(format, args...)
	}
}

func (l *brokerLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
