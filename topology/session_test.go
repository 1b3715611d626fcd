package topology

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
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

func testConfig() *Config {
	cfg := DefaultConfig()
	cfg.BatchRows = 7
	cfg.Log = slog.New(slog.DiscardHandler)
	token := uint64(100)
	var mu sync.Mutex
	cfg.NewToken = func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		token++
		return token
	}
	return &cfg
}

// TestStopWithoutAnswer stops a processor that waits for a broker which does not answer. Its
// connections are closed then, so that the run ends, and the folder is free afterwards.
func TestStopWithoutAnswer(t *testing.T) {
	t.Parallel()
	simtest.Quiet()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections by itself
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg := testConfig()
	cfg.Cluster, cfg.Instance, cfg.StateDir = kafka.Cluster{Brokers: []string{silent.Addr().String()},
		ClientID: "test"}, "one", t.TempDir()
	newProcessor := func() *Processor {
		p, err := NewProcessor(*cfg, &simtest.Store{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- newProcessor().Run(ctx) }()
	first, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := newProcessor().lockState(); !toll.IsPermanent(err) {
		t.Errorf("the folder of a processor that runs is free: %v", err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(stopDeadline + 10*time.Second):
		t.Fatal("it does not end")
	}
	folder, err := newProcessor().lockState()
	if err != nil {
		t.Fatalf("the folder of a run that has ended is not free: %v", err)
	}
	if err := folder.Unlock(); err != nil {
		t.Error(err)
	}
}

// TestStopWithSilentBroker stops a processor in the middle of its work, whose broker does not
// answer any more.
func TestStopWithSilentBroker(t *testing.T) {
	t.Parallel()
	broker, cluster := simtest.Broker(t)
	cfg := testConfig()
	cfg.Cluster, cfg.Instance, cfg.StateDir = cluster, "one", t.TempDir()
	cfg.Topic, cfg.Group, cfg.Replication = "toll", "group", 1
	if _, _, err := cluster.Create(t.Context(), kafka.Topics{Topic: cfg.Topic, Group: cfg.Group,
		Partitions: 4, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	var log testkit.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	p, err := NewProcessor(*cfg, &simtest.Store{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "msg=processing"); {
		if time.Now().After(deadline) {
			t.Fatalf("it does not begin:\n%s", &log)
		}
		time.Sleep(10 * time.Millisecond)
	}
	broker.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return nil, nil, true
	})
	cancel()
	began := time.Now()
	select {
	case err := <-ended:
		t.Logf("it took %v", time.Since(began).Round(time.Millisecond))
		if err != nil {
			t.Error(err)
		}
	case <-time.After(stopDeadline + 10*time.Second):
		t.Fatalf("it does not end:\n%s", &log)
	}
	if !strings.Contains(log.String(), "stopping without an answer from Kafka or MySQL") {
		t.Errorf("it logged\n%s", &log)
	}
}
