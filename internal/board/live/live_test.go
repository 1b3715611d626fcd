package live

import (
	"context"
	"log/slog"
	"net"
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
	open := func(ctx context.Context) (*table.View, error) {
		defer close(opened)
		return table.NewView(ctx, cluster, "tollstream", slog.New(slog.DiscardHandler))
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

// TestTableDoesNotOpen has a broker that accepts connections and does not answer.
func TestTableDoesNotOpen(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections by itself
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cluster := kafka.Cluster{Brokers: []string{silent.Addr().String()}, ClientID: "test"}
	for what, c := range map[string]struct {
		within time.Duration
		want   string
	}{
		"interrupted": {time.Hour, "context canceled"},
		"too late": {50 * time.Millisecond, "connect to Kafka at " + silent.Addr().String() +
			": no answer for "},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		opening, giveUp := context.WithTimeout(ctx, c.within)
		if c.within == time.Hour {
			go func() {
				if conn, err := silent.Accept(); err == nil {
					defer conn.Close()
				}
				cancel()
			}()
		}
		began := time.Now()
		view, err := table.NewView(opening, cluster, "tollstream", slog.New(slog.DiscardHandler))
		if err == nil {
			view.Close()
			t.Fatalf("%s: it opened", what)
		}
		if err := whyNotOpened(opening, err, cluster.Brokers); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > 20*time.Second { // less than timeouts of clients
			t.Errorf("%s: it took %v", what, took)
		}
		giveUp()
		cancel()
	}
}
