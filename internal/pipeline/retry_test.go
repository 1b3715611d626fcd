package pipeline

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

func TestRetryOutage(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	calls := 0
	if err := retryOutage(t.Context(), logger, func() error {
		if calls++; calls < 3 {
			return errors.New("no answer\nat all")
		}
		return nil
	}); err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if got := log.String(); strings.Count(got, "waiting for the servers") != 1 ||
		strings.Count(got, "the servers answer again") != 1 {
		t.Errorf("logged %s", got)
	}

	log.Reset()
	broken := toll.Permanent("repair it", "broken")
	if err := retryOutage(t.Context(), logger, func() error { return broken }); err != broken {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := retryOutage(ctx, logger, func() error {
		cancel()
		return ctx.Err()
	}); err != nil {
		t.Errorf("got %v where the context ended", err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
}
