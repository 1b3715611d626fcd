// Package endpoint is where Kafka and MySQL are: the settings of a connection, who we are to the
// servers and how we trust them, and what is set up on them before anything runs.
package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// The defaults fit both `tollstream up` and compose.yaml.
const (
	DefaultBrokers  = "127.0.0.1:9092"
	DefaultTopic    = "toll"
	DefaultGroup    = "tollstream"
	DefaultMySQL    = "toll:toll@tcp(127.0.0.1:3306)/tolldata"
	DefaultTimezone = "UTC"
)

const kafkaPort = "9092"

const connectionCategory = command.ConnectionCategory

// Connection is what every command needs to know to reach its servers.
type Connection struct {
	Cluster  kafka.Cluster
	Topic    string
	Group    string
	DSN      string      // holds the password: never print it, see address
	MySQLTLS *tls.Config // nil for that of the DSN
	Location *time.Location
	Load     ingest.LoadMode // how rows are loaded; the zero value lets the server decide
	// TimezoneSet reports whether the settings name the timezone, which the database must then have.
	TimezoneSet bool
}

// connectionFlags returns the flags that [From] reads.
func Flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name: "brokers", EnvVars: command.Env("brokers"), Value: DefaultBrokers,
			Category: connectionCategory,
			Usage:    "Kafka, `HOST:PORT,…`",
		},
		&cli.StringFlag{
			Name: "topic", EnvVars: command.Env("topic"), Value: DefaultTopic, Category: connectionCategory,
			Usage: "topic of the events",
		},
		&cli.StringFlag{
			Name: "group", EnvVars: command.Env("group"), Value: DefaultGroup, Category: connectionCategory,
			Usage: "consumer group; also names the topics GROUP-loop and GROUP-table",
		},
		&cli.StringFlag{
			Name: "mysql", EnvVars: command.Env("mysql"), Value: DefaultMySQL, Category: connectionCategory,
			Usage: "`DSN` of the database, USER:PASSWORD@tcp(HOST:PORT)/NAME; a real password belongs " +
				"into the variable or a file",
		},
		&cli.StringFlag{
			Name: "mysql-file", EnvVars: command.Env("mysql-file"), Category: connectionCategory,
			Usage: "`FILE` that holds the DSN",
		},
		&cli.StringFlag{
			Name: "timezone", EnvVars: command.Env("timezone"), Value: DefaultTimezone,
			Category: connectionCategory,
			Usage:    "`ZONE` of the plazas' clocks, an IANA name such as Europe/Berlin",
		},
	}, accessFlags()...)
}

// KafkaFlags returns those of [Flags] that a command without a database needs.
func KafkaFlags() []cli.Flag {
	return command.FlagsWhere(Flags(), func(name string) bool { return !isMySQL(name) })
}

// MySQLFlags returns those of [Flags] that a command without Kafka needs.
func MySQLFlags() []cli.Flag { return command.FlagsWhere(Flags(), isMySQL) }

func isMySQL(name string) bool { return strings.HasPrefix(name, "mysql") }

// NameFlags returns those of [Flags] that a command with servers of its own needs.
func NameFlags() []cli.Flag {
	return command.FlagsWhere(Flags(), func(name string) bool {
		return name == "topic" || name == "group" || name == "timezone"
	})
}

// From reads the connection flags, of which a command may have some. What it refuses is a usage
// error.
func From(c *cli.Context) (Connection, error) {
	var con Connection
	brokers, err := ParseBrokers(command.Setting(c, "brokers", DefaultBrokers))
	if err != nil {
		return con, err
	}
	con.Cluster = kafka.Cluster{Brokers: brokers, ClientID: "tollstream"}
	if con.Cluster.Security, err = kafkaSecurity(c, brokers); err != nil {
		return con, err
	}
	con.Topic = command.Setting(c, "topic", DefaultTopic)
	con.Group = command.Setting(c, "group", DefaultGroup)
	if err := CheckNames(con.Topic, con.Group); err != nil {
		return con, err
	}
	if con.DSN, err = dsnFrom(c); err != nil {
		return con, err
	}
	if con.DSN, con.MySQLTLS, err = mysqlAccess(c, con.DSN); err != nil {
		return con, err
	}
	con.TimezoneSet = c.IsSet("timezone") && command.Setting(c, "timezone", "") != ""
	con.Location, err = ParseLocation(command.Setting(c, "timezone", DefaultTimezone))
	return con, err
}

// Address names the database without its password, for messages.
func (con Connection) Address() string {
	cfg, err := mysql.ParseDSN(con.DSN)
	if err != nil {
		return "MySQL"
	}
	return fmt.Sprintf("%s@%s/%s", cfg.User, cfg.Addr, cfg.DBName)
}

func ParseBrokers(list string) ([]string, error) {
	var brokers []string
	for _, b := range strings.Split(list, ",") {
		b = strings.TrimSpace(b)
		if b == "" {
			continue
		}
		if !strings.Contains(b, ":") {
			b = net.JoinHostPort(b, kafkaPort)
		}
		host, port, err := net.SplitHostPort(b)
		if n, convErr := strconv.Atoi(port); err != nil || host == "" || convErr != nil || n < 1 ||
			n > 65535 {
			return nil, hint.Usagef("--brokers: %q is not HOST:PORT", b)
		}
		brokers = append(brokers, b)
	}
	if len(brokers) == 0 {
		return nil, hint.Usagef("--brokers: %q names no broker", list)
	}
	return brokers, nil
}

// maxTopicName is Kafka's limit less what a group appends for its own topics, or the topic for its
// results ("-congestion").
const maxTopicName = 249 - 11

// CheckNames refuses a topic and a group that can't be, or not together.
func CheckNames(topic, group string) error {
	if err := CheckName("topic", topic); err != nil {
		return err
	}
	if err := CheckName("group", group); err != nil {
		return err
	}
	if err := kafka.CheckNames(topic, group); err != nil {
		return hint.With(hint.Usagef("--topic: %v", err),
			"choose another name for the topic of events, or another group")
	}
	return nil
}

func CheckName(flag, name string) error {
	illegal := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' ||
			r == '_' || r == '-')
	}
	if strings.ContainsFunc(name, illegal) || name == "." || name == ".." || len(name) > maxTopicName {
		return hint.Usagef("--%s: %q is not a Kafka name (letters, digits, '.', '_', '-', at most %d)",
			flag,
			name, maxTopicName)
	}
	return nil
}

func ParseLocation(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, hint.With(hint.Usagef("--timezone: %q differs from machine to machine", name),
			"name the zone, such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, hint.With(hint.Usagef("--timezone: %q is not a known zone", name),
			"use an IANA name such as UTC or Europe/Berlin")
	}
	return loc, nil
}

// dsnFrom returns the DSN. The command line goes before the environment, and on each of the two,
// naming it twice is a mistake.
func dsnFrom(c *cli.Context) (string, error) {
	dsn, file := command.Setting(c, "mysql", DefaultMySQL), command.Setting(c, "mysql-file", "")
	source := "--mysql"
	if file != "" {
		switch inline := c.IsSet("mysql") && c.String("mysql") != ""; {
		case inline && command.Given(c, "mysql") == command.Given(c, "mysql-file"):
			return "", hint.Usagef("--mysql and --mysql-file are both set")
		case inline && command.Given(c, "mysql"):
			file = ""
		}
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read --mysql-file: %w", err)
		}
		dsn, source = strings.TrimSpace(string(text)), "--mysql-file"
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", hint.With(hint.Usagef("%s: not a MySQL DSN%s", source, dsnReason(err)), dsnHint)
	}
	if cfg.DBName == "" {
		return "", hint.With(hint.Usagef("%s: the MySQL DSN names no database", source), dsnHint)
	}
	if source == "--mysql" {
		warnOfPassword(c, cfg)
	}
	return dsn, nil
}

const dsnHint = "a DSN looks like toll:PASSWORD@tcp(127.0.0.1:3306)/tolldata"

// dsnReason returns why a DSN was refused, where the reason holds no part of the DSN: the
// driver's other errors quote pieces of it, which may be the password.
func dsnReason(err error) string {
	for _, safe := range []string{
		"did you forget to escape a param value?",
		"network address not terminated (missing closing brace)",
		"missing the slash separating the database name",
	} {
		if err.Error() == "invalid DSN: "+safe {
			return ": " + safe
		}
	}
	return ""
}

// WithHint adds to the failure to reach a server what a newcomer may have forgotten.
func WithHint(err error) error {
	if err != nil && hint.Of(err) == "" &&
		(errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, sarama.ErrOutOfBrokers)) {
		return hint.With(err, "is it running? tollstream up starts Kafka and MySQL for trying things out")
	}
	return err
}

// WithStore opens the database that the flags name, for as long as do runs.
func WithStore(c *cli.Context, do func(con Connection, store *sql.Store) error) error {
	con, err := From(c)
	if err != nil {
		return err
	}
	log := command.Warnings(c.App.ErrWriter)
	store, err := con.OpenStore(log)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := Reach(c.Context, store, log); errors.Is(err, ErrNoAnswer) {
		return err // do explains the others
	}
	return WithHint(do(con, store))
}

// ErrNoAnswer is of a server that accepts connections, or lets packets vanish, and does not answer.
var ErrNoAnswer = errors.New("no answer")

// How long a command waits for MySQL's first answer before it says so, and in all. A server answers
// within a moment, or it hangs.
const (
	sayWaiting = 2 * time.Second
	patience   = 10 * time.Second
)

// Reach waits for the first answer of MySQL.
func Reach(ctx context.Context, store *sql.Store, log *slog.Logger) error {
	return reach(ctx, store, log, sayWaiting, patience)
}

func reach(ctx context.Context, store *sql.Store, log *slog.Logger,
	sayWaiting, patience time.Duration) error {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said := make(chan struct{})
	slow := time.AfterFunc(sayWaiting, func() {
		defer close(said)
		log.Warn(fmt.Sprintf("waiting for MySQL at %s …", store.Address()))
	})
	defer func() {
		if !slow.Stop() {
			<-said
		}
	}()
	err := store.Ping(asking)
	if err == nil || ctx.Err() != nil || asking.Err() == nil {
		return err
	}
	return hint.With(fmt.Errorf("connect to MySQL at %s: %w for %v", store.Address(), ErrNoAnswer,
		patience), "is it overloaded or paused, and is its address right?")
}

// Identity is what a database must serve: the group, the topic with its id, and the timezone.
func (con Connection) Identity(topicID string) sql.Identity {
	return sql.Identity{Group: con.Group, Topic: con.Topic, TopicID: topicID,
		Timezone: con.Location.String()}
}

// OpenStore opens the database, without connecting to it yet. What an operator must know goes to
// the log.
func (con Connection) OpenStore(log *slog.Logger) (*sql.Store, error) {
	return sql.Open(sql.Config{
		DSN:        con.DSN,
		TLS:        con.MySQLTLS,
		Load:       con.Load,
		Decode:     wire.DecodePlazaDeltas,
		Encode:     encodeOutbox,
		DecodeSums: wire.DecodePlazaSums,
		Logf:       func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
	})
}

func encodeOutbox(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) }

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
