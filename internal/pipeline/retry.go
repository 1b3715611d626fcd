package pipeline

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// retryOutage calls do, retrying with backoff until it succeeds, fails with a permanent error, or
// ctx ends, for which it returns nil. It logs the first failure.
func retryOutage(ctx context.Context, log *slog.Logger, do func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 200 * time.Millisecond
	pauses.MaxInterval = 5 * time.Second
	warned := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		switch {
		case err == nil:
			if warned {
				log.Info("the servers answer again")
			}
		case toll.IsPermanent(err):
			err = backoff.Permanent(err)
		case !warned && ctx.Err() == nil:
			warned = true
			log.Warn("waiting for the servers", "error", text.OneLine(kafka.Brief(err)))
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if ctx.Err() != nil {
		return nil
	}
	return err
}
