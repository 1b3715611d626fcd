package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/topology/kafka"
)

// ownKafka starts a broker that no other test uses.
func ownKafka(t *testing.T) *devstack.Kafka {
	t.Helper()
	k := startKafka(t)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// killKafka kills the broker and starts it again.
func killKafka(f *injection) {
	k := ownKafka(f.T)
	w := newWorldOn(f.T, k.Addr(), engine)
	w.must("init")
	l, p := w.underLoad()
	for range f.rounds {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		if err := k.Kill(); err != nil {
			f.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
		if err := k.Restart(f.Context()); err != nil {
			f.Fatal(err)
		}
		l.burst(100)
		l.caughtUp("after the broker was killed", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// pauseKafka suspends the broker: its connections stay open and nothing answers.
func pauseKafka(f *injection) {
	k := ownKafka(f.T)
	w := newWorldOn(f.T, k.Addr(), engine)
	w.must("init")
	l, p := w.underLoad()
	pause := 8 * time.Second
	if campaignRounds() > 0 {
		pause = time.Minute
	}
	for range f.rounds {
		if err := k.Pause(); err != nil {
			f.Fatal(err)
		}
		time.Sleep(pause)
		if err := k.Resume(); err != nil {
			f.Fatal(err)
		}
		l.burst(100)
		l.caughtUp("after the broker stalled", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// proxiedKafka starts a broker whose second listener is advertised as a proxy, so that all
// that a process says to it passes there.
func proxiedKafka(t *testing.T) (*devstack.Kafka, *proxy) {
	t.Helper()
	p := startProxy(t, "", kafkaFrames)
	k, err := devstack.StartKafka(t.Context(),
		devstack.KafkaConfig{Jars: kafkaJars(t), Addr: "127.0.0.1:0",
			Listeners: map[string]devstack.KafkaListener{"PROXIED": {Advertise: p.addr()}}})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() { _ = k.Close() })
	p.setUpstream(k.ListenerAddr("PROXIED"))
	return k, p
}

// cutProduces cuts the connection at produce requests, half of them when the broker has got them,
// and answers late.
func cutProduces(f *injection) {
	k, proxy := proxiedKafka(f.T)
	w := newWorldOn(f.T, k.Addr(), engine)
	w.must("init")
	l, p := w.underLoad("--brokers", proxy.addr())
	var cuts atomic.Int64
	for range f.rounds {
		proxy.delay.Store(int64(rand.IntN(300)) * int64(time.Millisecond))
		before := cuts.Load()
		proxy.setJudge(sometimes(5, &cuts))
		w.eventually("cut produce requests", caughtUpWithin, func() bool {
			return cuts.Load() >= before+5
		})
		proxy.setJudge(nil)
		proxy.delay.Store(0)
		l.caughtUp("after produce requests were cut", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
	f.Logf("%d produce requests were cut", cuts.Load())
}

// expireSession keeps a process from the broker for longer than its session lasts, while another
// one takes over. What it had sent reaches the broker late, and is older than what the other one
// has written by then.
func expireSession(f *injection) {
	k, proxy := proxiedKafka(f.T)
	w := newWorldOn(f.T, k.Addr(), engine)
	w.must("init")
	l := w.startLoad(newTruth())
	cut, whole := w.member("one", "--brokers", proxy.addr()), w.member("two")
	l.caughtUp("the start", caughtUpWithin, cut, whole)
	l.forgetPauses()
	for range f.rounds {
		unblock := proxy.block()
		time.Sleep(sessionTimeout + time.Second)
		l.caughtUp("while one is cut off", caughtUpWithin, cut, whole)
		time.Sleep(time.Second) // the other one is well ahead then
		unblock()
		l.caughtUp("after one was cut off", caughtUpWithin, cut, whole)
		f.done()
	}
	f.finish(l, cut, whole)
	f.Logf("%d states came late to the group table, and were mended", w.fallBacks())
}

// startFakes starts a cluster of three brokers inside this process. It is no real Kafka: a real one
// moves leaders only between machines, and answers with errors only when it is ill.
func startFakes(t *testing.T) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// moveLeaders moves partitions of every topic, and the group's coordinator, between brokers.
func moveLeaders(f *injection) {
	c := startFakes(f.T)
	w := newWorldOn(f.T, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init")
	l := w.startLoad(newTruth())
	members := []*process{w.member("one"), w.member("two")}
	l.caughtUp("the start", caughtUpWithin, members...)
	l.forgetPauses()
	topics := []string{w.topic, kafka.LoopTopic(w.group), kafka.TableTopic(w.group),
		kafka.CongestionTopic(w.topic)}
	for round := range f.rounds {
		for _, topic := range topics {
			for partition := range int32(4) {
				if err := c.MoveTopicPartition(topic, partition, rand.Int32N(3)); err != nil {
					f.Fatalf("move %s/%d: %v", topic, partition, err)
				}
			}
		}
		if round%2 == 1 {
			c.RehashCoordinators()
		}
		l.burst(200) // meets the new leaders
		l.caughtUp("after leaders moved", caughtUpWithin, members...)
		f.done()
	}
	f.finish(l, members...)
}

// refuseProduces lets brokers answer produce requests with errors: of requests that they did not
// carry out, and of some that they did.
func refuseProduces(f *injection) {
	c := startFakes(f.T)
	w := newWorldOn(f.T, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init")
	l, p := w.underLoad()
	for range f.rounds {
		for _, topic := range []string{kafka.LoopTopic(w.group), kafka.TableTopic(w.group),
			kafka.CongestionTopic(w.topic)} {
			for _, refusal := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas,
				kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut} {
				h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: refusal, Count: 2})
				ctx, cancel := context.WithTimeout(f.Context(), caughtUpWithin)
				err := h.Wait(ctx, 2)
				cancel()
				h.Remove()
				if err != nil {
					f.Fatalf("%v was not met on topic %s: %v\n%s", refusal, topic, err, p.log)
				}
			}
		}
		l.caughtUp("after produce requests failed", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// growTopic gives the topic more partitions while it is processed.
func growTopic(f *injection) {
	w := newWorld(f.T)
	w.must("init", "--partitions", "2")
	l := w.startLoad(newTruth(), kgo.MetadataMinAge(500*time.Millisecond),
		kgo.MetadataMaxAge(time.Second))
	p := w.member("one")
	l.caughtUp("the start", caughtUpWithin, p)
	l.forgetPauses()
	if err := w.admin().CreatePartitions(w.topic, 4, nil, false); err != nil {
		f.Fatal(err)
	}
	w.eventually("the end of process", caughtUpWithin, func() bool { return !p.running() })
	said(f, p, "has 2 partitions and topic "+w.topic+" has 4", "tollstream rebuild --yes")
	w.eventually("events in the new partitions", caughtUpWithin, func() bool {
		return len(l.acknowledged()) == 4
	})
	rows := w.count(`SELECT COUNT(*) FROM livetolldata`)
	w.must("rebuild", "--yes")
	if n := w.count(`SELECT COUNT(*) FROM livetolldata`); n != rows {
		f.Fatalf("%d rows before rebuild, %d after", rows, n)
	}
	p = w.member("one")
	l.caughtUp("with four partitions", caughtUpWithin, p)
	f.done()
	f.finish(l, p)
}

// said checks the log of a process that has ended.
func said(f *injection, p *process, texts ...string) {
	f.Helper()
	for _, text := range texts {
		if !strings.Contains(p.log.String(), text) {
			f.Fatalf("the log of a process lacks %q:\n%s", text, p.log)
		}
	}
}

// deleteUnread lets the broker delete records that were not stored yet: while no process runs, and
// under a running one that waits for the database.
func deleteUnread(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	admin := w.admin()
	l, p := w.underLoad()
	for round := range f.rounds {
		running := round%2 == 1
		before := l.acknowledged()
		if running {
			if err := w.db.Kill(); err != nil {
				f.Fatal(err)
			}
			f.says(p, "MySQL failed")
			l.burst(40_000) // more than a process fetches ahead
		} else {
			p.interrupt()
			l.burst(1000)
		}
		// Of the partition that got most: records without a key come to one after the other, in runs.
		partition, most := int32(0), int64(0)
		ends := l.acknowledged()
		for p, end := range ends {
			if n := end - before[p]; n > most {
				partition, most = p, n
			}
		}
		oldest := ends[partition] - 20
		if err := admin.DeleteRecords(w.topic, map[int32]int64{partition: oldest}); err != nil {
			f.Fatal(err)
		}
		if running {
			if err := w.db.Restart(f.Context()); err != nil {
				f.Fatal(err)
			}
		} else {
			p = w.member("one")
		}
		w.eventually("the end of process", caughtUpWithin, func() bool { return !p.running() })
		cursors, err := readCursors(w.sql, w.topic)
		if err != nil {
			f.Fatal(err)
		}
		said(f, p, fmt.Sprintf("offsets %d to %d of partition %d of topic %s are gone",
			cursors[partition], oldest-1, partition, w.topic), "--skip-gone")
		l.forget(f.T, partition, cursors[partition], oldest)
		p = w.member("one", "--skip-gone")
		l.caughtUp("without what is gone", caughtUpWithin, p)
		said(f, p, fmt.Sprintf("first=%d", cursors[partition]))
		p.interrupt()
		p = w.member("one") // nothing is left to skip
		l.caughtUp("after the gap", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}
