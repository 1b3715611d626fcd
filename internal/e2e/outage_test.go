package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TestOutageAtStart starts process while a server is unavailable: it logs that once, waits, and
// goes on by itself.
func TestOutageAtStart(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	w.sender(truth).send(1000)
	if err := w.db.Kill(); err != nil {
		t.Fatal(err)
	}
	p := w.start("process")
	time.Sleep(3 * time.Second)
	if !p.running() {
		t.Fatalf("process ended without a database:\n%s", p.log)
	}
	if n := strings.Count(p.log.String(), "\n"); n > 3 {
		t.Fatalf("the missing database is reported in %d lines:\n%s", n, p.log)
	}
	if err := w.db.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("all rows", caughtUpWithin, func() bool {
		return w.count(`select count(*) from livetolldata`) >= 1000
	})
	p.interrupt()
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestTopicMadeAgain deletes the topic under a running process and makes it again: its offsets then
// mean other records, so process must end with a line that says so; a reset then replays the new
// one.
func TestTopicMadeAgain(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	w.sender(truth).send(1000)
	p := w.start("process")
	w.eventually("all rows", caughtUpWithin, func() bool {
		return w.count(`select count(*) from livetolldata`) == 1000
	})
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{w.brokers}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.DeleteTopic(w.topic); err != nil {
		t.Fatal(err)
	}
	w.eventually("the recreated topic", caughtUpWithin, func() bool {
		return admin.CreateTopic(w.topic, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1},
			false) == nil
	})
	w.sender(newTruth()).send(8000) // beyond the old cursors
	w.eventually("the end of process", caughtUpWithin, func() bool { return !p.running() })
	if !strings.Contains(p.log.String(), "was created again") ||
		!strings.Contains(p.log.String(), "tollstream reset --yes") {
		t.Fatalf("process does not say what happened:\n%s", p.log)
	}
	w.refuses([]string{"reset", "--yes"},
		"can't be replayed, since the topic no longer holds their records",
		"tollstream reset --yes --lose-rows")
	w.must("reset", "--yes", "--lose-rows")
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Events != 8000 {
		t.Fatalf("after a reset for the new topic: %+v", v)
	}
}

// TestUntilEndUnderLoad ends although events keep coming, once those that were there at its start
// are done.
func TestUntilEndUnderLoad(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	s.send(1000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				s.send(20)
			}
		}
	})
	w.must("process", "--until-end")
	close(stop)
	wg.Wait()
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestSessionTimeoutRefused asks for a session timeout that the broker does not take: less than the
// six seconds of its default.
func TestSessionTimeoutRefused(t *testing.T) {
	inParallel(t)
	c, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := newWorldOn(t, c.ListenAddrs()[0], "embedded")
	w.must("init")
	w.refuses([]string{"process", "--session-timeout", "2s"}, "session timeout",
		"group.min.session.timeout.ms")
}
