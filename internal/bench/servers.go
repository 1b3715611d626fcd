package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/netdelay"
)

// servers is a Kafka and a MySQL in a temporary folder.
type servers struct {
	dir      string
	engine   string
	kafka    *devstack.Kafka
	farKafka *netdelay.Proxy // leads to Kafka, whose clients stay with it
	database *devstack.Database
	admin    *sql.DB     // as the database's administrator
	client   *kgo.Client // for requests that are not timed
}

func startServers(ctx context.Context, cfg *Config) (_ *servers, err error) {
	if err := FindServers(cfg.Engine); err != nil {
		return nil, err
	}
	s := &servers{engine: cfg.Engine}
	_ = mysql.SetLogger(&mysql.NopLogger{}) // what it would print it also returns
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "tollstream-bench-"); err != nil {
		return nil, err
	}
	jars, _ := devstack.FindKafka()
	if s.farKafka, err = netdelay.Listen(0); err != nil {
		return nil, err
	}
	const far = "FAR" // the listener behind the proxy
	s.kafka, err = devstack.StartKafka(ctx, devstack.KafkaConfig{
		Jars: jars, Dir: filepath.Join(s.dir, "kafka"), Addr: "127.0.0.1:0", Heap: "1g",
		Listeners: map[string]devstack.KafkaListener{far: {Advertise: s.farKafka.Addr()}},
	})
	if err != nil {
		return nil, err
	}
	s.farKafka.Forward(s.kafka.ListenerAddr(far))
	s.database, err = devstack.StartDatabase(ctx, devstack.DatabaseConfig{
		Addr: "127.0.0.1:0", DataDir: filepath.Join(s.dir, "mysql"), Engine: cfg.Engine,
	})
	if err != nil {
		return nil, err
	}
	if s.admin, err = sql.Open("mysql", s.database.AdminDSN()); err != nil {
		return nil, err
	}
	if s.client, err = kgo.NewClient(kgo.SeedBrokers(s.kafka.Addr())); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *servers) close() error {
	var errs []error
	if s.client != nil {
		s.client.Close()
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close())
	}
	if s.database != nil {
		errs = append(errs, s.database.Close())
	}
	if s.farKafka != nil {
		errs = append(errs, s.farKafka.Close())
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func (s *servers) describe() string {
	name := map[string]string{"mariadb": "MariaDB", "mysql": "MySQL"}[s.engine]
	return "Apache Kafka and " + name + " on the same machine"
}

// createDatabase makes a database that tollstream may use, and returns its data source name.
func (s *servers) createDatabase(ctx context.Context, name string) (dsn string, err error) {
	cfg, err := mysql.ParseDSN(s.database.DSN())
	if err != nil {
		return "", err
	}
	for _, statement := range []string{
		"CREATE DATABASE `" + name + "` CHARACTER SET utf8mb4",
		"GRANT ALL ON `" + strings.ReplaceAll(name, "_", `\_`) + "`.* TO '" + cfg.User + "'@'%'",
	} {
		if _, err := s.admin.ExecContext(ctx, statement); err != nil {
			return "", err
		}
	}
	cfg.DBName = name
	return cfg.FormatDSN(), nil
}

func openDB(dsn string) (*sql.DB, error) { return sql.Open("mysql", dsn) }

func (s *servers) dropDatabase(ctx context.Context, name string) error {
	_, err := s.admin.ExecContext(ctx, "DROP DATABASE `"+name+"`")
	return err
}

func (s *servers) createTopic(ctx context.Context, name string, partitions int) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions), 1
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// deleteTopics deletes all topics whose names begin with a prefix.
func (s *servers) deleteTopics(ctx context.Context, prefix string) error {
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = nil
	all, err := meta.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	for _, t := range all.Topics {
		if t.Topic != nil && strings.HasPrefix(*t.Topic, prefix) {
			topic := kmsg.NewDeleteTopicsRequestTopic()
			topic.Topic = t.Topic
			req.Topics = append(req.Topics, topic)
			req.TopicNames = append(req.TopicNames, *t.Topic)
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range resp.Topics {
		errs = append(errs, kerr.ErrorForCode(t.ErrorCode))
	}
	return errors.Join(errs...)
}

// records returns how many records topics were given, by what matches their names.
func (s *servers) records(ctx context.Context, match func(topic string) bool) (n int64, err error) {
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = nil
	all, err := meta.RequestWith(ctx, s.client)
	if err != nil {
		return 0, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for _, t := range all.Topics {
		if t.Topic == nil || !match(*t.Topic) {
			continue
		}
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = *t.Topic
		for _, p := range t.Partitions {
			partition := kmsg.NewListOffsetsRequestTopicPartition()
			partition.Partition, partition.Timestamp = p.Partition, -1 // the end
			topic.Partitions = append(topic.Partitions, partition)
		}
		req.Topics = append(req.Topics, topic)
	}
	for _, shard := range s.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return 0, shard.Err
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return 0, err
				}
				n += p.Offset
			}
		}
	}
	return n, nil
}
