package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// AcceptLog lets partitions whose log was replaced continue in it. Without yes it refuses, and
// reports what that would leave out.
func AcceptLog(ctx context.Context, con endpoint.Connection, store *sql.Store, yes bool,
	did func(...string)) error {
	info, found, err := con.Cluster.Describe(ctx, con.Topic)
	if err != nil {
		return err
	}
	if !found {
		return kafka.Topics{Topic: con.Topic}.Missing()
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
