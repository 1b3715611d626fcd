package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/sql"
)

func acceptLogCommand() *cli.Command {
	return &cli.Command{
		Name:  "accept-log",
		Usage: "continues in a log that was replaced",
		Description: `Where a partition of the topic lost its end, or an older copy of it was restored,
			other records are at offsets that were stored. process refuses such a log. accept-log reports
			what continuing leaves out: rows that have no record any longer, and records below the
			partition's cursor that are never stored. With --yes the partition continues at its cursor, in
			the log as it is. verify keeps reporting what was accepted.

			The alternative is a replay of the topic: tollstream reset. It stores what the log holds now,
			and loses the rows whose records no longer exist.`,
		UsageText: `tollstream accept-log
			tollstream accept-log --yes`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "yes",
				Usage: "do it; without it accept-log only reports what it would leave out"},
			&cli.BoolFlag{Name: "json", Usage: "print what was accepted as JSON"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			return endpoint.WithStore(c, func(con endpoint.Connection, store *sql.Store) error {
				actions := command.NewActions(c)
				if err := admin.AcceptLog(c.Context, con, store, c.Bool("yes"), actions.Did); err != nil {
					return err
				}
				return actions.End(
					"nothing to accept: the log of every partition is the one that was stored, " +
						"as far as it could be checked")
			})
		},
	}
}
