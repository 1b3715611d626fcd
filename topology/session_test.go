package topology

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// sessionsGroup is a consumer group whose sessions end at once, the last one with an error.
type sessionsGroup struct {
	sarama.ConsumerGroup
	sessions []error
	consumed int
	handlers map[sarama.ConsumerGroupHandler]bool
}

func (g *sessionsGroup) Consume(_ context.Context, _ []string,
	h sarama.ConsumerGroupHandler) error {
	g.handlers[h] = true
	g.consumed++
	return g.sessions[g.consumed-1]
}

// TestSessionsFollowEachOther consumes session after session without going back to goka, which
// would wait in between for longer than the session timeout; an error goes back to it.
func TestSessionsFollowEachOther(t *testing.T) {
	broken := errors.New("broken")
	inner := &sessionsGroup{sessions: []error{nil, nil, nil, broken},
		handlers: map[sarama.ConsumerGroupHandler]bool{}}
	cfg := DefaultConfig()
	cfg.SessionTimeout = 2 * time.Second
	g := &groupConsumer{ConsumerGroup: inner, run: &run{cfg: &cfg}}
	if err := g.Consume(t.Context(), []string{"toll"}, nil); !errors.Is(err, broken) ||
		inner.consumed != 4 {
		t.Errorf("%v after %d sessions", err, inner.consumed)
	}
	if len(inner.handlers) != 4 {
		t.Errorf("%d handlers for 4 sessions", len(inner.handlers))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	inner.consumed = 0
	if err := g.Consume(ended, []string{"toll"}, nil); err != nil || inner.consumed != 1 {
		t.Errorf("after the end: %v, %d sessions", err, inner.consumed)
	}
}
