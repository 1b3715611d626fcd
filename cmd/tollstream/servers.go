package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/gofrs/flock"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/devstack"
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

// stackConfig says how to start a stack.
type stackConfig struct {
	kafkaListen, mysqlListen string // HOST:PORT on loopback; port 0 takes a free one
	dataDir                  string // "": in a temporary folder and in memory
	// of devstack.DatabaseConfig; "" for the first that this machine has
	engine   string
	topics   topology.Topics
	location *time.Location
	log      *slog.Logger
}

// stack is a Kafka broker and a database that belong to this process, set up and ready.
type stack struct {
	cfg      stackConfig
	lock     *flock.Flock // of dataDir; nil without
	broker   *devstack.Broker
	database *devstack.Database
	// partitions of the topic of events, which an earlier start may have created
	partitions int
}

const (
	lockFile       = "tollstream.lock"
	brokerDir      = "broker"
	databaseDir    = "database"
	engineEmbedded = "embedded" // devstack's name of the database in memory
	stackTimeout   = 2 * time.Minute
)

// startStack starts broker and database, and creates what the commands need. Where it fails, or ctx
// ends, it leaves nothing running.
func startStack(ctx context.Context, cfg stackConfig) (_ *stack, err error) {
	s := &stack{cfg: cfg}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.openFolder(); err != nil {
		return nil, err
	}
	s.broker, err = devstack.StartBroker(devstack.BrokerConfig{
		Addr: cfg.kafkaListen, DataDir: s.folder(brokerDir),
		Logf: func(format string,
			args ...any) {
			cfg.log.Debug("broker", "says", fmt.Sprintf(format, args...))
		},
	})
	if err != nil {
		return nil, explainListen(err, "Kafka", cfg.kafkaListen, "--kafka-listen")
	}
	starting, cancel := context.WithTimeout(ctx, stackTimeout)
	defer cancel()
	s.database, err = devstack.StartDatabase(starting,
		devstack.DatabaseConfig{Addr: cfg.mysqlListen, DataDir: s.folder(databaseDir),
			Engine: cfg.engine})
	if err != nil {
		return nil, explainListen(err, "MySQL", cfg.mysqlListen, "--mysql-listen")
	}
	con := s.connection()
	if err := initServers(ctx, con, cfg.topics, cfg.log, func(lines ...string) {
		for _, line := range lines {
			cfg.log.Debug(line)
		}
	}); err != nil {
		// The database is ours, so another one is another folder.
		return nil, hint.With(err, strings.ReplaceAll(hint.Of(err), "another database with --mysql",
			"another folder with --data"))
	}
	info, _, err := con.cluster.Describe(ctx, con.topic)
	s.partitions = info.Partitions
	return s, err
}

// openFolder locks the data folder, and makes sure that its rows can be served.
func (s *stack) openFolder() error {
	dir := s.cfg.dataDir
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return fmt.Errorf("lock the data folder: %w", err)
	case !ok:
		_ = lock.Close()
		return hint.With(fmt.Errorf("the data folder %s is in use by another tollstream up", dir),
			"stop that one, or choose another folder with --data")
	}
	s.lock = lock
	_, installed := devstack.FindMariaDB()
	if _, err := os.Stat(filepath.Join(dir, databaseDir, "data")); err == nil && !installed {
		return hint.With(
			fmt.Errorf(
				"the data folder %s holds rows of MariaDB, and neither mariadbd nor mysqld is installed here",
				dir),
			"install mariadb-server, or choose another folder with --data")
	}
	return nil
}

func (s *stack) folder(name string) string {
	if s.cfg.dataDir == "" {
		return ""
	}
	return filepath.Join(s.cfg.dataDir, name)
}

// connection returns how to reach the servers.
func (s *stack) connection() connection {
	return connection{
		cluster:  topology.Cluster{Brokers: []string{s.broker.Addr()}, ClientID: "tollstream"},
		topic:    s.cfg.topics.Topic,
		group:    s.cfg.topics.Group,
		dsn:      s.database.DSN(),
		location: s.cfg.location,
	}
}

// embedded reports whether the database is one in memory, since none is installed.
func (s *stack) embedded() bool { return s.database.Engine() == engineEmbedded }

// keeps reports whether the next start on the same folder finds the rows again.
func (s *stack) keeps() bool { return s.database.Persistent() }

// Bounds of how a dead database is noticed: a busy one answers again within them.
const (
	watchEvery = time.Second
	watchTries = 5
)

// wait returns nil when ctx ends, or an error when the database has died.
func (s *stack) wait(ctx context.Context) error {
	store, err := s.connection().openStore(sql.LoadAuto, s.cfg.log)
	if err != nil {
		return err
	}
	defer store.Close()
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ping, cancel := context.WithTimeout(ctx, 10*watchEvery)
		err := store.Ping(ping)
		cancel()
		if err == nil || ctx.Err() != nil {
			failed = 0
			continue
		}
		if failed++; failed == watchTries {
			return fmt.Errorf("the database does not answer any more: %w", err)
		}
	}
}

// Close stops both servers, at the same time, and returns when they have ended.
func (s *stack) Close() error {
	var brokerErr, databaseErr, lockErr error
	var wg sync.WaitGroup
	if s.broker != nil {
		wg.Go(func() { brokerErr = s.broker.Close() })
	}
	if s.database != nil {
		wg.Go(func() { databaseErr = s.database.Close() })
	}
	wg.Wait()
	if s.lock != nil {
		lockErr = s.lock.Close()
	}
	return errors.Join(brokerErr, databaseErr, lockErr)
}

// explainListen says what to do where a server can't have its address.
func explainListen(err error, what, addr, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return hint.With(fmt.Errorf("the address %s for %s is taken by another program", addr, what),
			fmt.Sprintf(
				"is another tollstream up running, or a %s? choose another address with %s, port 0 takes a free one", what, flag))
	}
	if errors.Is(err, syscall.EACCES) {
		return hint.With(err, "choose another address with "+flag)
	}
	return err
}

// loopbackAddr reads an address to listen on, which must not be reachable from other machines;
// advice says why.
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
