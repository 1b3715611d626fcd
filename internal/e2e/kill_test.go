package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// rounds returns how often a fault is injected: few in a usual run, as many as asked for in a campaign.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("TOLLSTREAM_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return usual
}

// TestKill kills process with SIGKILL at random moments under load and checks after each that nothing was lost or
// doubled, by verify --deep and by the test's own ground truth.
func TestKill(t *testing.T) {
	w := newWorld(t)
	w.must("init", "--partitions", "4")
	truth := newTruth()
	s := w.sender(truth)
	var slowest time.Duration
	for round := range rounds(t, 20) {
		p := w.start("process", "--batch-rows", "500")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // load before, during and after the kill
			for {
				select {
				case <-stop:
					return
				case <-time.After(30 * time.Millisecond):
					s.send(500)
				}
			}
		})
		before := w.count(`select count(*) from livetolldata`)
		w.eventually("rows before the kill", 30*time.Second, func() bool {
			return w.count(`select count(*) from livetolldata`) > before || !p.running()
		})
		if !p.running() {
			t.Fatalf("round %d: process ended by itself:\n%s", round, p.log)
		}
		time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
		p.kill()
		if v := w.verify("--deep"); v.Status == "mismatch" {
			t.Fatalf("round %d: right after the kill: %+v", round, v)
		}

		killed := w.count(`select count(*) from livetolldata`)
		started := time.Now()
		p = w.start("process", "--batch-rows", "500")
		w.eventually("the next row after the kill", 30*time.Second, func() bool {
			return w.count(`select count(*) from livetolldata`) > killed
		})
		slowest = max(slowest, time.Since(started))
		close(stop)
		wg.Wait()
		p.kill()
		w.must("process", "--until-end")
		w.exact(truth)
	}
	t.Logf("%d rows; slowest next row after a kill: %v", truth.total(), slowest.Round(time.Millisecond))
}

// TestOutageDatabase takes the database away under load: it is killed, and started again.
func TestOutageDatabase(t *testing.T) {
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	p := w.start("process", "--batch-rows", "500")
	for round := range rounds(t, 3) {
		s.send(2000)
		w.eventually("rows", 30*time.Second, func() bool { return w.count(`select count(*) from livetolldata`) > int64(2000*round) })
		if err := w.db.Kill(); err != nil {
			t.Fatal(err)
		}
		s.send(2000)
		time.Sleep(time.Second)
		if !p.running() {
			t.Fatalf("process ended when the database went away:\n%s", p.log)
		}
		if err := w.db.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.eventually("all rows after the outage", 30*time.Second, func() bool {
			return w.count(`select count(*) from livetolldata`) >= int64(truth.total())
		})
	}
	if n := strings.Count(p.log.String(), "trying again"); n > 5*rounds(t, 3) {
		t.Fatalf("the outage is reported %d times:\n%s", n, p.log)
	}
	if took, code := p.interrupt(); code != 0 || took > 5*time.Second {
		t.Fatalf("an interrupt took %v, exit status %d", took, code)
	}
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestOutageKafka takes the broker away under load: killed and started again, and paused.
func TestOutageKafka(t *testing.T) {
	k := startKafka(t)
	t.Cleanup(func() { _ = k.Close() })
	w := newWorldOn(t, k.Addr(), "mariadb")
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	p := w.start("process", "--batch-rows", "500")
	s.send(2000)
	w.eventually("rows", 30*time.Second, func() bool { return w.count(`select count(*) from livetolldata`) > 0 })
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.send(2000)
	w.eventually("all rows after the broker was killed", 60*time.Second, func() bool {
		return w.count(`select count(*) from livetolldata`) >= int64(truth.total())
	})
	if err := k.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	if err := k.Resume(); err != nil {
		t.Fatal(err)
	}
	s.send(2000)
	w.eventually("all rows after the broker was paused", 60*time.Second, func() bool {
		return w.count(`select count(*) from livetolldata`) >= int64(truth.total())
	})
	if took, code := p.interrupt(); code != 0 || took > 5*time.Second {
		t.Fatalf("an interrupt took %v, exit status %d", took, code)
	}
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestOutageAtStart starts process while a server is away: it says so once, waits, and goes on by itself.
func TestOutageAtStart(t *testing.T) {
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
	w.eventually("all rows", 30*time.Second, func() bool { return w.count(`select count(*) from livetolldata`) >= 1000 })
	p.interrupt()
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestTopicMadeAgain deletes the topic under a running process and makes it again: its offsets then mean other records,
// so process must end with a line that says so; a reset then replays the new one.
func TestTopicMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	w.sender(truth).send(1000)
	p := w.start("process")
	w.eventually("all rows", 30*time.Second, func() bool { return w.count(`select count(*) from livetolldata`) == 1000 })
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
	w.eventually("the topic made again", 30*time.Second, func() bool {
		return admin.CreateTopic(w.topic, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false) == nil
	})
	w.sender(newTruth()).send(8000) // beyond the old cursors
	w.eventually("the end of process", 90*time.Second, func() bool { return !p.running() })
	if !strings.Contains(p.log.String(), "was created again") || !strings.Contains(p.log.String(), "tollstream reset --yes") {
		t.Fatalf("process does not say what happened:\n%s", p.log)
	}
	w.must("reset", "--yes")
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Events != 8000 {
		t.Fatalf("after a reset for the new topic: %+v", v)
	}
}

// TestUntilEndUnderLoad ends although events keep coming, once those that were there at its start are done.
func TestUntilEndUnderLoad(t *testing.T) {
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
