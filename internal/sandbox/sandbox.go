// Package sandbox runs a Kafka broker and a database that belong to this process, for up, demo and
// tests.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/gofrs/flock"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Config is how a [Sandbox] starts.
type Config struct {
	KafkaListen, MySQLListen string // HOST:PORT on loopback; port 0 takes a free one
	DataDir                  string // empty: a temporary folder, gone at the end
	Engine                   string // as in [devstack.DatabaseConfig]; empty: the first installed one
	Topics                   kafka.Topics
	Location                 *time.Location
	Log                      *slog.Logger
}

// Sandbox is a Kafka broker and a database that belong to this process, set up and ready.
type Sandbox struct {
	Broker     *devstack.Broker
	Database   *devstack.Database
	Partitions int // of the topic of events, which an earlier start may have created

	cfg  Config
	lock *flock.Flock // of DataDir; nil without
	// What the broker could not write to its folder, such as where the disk is full. Its clients only
	// learn that something is unexpected.
	unwritten atomic.Pointer[string]
}

// Embedded is the engine of the database in memory, as in [devstack.DatabaseConfig].
const Embedded = "embedded"

const (
	lockFile     = "tollstream.lock"
	brokerDir    = "broker"
	databaseDir  = "database"
	startTimeout = 2 * time.Minute
)

// Run starts a sandbox, calls ready, and keeps it running until ctx ends or the database
// dies.
func Run(ctx context.Context, cfg Config, ready func(*Sandbox) error) (err error) {
	s, err := Start(ctx, cfg)
	if s != nil {
		defer func() { err = cmp.Or(err, s.Close()) }()
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := ready(s); err != nil {
		return err
	}
	return s.wait(ctx)
}

// Start starts broker and database, and creates what the commands need. If it fails, nothing
// is left running.
func Start(ctx context.Context, cfg Config) (_ *Sandbox, err error) {
	s := &Sandbox{cfg: cfg}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.openFolder(); err != nil {
		return nil, err
	}
	s.Broker, err = devstack.StartBroker(devstack.BrokerConfig{
		Addr: cfg.KafkaListen, DataDir: s.folder(brokerDir),
		Logf: func(format string, args ...any) {
			line := fmt.Sprintf(format, args...)
			cfg.Log.Debug("broker: " + line)
			if strings.HasPrefix(line, "persist ") {
				s.unwritten.Store(&line)
			}
		},
	})
	if err != nil {
		return nil, explainListen(err, "Kafka", cfg.KafkaListen, "--kafka-listen")
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.Database, err = devstack.StartDatabase(starting,
		devstack.DatabaseConfig{Addr: cfg.MySQLListen, DataDir: s.folder(databaseDir),
			Engine: cfg.Engine})
	if err != nil {
		return nil, explainListen(err, "MySQL", cfg.MySQLListen, "--mysql-listen")
	}
	con := s.Connection()
	if err := endpoint.Init(ctx, con, cfg.Topics, cfg.Log, func(lines ...string) {
		for _, line := range lines {
			cfg.Log.Debug(line)
		}
	}); err != nil {
		// The database is ours, so another one is another folder.
		return nil, hint.With(err, strings.ReplaceAll(hint.Of(err), "another database with --mysql",
			"another folder with --data"))
	}
	info, _, err := con.Cluster.Describe(ctx, con.Topic)
	if err != nil {
		return nil, err
	}
	s.Partitions = info.Partitions
	return s, nil
}

// openFolder locks the data folder, and makes sure that its rows can be served.
func (s *Sandbox) openFolder() error {
	dir := s.cfg.DataDir
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the data folder: %w", err)
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

func (s *Sandbox) folder(name string) string {
	if s.cfg.DataDir == "" {
		return ""
	}
	return filepath.Join(s.cfg.DataDir, name)
}

// Connection returns how to reach the servers.
func (s *Sandbox) Connection() endpoint.Connection {
	return endpoint.Connection{
		Cluster:  kafka.Cluster{Brokers: []string{s.Broker.Addr()}, ClientID: "tollstream"},
		Topic:    s.cfg.Topics.Topic,
		Group:    s.cfg.Topics.Group,
		DSN:      s.Database.DSN(),
		Location: s.cfg.Location,
	}
}

// InMemory reports whether the database is one in memory, since none is installed.
func (s *Sandbox) InMemory() bool { return s.Database.Engine() == Embedded }

// keeps reports whether the next start on the same folder finds the rows again.
func (s *Sandbox) keeps() bool { return s.Database.Persistent() }

// A database that does not answer is asked every second, and reported after a few.
const (
	watchEvery   = time.Second
	watchTimeout = 5 * time.Second
	brokerQuiet  = 30 // checks between reports that the broker can't write
)

// wait returns nil when ctx ends, or an error when the database has died. One that is only paused
// or overloaded may answer again: that is logged, and waited for.
func (s *Sandbox) wait(ctx context.Context) error {
	store, err := s.Connection().OpenStore(s.cfg.Log)
	if err != nil {
		return err
	}
	defer store.Close()
	silent := false
	quiet := 0 // checks until the broker's failures are logged again
	for range wait.Every(ctx, watchEvery) {
		ping, cancel := context.WithTimeout(ctx, watchTimeout)
		err := store.Ping(ping)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer for %v", watchTimeout)
		}
		cancel()
		if ended, last := s.Database.Ended(); ended {
			return s.explainEnd(last)
		}
		switch {
		case err == nil && silent:
			s.cfg.Log.Info("the database answers again")
		case err != nil && !silent && ctx.Err() == nil:
			s.cfg.Log.Warn("waiting for the database", "error", text.OneLine(err.Error()))
		}
		silent = err != nil
		quiet--
		if why := s.unwritten.Swap(nil); why != nil && quiet < 0 {
			quiet = brokerQuiet
			s.cfg.Log.Warn("Kafka refuses records", "error", text.OneLine(*why))
		}
	}
	return nil
}

// explainEnd returns the error of a database that ended by itself, with what its log says last.
func (s *Sandbox) explainEnd(last string) error {
	err := fmt.Errorf("the database ended: %s", last)
	if s.keeps() {
		return hint.With(err, "nothing is lost: start tollstream up again with this --data")
	}
	return hint.With(err, "start tollstream up again, with --data so that it keeps topics and rows")
}

// Close stops both servers, at the same time, and returns when they have ended.
func (s *Sandbox) Close() error {
	var brokerErr, databaseErr, lockErr error
	var wg sync.WaitGroup
	if s.Broker != nil {
		wg.Go(func() { brokerErr = s.Broker.Close() })
	}
	if s.Database != nil {
		wg.Go(func() { databaseErr = s.Database.Close() })
	}
	wg.Wait()
	if s.lock != nil {
		lockErr = s.lock.Close()
	}
	return errors.Join(brokerErr, databaseErr, lockErr)
}

// explainListen adds what to do if a server can't bind its address.
func explainListen(err error, what, addr, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return hint.With(fmt.Errorf("the address %s for %s is taken by another program", addr, what),
			fmt.Sprintf(
				"is another tollstream up running, or a %s? choose another address with %s, port 0 takes a "+
					"free one", what, flag))
	}
	if errors.Is(err, syscall.EACCES) {
		return hint.With(err, "choose another address with "+flag)
	}
	if strings.Contains(err.Error(), "failed with error 28") ||
		strings.Contains(err.Error(), "No space left") {
		return hint.With(err, "the disk is full: a new data folder takes some 300 MB")
	}
	return err
}

// Report is how to reach the servers, and whether the data outlives them.
type Report struct {
	Brokers    string `json:"brokers"`
	MySQL      string `json:"mysql"` // the DSN
	Database   string `json:"database"`
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Data       string `json:"data"`
	KeepsRows  bool   `json:"keeps_rows"`
}

// Report returns the sandbox's report.
func (s *Sandbox) Report() Report {
	con := s.Connection()
	return Report{
		Brokers: s.Broker.Addr(), MySQL: con.DSN, Database: s.Database.Engine(),
		Topic: con.Topic, Partitions: s.Partitions, Data: s.cfg.DataDir, KeepsRows: s.keeps(),
	}
}

// Write prints how to reach the servers, and what to do next.
func (s *Sandbox) Write(w io.Writer) error {
	con := s.Connection()
	cfg, err := mysql.ParseDSN(con.DSN)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Kafka  %-21s  topic %s, %s\n", s.Broker.Addr(), con.Topic,
		text.Count(s.Partitions, "partition"))
	fmt.Fprintf(&b, "MySQL  %-21s  database %s, user %s, password %s\n", cfg.Addr, cfg.DBName,
		cfg.User, cfg.Passwd)
	folder := "in no folder (--data names one)"
	if s.cfg.DataDir != "" {
		folder = text.Escape(s.cfg.DataDir)
	}
	fmt.Fprintf(&b, "Data   %s: %s\n", folder, s.afterwards())
	if s.InMemory() {
		b.WriteString(
			"\nNo MariaDB is installed here, so the database is one in memory: slower, and its rows are " +
				"deleted at the end.\n")
	}
	b.WriteString("\nNext, each in a terminal of its own:\n\n")
	for _, line := range s.exports() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	b.WriteString(
		"  tollstream process\n  tollstream emit\n  tollstream view --watch\n\nCtrl-C stops both " +
			"servers.\n")
	_, err = io.WriteString(w, b.String())
	return err
}

// afterwards describes what is kept of the data at the end.
func (s *Sandbox) afterwards() string {
	switch {
	case s.cfg.DataDir == "":
		return "topics and rows are deleted at the end"
	case s.keeps():
		return "topics and rows are kept for the next start"
	}
	return "topics are kept for the next start, rows are not; process then stores the events again"
}

// exports returns the shell lines without which the other commands would look elsewhere.
func (s *Sandbox) exports() []string {
	con := s.Connection()
	var lines []string
	for _, v := range []struct{ name, fallback, value string }{
		{"brokers", endpoint.DefaultBrokers, s.Broker.Addr()},
		{"mysql", endpoint.DefaultMySQL, con.DSN},
		{"topic", endpoint.DefaultTopic, con.Topic},
		{"group", endpoint.DefaultGroup, con.Group},
		{"timezone", endpoint.DefaultTimezone, con.Location.String()},
	} {
		variable := command.Env(v.name)[0]
		now := strings.TrimSpace(os.Getenv(variable))
		if now == "" {
			now = v.fallback
		}
		if now != v.value {
			lines = append(lines, fmt.Sprintf("export %s='%s'", variable, v.value))
		}
	}
	return lines
}
