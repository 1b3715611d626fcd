package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/sql"
)

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
			it was created again. reset counts the rows that would be lost, and refuses unless --lose-rows
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
