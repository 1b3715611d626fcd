package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"
)

// startEvents is how many new events a start finds.
const startEvents = 1000

// starts measures how long `process` takes from its start to the first row of new events, with all others stored and
// merged before: with the local state that the process before has left, and without any, which goka then recovers from
// Kafka. goka's own recovery is part of it; it is over when the process logs "processing".
func (b *bench) starts(ctx context.Context) error {
	for range b.settings.Rounds {
		if err := b.start(ctx, b.state(), "start"); err != nil {
			return err
		}
		empty, err := os.MkdirTemp(b.dir, "state-")
		if err != nil {
			return err
		}
		if err := b.start(ctx, empty, "start_without_state"); err != nil {
			return err
		}
		if err := os.RemoveAll(empty); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) start(ctx context.Context, state, figure string) error {
	if err := b.send(ctx, b.generator(), startEvents); err != nil {
		return err
	}
	began := time.Now()
	r, err := b.startProcess(ctx, 0, state, "--until-end")
	if err != nil {
		return err
	}
	if err := r.wait(); err != nil {
		return err
	}
	processing, err := r.processing()
	if err != nil {
		return err
	}
	first, err := b.firstCommit(ctx, began)
	if err != nil {
		return err
	}
	b.record(figure+"_to_processing_seconds", processing[0].Sub(began).Seconds())
	b.record(figure+"_to_first_row_seconds", first.Sub(began).Seconds())
	return nil
}

// firstCommit returns when the first batch was stored after a moment.
func (b *bench) firstCommit(ctx context.Context, after time.Time) (time.Time, error) {
	db, err := b.openDB()
	if err != nil {
		return time.Time{}, err
	}
	defer db.Close()
	var first sql.NullString
	if err := db.QueryRowContext(ctx, `SELECT CAST(MIN(stored_at) AS CHAR) FROM toll_batch WHERE stored_at > ?`,
		after.UTC().Format(storedAt)).Scan(&first); err != nil {
		return time.Time{}, err
	}
	if !first.Valid {
		return time.Time{}, errors.New("the new events were not stored")
	}
	at, err := time.Parse(storedAt, first.String)
	if err != nil {
		return at, fmt.Errorf("read stored_at: %w", err)
	}
	return at, nil
}
