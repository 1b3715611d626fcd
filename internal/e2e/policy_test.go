package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
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
		now, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource,
			Name: topic, ConfigNames: slices.Collect(maps.Keys(settings))})
		if err != nil {
			w.t.Fatal(err)
		}
		return !slices.ContainsFunc(now, func(e sarama.ConfigEntry) bool {
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
