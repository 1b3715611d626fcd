package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/topology/kafka"
)

const rebuildLine = "tollstream rebuild --yes"

// Rebuild raises the epoch, so that the processes publish every batch again and the group table is
// recomputed. Without yes it refuses, and reports what it would do.
func Rebuild(ctx context.Context, con endpoint.Connection, store *sql.Store, yes bool,
	did func(...string)) error {
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
				"--yes is missing: rebuild recomputes all plazas of group %s: the processes publish %s again; "+
					"rows, windows and congestion stay",
				con.Group, batchesOf(plan)), "to do it, run: "+rebuildLine)
	}
	// A restored database may be of an older epoch than the states, which the new one has to be above
	// of.
	epochs, err := con.Cluster.Epochs(ctx, con.Group, con.Topic)
	if err != nil {
		return err
	}
	did(fmt.Sprintf("read topic %s: it counts %s, in epoch %d", kafka.TableTopic(con.Group),
		text.Count(epochs.Plazas, "plaza"), epochs.Highest))
	topics := kafka.Topics{Topic: con.Topic, Group: con.Group, Partitions: info.Partitions,
		Replication: info.Replicas}
	if outgrown, err := con.Cluster.Outgrown(ctx, topics); err != nil {
		return err
	} else if outgrown {
		made, err := con.Cluster.Regrow(ctx, topics)
		did(made...)
		if err != nil {
			return hint.Then(err, "to go on, run again: "+rebuildLine)
		}
	}
	done, err := store.Rebuild(ctx, con.Identity(info.ID), epochs.Highest, time.Now())
	if err != nil {
		return hint.Then(err, "nothing is half done; to make sure, run again: "+rebuildLine)
	}
	did(fmt.Sprintf("raised the epoch from %d to %d: all states from before count as empty",
		done.Epoch, done.NewEpoch),
		"marked as not published: "+batchesOf(done))
	members, err := con.Cluster.Members(ctx, con.Group)
	if err != nil {
		return err
	}
	if members == 0 {
		did(
			"the next process publishes them: tollstream process; to see how far it is: tollstream verify")
	} else {
		did(text.Count(members, "running member") +
			" of the group will notice and publish them; to see how far it is: tollstream verify")
	}
	return nil
}

func batchesOf(r sql.Rebuild) string {
	return fmt.Sprintf("%s of %s with %s, %s", text.Count(r.Batches, "batch"),
		text.Count(r.Partitions, "partition"), text.Count(r.Events, "event"),
		humanize.IBytes(uint64(r.OutboxSize)))
}
