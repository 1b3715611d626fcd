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
		Description: `Makes the group table anew out of the outbox in toll_batch: after the database was restored from a backup, after a
			failover that lost its last commits, or where the topic GROUP-table was deleted or damaged. It raises the epoch in one
			transaction; states from before count as empty from then on, and the processes publish every batch again.

			Where the topic of events was given more partitions, it makes GROUP-loop and GROUP-table anew with as many; no process may
			run then. Else it can be run at any time, while processes run or not, and as often as one likes. The rows of livetolldata, the windows
			and the congestion stay as they are. What a restored database lacks is read again from the topic, as far as that
			still holds it.`,
		UsageText: `tollstream rebuild
			tollstream rebuild --yes`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it rebuild only says what it would do"},
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
