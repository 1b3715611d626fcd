package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/topology"
)

// The defaults fit both `tollstream up` and compose.yaml.
const (
	defaultBrokers  = "127.0.0.1:9092"
	defaultTopic    = "toll"
	defaultGroup    = "tollstream"
	defaultMySQL    = "toll:toll@tcp(127.0.0.1:3306)/tolldata"
	defaultTimezone = "UTC"
)

const kafkaPort = "9092"

// connectionCategory is the heading of the connection flags in the help.
const connectionCategory = "Connection"

// connection is what every command needs to know to reach its servers.
type connection struct {
	cluster  topology.Cluster
	topic    string
	group    string
	dsn      string      // holds the password: never print it, see address
	mysqlTLS *tls.Config // nil for what the DSN says
	location *time.Location
}

// connectionFlags returns the flags that [connectionFrom] reads.
func connectionFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name: "brokers", EnvVars: command.Env("brokers"), Value: defaultBrokers,
			Category: connectionCategory,
			Usage:    "Kafka, `HOST:PORT` or several, separated by commas",
		},
		&cli.StringFlag{
			Name: "topic", EnvVars: command.Env("topic"), Value: defaultTopic, Category: connectionCategory,
			Usage: "topic of the events",
		},
		&cli.StringFlag{
			Name: "group", EnvVars: command.Env("group"), Value: defaultGroup, Category: connectionCategory,
			Usage: "consumer group; also names the topics GROUP-loop and GROUP-table",
		},
		&cli.StringFlag{
			Name: "mysql", EnvVars: command.Env("mysql"), Value: defaultMySQL, Category: connectionCategory,
			Usage: "`DSN` of the database, USER:PASSWORD@tcp(HOST:PORT)/NAME; a real password belongs into the variable or a file",
		},
		&cli.StringFlag{
			Name: "mysql-file", EnvVars: command.Env("mysql-file"), Category: connectionCategory,
			Usage: "`FILE` that holds the DSN",
		},
		&cli.StringFlag{
			Name: "timezone", EnvVars: command.Env("timezone"), Value: defaultTimezone,
			Category: connectionCategory,
			Usage:    "`ZONE` of the plazas' clocks, an IANA name such as Europe/Berlin",
		},
	}, accessFlags()...)
}

// connectionFrom reads the connection flags. What it refuses is a usage error.
func connectionFrom(c *cli.Context) (connection, error) {
	var con connection
	brokers, err := parseBrokers(command.Setting(c, "brokers", defaultBrokers))
	if err != nil {
		return con, err
	}
	con.cluster = topology.Cluster{Brokers: brokers, ClientID: "tollstream"}
	if con.cluster.Security, err = kafkaSecurity(c, brokers); err != nil {
		return con, err
	}
	con.topic = command.Setting(c, "topic", defaultTopic)
	con.group = command.Setting(c, "group", defaultGroup)
	if err := checkNames(con.topic, con.group); err != nil {
		return con, err
	}
	if con.dsn, err = dsnFrom(c); err != nil {
		return con, err
	}
	if con.dsn, con.mysqlTLS, err = mysqlAccess(c, con.dsn); err != nil {
		return con, err
	}
	con.location, err = parseLocation(command.Setting(c, "timezone", defaultTimezone))
	return con, err
}

// address names the database without its password, for messages.
func (con connection) address() string {
	cfg, err := mysql.ParseDSN(con.dsn)
	if err != nil {
		return "MySQL"
	}
	return fmt.Sprintf("%s@%s/%s", cfg.User, cfg.Addr, cfg.DBName)
}

func parseBrokers(list string) ([]string, error) {
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

// checkNames refuses a topic and a group that can't be, or not together.
func checkNames(topic, group string) error {
	if err := checkTopicName("topic", topic); err != nil {
		return err
	}
	if err := checkTopicName("group", group); err != nil {
		return err
	}
	if err := topology.CheckNames(topic, group); err != nil {
		return hint.With(hint.Usagef("--topic: %v", err),
			"choose another name for the topic of events, or another group")
	}
	return nil
}

func checkTopicName(flag, name string) error {
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

func parseLocation(name string) (*time.Location, error) {
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
	dsn, file := command.Setting(c, "mysql", defaultMySQL), command.Setting(c, "mysql-file", "")
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

// dsnReason returns why a DSN was refused, where that can be told without any part of the DSN: the
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
