package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// setTopic sets settings of a topic, and only those, and waits until the broker reports them:
// the controller answers before the broker knows.
func (w *world) setTopic(topic string, settings map[string]string) {
	w.t.Helper()
	admin := w.admin()
	defer admin.Close()
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range settings {
		entries[name] =
			sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet,
				Value: &value}
	}
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the settings of "+topic, time.Minute, func() bool {
		now, err := admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource,
			Name: topic, ConfigNames: slices.Collect(maps.Keys(settings))}},
			sarama.DescribeConfigsOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		return !slices.ContainsFunc(now[0].Configs, func(e sarama.ConfigEntry) bool {
			value, set := settings[e.Name]
			return set && e.Value != value
		})
	})
}

// TestCompactedTopic has a topic of events that Kafka compacts, from the start and later.
func TestCompactedTopic(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	admin := w.admin()
	defer admin.Close()
	for _, policy := range []string{"compact", "compact,delete"} {
		topic := w.topic + "-" + strings.ReplaceAll(policy, ",", "-")
		if err := admin.CreateTopic(topic,
			&sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1,
				ConfigEntries: map[string]*string{"cleanup.policy": &policy}}, false); err != nil {
			t.Fatal(err)
		}
		w.refuses([]string{"init", "--topic", topic}, "cleanup.policy="+policy, "hint: ",
			"kafka-configs.sh", "--add-config cleanup.policy=delete")
	}
	if n := w.count("SELECT COUNT(*) FROM information_schema.tables " +
		"WHERE table_schema = DATABASE()"); n != 0 {
		t.Errorf("a refused init created %d tables", n)
	}

	w.must("init", "--partitions", "1")
	w.must("emit", "--count", "20", "--rate", "0")
	p := w.start("process")
	w.eventually("rows", time.Minute,
		func() bool { return w.count("SELECT COUNT(*) FROM livetolldata") == 20 })
	w.setTopic(w.topic, map[string]string{"cleanup.policy": "compact"})
	w.eventually("the end of process", time.Minute, func() bool { return !p.running() })
	if log := p.log.String(); p.cmd.ProcessState.ExitCode() != 1 ||
		!strings.Contains(log, "cleanup.policy=compact") {
		t.Errorf("exit status %d:\n%s", p.cmd.ProcessState.ExitCode(), log)
	}
	w.refuses([]string{"process", "--until-end"}, "cleanup.policy=compact",
		"--add-config cleanup.policy=delete")
	w.refuses([]string{"init"}, "cleanup.policy=compact")

	// As the hint says.
	w.setTopic(w.topic, map[string]string{"cleanup.policy": "delete"})
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 20 {
		t.Errorf("verify: %+v", v)
	}
}

// TestShortRetention has a topic whose events may be gone before they are stored.
func TestShortRetention(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	w.setTopic(w.topic, map[string]string{"retention.ms": "3600000", "retention.bytes": "1000000"})
	for _, c := range []struct {
		args  []string
		warns bool
	}{
		{[]string{"init"}, true},
		{[]string{"process", "--until-end"}, true},
		{[]string{"init", "--min-retention", "0"}, false},
		{[]string{"process", "--until-end", "--min-retention", "0"}, false},
	} {
		r := w.run(c.args...)
		for _, text := range []string{"retention.ms=3600000", "retention.bytes=1000000"} {
			if r.code != 0 || strings.Contains(r.stderr, text) != c.warns {
				t.Errorf("%v: exit status %d, warning of %s: want %v\n%s", c.args, r.code, text, c.warns,
					r.stderr)
			}
		}
	}
	r := w.run("process", "--until-end", "--min-retention", "1h")
	if r.code != 0 || strings.Contains(r.stderr, "retention.ms") {
		t.Errorf("an hour is what was asked for:\n%s", r.stderr)
	}
}

// TestPolicyWithoutRight has users that may not read the settings of the topic of events.
func TestPolicyWithoutRight(t *testing.T) {
	inParallel(t)
	s := startSecured(t)
	without := func(user string) {
		s.root("CREATE USER `" + user + "` IDENTIFIED BY '" + kafkaUsers[user] + "'")
		for _, r := range s.rights(t, user) {
			if r.text != "DescribeConfigs on topic toll" {
				r.grant()
			}
		}
	}
	without("init")
	const warning = "settings of topic toll can't be read"
	r := s.policyRun(t, "init", []string{"init", "--partitions", "1"})
	if r.code != 0 || strings.Count(r.stderr, warning) != 1 ||
		!strings.Contains(r.stderr, "DescribeConfigs") {
		t.Errorf("init: exit status %d, want one warning\n%s", r.code, r.stderr)
	}
	s.must("emit", "--count", "5", "--rate", "0")
	without("process") // whose rights are on tables that are there by now
	r = s.policyRun(t, "process", []string{"process", "--until-end"})
	if r.code != 0 || strings.Count(r.stderr, warning) != 1 {
		t.Errorf("process: exit status %d, want one warning\n%s", r.code, r.stderr)
	}
	if n := s.count("SELECT COUNT(*) FROM livetolldata"); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
}

func (s *secured) policyRun(t *testing.T, user string, args []string) result {
	t.Helper()
	env := append(s.sasl("scram-sha-512", user, kafkaUsers[user]),
		"TOLLSTREAM_MYSQL="+s.dsn(user, kafkaUsers[user]))
	return s.with(t, env...).run(args...)
}

// totals returns what was sent per plaza.
func (tr *truth) totals() map[string]int64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	totals := map[string]int64{}
	for row, n := range tr.rows {
		totals[row[strings.LastIndexByte(row, ',')+1:]] += int64(n)
	}
	return totals
}

// from returns what was sent with a time from one on.
func (tr *truth) from(at string) *truth {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	rest := newTruth()
	rest.rejects = tr.rejects
	for row, n := range tr.rows {
		if row >= at {
			rest.rows[row] = n
		}
	}
	return rest
}

// countsEqual checks the group table's count of each plaza against what was sent.
func (w *world) countsEqual(truth *truth) {
	w.t.Helper()
	var v struct {
		Plazas []struct {
			Plaza json.Number
			Total int64
		}
	}
	if err := json.Unmarshal([]byte(w.must("view", "--json")), &v); err != nil {
		w.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, p := range v.Plazas {
		got[p.Plaza.String()] = p.Total
	}
	if want := truth.totals(); !maps.Equal(got, want) {
		w.t.Fatalf("the group table counts %v, sent were %v", got, want)
	}
}

// compacted lets a running process join old batches and roll them up, while more events come.
func (w *world) compacted(s *sender) {
	w.t.Helper()
	age := func() error {
		_, err := w.sql.Exec(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 3 HOUR`)
		return err
	}
	if err := age(); err != nil {
		w.t.Fatal(err)
	}
	before := w.count(`SELECT COUNT(*) FROM toll_batch`)
	p := w.start("process", "--batch-rows", "50", "--keep-batches", "10m", "--reconcile", "1s",
		"--log-level", "debug")
	const horizon = `SELECT COALESCE(MAX(folded_minute), -2147483648) FROM toll_batch`
	was := w.count(horizon)
	// A row is as old as the one behind it was when it was stored, so what was joined is aged once
	// more.
	aged := false
	for deadline := time.Now().Add(5 * time.Minute); w.count(horizon) == was; time.Sleep(
		200 * time.Millisecond) {
		if !p.running() || time.Now().After(deadline) {
			w.t.Fatalf("no minutes were rolled up; %d rows became %d\n%s", before,
				w.count(`SELECT COUNT(*) FROM toll_batch`), p.log)
		}
		if !aged &&
			w.count(`SELECT COUNT(*) FROM toll_batch WHERE batches > 1 AND folded_minute IS NULL`) > 0 {
			aged = age() == nil // else it was in the way of the compaction, and is tried again
		}
		s.disorder(5)
	}
	if _, code := p.interrupt(); code != 0 {
		w.t.Fatalf("exit status %d:\n%s", code, p.log)
	}
	left := w.count(`SELECT COUNT(*) FROM toll_batch WHERE stored_at < NOW() - INTERVAL 1 HOUR`)
	if left > before/4 {
		w.t.Fatalf("of %d old rows of toll_batch %d are left", before, left)
	}
	w.t.Logf("%d rows of toll_batch became %d", before, left)
}

// TestRebuildCompacted adds the batches of a week up by a running process, and rebuilds from what
// is left of them; then once more after the rows of some days were pruned. Each time the group
// table counts what was sent, and every window is as it was.
func TestRebuildCompacted(t *testing.T) {
	inParallel(t)
	campaign(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	sent := newTruth()
	s := w.sender(sent)
	for range 8 {
		s.disorder(400)
		s.clock = s.clock.Add(24 * time.Hour)
	}
	w.untilEnd("--batch-rows", "30")
	w.recovered(sent)

	rebuilt := func(what string, rows *truth, args ...string) {
		t.Helper()
		before := w.windows()
		epoch := w.count(`SELECT MAX(epoch) FROM toll_cursor`)
		w.must("rebuild", "--yes")
		if v := w.verify("--deep"); v.Status != "in_flight" || v.InFlight != int64(sent.total()) ||
			v.Merged != 0 {
			t.Fatalf("%s: right after rebuild: %+v", what, v)
		}
		w.deleteTopic(w.group + "-table")
		if err := os.RemoveAll(w.state); err != nil {
			t.Fatal(err)
		}
		w.untilEnd(args...)
		if now := w.count(`SELECT MIN(epoch) FROM toll_cursor`); now <= epoch {
			t.Fatalf("%s: epoch %d became %d", what, epoch, now)
		}
		if v := w.verify("--deep"); v.Status != "exact" || v.Events != int64(sent.total()) ||
			v.Merged != v.Events || v.Rows != int64(rows.total()) {
			t.Fatalf("%s: after a rebuild: %+v", what, v)
		}
		w.countsEqual(sent)
		rows.check(w)
		after := w.windows()
		if len(after) != len(before) {
			t.Fatalf("%s: %d windows, and %d after a rebuild", what, len(before), len(after))
		}
		for key, v := range before {
			if after[key] != v {
				t.Fatalf("%s: window %s was %+v, and is %+v after a rebuild", what, key, v, after[key])
			}
		}
	}

	w.compacted(s)
	w.untilEnd()
	w.recovered(sent)
	rebuilt("compacted", sent)
	w.windowsEqualSQL()

	// More of the same, of other days, so that rows of different horizons are joined.
	for range 4 {
		s.clock = s.clock.Add(24 * time.Hour)
		s.disorder(300)
	}
	w.untilEnd("--batch-rows", "40")
	w.compacted(s)
	w.untilEnd()
	w.recovered(sent)
	rebuilt("compacted again", sent)
	w.windowsEqualSQL()

	const before = "2022-02-14 00:00:00"
	kept := sent.from(before)
	if kept.total() == sent.total() || kept.total() == 0 {
		t.Fatalf("%d of %d rows are from before %s", sent.total()-kept.total(), sent.total(), before)
	}
	w.must("prune", "--before", before, "--batch-rows", "500", "--yes")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != int64(kept.total()) ||
		v.Events != int64(sent.total()) {
		t.Fatalf("pruned: %+v", v)
	}
	kept.check(w)
	rebuilt("compacted and pruned", kept, "--batch-rows", "70")
}

// TestEmptiedBatches reads the group table's topic as a real broker's compaction leaves it: files
// of the log that hold nothing but batches without records, of which it keeps the last one of each
// producer. What is behind them counts: a reset that took the table for empty would use an epoch
// again.
func TestEmptiedBatches(t *testing.T) {
	inParallel(t)
	k, err := devstack.StartKafka(t.Context(),
		devstack.KafkaConfig{Jars: kafkaJars(t), Addr: "127.0.0.1:0",
			Properties: map[string]string{"log.cleaner.backoff.ms": "100"}})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() { _ = k.Close() })
	const group, epoch, file = "emptied", 9, 1 << 20
	topic := kafka.TableTopic(group)
	client := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.Addr()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	setting := func(text string) *string { return &text }
	if err := admin.CreateTopic(topic,
		&sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{
			"cleanup.policy": setting("compact"), "segment.bytes": setting(strconv.Itoa(file)),
			"min.cleanable.dirty.ratio": setting("0.01"),
		}}, false); err != nil {
		t.Fatal(err)
	}
	filler := make([]byte, file*2/3) // two don't go into one file
	_, _ = rand.Read(filler)
	state := wire.AppendState(nil, &toll.State{Epoch: epoch})
	for _, records := range [][]*kgo.Record{
		{{Key: []byte("1"), Value: filler}},
		{{Key: []byte("1"), Value: filler}},
		{{Key: []byte("4000"), Value: state}, {Key: []byte("1"), Value: filler}},
		{{Key: []byte("1"), Value: filler}}, // in the open file, which is not compacted
	} {
		producer := client(kgo.DefaultProduceTopic(topic))
		for _, r := range records {
			if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); !bytes.Equal(firstKey(t,
		client(kgo.ConsumeTopics(topic))), []byte("4000")); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the broker does not compact the topic")
		}
	}
	got, err := kafka.Cluster{Brokers: []string{k.Addr()}, ClientID: "test"}.Epochs(t.Context(),
		group, "toll")
	if err != nil || got.Highest != epoch || got.Plazas != 1 {
		t.Errorf("%+v, %v, want epoch %d of 1 plaza", got, err, epoch)
	}
}

// firstKey returns the key of the first record that a consumer gets.
func firstKey(t *testing.T, consumer *kgo.Client) []byte {
	t.Helper()
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		if records := fetches.Records(); len(records) > 0 {
			return records[0].Key
		}
	}
}

// TestSparseRevisions has events come for windows that closed long ago, on 180 days far apart: a
// partition was idle while the other went on for 400 days. Its windows are counted again from the
// outbox, which must end: the step of that search once overflowed to 0.
func TestSparseRevisions(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic(w.topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	start := time.Date(2022, 1, 1, 10, 0, 0, 0, time.UTC)
	sent := int64(0)
	send := func(partition int32, plaza, day int) *kgo.Record {
		sent++
		at := start.AddDate(0, 0, day).Add(time.Duration(sent%3) * 20 * time.Minute)
		return &kgo.Record{Partition: partition,
			Value: fmt.Appendf(nil, "%s,%d,car,%d", at.Format(time.ANSIC), sent, 4000+plaza)}
	}
	stored := func(what string) {
		t.Helper()
		w.eventually(what, caughtUpWithin, func() bool {
			return w.count(`SELECT COUNT(*) FROM livetolldata`) == sent
		})
	}
	produce := func(records []*kgo.Record) {
		t.Helper()
		if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p := w.start("process", "--idle", "1s", "--keep-windows", "0")

	var records []*kgo.Record
	for plaza := range 6 {
		records = append(records, send(1, plaza, 0))
	}
	produce(records)
	stored("the first day")
	time.Sleep(4 * time.Second) // longer than --idle, in record time
	records = nil
	for day := range 400 {
		for plaza := range 6 {
			records = append(records, send(0, plaza, day), send(0, plaza, day), send(0, plaza, day))
		}
	}
	produce(records)
	stored("400 days")
	closed := func(what string) {
		t.Helper()
		w.eventually(what, 2*caughtUpWithin, func() bool {
			return w.count(
				`SELECT CAST(COALESCE(SUM(events + too_late), 0) AS SIGNED) FROM toll_window
					WHERE kind = '15m'`) >= sent-6*3
		})
	}
	closed("the windows of 400 days")
	records = nil
	for k := range 30 {
		for plaza := range 6 {
			records = append(records, send(1, plaza, 1+12*k+2*plaza))
		}
	}
	produce(records)
	stored("days far apart")
	closed("their windows")
	if n := w.count(`SELECT COUNT(*) FROM toll_window WHERE kind = '15m' AND revision > 1`); n < 100 {
		t.Errorf("only %d windows were revised", n)
	}
	if took, code := p.interrupt(); code != 0 || took > stopsWithin {
		t.Errorf("process ended with %d after %v", code, took)
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" {
		t.Errorf("verify --deep: %+v", v)
	}
	w.windowsEqualSQL()
}
