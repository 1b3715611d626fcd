package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "creates database, tables and topics on servers that exist",
		Description: `Creates what is missing and brings the tables of an older version up to date. It
			changes nothing that is right, refuses what is wrong, and can be run any number of times. Rows
			that livetolldata holds before the first run stay, are counted once, and are part of every
			verification.

			The database serves one group, topic and timezone from then on. If the user may not create
			databases, the message names the statements that an administrator has to run.`,
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
			actions := command.NewActions(c)
			err = endpoint.Init(c.Context, con, topics, command.Warnings(c.App.ErrWriter), actions.Did)
			if err != nil {
				return endpoint.WithHint(err)
			}
			return actions.End("nothing to do: database, tables and topics are as they must be")
		},
	}
}
