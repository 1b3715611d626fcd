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
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// LoopTopic returns the name of a group's loop topic, which carries the deltas.
func LoopTopic(group string) string { return group + "-loop" }

// TableTopic returns the name of a group's table topic, the changelog of the group table.
func TableTopic(group string) string { return string(goka.GroupTable(goka.Group(group))) }

// CongestionTopic returns the name of the topic that carries the results: closed windows, and
// changes of congestion.
func CongestionTopic(topic string) string { return topic + "-congestion" }

// CheckNames returns an error where a topic of events can't have its name, since another topic of
// ours has it. Kafka takes names that differ in '.' and '_' alone for the same.
func CheckNames(topic, group string) error {
	plain := func(name string) string { return strings.ReplaceAll(name, ".", "_") }
	for _, own := range []string{LoopTopic(group), TableTopic(group)} {
		if plain(topic) == plain(own) {
			return fmt.Errorf("topic %s is a topic of group %s itself", own, group)
		}
	}
	if events, found := strings.CutSuffix(topic, CongestionTopic("")); found {
		return fmt.Errorf("topic %s is the one of the results of topic %s", topic, events)
	}
	return nil
}

// LoopRetention is how long the loop keeps deltas: an aggregate may be down as long.
const LoopRetention = 7 * 24 * time.Hour

// Topics says which topics a group needs, and how they are made where they are missing.
type Topics struct {
	Topic       string
	Group       string
	Partitions  int // of the topic of events, where it is created
	Replication int

	// MinRetention of the topic of events, below which a warning is due; 0 for none.
	MinRetention time.Duration
}

// The group's own topics have the broker's time. Kafka refuses records that are more than an hour
// ahead of its clock, and retention goes by their time: a wrong clock of ours must do neither.
const (
	timestampType = "message.timestamp.type"
	appendTime    = "LogAppendTime"
)

// topicConfig is the configuration of one topic, with the keys that goka checks.
type topicConfig struct {
	name    string
	entries map[string]string
}

// events has the policy in which no event is deleted for another one of its key, whatever the
// broker's default is. How long events are kept is the broker's matter.
func (t Topics) events() topicConfig {
	return topicConfig{t.Topic, map[string]string{"cleanup.policy": "delete"}}
}

func (t Topics) loop() topicConfig {
	return topicConfig{LoopTopic(t.Group), map[string]string{
		"cleanup.policy": "delete",
		"retention.ms":   fmt.Sprint(LoopRetention.Milliseconds()),
		timestampType:    appendTime,
	}}
}

func (t Topics) congestion() topicConfig {
	return topicConfig{CongestionTopic(t.Topic), t.loop().entries}
}

func (t Topics) table() topicConfig {
	return topicConfig{TableTopic(t.Group), map[string]string{
		"cleanup.policy": "compact",
		timestampType:    appendTime,
		// compaction leaves the open segment alone, and whoever joins reads it: keep it small
		"segment.bytes": fmt.Sprint(4 << 20),
	}}
}

// Describe returns what the cluster says of a topic, and false where there is none.
func (c Cluster) Describe(ctx context.Context, topic string) (Topic, bool, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return Topic{}, false, err
	}
	defer admin.Close()
	return describe(ctx, admin, topic)
}

func describe(ctx context.Context, admin *Admin, topic string) (Topic, bool, error) {
	info, found, err := admin.Topic(ctx, topic)
	return info, found, Explain(err)
}

// Existing returns what the cluster says of a topic that must be there.
func (a *Admin) Existing(ctx context.Context, topic string) (Topic, error) {
	info, found, err := describe(ctx, a, topic)
	if err == nil && !found {
		err = fmt.Errorf("describe topic %s: %w", topic, sarama.ErrUnknownTopicOrPartition)
	}
	return info, err
}

// Create creates the topics that are missing and returns a line for each thing it did. A topic that
// is there and does not fit is a [toll.PermanentError].
func (c Cluster) Create(ctx context.Context, t Topics) (Topic, []string, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return Topic{}, nil, err
	}
	defer admin.Close()
	var done []string
	info, found, err := describe(ctx, admin, t.Topic)
	if err != nil {
		return info, nil, err
	}
	if !found {
		if err := createTopic(ctx, admin, t.events(), t.Partitions, t.Replication); err != nil {
			return info, nil, err
		}
		done = append(done, fmt.Sprintf("created topic %s with %d partitions", t.Topic, t.Partitions))
		if info, err = awaitTopic(ctx, admin, t.Topic, true); err != nil {
			return info, done, err
		}
	}
	for _, config := range []topicConfig{t.loop(), t.table(), t.congestion()} {
		have, found, err := describe(ctx, admin, config.name)
		switch {
		case err != nil:
			return info, done, err
		case !found:
			if err := createTopic(ctx, admin, config, info.Partitions, t.Replication); err != nil {
				return info, done, err
			}
			done = append(done, fmt.Sprintf("created topic %s with %d partitions", config.name,
				info.Partitions))
			if _, err := awaitTopic(ctx, admin, config.name, true); err != nil {
				return info, done, err
			}
		// whose keys any number can hold
		case have.Partitions != info.Partitions && config.name != CongestionTopic(t.Topic):
			return info, done, mismatch(have, info)
		}
	}
	return info, done, nil
}

func mismatch(have, events Topic) error {
	return toll.Permanent(
		"a topic that grew needs its group table rebuilt; rows and windows stay: stop every process, "+
			"run tollstream rebuild --yes, start them again",
		"topic %s has %d partitions and topic %s has %d; they must be equal", have.Name, have.Partitions,
		events.Name, events.Partitions)
}

func createTopic(ctx context.Context, admin *Admin, t topicConfig, partitions,
	replication int) error {
	err := admin.CreateTopic(ctx, t.name, partitions, replication, t.entries)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return nil
	}
	return Explain(err)
}

// topicPatience is how long a topic that was created or deleted may take to show as such.
const topicPatience = 15 * time.Second

// awaitTopic waits until a topic is there, with its partitions, or is not.
func awaitTopic(ctx context.Context, admin *Admin, topic string, there bool) (Topic, error) {
	for deadline := time.Now().Add(topicPatience); ; {
		info, found, err := describe(ctx, admin, topic)
		if err == nil && found == there && (info.Partitions > 0) == there {
			return info, nil
		}
		if wait.For(ctx, 50*time.Millisecond) != nil || time.Now().After(deadline) {
			if err == nil && there {
				err = errors.New("it does not show")
			} else if err == nil {
				err = fmt.Errorf("it is still there %v after it was deleted", topicPatience)
			}
			return info, fmt.Errorf("wait for topic %s: %w", topic, err)
		}
	}
}

// Check returns what the cluster says of the topic of events, after creating the loop and the group
// table where they are missing. What is missing or does not fit is a [toll.PermanentError] that
// names the command that repairs it.
func (c Cluster) Check(ctx context.Context, t Topics) (Topic, error) {
	info, err := c.DescribeEvents(ctx, t.Topic)
	if err != nil {
		return info, err
	}
	_, _, err = c.Create(ctx, t)
	return info, err
}

// DescribeEvents returns what the cluster says of the topic of events, which must exist.
func (c Cluster) DescribeEvents(ctx context.Context, topic string) (Topic, error) {
	info, found, err := c.Describe(ctx, topic)
	if err == nil && !found {
		err = Missing(topic)
	}
	return info, err
}

// Missing is the error of a topic of events that does not exist.
func Missing(topic string) error {
	return toll.Permanent("create it, or run: tollstream init", "topic %s does not exist", topic)
}

// Reset deletes the loop, the group table, the results and the group's offsets, and recreates
// the topics. The topic of events stays as it is. The group must have no running member.
func (c Cluster) Reset(ctx context.Context, t Topics) ([]string, error) {
	return c.remake(ctx, t, LoopTopic(t.Group), TableTopic(t.Group), CongestionTopic(t.Topic))
}

// Outgrown reports whether the topic of events has more partitions than the loop or the group
// table.
func (c Cluster) Outgrown(ctx context.Context, t Topics) (bool, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer admin.Close()
	events, found, err := describe(ctx, admin, t.Topic)
	if err != nil || !found {
		return false, err
	}
	for _, name := range []string{LoopTopic(t.Group), TableTopic(t.Group)} {
		have, found, err := describe(ctx, admin, name)
		if err != nil {
			return false, err
		}
		if found && have.Partitions != events.Partitions {
			return true, nil
		}
	}
	return false, nil
}

// Regrow deletes the loop, the group table and the group's offsets, and recreates the topics with
// as many partitions as the topic of events has: plazas are in other ones then. What they held has
// to be published again. The group must have no running member.
func (c Cluster) Regrow(ctx context.Context, t Topics) ([]string, error) {
	return c.remake(ctx, t, LoopTopic(t.Group), TableTopic(t.Group))
}

// Members returns how many processes of a group run. One that was killed counts until its session
// times out.
func (c Cluster) Members(ctx context.Context, group string) (int, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	n, err := admin.Members(ctx, group)
	return n, Explain(err)
}

// remake deletes a group's offsets and topics, and makes what is missing.
func (c Cluster) remake(ctx context.Context, t Topics, topics ...string) ([]string, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	members, err := admin.Members(ctx, t.Group)
	switch {
	case err != nil:
		return nil, Explain(err)
	case members > 0:
		return nil,
			toll.Permanent(
				"stop every tollstream process of the group first; one that was killed counts until its "+
					"session is over (--session-timeout, 10 s)",
				"group %s has %d running members", t.Group, members)
	}
	var done []string
	switch err := admin.DeleteGroup(ctx, t.Group); {
	case err == nil:
		done = append(done, "deleted the offsets of group "+t.Group)
	case errors.Is(err, sarama.ErrGroupIDNotFound):
	default:
		return nil, Explain(err)
	}
	for _, name := range topics {
		if _, found, err := describe(ctx, admin, name); err != nil {
			return done, err
		} else if !found {
			continue
		}
		if err := admin.DeleteTopic(ctx, name); err != nil &&
			!errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return done, Explain(err)
		}
		if _, err := awaitTopic(ctx, admin, name, false); err != nil {
			return done, err
		}
		done = append(done, "deleted topic "+name)
	}
	_, created, err := c.Create(ctx, t)
	return append(done, created...), err
}

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
