package topology

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// TestMergeProgress counts only the time in which all servers answer and nothing is merged.
func TestMergeProgress(t *testing.T) {
	start := time.Now()
	p := mergeProgress{moved: start}
	at := func(seconds int, events int64, outage, want bool) {
		t.Helper()
		if got := p.stalls(start.Add(time.Duration(seconds)*time.Second), events, outage); got != want {
			t.Errorf("after %d s, %d events, outage %v: stalls %v", seconds, events, outage, got)
		}
	}
	at(59, 0, false, false)
	at(60, 0, false, false)
	at(61, 7, false, false) // merged something
	at(100, 7, true, false)
	at(1000, 7, true, false) // however long a server is unavailable
	at(1060, 7, false, false)
	at(1061, 7, false, true)
}

// TestAwaitEndOutage looks for the end while Kafka is unavailable.
func TestAwaitEndOutage(t *testing.T) {
	simtest.Quiet()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	taken.Close()
	cfg := testConfig()
	cfg.Cluster, cfg.Group = kafka.Cluster{Brokers: []string{addr}, ClientID: "test"}, "waiting"
	p := &Processor{cfg: *cfg, stats: monitor.NewStats()}
	ended := make(chan error, 1)
	go func() { ended <- p.AwaitEnd(t.Context(), kafka.End{}) }()
	select {
	case err := <-ended:
		t.Fatalf("it ended in the outage: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	n, _ := strconv.Atoi(port)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(n),
		kfake.SeedTopics(1, "toll", kafka.TableTopic(cfg.Group)))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end after the outage")
	}
	// A table that is not there is no outage.
	p.cfg.Group = "none"
	if err := p.AwaitEnd(t.Context(), kafka.End{}); !toll.IsPermanent(err) {
		t.Errorf("without a group table: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.AwaitEnd(ctx, kafka.End{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// TestFindEndWithoutTopic has no topic, of which everything would be stored.
func TestFindEndWithoutTopic(t *testing.T) {
	_, cluster := simtest.Broker(t)
	if end, err := cluster.FindEnd(t.Context(), "nothere"); err == nil {
		t.Errorf("it ends at %v", end)
	}
	if consumed, err := cluster.LoopConsumed(t.Context(), "nothere"); err == nil {
		t.Errorf("its loop is consumed: %v", consumed)
	}
	r := NewWatermarkReader(cluster, "nothere")
	defer r.Close()
	if b, err := r.Backlog(t.Context(), nil); err == nil {
		t.Errorf("its backlog is %+v", b)
	}
}
