package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestSlowLoads has rows of many partitions that load slowly, one batch at a time. The last batch
// waits for longer than a server lets a transaction idle, so it has to wait without one. Else the
// server ends the transaction, and the batch is tried again, and may have to wait as long again.
func TestSlowLoads(t *testing.T) {
	inParallel(t)
	const partitions, events = 16, 50
	idle := 10 * time.Second // idle_transaction_timeout, see sql/internal/db/session.go
	if engine == "mysql" {
		idle = 20 * time.Second // wait_timeout
	}
	w := newWorld(t)
	w.must("init", "--partitions", fmt.Sprint(partitions))
	// All loads together take a quarter longer than a transaction may idle.
	w.rootExec(
		fmt.Sprintf(
			"CREATE TRIGGER tolldata.slow BEFORE INSERT ON tolldata.livetolldata FOR EACH ROW DO SLEEP(%f)",
			1.25*idle.Seconds()/(partitions*events)))
	truth := newTruth()
	s := w.sender(truth, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for partition := range int32(partitions) {
		for range events {
			_, csv, row := s.event()
			r := &kgo.Record{Partition: partition, Value: []byte(csv)}
			s.client.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			truth.sent(row)
		}
	}
	if err := s.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	// One load at a time, however many cores there are; each partition's events are one batch.
	w = w.with(t, "GOMAXPROCS=2")
	aborted := w.status("Aborted_clients")
	p := w.start("process", "--latency", "1s")
	w.eventually("all rows", caughtUpWithin, func() bool {
		if !p.running() {
			t.Fatalf("process ended by itself:\n%s", p.log)
		}
		return w.count("SELECT COUNT(*) FROM livetolldata") == partitions*events
	})
	w.eventually("all merged", caughtUpWithin, func() bool { return w.verify().Status == "exact" })
	if n := w.status("Aborted_clients") - aborted; n != 0 {
		t.Errorf("the server ended %d connections, of transactions that waited for their turn", n)
	}
	p.interrupt()
	w.exact(truth)
	if n := w.count("SELECT COUNT(*) FROM toll_batch"); n > 2*partitions {
		t.Errorf("%d batches, too short to make each other wait", n)
	}
}

// status returns a counter of the database server.
func (w *world) status(name string) int64 {
	w.t.Helper()
	var n int64
	err := w.root().QueryRow("SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &n)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
