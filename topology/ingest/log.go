package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
)

// LogChecker compares a partition's log with what was consumed of it. It is a [fetch.Client].
type LogChecker interface {
	// Connects returns how many connections to brokers were made so far.
	Connects() int64
	CheckLog(ctx context.Context, partition int32, next int64, last toll.LastRecord) (fetch.Finding,
		error)
}

// UncheckedLog is the log line of a log that could not be compared.
const UncheckedLog = "it was not checked whether the log is still the one that was stored"

// LogReplaced is the refusal to consume a log that is not the one that the database has stored. It
// lasts until an operator decides: once the new log has grown beyond the cursor nothing else would
// show what is missing.
func LogReplaced(why string) error {
	return toll.Permanent(
		"decide how to go on: tollstream accept-log says what going on with this log leaves out, "+
			"and tollstream reset what a replay of it would lose",
		"the log was replaced, or lost its end: %s", why)
}

// RefuseLog records that a log was replaced, and returns the refusal. It waits for the database: a
// refusal that is not recorded is forgotten.
func RefuseLog(ctx context.Context, cfg *Config, store Store, database *monitor.Outage,
	cursor *toll.Cursor, why string) error {
	defer database.Leave(cursor.Partition)
	err := wait.Retry(ctx, cfg.Backoff(), func() error {
		err := store.MarkLogReplaced(ctx, cursor, why)
		switch {
		case errors.Is(err, toll.ErrCursorMoved):
			return backoff.Permanent(err)
		case err != nil && !toll.IsPermanent(err):
			database.Down(cursor.Partition, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return LogReplaced(why)
}

// compareLog checks that the log is the one of which all was read up to now, waiting for Kafka as
// long as the session lasts. Where it is another one nothing more is taken, and the committer
// records it.
func (p *Partition) compareLog(ctx context.Context) error {
	next := p.From
	pauses := p.cfg.Backoff()
	if p.read.Known {
		next = p.read.Offset + 1
	}
	for {
		f, err := p.Log.CheckLog(ctx, p.partition, next, p.read)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if err = kafka.Explain(err); toll.IsPermanent(err) {
				return err
			}
			p.cfg.Log.Debug("compare the log with what was read of it", "partition", p.partition, "error",
				err)
			_ = wait.For(ctx, pauses.NextBackOff())
			continue
		case f.Replaced != "":
			if err := p.Topic(); err != nil {
				return err // a topic that was recreated has another log, which is nothing to record
			}
			p.mu.Lock()
			p.replaced = f.Replaced
			p.mu.Unlock()
			wait.Signal(p.filled)
			<-ctx.Done()
			return nil
		case f.Unchecked != "" && p.read.Known:
			p.cfg.Log.Warn(UncheckedLog, "partition", p.partition, "why", f.Unchecked)
		}
		return nil
	}
}
