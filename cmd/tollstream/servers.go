package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

const (
	defaultPartitions  = 4
	defaultReplication = 1
	maxPartitions      = 10_000
)

// topicFlags returns the flags that [topicsFrom] reads: how topics are created where they are
// missing.
func topicFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "partitions", EnvVars: command.Env("partitions"), Value: defaultPartitions,
			Usage: "partitions of the topic of events, where it is created"},
		&cli.IntFlag{Name: "replication", EnvVars: command.Env("replication"), Value: defaultReplication,
			Usage: "`COPIES` of the topics that are created"},
	}
}

// minRetentionFlag is of the commands that look at the settings of the topic of events.
func minRetentionFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "min-retention", EnvVars: command.Env("min-retention"), Value: topology.DefaultMinRetention,
		Usage: "warn where the topic of events keeps them for less than this `TIME`; 0 for never",
	}
}

// topicsFrom reads which topics a command is to work with.
func topicsFrom(c *cli.Context, con connection) (topology.Topics, error) {
	t := topology.Topics{Topic: con.topic, Group: con.group, Partitions: defaultPartitions,
		Replication: defaultReplication}
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

// initServers makes database, tables and topics what the commands need, and tells each thing that
// it did. What is right stays as it is; what is wrong is a [toll.PermanentError].
func initServers(ctx context.Context, con connection, t topology.Topics, log *slog.Logger,
	tell func(...string)) error {
	info, found, err := con.cluster.Describe(ctx, t.Topic)
	if err != nil {
		return err
	}
	if found {
		if err := warnOfPolicy(ctx, con, t, log); err != nil {
			return err
		}
	}
	store, err := con.openStore(sql.LoadAuto, log)
	if err != nil {
		return err
	}
	defer store.Close()
	created, err := store.CreateDatabase(ctx)
	if err != nil {
		return err
	}
	if created {
		tell("created database " + store.Address())
	}
	// The database goes first: it knows what it serves, so a mistyped group or topic is refused before
	// any topic is made.
	done, err := store.Init(ctx, con.identity(info.ID))
	tell(done...)
	if err != nil {
		return err
	}
	if !found {
		if m, err := store.Meta(ctx); err != nil {
			return err
		} else if m.TopicID != "" {
			return toll.Permanent("to make the topic anew and empty the tables, run: tollstream reset --yes",
				"topic %s is gone, and the database %s has stored events of it", t.Topic, store.Address())
		}
	}
	made, did, err := con.cluster.Create(ctx, t)
	tell(did...)
	if err != nil || found {
		return err
	}
	if err := warnOfPolicy(ctx, con, t, log); err != nil { // the broker's defaults may be wrong too
		return err
	}
	if err := store.SetTopicID(ctx, made.ID); err != nil {
		return err
	}
	tell("recorded the topic's id " + made.ID)
	return nil
}

// warnOfPolicy refuses a topic of events that Kafka compacts, and warns of a short retention.
func warnOfPolicy(ctx context.Context, con connection, t topology.Topics, log *slog.Logger) error {
	warnings, err := con.cluster.CheckPolicy(ctx, t.Topic, t.MinRetention)
	for _, w := range warnings {
		log.Warn(w)
	}
	return err
}

// didJSON is what init and reset print with --json.
type didJSON struct {
	Did []string `json:"did"`
}

// teller gathers what a command did, and without --json prints it line by line.
type teller struct {
	w      io.Writer
	asJSON bool
	did    []string
}

func (t *teller) tell(lines ...string) {
	t.did = append(t.did, lines...)
	for _, line := range lines {
		if !t.asJSON {
			fmt.Fprintln(t.w, text.OneLine(line))
		}
	}
}

// end prints what was done as JSON, or, where it was nothing, that.
func (t *teller) end(nothing string) error {
	if t.asJSON {
		return text.WriteJSON(t.w, didJSON{append([]string{}, t.did...)})
	}
	if len(t.did) == 0 {
		_, err := fmt.Fprintln(t.w, nothing)
		return err
	}
	return nil
}

// loopbackAddr reads an address to listen on, which must not be reachable from other machines; advice
// says why.
func loopbackAddr(flag, addr, advice string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", hint.Usagef("--%s: %q is not HOST:PORT", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", hint.Usagef("--%s: %q is not a port", flag, port)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", hint.With(hint.Usagef("--%s: %q is not an address of this machine alone", flag, host),
			advice)
	}
	return net.JoinHostPort(host, port), nil
}

// withServersHint adds to the failure to reach a server what a newcomer may have forgotten.
func withServersHint(err error) error {
	if err != nil && hint.Of(err) == "" &&
		(errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, sarama.ErrOutOfBrokers)) {
		return hint.With(err, "is it running? tollstream up starts Kafka and MySQL for trying things out")
	}
	return err
}
