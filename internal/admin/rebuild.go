package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

const rebuildLine = "tollstream rebuild --yes"

// Rebuild raises the epoch, so that the processes publish every batch again and the group table is
// recomputed. Without yes it refuses, and reports what it would do.
func Rebuild(ctx context.Context, con endpoint.Connection, store *sql.Store, yes bool,
	did func(...string)) error {
	info, err := con.Cluster.DescribeEvents(ctx, con.Topic)
	if err != nil {
		return err
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

// AcceptLog lets partitions whose log was replaced continue in it. Without yes it refuses, and
// reports what that would leave out.
func AcceptLog(ctx context.Context, con endpoint.Connection, store *sql.Store, yes bool,
	did func(...string)) error {
	info, err := con.Cluster.DescribeEvents(ctx, con.Topic)
	if err != nil {
		return err
	}
	if _, err := store.Check(ctx, con.Identity(info.ID)); err != nil {
		return err
	}
	cursors, err := store.Writer(info.ID).Cursors(ctx)
	if err != nil {
		return err
	}
	client, err := con.Cluster.LogClient(con.Topic)
	if err != nil {
		return err
	}
	defer client.Close()
	var accepts []acceptance
	var lines []string
	for i := range cursors {
		p, err := planAcceptance(ctx, store, client, &cursors[i])
		if err != nil {
			return kafka.Explain(err)
		}
		if p != nil {
			accepts = append(accepts, *p)
			lines = append(lines, fmt.Sprintf("%s: %s", p.Why, p.AcceptedLog))
		}
	}
	if len(accepts) > 0 && !yes {
		return hint.With(hint.Usagef("--yes is missing: %s", strings.Join(lines, "; ")),
			"to continue in it, run: tollstream accept-log --yes")
	}
	for i, p := range accepts {
		if err := store.AcceptLog(ctx, p.cursor, p.last, p.AcceptedLog); err != nil {
			return hint.Then(err, "run again: tollstream accept-log")
		}
		did("accepted the log: " + lines[i])
	}
	return nil
}

// acceptance is a log that may be accepted.
type acceptance struct {
	sql.AcceptedLog
	cursor *toll.Cursor
	last   toll.LastRecord
}

// planAcceptance returns what accepting the log of a partition means, nil where it is the one that
// was stored.
func planAcceptance(ctx context.Context, store *sql.Store, client *fetch.Client,
	c *toll.Cursor) (*acceptance, error) {
	why, err := replaced(ctx, client, c)
	if err != nil || why == "" {
		return nil, err
	}
	d, err := client.Differs(ctx, c.Partition, c.Next, c.Last)
	if err != nil {
		return nil, err
	}
	if d.End < c.Next {
		return nil,
			toll.Permanent(
				"wait until the log ends beyond that; or replay the topic: tollstream reset reports what "+
					"that loses",
				"partition %d ends at offset %s, below %s, up to which was stored: what comes in between "+
					"would not be stored, nor counted here",
				c.Partition, text.Number(d.End), text.Number(c.Next))
	}
	p := &acceptance{cursor: c, last: d.Last}
	p.AcceptedLog = sql.AcceptedLog{Partition: c.Partition, Next: c.Next, Why: why,
		MostRecords: max(0, c.Next-d.Start)}
	if p.MostRows, _, err = store.RowsFrom(ctx, c.Partition, d.Start); err != nil {
		return nil, err
	}
	if d.From >= 0 {
		rows, _, err := store.RowsFrom(ctx, c.Partition, d.From)
		if err != nil {
			return nil, err
		}
		records := max(0, c.Next-d.From)
		p.From, p.Rows, p.Records = &d.From, &rows, &records
	}
	return p, nil
}

// replaced returns why the log of a partition is not the one that was stored, "" where it is.
func replaced(ctx context.Context, client *fetch.Client, c *toll.Cursor) (string, error) {
	if c.LogReplaced != "" {
		return c.LogReplaced, nil
	}
	f, err := client.CheckLog(ctx, c.Partition, c.Next, c.Last)
	return f.Replaced, err
}

// logsPatience bounds how long verify waits for the logs: all else of it needs no leader of the
// topic.
const logsPatience = 20 * time.Second

// checkLogs compares the log of each partition with what was stored of it. What can't be compared
// does not fail verify, which reports why.
func checkLogs(ctx context.Context, con endpoint.Connection,
	store *sql.Store) (map[int32]verify.LogCheck, error) {
	m, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	cursors, err := store.Writer(m.TopicID).Cursors(ctx)
	if err != nil || len(cursors) == 0 {
		return nil, err
	}
	checks := make(map[int32]verify.LogCheck, len(cursors))
	client, err := con.Cluster.LogClient(con.Topic)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, logsPatience)
	defer cancel()
	for _, c := range cursors {
		if !c.Last.Known && len(c.Chain) == 0 {
			continue // nothing was stored yet
		}
		f, err := client.CheckLog(ctx, c.Partition, c.Next, c.Last)
		if err != nil {
			f = fetch.Finding{Unchecked: kafka.Brief(kafka.Explain(err))}
		}
		checks[c.Partition] = verify.LogCheck{Replaced: f.Replaced, Unchecked: f.Unchecked}
	}
	return checks, nil
}
