package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"tollstream/sql"
	"tollstream/toll"
	"tollstream/topology"
)

func (a *app) resetCommand() *cli.Command {
	return &cli.Command{
		Name:  "reset",
		Usage: "empties tables and topics for a replay from the start",
		Description: `Deletes the rows of livetolldata and all that was derived from the events: the tables of tollstream, the topics
			GROUP-loop and GROUP-table, the offsets of the group. The topic of events stays, so the next process stores all of it
			again that the topic still holds.

			Stop every process of the group first. A reset that was interrupted is completed by running it again. Rows that
			livetolldata held before tollstream can't be told from the others; where there are any, reset refuses unless they may go
			as well.`,
		UsageText: `tollstream reset --yes
			tollstream reset --yes --all-rows`,
		Flags: append(append([]cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it reset only says what it would delete"},
			&cli.BoolFlag{Name: "all-rows", Usage: "delete also the rows that tollstream did not store"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
		}, topicFlags()...), connectionFlags()...),
		Action: func(c *cli.Context) error {
			con, err := connectionFrom(c)
			if err != nil {
				return err
			}
			topics, err := topicsFrom(c, con)
			if err != nil {
				return err
			}
			options := sql.ResetOptions{AllRows: c.Bool("all-rows")}
			if !c.Bool("yes") {
				return withHint(usagef("--yes is missing: reset deletes %s", resetPlan(con, options)), "to do it, run: "+resetLine(options))
			}
			return withServersHint(a.reset(c.Context, con, topics, options, c.Bool("json")))
		},
	}
}

// resetPlan says what a reset deletes.
func resetPlan(con connection, o sql.ResetOptions) string {
	rows := "the rows of livetolldata"
	if o.AllRows {
		rows = "all rows of livetolldata, those from before tollstream too,"
	}
	return fmt.Sprintf("%s and of tollstream's own tables in %s, the topics %s and %s, and the offsets of group %s; topic %s stays",
		rows, con.address(), topology.LoopTopic(con.group), topology.TableTopic(con.group), con.group, con.topic)
}

func resetLine(o sql.ResetOptions) string {
	if o.AllRows {
		return "tollstream reset --yes --all-rows"
	}
	return "tollstream reset --yes"
}

// reset empties the database first. Until it is empty the database is marked, and process refuses it; from then on what
// the topics still hold is of an epoch before. So wherever it is interrupted, nothing wrong is counted, and running it
// again completes it.
func (a *app) reset(ctx context.Context, con connection, topics topology.Topics, o sql.ResetOptions, asJSON bool) error {
	log, err := newLogger(a.stderr, logText, "warn")
	if err != nil {
		return err
	}
	store, err := con.openStore(sql.LoadAuto, log)
	if err != nil {
		return err
	}
	defer store.Close()
	info, _, err := con.cluster.Describe(con.topic)
	if err != nil {
		return err
	}
	if err := checkIdle(con); err != nil {
		return err
	}
	t := &teller{w: a.stdout, asJSON: asJSON}
	done, err := store.Reset(ctx, con.identity(info.ID), o)
	t.tell(done...)
	if err != nil {
		return err
	}
	done, err = con.cluster.Reset(topics)
	t.tell(done...)
	if err != nil {
		return thenHint(err, "the database is empty, topics are left; run again: "+resetLine(o))
	}
	if !asJSON {
		t.tell("ready for a replay: tollstream process")
	}
	return t.end("nothing to do")
}

// checkIdle returns an error where processes of the group run. It comes before anything is deleted.
func checkIdle(con connection) error {
	n, err := groupMembers(con)
	if err != nil {
		return err
	}
	if n > 0 {
		return toll.Permanent("stop every tollstream process of the group first; one that was killed counts until its session is over (--session-timeout, 10 s)",
			"group %s has %s", con.group, counted(int64(n), "running member"))
	}
	return nil
}

// groupMembers returns how many processes of the group run. One that was killed counts until its session times out.
func groupMembers(con connection) (int, error) {
	_, admin, err := con.cluster.Admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	groups, err := admin.DescribeConsumerGroups([]string{con.group})
	if err != nil {
		return 0, topology.Explain(fmt.Errorf("describe group %s: %w", con.group, err))
	}
	n := 0
	for _, g := range groups {
		n += len(g.Members)
	}
	return n, nil
}
