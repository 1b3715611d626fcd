package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/topology/kafka"
)

func (a *app) rebuildCommand() *cli.Command {
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
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			return endpoint.WithHint(a.rebuild(c.Context, con, c.Bool("yes"), c.Bool("json")))
		},
	}
}

const rebuildLine = "tollstream rebuild --yes"

func (a *app) rebuild(ctx context.Context, con endpoint.Connection, yes, asJSON bool) error {
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
	if !found {
		return kafka.Topics{Topic: con.Topic}.Missing()
	}
	plan, err := store.PlanRebuild(ctx, con.Identity(info.ID))
	if err != nil {
		return err
	}
	if !yes {
		return hint.With(
			hint.Usagef(
				"--yes is missing: rebuild counts all plazas of group %s anew: it has %s published again; rows, windows and congestion stay",
				con.Group, batchesOf(plan)), "to do it, run: "+rebuildLine)
	}
	t := &teller{w: a.stdout, asJSON: asJSON}
	// A restored database may be of an older epoch than the states, which the new one has to be above
	// of.
	epochs, err := con.Cluster.Epochs(ctx, con.Group, con.Topic)
	if err != nil {
		return err
	}
	t.tell(fmt.Sprintf("read topic %s: it counts %s, in epoch %d", kafka.TableTopic(con.Group),
		text.Count(epochs.Plazas, "plaza"), epochs.Highest))
	topics := kafka.Topics{Topic: con.Topic, Group: con.Group, Partitions: info.Partitions,
		Replication: info.Replicas}
	if outgrown, err := con.Cluster.Outgrown(ctx, topics); err != nil {
		return err
	} else if outgrown {
		made, err := con.Cluster.Regrow(ctx, topics)
		t.tell(made...)
		if err != nil {
			return hint.Then(err, "to go on, run again: "+rebuildLine)
		}
	}
	done, err := store.Rebuild(ctx, con.Identity(info.ID), epochs.Highest, time.Now())
	if err != nil {
		return hint.Then(err, "nothing is half done; to make sure, run again: "+rebuildLine)
	}
	t.tell(fmt.Sprintf("raised the epoch from %d to %d: all states from before count as empty",
		done.Epoch, done.NewEpoch),
		"marked as not published: "+batchesOf(done))
	members, err := con.Cluster.Members(ctx, con.Group)
	if err != nil {
		return err
	}
	if members == 0 {
		t.tell(
			"the next process publishes them: tollstream process; to see how far it is: tollstream verify")
	} else {
		t.tell(text.Count(members, "running member") +
			" of the group will notice and publish them; to see how far it is: tollstream verify")
	}
	return t.end("")
}

func batchesOf(r sql.Rebuild) string {
	return fmt.Sprintf("%s of %s with %s, %s", text.Count(r.Batches, "batch"),
		text.Count(r.Partitions, "partition"), text.Count(r.Events, "event"),
		humanize.IBytes(uint64(r.OutboxSize)))
}
