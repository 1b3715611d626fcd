package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/tollstream/tollstream/toll"
)

// DefaultMinRetention is the retention of the topic of events below which a warning is due: a
// process that is down for a night must find its events when it starts again.
const DefaultMinRetention = 24 * time.Hour

// CheckPolicy returns a [toll.PermanentError] where Kafka compacts the topic of events. Compaction
// deletes all but the newest record of a key, so events would be lost that nobody has read, and
// the offsets that it leaves out look like those of transactions, which hold no event.
//
// The warnings are about what can be right and often is not: a retention shorter than minRetention
// (0 for any), or settings that this user may not read.
func (c Cluster) CheckPolicy(ctx context.Context, topic string,
	minRetention time.Duration) (warnings []string, err error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	return admin.CheckPolicy(ctx, topic, minRetention)
}

// CheckPolicy is [Cluster.CheckPolicy] over the connections that there are.
func (a *Admin) CheckPolicy(ctx context.Context, topic string,
	minRetention time.Duration) ([]string, error) {
	settings, err := a.Settings(ctx, topic, "cleanup.policy", "retention.ms", "retention.bytes")
	switch {
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err,
		sarama.ErrClusterAuthorizationFailed),
		errors.Is(err, sarama.ErrUnsupportedVersion):
		return []string{fmt.Sprintf(
			"the settings of topic %s can't be read, so nothing is known of its cleanup.policy "+
				"(compact would lose events) and its retention; grant DescribeConfigs on it, see "+
				"docs/security.md", topic)}, nil
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return nil, nil // whoever describes the topic finds that it is gone
	case err != nil:
		return nil, Explain(err)
	}
	return judgePolicy(topic, settings, minRetention)
}

// judgePolicy judges the settings of the topic of events.
func judgePolicy(topic string, settings map[string]string,
	minRetention time.Duration) (warnings []string, err error) {
	setting := func(name string) string { return strings.TrimSpace(settings[name]) }
	policies := strings.Split(setting("cleanup.policy"), ",")
	if slices.ContainsFunc(policies, func(p string) bool {
		return strings.TrimSpace(p) == "compact"
	}) {
		return nil,
			toll.Permanent(
				"events that were compacted before are lost; keep those to come: kafka-configs.sh "+
					"--bootstrap-server … "+
					"--alter --entity-type topics --entity-name "+topic+" --add-config cleanup.policy=delete",
				"topic %s has cleanup.policy=%s: Kafka deletes all but the newest event of a key", topic,
				setting("cleanup.policy"))
	}
	if minRetention <= 0 || !slices.ContainsFunc(policies, func(p string) bool {
		return strings.TrimSpace(p) == "delete"
	}) {
		return nil, nil
	}
	if ms, err := strconv.ParseInt(setting("retention.ms"), 10, 64); err == nil && ms >= 0 &&
		ms < minRetention.Milliseconds() {
		warnings = append(warnings,
			fmt.Sprintf("topic %s has retention.ms=%d: events that are not stored within %v are lost; "+
				"raise it, or accept it with --min-retention", topic, ms, time.Duration(ms)*time.Millisecond))
	}
	if bytes, err := strconv.ParseInt(setting("retention.bytes"), 10, 64); err == nil && bytes >= 0 {
		warnings = append(warnings,
			fmt.Sprintf("topic %s has retention.bytes=%d: events beyond it are deleted whatever their age, "+
				"also before they are stored; set it to -1, or accept it with --min-retention 0", topic, bytes))
	}
	return warnings, nil
}
