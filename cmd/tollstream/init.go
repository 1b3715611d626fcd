package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/topology/kafka"
)

func (a *app) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "creates database, tables and topics on servers that exist",
		Description: `Creates what is missing and brings the tables of an older version up to date. It changes nothing that is
			right, refuses what is wrong, and can be run as often as one likes. Rows that livetolldata holds before the first run
			stay, are counted once, and are part of every verification.

			The database serves one group, topic and timezone from then on. Where the user may not create databases, the message
			says what an administrator has to run.`,
		UsageText: `tollstream init
			tollstream init --partitions 16 --replication 3
			TOLLSTREAM_MYSQL=… tollstream init --brokers kafka1:9092,kafka2:9092 --timezone Europe/Berlin`,
		Flags: append(append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
			endpoint.MinRetentionFlag(),
		}, endpoint.TopicFlags()...), endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			topics, err := endpoint.TopicsFrom(c, con)
			if err != nil {
				return err
			}
			return a.init(c.Context, con, topics, c.Bool("json"))
		},
	}
}

func (a *app) init(ctx context.Context, con endpoint.Connection, topics kafka.Topics,
	asJSON bool) error {
	log, err := command.NewLogger(a.stderr, command.LogText, "warn")
	if err != nil {
		return err
	}
	t := &teller{w: a.stdout, asJSON: asJSON}
	if err := endpoint.Init(ctx, con, topics, log, t.tell); err != nil {
		return endpoint.WithHint(err)
	}
	return t.end("nothing to do: database, tables and topics are as they must be")
}
