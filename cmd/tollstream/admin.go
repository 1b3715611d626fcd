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

func resetCommand() *cli.Command {
	return &cli.Command{
		Name:  "reset",
		Usage: "empties tables and topics for a replay from the start",
		Description: `Deletes the rows of livetolldata and all that was derived from the events: the
			tables of tollstream, the topics GROUP-loop and GROUP-table, the offsets of the group. The
			topic of events stays, so the next process stores all of it again that the topic still holds.

			Stop every process of the group first. A reset that was interrupted is completed by running it
			again. Rows that livetolldata held before tollstream can't be distinguished from the others; if
			there are any, reset refuses unless --all-rows allows it.

			What the topic no longer holds can't be replayed: its retention may have deleted the head, or
			it was recreated. reset counts the rows that would be lost, and refuses unless --lose-rows
			allows it.`,
		UsageText: `tollstream reset
			tollstream reset --yes
			tollstream reset --yes --lose-rows
			tollstream reset --yes --all-rows`,
		Flags: append(append([]cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it reset only reports what it would delete"},
			&cli.BoolFlag{Name: "all-rows", Usage: "delete also the rows that tollstream did not store"},
			&cli.BoolFlag{Name: "lose-rows",
				Usage: "delete also the rows whose records the topic no longer holds"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, endpoint.TopicFlags()...), endpoint.Flags()...),
		Action: reset,
	}
}

func reset(c *cli.Context) error {
	return endpoint.WithStore(c, func(con endpoint.Connection, store *sql.Store) error {
		topics, err := endpoint.TopicsFrom(c, con)
		if err != nil {
			return err
		}
		actions := command.NewActions(c)
		err = admin.Reset(c.Context, con, store, topics, admin.ResetOptions{Yes: c.Bool("yes"),
			AllRows: c.Bool("all-rows"), LoseRows: c.Bool("lose-rows")}, actions.Did)
		if err != nil {
			return err
		}
		if !c.Bool("json") {
			actions.Did("ready for a replay: tollstream process")
		}
		return actions.End("nothing to do")
	})
}

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
