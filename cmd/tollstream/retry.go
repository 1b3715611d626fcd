package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

// retryOutage does something until it works, with growing pauses, and says once what is in the way.
// What no retry mends is returned at once.
func retryOutage(ctx context.Context, log *slog.Logger, do func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 200 * time.Millisecond
	pauses.MaxInterval = 5 * time.Second
	told := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		switch {
		case err == nil:
			if told {
				log.Info("the servers answer again")
			}
			return struct{}{}, nil
		case toll.IsPermanent(err), hint.IsUsage(err):
			return struct{}{}, backoff.Permanent(err)
		}
		if !told && ctx.Err() == nil {
			told = true
			log.Warn("waiting for the servers", "error", text.OneLine(topology.Brief(err)))
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if ctx.Err() != nil {
		return nil
	}
	return err
}
