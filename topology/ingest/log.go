package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/toll"
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
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := store.MarkLogReplaced(ctx, cursor, why)
		switch {
		case errors.Is(err, toll.ErrCursorMoved), toll.IsPermanent(err):
			return struct{}{}, backoff.Permanent(err)
		case err != nil:
			database.Down(cursor.Partition, err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(cfg.Backoff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return LogReplaced(why)
}
