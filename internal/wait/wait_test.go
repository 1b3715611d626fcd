package wait

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/toll"
)

// TestWait checks each way to wait: that it lasts as long as it says, and ends with its context.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := func(want time.Duration) {
			t.Helper()
			if got := time.Since(began); got != want {
				t.Errorf("%v have passed, want %v", got, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := For(ctx, time.Second); err != nil {
			t.Error(err)
		}
		after(time.Second)
		ticks := 0
		for now := range Every(ctx, time.Second) {
			if ticks++; now.Sub(began) != time.Duration(1+ticks)*time.Second {
				t.Errorf("tick %d came after %v", ticks, now.Sub(began))
			}
			if ticks == 2 {
				break
			}
		}
		after(3 * time.Second)

		calls := 0
		err := Retry(ctx, backoff.NewConstantBackOff(time.Second), func() error {
			if calls++; calls < 3 {
				return errors.New("unavailable")
			}
			return nil
		})
		if err != nil || calls != 3 {
			t.Errorf("%d calls, then %v", calls, err)
		}
		after(5 * time.Second)
		err = Retry(ctx, backoff.NewConstantBackOff(time.Second), func() error {
			return toll.Permanent("", "damaged")
		})
		if !toll.IsPermanent(err) {
			t.Errorf("a non-retryable error came back as %v", err)
		}
		after(5 * time.Second)

		for range Every(ctx, time.Second) { // until ctx ends
		}
		if err := For(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait beyond its context ended with %v", err)
		}
		err = Retry(ctx, &backoff.ZeroBackOff{}, func() error { return errors.New("unavailable") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("retrying beyond its context ended with %v", err)
		}
		after(10 * time.Second)
	})
	c := make(chan struct{}, 1)
	Signal(c)
	Signal(c)
	if <-c; len(c) != 0 {
		t.Error("two signals are two values")
	}
}
