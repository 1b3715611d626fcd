package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/procfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/bench/figures"
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
		Optimize:  cfg.Scale >= 1,
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
	name := map[string]string{"mariadb": "MariaDB", "mysql": "MySQL", "tidb": "TiDB"}[s.engine]
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

// cpuTime returns the CPU time that a process has taken, in user mode and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := p.Stat()
	return time.Duration(stat.CPUTime() * float64(time.Second)), err
}

// peakMemory returns the most resident memory that a process has had, in MiB; 0 where it has ended.
func peakMemory(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	status, err := p.NewStatus()
	if err != nil {
		return 0
	}
	return float64(status.VmHWM) / (1 << 20)
}

// usage is a stretch of time in which the CPU time of processes is measured.
type usage struct {
	began  time.Time
	pids   []int
	before []time.Duration
}

func startUsage(pids ...int) (*usage, error) {
	u := &usage{began: time.Now(), pids: pids}
	for _, pid := range pids {
		t, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		u.before = append(u.before, t)
	}
	return u, nil
}

// spent returns what each process has taken since.
func (u *usage) spent() (spent []time.Duration, err error) {
	for i, pid := range u.pids {
		t, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		spent = append(spent, t-u.before[i])
	}
	return spent, nil
}

// percent returns the same in percent of one core.
func (u *usage) percent() (shares []float64, err error) {
	took := time.Since(u.began)
	spent, err := u.spent()
	for _, s := range spent {
		shares = append(shares, 100*s.Seconds()/took.Seconds())
	}
	return shares, err
}

const (
	startStored = 1_000_000
	startPlazas = 1_000
	startEvents = 1_000 // new ones that a start finds
)

// startScenario measures how long `process` takes from its start to the first row of new events:
// with the local state that the process before has left, and without any, which goka then recovers
// from Kafka.
func startScenario() scenario {
	var worlds []*world // by binary
	return scenario{
		name: "start",
		figures: []figures.Figure{
			figures.Figure{Name: "start_s", Title: "start of `process` to the first row",
				Unit: figures.Seconds}.Max(3),
			figures.Figure{Name: "start_without_state_s",
				Title: "start of `process` without local state", Unit: figures.Seconds}.Max(3),
		},
		setUp: func(ctx context.Context, b *Bench) (err error) {
			worlds, err = b.storedWorlds(ctx, startPlazas, b.events(startStored))
			return err
		},
		measure: func(ctx context.Context, r *run) error {
			w := worlds[r.binary]
			if err := r.start(ctx, w, w.state, "start_s"); err != nil {
				return err
			}
			empty := filepath.Join(r.dir, "empty")
			return errors.Join(r.start(ctx, w, empty, "start_without_state_s"), os.RemoveAll(empty))
		},
		tearDown: func(ctx context.Context, b *Bench) error { return finishAll(ctx, worlds) },
	}
}

func (r *run) start(ctx context.Context, w *world, state, figure string) error {
	if err := r.sendAll(ctx, w.topic, backlogFeed(startPlazas, startEvents)); err != nil {
		return err
	}
	began := time.Now()
	p, err := w.process(ctx, state, "--until-end")
	if err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return err
	}
	first, _, err := w.committed(ctx, began)
	if err != nil {
		return err
	}
	r.record(figure, first.Sub(began).Seconds())
	return nil
}
