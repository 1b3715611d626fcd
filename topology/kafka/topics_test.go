package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestJudgePolicy(t *testing.T) {
	for _, c := range []struct {
		policy, ms, bytes string
		least             time.Duration
		refused           bool
		warnings          []string // parts of them
	}{
		{policy: "delete", ms: "604800000", bytes: "-1", least: 24 * time.Hour},
		{policy: "delete", ms: "86400000", bytes: "-1", least: 24 * time.Hour},
		{policy: "delete", ms: "86399999", bytes: "-1", least: 24 * time.Hour,
			warnings: []string{"retention.ms=86399999"}},
		{policy: "delete", ms: "-1", bytes: "-1", least: 24 * time.Hour},
		{policy: "delete", ms: "0", bytes: "0", least: time.Hour,
			warnings: []string{"retention.ms=0", "retention.bytes=0"}},
		{policy: "delete", ms: "1000", bytes: "1000", least: 0},
		// Kafka 4.2 knows a topic that nothing is deleted of
		{policy: "", ms: "1000", bytes: "1000", least: 24 * time.Hour},
		{policy: "compact", ms: "-1", bytes: "-1", refused: true},
		{policy: "compact,delete", ms: "-1", bytes: "-1", refused: true},
		{policy: "delete, compact", ms: "-1", bytes: "-1", refused: true},
	} {
		warnings, err := judgePolicy("toll",
			map[string]string{"cleanup.policy": c.policy, "retention.ms": c.ms, "retention.bytes": c.bytes},
			c.least)
		if toll.IsPermanent(err) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
		if !slices.EqualFunc(warnings, c.warnings, strings.Contains) {
			t.Errorf("%+v: warnings %q", c, warnings)
		}
	}
}

// TestCreatedTopics looks at the settings of what init creates: no event is deleted for another one
// of its key, and our own messages have the broker's time, whatever our clock says.
func TestCreatedTopics(t *testing.T) {
	_, cluster := testBroker(t)
	if _, _, err := cluster.Create(t.Context(),
		Topics{Topic: "events", Group: "g", Partitions: 2, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	admin, err := cluster.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for topic, want := range map[string][2]string{
		"events": {"delete", "CreateTime"}, "g-loop": {"delete", "LogAppendTime"}, "g-table": {"compact",
			"LogAppendTime"},
		"events-congestion": {"delete", "LogAppendTime"},
	} {
		got, err := admin.Settings(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if got["cleanup.policy"] != want[0] || got["message.timestamp.type"] != want[1] {
			t.Errorf("%s: %q, %q, want %q", topic, got["cleanup.policy"], got["message.timestamp.type"],
				want)
		}
	}
}

// TestCheckNames has the names that Kafka takes for the same, too.
func TestCheckNames(t *testing.T) {
	for _, c := range []struct {
		topic, group string
		fits         bool
	}{
		{"toll", "tollstream", true},
		{"toll", "toll", true},
		{"tollstream", "tollstream", true},
		{"other-loop", "tollstream", true}, // an inductive loop, for all we know
		{"tollstream-loop", "tollstream", false},
		{"tollstream-table", "tollstream", false},
		{"toll.stream-loop", "toll_stream", false},
		{"toll-congestion", "tollstream", false},
	} {
		if err := CheckNames(c.topic, c.group); (err == nil) != c.fits {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
