package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/topology/kafka"
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
	if !strings.Contains(p.log.String(), "was recreated") ||
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

// TestUntilEndOutage has Kafka unavailable for longer than a minute right after the last delta was
// published and before it is merged. The job waits for it, as it does at any other time.
func TestUntilEndOutage(t *testing.T) {
	inParallel(t)
	c := startFakes(t)
	w := newWorldOn(t, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init", "--partitions", "1")
	w.must("emit", "--count", "50", "--rate", "0")
	merges := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: kafka.LoopTopic(w.group),
		Count: -1})
	p := w.start("process", "--until-end")
	w.eventually("the last publish", time.Minute, func() bool {
		return w.count("SELECT COUNT(*) FROM toll_batch WHERE published = 1") > 0 &&
			w.count("SELECT COUNT(*) FROM toll_batch WHERE published = 0") == 0
	})
	time.Sleep(time.Second) // for the job to look for the end of the merges
	outage := c.Fault(kfake.Fault{Count: -1})
	time.Sleep(75 * time.Second)
	if !p.running() {
		t.Fatalf("it ended in the outage:\n%s", p.log)
	}
	merges.Remove()
	outage.Remove()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not end after the outage:\n%s", p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d\n%s", code, p.log)
	}
	if v := w.verify("--deep"); v.Status != "exact" || v.Merged != 50 {
		t.Errorf("verify: %+v", v)
	}
	if testing.Verbose() {
		t.Logf("%s", p.log)
	}
}

// TestUntilEndStopped stops jobs before the end of the topic: while rows can't be stored, and while
// Kafka is unavailable at the start. Whoever waits for such a job must not take it for complete.
func TestUntilEndStopped(t *testing.T) {
	inParallel(t)
	const why = "tollstream: stopped before all that was in the topic at the start was stored, " +
		"published and merged\n"
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	w.must("emit", "--count", "50", "--rate", "0")
	unlock := w.lockTable("livetolldata")
	defer unlock()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := w.start("process", "--until-end")
		w.eventually("partitions", time.Minute,
			func() bool { return strings.Contains(p.log.String(), "processing") })
		_ = p.cmd.Process.Signal(signal)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.log.String(), why) {
			t.Errorf("%v: exit status %d\n%s", signal, code, p.log)
		}
	}
	p := w.start("process", "--until-end", "--brokers", "127.0.0.1:1")
	w.eventually("the outage", time.Minute,
		func() bool { return strings.Contains(p.log.String(), "waiting for the servers") })
	if _, code := p.interrupt(); code != 1 || !strings.Contains(p.log.String(), why) {
		t.Errorf("without Kafka: exit status %d\n%s", code, p.log)
	}

	unlock()
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 50 {
		t.Errorf("verify: %+v", v)
	}
	// One that runs until it is stopped is done then.
	p = w.start("process")
	w.eventually("partitions", time.Minute,
		func() bool { return strings.Contains(p.log.String(), "processing") })
	if _, code := p.interrupt(); code != 0 {
		t.Errorf("process: exit status %d\n%s", code, p.log)
	}
}

// lockTable lets nobody write to a table until it is unlocked.
func (w *world) lockTable(table string) (unlock func()) {
	w.t.Helper()
	conn, err := w.sql.Conn(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := conn.ExecContext(w.t.Context(), "LOCK TABLES "+table+" READ"); err != nil {
		w.t.Fatal(err)
	}
	return func() { // a connection that goes back to the pool keeps its locks
		_, _ = conn.ExecContext(context.Background(), "UNLOCK TABLES")
		_ = conn.Close()
	}
}

// TestDetection simulates four weeks at four plazas, with labelled incidents in the last of them,
// and scores what was noticed: how long after its onset each was certain, and how often there was
// an alarm without one.
func TestDetection(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	dir := t.TempDir()
	plazas, labels := filepath.Join(dir, "plazas.csv"), filepath.Join(dir, "labels.json")
	if err := os.WriteFile(plazas, []byte(strings.TrimSpace(`
id,name,lanes,vehicles_per_day,heavy_share
1,North,3,12000,0.08
2,East,2,8000,0.10
3,South,2,6000,0.05
4,West,4,16000,0.12
`)), 0o600); err != nil {
		t.Fatal(err)
	}
	const days = 29 // from a Monday on: four weeks of history before the last day
	args := []string{"emit", "--profile", "day", "--speed", "max", "--days", "29", "--start",
		"2026-03-02", "--seed", "7",
		"--plazas-file", plazas, "--labels", labels}
	for _, incident := range []string{
		"1,2026-03-24 08:10,1h30m,blockage", "1,2026-03-26 13:00,1h,surge,4",
		"1,2026-03-28 15:20,45m,blockage,0.2",
		"2,2026-03-23 17:05,2h,blockage", "2,2026-03-27 11:30,1h,surge,4",
		"3,2026-03-25 07:40,1h,blockage",
		"3,2026-03-29 12:00,1h,surge,5", "4,2026-03-23 09:00,40m,blockage",
		"4,2026-03-26 18:00,1h,blockage,0.3", "4,2026-03-30 10:00,1h,surge,3.5",
	} {
		args = append(args, "--incident", incident)
	}
	w.must("init", "--partitions", "4")
	w.must(args...)
	w.must("process", "--until-end", "--plazas-file", plazas)
	if v := w.verify("--deep"); v.Status != "exact" {
		t.Fatalf("verify: %+v", v)
	}
	w.windowsEqualSQL()

	alarms := w.alarms()
	var delays []time.Duration
	missed := 0
	text, err := os.ReadFile(labels)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l simulate.Label
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		wanted := map[string][]string{simulate.Blockage: {"below_usual"},
			simulate.Surge: {"above_usual", "busy", "saturated"}}[l.Kind]
		found := false
		for i := range alarms {
			a := &alarms[i]
			if a.plaza != l.Plaza || a.detected.Before(l.Start) || a.detected.After(l.End.Add(endNoticed)) {
				continue
			}
			a.explained = true
			if !found && slices.Contains(wanted, a.to) {
				found = true
				delays = append(delays, a.detected.Sub(l.Start))
			}
		}
		if !found {
			missed++
			t.Logf("missed: %+v", l)
		}
	}
	if len(delays) == 0 {
		t.Fatal("no incident was noticed")
	}
	slices.Sort(delays)
	falseAlarms, falseBusy := 0, 0
	for _, a := range alarms {
		switch {
		case a.explained:
		case a.to == "busy":
			falseBusy++
		default:
			falseAlarms++
			t.Logf("false alarm: %+v", a)
		}
	}
	plazaDays := float64(4 * days)
	t.Logf(
		"detected %d of %d incidents; onset delay: median %v, longest %v; false alarms: "+
			"%d (%.3f a plaza and day), and %d times busy (%.3f)",
		len(delays), len(delays)+missed, delays[len(delays)/2], delays[len(delays)-1], falseAlarms,
		float64(falseAlarms)/plazaDays, falseBusy, float64(falseBusy)/plazaDays)
	if missed > 0 || delays[len(delays)/2] > 15*time.Minute || delays[len(delays)-1] > 25*time.Minute {
		t.Errorf("an incident was missed or noticed late")
	}
	if float64(falseAlarms) > 0.1*plazaDays {
		t.Errorf("too many false alarms")
	}
}

// endNoticed is how long after an incident its end may still be noticed.
const endNoticed = 45 * time.Minute

// alarm is a change of congestion to a state that calls for something.
type alarm struct {
	plaza     int16
	to        string
	detected  time.Time
	explained bool
}

// alarms returns what toll_transition holds, but for the ends.
func (w *world) alarms() []alarm {
	w.t.Helper()
	rows, err := w.sql.Query(`SELECT toll_plaza_id, to_state, CAST(detected AS CHAR)
		FROM toll_transition
		WHERE to_state IN ('busy', 'saturated', 'below_usual', 'above_usual') ORDER BY detected`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []alarm
	for rows.Next() {
		var a alarm
		var detected string
		if err := rows.Scan(&a.plaza, &a.to, &detected); err != nil {
			w.t.Fatal(err)
		}
		if a.detected, err = time.Parse(time.DateTime, detected); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}
