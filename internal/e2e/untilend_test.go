package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUntilEndStopped stops jobs before the end of the topic: while rows can't be stored, and while
// Kafka is unavailable at the start. Whoever waits for such a job must not take it for complete.
func TestUntilEndStopped(t *testing.T) {
	inParallel(t)
	const why = "tollstream: stopped before all that was in the topic at the start was stored, " +
		"published and merged\n"
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	w.must("emit", "--count", "50", "--rate", "0")
	unlock := w.lockTable("livetolldata")
	defer unlock()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := w.start("process", "--until-end")
		w.eventually("partitions", time.Minute,
			func() bool { return strings.Contains(p.log.String(), "processing") })
		_ = p.cmd.Process.Signal(signal)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.log.String(), why) {
			t.Errorf("%v: exit status %d\n%s", signal, code, p.log)
		}
	}
	p := w.start("process", "--until-end", "--brokers", "127.0.0.1:1")
	w.eventually("the outage", time.Minute,
		func() bool { return strings.Contains(p.log.String(), "waiting for the servers") })
	if _, code := p.interrupt(); code != 1 || !strings.Contains(p.log.String(), why) {
		t.Errorf("without Kafka: exit status %d\n%s", code, p.log)
	}

	unlock()
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 50 {
		t.Errorf("verify: %+v", v)
	}
	// One that runs until it is stopped is done then.
	p = w.start("process")
	w.eventually("partitions", time.Minute,
		func() bool { return strings.Contains(p.log.String(), "processing") })
	if _, code := p.interrupt(); code != 0 {
		t.Errorf("process: exit status %d\n%s", code, p.log)
	}
}

// lockTable lets nobody write to a table until it is unlocked.
func (w *world) lockTable(table string) (unlock func()) {
	w.t.Helper()
	conn, err := w.sql.Conn(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := conn.ExecContext(w.t.Context(), "LOCK TABLES "+table+" READ"); err != nil {
		w.t.Fatal(err)
	}
	return func() { // a connection that goes back to the pool keeps its locks
		_, _ = conn.ExecContext(context.Background(), "UNLOCK TABLES")
		_ = conn.Close()
	}
}
