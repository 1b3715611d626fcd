package admin

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// ResetOptions are what a reset may do.
type ResetOptions struct {
	Yes      bool // else it refuses, and reports what it would do
	AllRows  bool // delete the rows that tollstream did not store, too
	LoseRows bool // delete rows that a replay does not bring back
}

// resetPlan describes what a reset deletes.
func resetPlan(con endpoint.Connection, o ResetOptions) string {
	rows := "the rows of livetolldata"
	if o.AllRows {
		rows = "all rows of livetolldata, those from before tollstream too,"
	}
	return fmt.Sprintf(
		"%s and of tollstream's own tables in %s, the topics %s and %s, and the offsets of group %s; "+
			"topic %s stays",
		rows, con.Address(), kafka.LoopTopic(con.Group), kafka.TableTopic(con.Group), con.Group,
		con.Topic)
}

func resetLine(o ResetOptions) string {
	line := "tollstream reset --yes"
	if o.AllRows {
		line += " --all-rows"
	}
	if o.LoseRows {
		line += " --lose-rows"
	}
	return line
}

// Reset empties the database first. Until it is empty the database is marked, and process refuses
// it; from then on what the topics still hold is of an epoch before. So wherever it is interrupted,
// nothing wrong is counted, and running it again completes it.
func Reset(ctx context.Context, con endpoint.Connection, store *sql.Store, topics kafka.Topics,
	o ResetOptions, did func(...string)) error {
	info, found, err := con.Cluster.Describe(ctx, con.Topic)
	if err != nil {
		return err
	}
	lost, exact, err := unreplayable(ctx, con, store, info, found)
	if err != nil {
		return err
	}
	if !o.Yes {
		plan := "--yes is missing: reset deletes " + resetPlan(con, o)
		if lost > 0 {
			plan += "; " + sql.UnreplayableText(lost, exact)
			o.LoseRows = true
		}
		return hint.With(hint.Usagef("%s", plan), "to do it, run: "+resetLine(o))
	}
	if lost > 0 && !o.LoseRows {
		o.LoseRows = true
		return toll.Permanent("to lose them, run: "+resetLine(o), "%s", sql.UnreplayableText(lost, exact))
	}
	if err := checkIdle(ctx, con); err != nil {
		return err
	}
	done, err := store.Reset(ctx, con.Identity(info.ID), sql.ResetOptions{AllRows: o.AllRows})
	did(done...)
	if err != nil {
		return err
	}
	done, err = con.Cluster.Reset(ctx, topics)
	did(done...)
	if err != nil {
		return hint.Then(err, "the database is empty, topics are left; run again: "+resetLine(o))
	}
	return nil
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
	why, err := replaced(ctx, client, c)
	if err != nil {
		return sql.LogRange{}, err
	}
	d, err := client.Differs(ctx, c.Partition, c.Next, c.Last)
	if err != nil {
		return sql.LogRange{}, err
	}
	l := sql.LogRange{Start: d.Start, Other: -1}
	if why != "" {
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
			"stop every tollstream process of the group first; one that was killed counts until its "+
				"session is over (--session-timeout, 10 s)",
			"group %s has %s", con.Group, text.Count(n, "running member"))
	}
	return nil
}
