package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/sql"
)

func rebuildCommand() *cli.Command {
	return &cli.Command{
		Name:  "rebuild",
		Usage: "recomputes the group table from the database",
		Description: `Recomputes the group table from the outbox in toll_batch. Use it after the
			database was restored from a backup, after a failover that lost its last commits, or when the
			topic GROUP-table was deleted or damaged. It raises the epoch in one transaction: older states
			count as empty from then on, and the processes publish every batch again.

			If the topic of events was given more partitions, rebuild recreates GROUP-loop and GROUP-table
			with as many; no process may run then. Otherwise it can run at any time, with or without
			processes, and any number of times. The rows of livetolldata, the windows and the congestion
			stay as they are. The processes read again from the topic what a restored database lacks, as
			far as the topic still holds it.`,
		UsageText: `tollstream rebuild
			tollstream rebuild --yes`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it rebuild only reports what it would do"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			return endpoint.WithStore(c, func(con endpoint.Connection, store *sql.Store) error {
				actions := command.NewActions(c)
				if err := admin.Rebuild(c.Context, con, store, c.Bool("yes"), actions.Did); err != nil {
					return err
				}
				return actions.End("")
			})
		},
	}
}
