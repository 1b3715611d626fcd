package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
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
			as well.

			What the topic no longer holds can't be replayed: its retention may have deleted the head, or it was created again.
			reset counts the rows that would be lost so, and refuses unless --lose-rows allows it.`,
		UsageText: `tollstream reset
			tollstream reset --yes
			tollstream reset --yes --lose-rows
			tollstream reset --yes --all-rows`,
		Flags: append(append([]cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it reset only says what it would delete"},
			&cli.BoolFlag{Name: "all-rows", Usage: "delete also the rows that tollstream did not store"},
			&cli.BoolFlag{Name: "lose-rows",
				Usage: "delete also the rows whose records the topic no longer holds"},
			&cli.BoolFlag{Name: "json", Usage: "print what was done as JSON"},
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
			o := resetOptions{ResetOptions: sql.ResetOptions{AllRows: c.Bool("all-rows")},
				yes: c.Bool("yes"), loseRows: c.Bool("lose-rows")}
			return endpoint.WithHint(a.reset(c.Context, con, topics, o, c.Bool("json")))
		},
	}
}

// resetOptions are what a reset may do.
type resetOptions struct {
	sql.ResetOptions
	yes      bool
	loseRows bool // those that a replay does not bring back
}

// resetPlan says what a reset deletes.
func resetPlan(con endpoint.Connection, o resetOptions) string {
	rows := "the rows of livetolldata"
	if o.AllRows {
		rows = "all rows of livetolldata, those from before tollstream too,"
	}
	return fmt.Sprintf(
		"%s and of tollstream's own tables in %s, the topics %s and %s, and the offsets of group %s; topic %s stays",
		rows, con.Address(), kafka.LoopTopic(con.Group), kafka.TableTopic(con.Group), con.Group,
		con.Topic)
}

func resetLine(o resetOptions) string {
	line := "tollstream reset --yes"
	if o.AllRows {
		line += " --all-rows"
	}
	if o.loseRows {
		line += " --lose-rows"
	}
	return line
}

// reset empties the database first. Until it is empty the database is marked, and process refuses
// it; from then on what the topics still hold is of an epoch before. So wherever it is interrupted,
// nothing wrong is counted, and running it again completes it.
func (a *app) reset(ctx context.Context, con endpoint.Connection, topics kafka.Topics,
	o resetOptions,
	asJSON bool) error {
	log, err := command.NewLogger(a.stderr, command.LogText, "warn")
	if err != nil {
		return err
	}
	store, err := con.OpenStore(sql.LoadAuto, log)
	if err != nil {
		return err
	}
	defer store.Close()
	info, found, err := con.Cluster.Describe(ctx, con.Topic)
	if err != nil {
		return err
	}
	lost, exact, err := unreplayable(ctx, con, store, info, found)
	if err != nil {
		return err
	}
	if !o.yes {
		plan := "--yes is missing: reset deletes " + resetPlan(con, o)
		if lost > 0 {
			plan += "; " + sql.UnreplayableText(lost, exact)
			o.loseRows = true
		}
		return hint.With(hint.Usagef("%s", plan), "to do it, run: "+resetLine(o))
	}
	if lost > 0 && !o.loseRows {
		o.loseRows = true
		return toll.Permanent("to lose them, run: "+resetLine(o), "%s", sql.UnreplayableText(lost, exact))
	}
	if err := checkIdle(ctx, con); err != nil {
		return err
	}
	t := &teller{w: a.stdout, asJSON: asJSON}
	done, err := store.Reset(ctx, con.Identity(info.ID), o.ResetOptions)
	t.tell(done...)
	if err != nil {
		return err
	}
	done, err = con.Cluster.Reset(ctx, topics)
	t.tell(done...)
	if err != nil {
		return hint.Then(err, "the database is empty, topics are left; run again: "+resetLine(o))
	}
	if !asJSON {
		t.tell("ready for a replay: tollstream process")
	}
	return t.end("nothing to do")
}

// unreplayable returns how many rows a replay of the topic would not bring back.
func unreplayable(ctx context.Context, con endpoint.Connection, store *sql.Store,
	info kafka.Topic,
	found bool) (rows int64, exact bool, err error) {
	m, err := store.Meta(ctx)
	if err != nil {
		return 0, false, err
	}
	if m.Group != con.Group || m.Topic != con.Topic {
		return 0, true, nil // the reset itself refuses that
	}
	logs := map[int32]sql.LogRange{}
	if found && (m.TopicID == "" || m.TopicID == info.ID) {
		cursors, err := store.Writer(m.TopicID).Cursors(ctx)
		if err != nil {
			return 0, false, err
		}
		client, err := con.Cluster.LogClient(con.Topic)
		if err != nil {
			return 0, false, err
		}
		defer client.Close()
		for i := range cursors {
			c := &cursors[i]
			l, err := logRange(ctx, client, c)
			if err != nil {
				return 0, false, kafka.Explain(err)
			}
			logs[c.Partition] = l
		}
	}
	return store.Unreplayable(ctx, logs)
}

// logRange returns what the topic holds of a partition that was stored up to a cursor.
func logRange(ctx context.Context, client *fetch.Client, c *toll.Cursor) (sql.LogRange, error) {
	replaced := c.LogReplaced != ""
	if !replaced {
		f, err := client.CheckLog(ctx, c.Partition, c.Next, c.Last)
		if err != nil {
			return sql.LogRange{}, err
		}
		replaced = f.Replaced != ""
	}
	d, err := client.Differs(ctx, c.Partition, c.Next, c.Last)
	if err != nil {
		return sql.LogRange{}, err
	}
	l := sql.LogRange{Start: d.Start, Other: -1}
	if replaced {
		if l.Other = d.From; l.Other < 0 {
			l.Other = d.Start
		}
	}
	return l, nil
}

// checkIdle returns an error where processes of the group run. It comes before anything is deleted.
func checkIdle(ctx context.Context, con endpoint.Connection) error {
	n, err := con.Cluster.Members(ctx, con.Group)
	if err != nil {
		return err
	}
	if n > 0 {
		return toll.Permanent(
			"stop every tollstream process of the group first; one that was killed counts until its session is over (--session-timeout, 10 s)",
			"group %s has %s", con.Group, text.Count(n, "running member"))
	}
	return nil
}
