package live

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// countingContext counts what waits for its end.
type countingContext struct {
	context.Context
	mu      sync.Mutex
	waiting int
}

func (c *countingContext) Done() <-chan struct{} { return make(chan struct{}) }
func (c *countingContext) Value(any) any         { return nil }

// AfterFunc is how the package context learns of the end.
func (c *countingContext) AfterFunc(func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting++
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting--
		return true
	}
}

// TestPatienceLeavesNothing looks many times, as view --watch does for days.
func TestPatienceLeavesNothing(t *testing.T) {
	parent := &countingContext{Context: t.Context()}
	for _, recovered := range []bool{false, true} {
		r := &Reader{recovered: recovered}
		for range 10 {
			_, cancel := r.patience(parent)
			cancel()
		}
	}
	if parent.waiting != 0 {
		t.Errorf("%d contexts are left of 20 looks", parent.waiting)
	}
}

// TestReaderClosesTable has a database that can't be reached: the connections to Kafka that were
// opened meanwhile are closed.
func TestReaderClosesTable(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.SeedTopics(1, "toll", "tollstream-table"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	clients := func() int {
		stacks := make([]byte, 4<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]),
			"sarama.(*client).backgroundMetadataUpdater")
	}
	before := clients()
	cluster := kafka.Cluster{Brokers: broker.ListenAddrs(), ClientID: "test"}
	opened := make(chan struct{})
	open := func() (*table.View, error) {
		defer close(opened)
		return table.NewView(t.Context(), cluster, "tollstream", slog.New(slog.DiscardHandler))
	}
	cfg := Config{Connection: endpoint.Connection{Cluster: cluster, Topic: "toll",
		Group: "tollstream", DSN: "nobody@tcp(127.0.0.1:1)/none", Location: time.UTC},
		Log: slog.New(slog.DiscardHandler)}
	if _, _, err := Check(t.Context(), &cfg, open); err == nil {
		t.Fatal("a reader without a database")
	}
	<-opened
	for deadline := time.Now().Add(10 * time.Second); clients() > before; time.Sleep(
		10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients of Kafka are left", clients()-before)
		}
	}
}

// TestAwaitTable has a broker that takes connections and does not answer.
func TestAwaitTable(t *testing.T) {
	_, err := awaitTable(t.Context(), make(chan opening[*table.View]), []string{"kafka:9092"},
		time.Millisecond)
	if err == nil ||
		!strings.Contains(err.Error(), "connect to Kafka at kafka:9092: no answer for 1ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := awaitTable(ctx, make(chan opening[*table.View]), nil, time.Hour); !errors.Is(err,
		context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
