package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/text"
)

const (
	defaultKafkaListen = "127.0.0.1:9092"
	defaultMySQLListen = "127.0.0.1:3306"
	upListenHint       = "up is for trying things out, without real passwords: use 127.0.0.1"
)

func (a *app) upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "runs a Kafka broker and a MySQL for trying things out",
		Description: `Needs nothing installed. It starts a broker inside this process and a MariaDB of its own where one is
			installed, else a database in memory; creates database, tables and topics; and runs until it is interrupted. Both
			servers listen on this machine alone.

			Without --data everything goes away at the end. With it all is there again at the next start; rows need an installed
			MariaDB for that.`,
		UsageText: `tollstream up
			tollstream up --data ~/tolldata
			tollstream up --kafka-listen 127.0.0.1:0 --mysql-listen 127.0.0.1:0`,
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "data", EnvVars: command.Env("data"),
				Usage: "`FOLDER` that keeps topics and rows"},
			&cli.StringFlag{Name: "kafka-listen", EnvVars: command.Env("kafka-listen"),
				Value: defaultKafkaListen,
				Usage: "`HOST:PORT` of Kafka; port 0 takes a free one"},
			&cli.StringFlag{Name: "mysql-listen", EnvVars: command.Env("mysql-listen"),
				Value: defaultMySQLListen,
				Usage: "`HOST:PORT` of MySQL; port 0 takes a free one"},
			&cli.IntFlag{Name: "partitions", EnvVars: command.Env("partitions"), Value: defaultPartitions,
				Usage: "partitions of the topic of events, where it is created"},
			&cli.BoolFlag{Name: "json", Usage: "print the addresses as JSON"},
		}, command.WithoutFlags(connectionFlags(), append(accessFlagNames(), "brokers", "mysql",
			"mysql-file")...)...), command.LogFlags()...),
		Action: func(c *cli.Context) error {
			cfg, err := a.upSettings(c)
			if err != nil {
				return err
			}
			return a.up(c.Context, cfg, c.Bool("json"))
		},
	}
}

func (a *app) upSettings(c *cli.Context) (stackConfig, error) {
	var cfg stackConfig
	var con connection
	var err error
	con.topic, con.group = command.Setting(c, "topic", defaultTopic), command.Setting(c, "group",
		defaultGroup)
	if err := checkNames(con.topic, con.group); err != nil {
		return cfg, err
	}
	if cfg.location, err = parseLocation(command.Setting(c, "timezone", defaultTimezone)); err != nil {
		return cfg, err
	}
	if cfg.topics, err = topicsFrom(c, con); err != nil {
		return cfg, err
	}
	if cfg.kafkaListen, err = loopbackAddr("kafka-listen",
		command.Setting(c, "kafka-listen", defaultKafkaListen), upListenHint); err != nil {
		return cfg, err
	}
	if cfg.mysqlListen, err = loopbackAddr("mysql-listen",
		command.Setting(c, "mysql-listen", defaultMySQLListen), upListenHint); err != nil {
		return cfg, err
	}
	if cfg.dataDir = command.Setting(c, "data", ""); cfg.dataDir != "" {
		if cfg.dataDir, err = filepath.Abs(cfg.dataDir); err != nil {
			return cfg, err
		}
	}
	cfg.log, err = command.LoggerFrom(c)
	return cfg, err
}

// up runs the servers until ctx ends.
func (a *app) up(ctx context.Context, cfg stackConfig, asJSON bool) error {
	s, err := startStack(ctx, cfg)
	if ctx.Err() != nil {
		if s != nil {
			return s.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = text.WriteJSON(a.stdout, upReport(s))
	} else {
		err = writeUp(a.stdout, s)
	}
	if err == nil {
		err = s.wait(ctx)
	}
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		fmt.Fprintln(a.stderr, "stopped")
	}
	return err
}

// upJSON is what up --json prints.
type upJSON struct {
	Brokers    string `json:"brokers"`
	MySQL      string `json:"mysql"` // the DSN
	Database   string `json:"database"`
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Data       string `json:"data"`
	KeepsRows  bool   `json:"keeps_rows"`
}

func upReport(s *stack) upJSON {
	con := s.connection()
	return upJSON{
		Brokers: s.broker.Addr(), MySQL: con.dsn, Database: s.database.Engine(),
		Topic: con.topic, Partitions: s.partitions, Data: s.cfg.dataDir, KeepsRows: s.keeps(),
	}
}

func writeUp(w io.Writer, s *stack) error {
	con := s.connection()
	var b strings.Builder
	fmt.Fprintf(&b, "Kafka  %-21s  topic %s, %s\n", s.broker.Addr(), con.topic,
		text.Count(s.partitions, "partition"))
	cfg, err := mysql.ParseDSN(con.dsn)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "MySQL  %-21s  database %s, user %s, password %s\n", cfg.Addr, cfg.DBName,
		cfg.User, cfg.Passwd)
	if s.cfg.dataDir == "" {
		b.WriteString("Data   in no folder (--data names one): " + s.afterwards() + "\n")
	} else {
		fmt.Fprintf(&b, "Data   %s: %s\n", text.Escape(s.cfg.dataDir), s.afterwards())
	}
	if s.embedded() {
		b.WriteString(
			"\nNo MariaDB is installed here, so the database is one in memory: slower, and its rows go away at the end.\n")
	}
	b.WriteString("\nNext, each in a terminal of its own:\n\n")
	for _, line := range s.exports() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	b.WriteString(
		"  tollstream process\n  tollstream emit\n  tollstream view --watch\n\nCtrl-C stops both servers.\n")
	_, err = io.WriteString(w, b.String())
	return err
}

// afterwards says what is left of the data at the end.
func (s *stack) afterwards() string {
	switch {
	case s.cfg.dataDir == "":
		return "topics and rows go away at the end"
	case s.keeps():
		return "topics and rows stay for the next start"
	}
	return "topics stay for the next start, rows do not; process then stores the events anew"
}

// exports returns the shell lines without which the other commands would look elsewhere.
func (s *stack) exports() []string {
	con := s.connection()
	var lines []string
	for _, v := range []struct{ name, fallback, value string }{
		{"brokers", defaultBrokers, s.broker.Addr()},
		{"mysql", defaultMySQL, con.dsn},
		{"topic", defaultTopic, con.topic},
		{"group", defaultGroup, con.group},
		{"timezone", defaultTimezone, con.location.String()},
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
