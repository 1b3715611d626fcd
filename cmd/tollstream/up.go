package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/text"
)

const (
	defaultKafkaListen = "127.0.0.1:9092"
	defaultMySQLListen = "127.0.0.1:3306"
	upListenHint       = "up is for trying things out, without real passwords: use 127.0.0.1"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "runs a Kafka broker and a MySQL for trying things out",
		Description: `Needs nothing installed. It starts a broker inside this process and a MariaDB of
			its own where one is installed, else a database in memory; creates database, tables and topics;
			and runs until it is interrupted. Both servers bind to loopback.

			Without --data everything is deleted at the end. With it topics and rows are there at the next
			start; rows need an installed MariaDB for that.`,
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
			&cli.IntFlag{Name: "partitions", EnvVars: command.Env("partitions"),
				Value: endpoint.DefaultPartitions,
				Usage: "partitions of the topic of events, where it is created"},
			&cli.BoolFlag{Name: "json", Usage: "print the addresses as JSON"},
		}, endpoint.NameFlags()...), command.LogFlags()...),
		Action: up,
	}
}

func up(c *cli.Context) error {
	cfg, err := sandboxFrom(c)
	if err != nil {
		return err
	}
	started := false
	err = sandbox.Run(c.Context, cfg, func(s *sandbox.Sandbox) error {
		started = true
		if c.Bool("json") {
			return text.WriteJSON(c.App.Writer, s.Report())
		}
		return s.Write(c.App.Writer)
	})
	if err == nil && started {
		fmt.Fprintln(c.App.ErrWriter, "stopped")
	}
	return err
}

func sandboxFrom(c *cli.Context) (sandbox.Config, error) {
	var cfg sandbox.Config
	var con endpoint.Connection
	var err error
	con.Topic = command.Setting(c, "topic", endpoint.DefaultTopic)
	con.Group = command.Setting(c, "group", endpoint.DefaultGroup)
	if err := endpoint.CheckNames(con.Topic, con.Group); err != nil {
		return cfg, err
	}
	if cfg.Location, err = endpoint.ParseLocation(command.Setting(c, "timezone",
		endpoint.DefaultTimezone)); err != nil {
		return cfg, err
	}
	if cfg.Topics, err = endpoint.TopicsFrom(c, con); err != nil {
		return cfg, err
	}
	if cfg.KafkaListen, err = command.LoopbackAddr("kafka-listen",
		command.Setting(c, "kafka-listen", defaultKafkaListen), upListenHint); err != nil {
		return cfg, err
	}
	if cfg.MySQLListen, err = command.LoopbackAddr("mysql-listen",
		command.Setting(c, "mysql-listen", defaultMySQLListen), upListenHint); err != nil {
		return cfg, err
	}
	if cfg.DataDir = command.Setting(c, "data", ""); cfg.DataDir != "" {
		if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
			return cfg, err
		}
	}
	cfg.Log, err = command.LoggerFrom(c)
	return cfg, err
}
