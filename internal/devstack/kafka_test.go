package devstack

import (
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
