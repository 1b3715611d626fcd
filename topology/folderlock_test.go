package topology

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
)

// TestAbandonedRunKeepsFolder stops a processor whose run hangs in a call to a broker that does not
// answer. Nobody else may take the folder before that run has ended.
func TestAbandonedRunKeepsFolder(t *testing.T) {
	simtest.Quiet()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	go func() { // ends with the listener
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	}()
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
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := newProcessor().Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := newProcessor().lockState(); !toll.IsPermanent(err) {
		t.Fatalf("the folder of a run that has not ended is free: %v", err)
	}
	silent.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		open = nil
		mu.Unlock()
		folder, err := newProcessor().lockState()
		if err == nil {
			folder.hold()()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the folder of a run that has ended is not free: %v", err)
		}
	}
}
