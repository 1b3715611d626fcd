package endpoint

import (
	"context"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

const (
	DefaultPartitions  = 4
	DefaultReplication = 1
	maxPartitions      = 10_000
)

// topicFlags returns the flags that [TopicsFrom] reads: how topics are created where they are
// missing.
func TopicFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "partitions", EnvVars: command.Env("partitions"), Value: DefaultPartitions,
			Usage: "partitions of the topic of events, where it is created"},
		&cli.IntFlag{Name: "replication", EnvVars: command.Env("replication"), Value: DefaultReplication,
			Usage: "replication `FACTOR` of the topics that are created"},
	}
}

// MinRetentionFlag is for commands that check the settings of the topic of events.
func MinRetentionFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "min-retention", EnvVars: command.Env("min-retention"), Value: kafka.DefaultMinRetention,
		Usage: "warn where the topic of events keeps them for less than this `TIME`; 0 for never",
	}
}

// TopicsFrom reads which topics a command is to work with.
func TopicsFrom(c *cli.Context, con Connection) (kafka.Topics, error) {
	t := kafka.Topics{Topic: con.Topic, Group: con.Group, Partitions: DefaultPartitions,
		Replication: DefaultReplication}
	if command.Has(c, "partitions") {
		t.Partitions = c.Int("partitions")
	}
	if command.Has(c, "replication") {
		t.Replication = c.Int("replication")
	}
	if command.Has(c, "min-retention") {
		t.MinRetention = c.Duration("min-retention")
	}
	if t.MinRetention < 0 {
		return t, hint.Usagef("--min-retention: %v is not 0 or more", t.MinRetention)
	}
	if t.Partitions < 1 || t.Partitions > maxPartitions {
		return t, hint.Usagef("--partitions: %d is not between 1 and %d", t.Partitions, maxPartitions)
	}
	if t.Replication < 1 || t.Replication > 1000 {
		return t, hint.Usagef("--replication: %d is not between 1 and 1000", t.Replication)
	}
	return t, nil
}

// Init creates what the commands need of database, tables and topics, and reports each thing that
// it did. It changes nothing that is right; what is wrong is a [toll.PermanentError].
func Init(ctx context.Context, con Connection, t kafka.Topics, log *slog.Logger,
	did func(...string)) error {
	info, found, err := con.Cluster.Describe(ctx, t.Topic)
	if err != nil {
		return err
	}
	if found {
		if err := warnOfPolicy(ctx, con, t, log); err != nil {
			return err
		}
	}
	store, err := con.OpenStore(log)
	if err != nil {
		return err
	}
	defer store.Close()
	created, err := store.CreateDatabase(ctx)
	if err != nil {
		return err
	}
	if created {
		did("created database " + store.Address())
	}
	// The database goes first: it knows what it serves, so a mistyped group or topic is refused before
	// any topic is made.
	done, err := store.Init(ctx, con.Identity(info.ID))
	did(done...)
	if err != nil {
		return err
	}
	if !found {
		if m, err := store.Meta(ctx); err != nil {
			return err
		} else if m.TopicID != "" {
			return toll.Permanent("to recreate the topic and empty the tables, run: tollstream reset --yes",
				"topic %s does not exist, and the database %s has stored events of it", t.Topic,
				store.Address())
		}
	}
	made, done, err := con.Cluster.Create(ctx, t)
	did(done...)
	if err != nil || found {
		return err
	}
	if err := warnOfPolicy(ctx, con, t, log); err != nil { // the broker's defaults may be wrong too
		return err
	}
	if err := store.SetTopicID(ctx, made.ID); err != nil {
		return err
	}
	did("recorded the topic's id " + made.ID)
	return nil
}

// warnOfPolicy refuses a topic of events that Kafka compacts, and warns of a short retention.
func warnOfPolicy(ctx context.Context, con Connection, t kafka.Topics, log *slog.Logger) error {
	warnings, err := con.Cluster.CheckPolicy(ctx, t.Topic, t.MinRetention)
	for _, w := range warnings {
		log.Warn(w)
	}
	return err
}
