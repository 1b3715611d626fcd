// Package wait holds the ways to wait that end with a context: for a while, again and again, until
// a server answers, or for a signal.
package wait

import (
	"context"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/toll"
)

// For waits for d, or until ctx ends, and returns ctx's error then.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Every yields the time every d until ctx ends, first after d. A tick that nobody is ready for is
// dropped.
func Every(ctx context.Context, d time.Duration) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				if !yield(now) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Retry calls do, with pauses, until it succeeds, fails with a [toll.PermanentError] or a
// [backoff.PermanentError], which is unwrapped, or ctx ends.
func Retry(ctx context.Context, pauses backoff.BackOff, do func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if toll.IsPermanent(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	return err
}

// Signal gives a channel of one value its value, unless it has one.
func Signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
