package topology

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
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
	quietOnce()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	taken.Close()
	cfg := testConfig()
	cfg.Cluster, cfg.Group = kafka.Cluster{Brokers: []string{addr}, ClientID: "test"}, "waiting"
	p := &Processor{cfg: *cfg, stats: NewStats()}
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
	_, cluster := emitterBroker(t)
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

// TestNoCursorIsNoFailure looks at a partition that was never processed.
func TestNoCursorIsNoFailure(t *testing.T) {
	s := NewStats()
	s.Checked(nil)
	s.assigned()
	if err := s.noted(retryLoad, toll.ErrNoCursor); !errors.Is(err, toll.ErrNoCursor) {
		t.Errorf("got %v", err)
	}
	if n := s.Read().Retries["load"]; n != 0 || s.Ready() != nil {
		t.Errorf("%d retries, ready: %v", n, s.Ready())
	}
}

// TestTroubleRace has partitions meet trouble and get over it at the same time: for the race
// detector.
func TestTroubleRace(t *testing.T) {
	tr := &trouble{log: slog.New(slog.DiscardHandler)}
	var wg sync.WaitGroup
	for partition := range int32(4) {
		wg.Go(func() {
			for range 200 {
				tr.meet(partition, errors.New("gone away"))
				tr.over(partition)
			}
		})
	}
	wg.Wait()
	if tr.lasts() {
		t.Error("it lasts")
	}
	tr.meet(0, context.Canceled)
	tr.meet(0, &net.OpError{Op: "read", Err: context.Canceled})
	if tr.lasts() {
		t.Error("a call that was cancelled counts as trouble")
	}
}
