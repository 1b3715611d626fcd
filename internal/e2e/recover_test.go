package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

// admin connects an administrative client of Kafka.
func (w *world) admin() sarama.ClusterAdmin {
	w.t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{w.brokers}, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = admin.Close() })
	return admin
}

// backup copies the database's files, as a snapshot of its disk does.
func (w *world) backup() (dir string) {
	w.t.Helper()
	dir = filepath.Join(w.t.TempDir(), "backup")
	w.whileDown(func(data string) error { return os.CopyFS(dir, os.DirFS(data)) })
	return dir
}

// restore puts a backup in the place of the database.
func (w *world) restore(dir string) {
	w.t.Helper()
	w.whileDown(func(data string) error {
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.CopyFS(data, os.DirFS(dir))
	})
}

func (w *world) whileDown(do func(data string) error) {
	w.t.Helper()
	var data string
	if err := w.sql.QueryRow(`SELECT @@datadir`).Scan(&data); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Kill(); err != nil {
		w.t.Fatal(err)
	}
	if err := do(data); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Restart(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// deleteTopic deletes a topic and waits until it is gone.
func (w *world) deleteTopic(topic string) {
	w.t.Helper()
	admin := w.admin()
	if err := admin.DeleteTopic(topic); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the end of topic "+topic, caughtUpWithin, func() bool {
		topics, err := admin.DescribeTopics([]string{topic})
		return err == nil && topics[0].Err == sarama.ErrUnknownTopicOrPartition
	})
}

// records reads all that a topic holds now.
func (w *world) records(topic string) []*kgo.Record {
	w.t.Helper()
	brokers := strings.Split(w.brokers, ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	offsets, err := sarama.NewClient(brokers, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer offsets.Close()
	partitions, err := offsets.Partitions(topic)
	if err != nil {
		w.t.Fatal(err)
	}
	left := map[int32]int64{} // where the partitions end that are not read to their end
	for _, p := range partitions {
		first, err := offsets.GetOffset(topic, p, sarama.OffsetOldest)
		if err != nil {
			w.t.Fatal(err)
		}
		end, err := offsets.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			w.t.Fatal(err)
		}
		if first < end {
			left[p] = end
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), caughtUpWithin)
	defer cancel()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatalf("topic %s can't be read to its end: of partitions %v, after %d records", topic, left,
				len(all))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, r)
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return all
}

// put writes records to a topic as they are, each to its partition.
func (w *world) put(records ...*kgo.Record) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	for _, r := range records {
		again := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		if err := client.ProduceSync(w.t.Context(), again).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// recovered checks that all is exact: the rows, the group table, the windows.
func (w *world) recovered(truth *truth) {
	w.t.Helper()
	w.exact(truth)
	w.publishedLast(w.windowsEqualSQL())
}

// publishedLast reads the topic of results: of each window and each change of congestion, the
// message of the greatest version is what the database holds. After a database was restored, a
// revision or a change of the same number may have been published with another content before.
func (w *world) publishedLast(windows map[string]window) {
	w.t.Helper()
	type notice struct {
		Type, Kind  string
		Plaza       int
		Start       time.Time
		Revision    int64
		Count, Late int64
		Epoch       uint64
		Version, To string
		Number      int64
	}
	last, changes := map[string]notice{}, map[[2]int64]notice{}
	for _, r := range w.records(w.topic + "-congestion") {
		var n notice
		if err := json.Unmarshal(r.Value, &n); err != nil {
			w.t.Fatal(err)
		}
		if n.Type == "congestion" {
			if key := [2]int64{int64(n.Plaza), n.Number}; n.Version > changes[key].Version {
				changes[key] = n
			}
			continue
		}
		key := fmt.Sprintf("%d %s %s", n.Plaza, n.Kind, n.Start.UTC().Format(time.DateTime))
		if n.Version > last[key].Version {
			last[key] = n
		}
	}
	rows,
		err := w.sql.Query(`SELECT toll_plaza_id, detected_minute, to_state, epoch FROM toll_transition`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key [2]int64
		var to string
		var epoch uint64
		if err := rows.Scan(&key[0], &key[1], &to, &epoch); err != nil {
			w.t.Fatal(err)
		}
		if n := changes[key]; n.To != to || n.Epoch != epoch || epoch == 0 {
			w.t.Fatalf("change %v to %s of epoch %d in MySQL, the newest that was published is %+v", key, to,
				epoch, n)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	for key, v := range windows {
		if n := last[key]; v.Events > 0 && (n.Count != v.Events || n.Late != v.Late) {
			w.t.Fatalf("window %s: %+v in MySQL, the newest that was published is %+v", key, v, n)
		}
	}
}

// awaitRefusal waits until a process ends by itself, saying that a rebuild is needed.
func (p *process) awaitRefusal(what string) {
	p.w.t.Helper()
	p.w.eventually(what+": the end of process", caughtUpWithin, func() bool { return !p.running() })
	for _, text := range []string{"database", "restored from a backup", "tollstream rebuild --yes"} {
		if !strings.Contains(p.log.String(), text) {
			p.w.t.Fatalf("%s: process does not say %q:\n%s", what, text, p.log)
		}
	}
}

// untilEnd processes to the end of the topic; what the group table lacks is noticed soon.
func (w *world) untilEnd(args ...string) string {
	w.t.Helper()
	r := w.run(append([]string{"process", "--until-end", "--reconcile", "1s"}, args...)...)
	if r.code != 0 {
		w.t.Fatalf("process --until-end: exit status %d\n%s", r.code, r.stderr)
	}
	return r.stderr
}

// TestRecoverTable deletes what holds the counts: the group table's topic, the local stores, and
// writes older states.
func TestRecoverTable(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "3")
	truth := newTruth()
	s := w.sender(truth)
	s.disorder(1500)
	w.untilEnd("--batch-rows", "100")
	plazas := map[string]*kgo.Record{} // each plaza's first state
	for _, r := range w.records(w.group + "-table") {
		if plazas[string(r.Key)] == nil {
			plazas[string(r.Key)] = r
		}
	}
	s.disorder(1500)
	w.untilEnd("--batch-rows", "130")
	w.recovered(truth)

	// A state that was overwritten with an older one, which the local stores don't have: it was
	// restored from the changelog.
	w.put(plazas["4003"])
	if err := os.RemoveAll(w.state); err != nil {
		t.Fatal(err)
	}
	if v := w.verify(); v.Status == "exact" || v.InFlight == 0 {
		t.Fatalf("with an older state: %+v", v)
	}
	if log := w.untilEnd(); !strings.Contains(log, "reconcile: plaza 4003: sent ") {
		t.Fatalf("process does not say what it sent again:\n%s", log)
	}
	w.recovered(truth)

	// The same for all plazas under a running process, whose local store is right: no delta comes that
	// would put it right.
	p := w.start("process", "--reconcile", "1s")
	w.eventually("processing", caughtUpWithin, func() bool {
		return strings.Contains(p.log.String(), "processing")
	})
	for _, r := range plazas {
		w.put(r)
	}
	w.eventually("all plazas reconciled", caughtUpWithin, func() bool {
		return w.verify().Status == "exact"
	})
	w.recovered(truth)
	if _, code := p.interrupt(); code != 0 {
		t.Fatalf("exit status %d:\n%s", code, p.log)
	}

	// Without the topic, process makes an empty one, and reconcile sends all.
	w.deleteTopic(w.group + "-table")
	s.disorder(300)
	w.untilEnd()
	w.recovered(truth)

	// Rebuild does it without waiting.
	if r := w.run("rebuild"); r.code != 2 ||
		!strings.Contains(r.stderr, "batches of 3 partitions with 3,300 events") ||
		!strings.Contains(r.stderr, "tollstream rebuild --yes") {
		t.Fatalf("rebuild without --yes: exit status %d\n%s", r.code, r.stderr)
	}
	out := w.must("rebuild", "--yes")
	if !strings.Contains(out, "raised the epoch from") ||
		!strings.Contains(out, "tollstream process") {
		t.Fatalf("rebuild says:\n%s", out)
	}
	if v := w.verify("--deep"); v.Status != "in_flight" || v.InFlight != 3300 || v.Merged != 0 {
		t.Fatalf("after rebuild: %+v", v)
	}
	w.deleteTopic(w.group + "-table")
	before := w.windows()
	w.must("process", "--until-end", "--reconcile", "1h")
	w.recovered(truth)
	for key, v := range w.windows() {
		if before[key] != v {
			t.Fatalf("window %s was %+v, and is %+v after a rebuild", key, before[key], v)
		}
	}
	if n := w.count(`SELECT COUNT(DISTINCT epoch) FROM toll_window WHERE revision > 0`); n != 1 {
		t.Fatalf("a rebuild that changed nothing stored windows again: they are of %d epochs", n)
	}
}

// TestRecoverLoop deletes deltas from the loop before they are consumed, as its retention does,
// under a running process.
func TestRecoverLoop(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "3")
	truth := newTruth()
	s := w.sender(truth)
	admin := w.admin()
	client, err := sarama.NewClient([]string{w.brokers}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	loop := w.group + "-loop"
	// Batches that are not full: in a backlog deltas come seldom, and few of them can be lost.
	p := w.start("process", "--latency", "20ms", "--reconcile", "1s")
	w.eventually("processing", caughtUpWithin, func() bool {
		return strings.Contains(p.log.String(), "processing")
	})
	for round := 0; !strings.Contains(p.log.String(), "reconcile: plaza "); round++ {
		if round == 30 {
			t.Fatalf("in 30 rounds no delta was lost:\n%s", p.log)
		}
		var load sync.WaitGroup
		load.Go(func() {
			for range 10 {
				s.disorder(200)
			}
		})
		loaded := make(chan struct{})
		go func() { load.Wait(); close(loaded) }()
		for loading := true; loading; {
			select {
			case <-loaded:
				loading = false
			default:
			}
			ends := map[int32]int64{}
			for partition := range int32(3) {
				end, err := client.GetOffset(loop, partition, sarama.OffsetNewest)
				if err != nil {
					t.Fatal(err)
				}
				ends[partition] = end
			}
			if err := admin.DeleteRecords(loop, ends); err != nil {
				t.Fatal(err)
			}
		}
		w.eventually("all merged", caughtUpWithin,
			func() bool { v := w.verify(); return v.Status == "exact" && v.Events == int64(truth.total()) })
	}
	if _, code := p.interrupt(); code != 0 {
		t.Fatalf("exit status %d:\n%s", code, p.log)
	}
	w.untilEnd()
	w.recovered(truth)
}

// TestRecoverRestored puts an older database in the place of the one that process writes to: twice
// the same backup, with batches that are cut otherwise meanwhile, and under a running process.
func TestRecoverRestored(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "3")
	truth := newTruth()
	s := w.sender(truth)
	s.disorder(2000)
	w.untilEnd("--batch-rows", "100")
	backup := w.backup()
	s.disorder(1500)
	w.untilEnd("--batch-rows", "70")
	w.recovered(truth)

	for round, rows := range []string{"45", "333"} {
		w.restore(backup)
		if v := w.verify(); v.Status != "mismatch" {
			t.Fatalf("round %d: a restored database: %+v", round, v)
		}
		w.refuses([]string{"process", "--until-end"}, "the database is behind",
			"tollstream rebuild --yes")
		w.must("rebuild", "--yes")
		w.untilEnd("--batch-rows", rows)
		w.recovered(truth)
		s.disorder(200)
		w.untilEnd("--batch-rows", rows)
		w.recovered(truth)
	}

	// Under a running process, which is then ahead of it. More events come all the time.
	p := w.start("process", "--batch-rows", "50", "--reconcile", "1s")
	w.eventually("processing", caughtUpWithin, func() bool {
		return strings.Contains(p.log.String(), "processing")
	})
	s.disorder(500)
	w.eventually("rows", caughtUpWithin, func() bool {
		return w.count(`SELECT COUNT(*) FROM livetolldata`) > 4000
	})
	w.restore(backup)
	s.disorder(500)
	p.awaitRefusal("restored under a running process")
	w.must("rebuild", "--yes")
	w.untilEnd()
	w.recovered(truth)
}

// TestRecoverFailover lets the database lose its last commits without a trace in the group's
// offsets, which follow within a second. So process begins, cuts other batches than were merged,
// and has to find out by the group table.
func TestRecoverFailover(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	truth := newTruth()
	s := w.sender(truth)
	for round := range 2 {
		s.disorder(900)
		w.untilEnd("--batch-rows", "100")
		replica := w.backup()
		s.disorder(300)
		w.untilEnd("--batch-rows", "70")
		w.restore(replica)
		admin := w.admin()
		for partition := range int32(2) {
			w.eventually("the group without members", caughtUpWithin, func() bool {
				err := admin.DeleteConsumerGroupOffset(w.group, w.topic, partition)
				return err == nil
			})
		}
		args := []string{"process", "--batch-rows", "90", "--reconcile", "1s"}
		if round == 1 {
			s.disorder(2000) // its batches soon end beyond what was merged
		}
		w.start(args...).awaitRefusal("a failover")
		w.must("rebuild", "--yes")
		w.untilEnd("--batch-rows", "110")
		w.recovered(truth)
	}
}

// TestRebuildWhileRunning rebuilds while three processes run under load: at once, twice in a row,
// and killed in the midst.
func TestRebuildWhileRunning(t *testing.T) {
	inParallel(t)
	campaign(t)
	w := newWorld(t)
	w.must("init", "--partitions", "4")
	truth := newTruth()
	s := w.sender(truth)
	s.disorder(2000)
	w.untilEnd("--batch-rows", "20")
	var processes []*process
	for i := range 3 {
		processes = append(processes, w.start("process", "--batch-rows", "100", "--reconcile", "1s",
			"--instance", fmt.Sprint("p", i)))
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				s.disorder(50)
			}
		}
	})
	rows := func() int64 { return w.count(`SELECT COUNT(*) FROM livetolldata`) }
	w.eventually("rows", caughtUpWithin, func() bool { return rows() > 2500 })
	out := w.must("rebuild", "--yes")
	if !strings.Contains(out, "running member") {
		t.Fatalf("rebuild says:\n%s", out)
	}
	for range 5 { // killed
		p := w.start("rebuild", "--yes")
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		p.kill()
	}
	w.must("rebuild", "--yes")
	w.must("rebuild", "--yes")
	now := rows()
	w.eventually("rows after the rebuilds", caughtUpWithin, func() bool { return rows() > now+500 })
	close(stop)
	load.Wait()
	w.eventually("all rows", caughtUpWithin, func() bool { return rows() == int64(truth.total()) })
	w.eventually("all merged", caughtUpWithin, func() bool { return w.verify().Status == "exact" })
	for _, p := range processes {
		if !p.running() {
			t.Fatalf("process ended by itself:\n%s", p.log)
		}
		p.kill()
	}
	w.untilEnd()
	w.recovered(truth)
}
