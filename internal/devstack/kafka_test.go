package devstack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/tollstream/tollstream/internal/testkit"
)

func startTestKafka(t *testing.T, cfg KafkaConfig) *Kafka {
	t.Helper()
	jars, ok := FindKafka()
	testkit.NeedService(t, "Apache Kafka", ok)
	cfg.Jars = jars
	began := time.Now()
	k, err := StartKafka(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Kafka ready in %v", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		began := time.Now()
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("Kafka closed in %v", time.Since(began).Round(time.Millisecond))
	})
	return k
}

func TestKafka(t *testing.T) {
	t.Parallel()
	k := startTestKafka(t, KafkaConfig{})
	checkKafka(t, k.Addr())
	id := topicID(t, newAdmin(t, k.Addr()), "events")

	t.Run("pause", func(t *testing.T) {
		if err := k.Pause(); err != nil {
			t.Fatal(err)
		}
		cfg := sarama.NewConfig()
		cfg.Net.ReadTimeout = 300 * time.Millisecond
		b := sarama.NewBroker(k.Addr())
		if err := b.Open(cfg); err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if _, err := b.GetMetadata(&sarama.MetadataRequest{}); err == nil {
			t.Error("a paused broker answered")
		}
		if err := k.Resume(); err != nil {
			t.Fatal(err)
		}
		newAdmin(t, k.Addr())
	})

	t.Run("kill", func(t *testing.T) {
		pid, addr := k.Pid(), k.Addr()
		if err := k.Kill(); err != nil {
			t.Fatal(err)
		}
		if alive(pid) {
			t.Error("process is still there after Kill")
		}
		began := time.Now()
		if err := k.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		t.Logf("ready again in %v after a kill", time.Since(began).Round(time.Millisecond))
		if k.Addr() != addr || k.Pid() == pid {
			t.Errorf("restarted as %d on %s, was %d on %s", k.Pid(), k.Addr(), pid, addr)
		}
		if again := topicID(t, newAdmin(t, addr), "events"); again != id {
			t.Errorf("topic id %v became %v", id, again)
		}
		if got := consume(t, addr, "events", "late", "", 112); len(got) != 112 {
			t.Errorf("%d values after the kill, want 112", len(got))
		}
	})

	t.Run("stop while paused", func(t *testing.T) {
		if err := k.Pause(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestKafkaPorts: no two listeners of a broker have the same port, which Kafka refuses.
func TestKafkaPorts(t *testing.T) {
	k := &Kafka{server: &server{host: "127.0.0.1"},
		cfg: KafkaConfig{Listeners: map[string]KafkaListener{}}}
	for i := range 500 {
		k.cfg.Listeners[strconv.Itoa(i)] = KafkaListener{}
	}
	if err := k.probePorts(0); err != nil {
		t.Fatal(err)
	}
	ports := append(slices.Collect(maps.Values(k.listenerPorts)), k.port, k.controllerPort)
	slices.Sort(ports)
	if n := len(slices.Compact(ports)); n != 502 {
		t.Errorf("%d ports, want 502", n)
	}
}

func TestKafkaRefusals(t *testing.T) {
	t.Parallel()
	if _, err := StartKafka(testContext(t), KafkaConfig{Jars: t.TempDir()}); err == nil {
		t.Error("started without jars")
	} else {
		t.Log(err)
	}
	dir := t.TempDir()
	k := startTestKafka(t, KafkaConfig{Dir: dir})
	jars, _ := FindKafka()
	for _, cfg := range []KafkaConfig{
		{Jars: jars, Dir: dir},
		{Jars: jars, Addr: k.Addr()},
		{Jars: jars, Properties: map[string]string{"num.partitions": "many"}},
	} {
		second, err := StartKafka(testContext(t), cfg)
		if err == nil {
			second.Close()
			t.Errorf("%+v: started", cfg)
		}
		t.Log(err)
	}
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Net.MaxOpenRequests = 1
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	return c
}

func newAdmin(t *testing.T, addr string) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	return admin
}

func topicID(t *testing.T, admin sarama.ClusterAdmin, topic string) sarama.Uuid {
	t.Helper()
	m, err := admin.DescribeTopics([]string{topic})
	if err != nil {
		t.Fatal(err)
	}
	if m[0].Err != sarama.ErrNoError {
		t.Fatal(m[0].Err)
	}
	return m[0].Uuid
}

// produce sends values first to last-1 to the topic's partitions in turn.
func produce(t *testing.T, addr, topic string, first, last int) {
	t.Helper()
	p, err := sarama.NewSyncProducer([]string{addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := first; i < last; i++ {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: int32(i % 2),
			Value: sarama.StringEncoder(fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// produceTxn sends values in one transaction and commits or aborts it.
func produceTxn(t *testing.T, addr, topic string, commit bool, values ...string) {
	t.Helper()
	cfg := saramaConfig()
	cfg.Producer.Transaction.ID = "txn-" + topic
	cfg.Producer.Partitioner = sarama.NewHashPartitioner
	p, err := sarama.NewSyncProducer([]string{addr}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.BeginTxn(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic,
			Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatal(err)
		}
	}
	if commit {
		err = p.CommitTxn()
	} else {
		err = p.AbortTxn()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// consumer is a group member that passes on the values it is given.
type consumer struct {
	queue chan string
}

func (c *consumer) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (c *consumer) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (c *consumer) ConsumeClaim(s sarama.ConsumerGroupSession,
	claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		s.MarkMessage(m, "")
		c.queue <- string(m.Value)
	}
	return nil
}

// consume joins the group as static member instance and returns how often it was given each value,
// once it has want of them.
func consume(t *testing.T, addr, topic, group, instance string, want int) map[string]int {
	t.Helper()
	cfg := saramaConfig()
	cfg.Consumer.Group.InstanceId = instance
	g, err := sarama.NewConsumerGroup([]string{addr}, group, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := &consumer{queue: make(chan string, 1000)}
	done := make(chan error, 1)
	go func() { done <- g.Consume(ctx, []string{topic}, c) }()
	got := map[string]int{}
	for n := 0; n < want; n++ {
		select {
		case v := <-c.queue:
			got[v]++
		case err := <-done:
			t.Fatalf("consumer ended after %d of %d records: %v", n, want, err)
		}
	}
	cancel()
	<-done
	return got
}

// checkKafka runs what the project needs of a broker.
func checkKafka(t *testing.T, addr string) {
	admin := newAdmin(t, addr)
	if err := admin.CreateTopic("events", &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1},
		false); err != nil {
		t.Fatal(err)
	}
	produce(t, addr, "events", 0, 100)
	produceTxn(t, addr, "events", false, "aborted 1", "aborted 2")
	produceTxn(t, addr, "events", true, "committed 1", "committed 2")
	got := consume(t, addr, "events", "readers", "reader-1", 102)
	if len(got) != 102 || got["committed 2"] != 1 || got["aborted 1"] != 0 {
		t.Fatalf("read %d different values, want 102 and none aborted: %v", len(got), got)
	}
	groups, err := admin.DescribeConsumerGroups([]string{"readers"})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range groups[0].Members { // a static member stays after its clean stop
		if m.GroupInstanceId == nil || *m.GroupInstanceId != "reader-1" {
			t.Errorf("group member %+v, want static reader-1", m)
		}
	}
	if len(groups[0].Members) != 1 {
		t.Errorf("%d group members, want the static one to have stayed", len(groups[0].Members))
	}
	// The same static member goes on where it was.
	produce(t, addr, "events", 100, 110)
	if got := consume(t, addr, "events", "readers", "reader-1", 10); got["100"] != 1 {
		t.Fatalf("second round read %v, want 100 to 109", got)
	}
	if _, err := admin.DescribeTopics([]string{"unknown"}); err != nil {
		t.Fatal(err)
	}
	topics, err := admin.ListTopics()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := topics["unknown"]; ok {
		t.Error("asking for a topic created it")
	}
}

func TestBroker(t *testing.T) {
	t.Parallel()
	b, err := StartBroker(BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	checkKafka(t, b.Addr())
}

func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := StartBroker(BrokerConfig{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	checkKafka(t, b.Addr())
	id := topicID(t, newAdmin(t, b.Addr()), "events")
	if id == (sarama.Uuid{}) {
		t.Error("topic has no id")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err = StartBroker(BrokerConfig{DataDir: dir, Addr: b.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started again in %v", time.Since(began))
	defer b.Close()
	if again := topicID(t, newAdmin(t, b.Addr()), "events"); again != id {
		t.Errorf("topic id %v became %v", id, again)
	}
	if got := consume(t, b.Addr(), "events", "late", "", 112); len(got) != 112 {
		t.Errorf("%d values after the restart, want 112", len(got))
	}
	produce(t, b.Addr(), "events", 110, 112)
	if got := consume(t, b.Addr(), "events", "readers", "reader-1", 2); got["110"] != 1 ||
		got["111"] != 1 {
		t.Errorf("the group went on with %v, want 110 and 111", got)
	}
}

func TestBrokerRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := StartBroker(BrokerConfig{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		cfg  BrokerConfig
		want string
	}{
		{BrokerConfig{DataDir: dir}, "in use by another running broker"},
		{BrokerConfig{Addr: b.Addr()}, b.Addr() + " is taken by another program"},
		{BrokerConfig{Addr: "0.0.0.0:0"}, "must be able to reach it"},
		{BrokerConfig{Addr: "127.0.0.1"}, "want host:port"},
	} {
		second, err := StartBroker(c.cfg)
		if err == nil {
			second.Close()
			t.Errorf("%+v: started, want error with %q", c.cfg, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	// A refused port gives the folder back.
	if _, err := StartBroker(BrokerConfig{Addr: b.Addr(), DataDir: t.TempDir()}); err == nil {
		t.Error("started on a taken port")
	}
}
