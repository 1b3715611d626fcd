package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/topology/kafka"
)

// TestUntilEndOutage has Kafka unavailable for longer than a minute right after the last delta was
// published and before it is merged. The job waits for it, as it does at any other time.
func TestUntilEndOutage(t *testing.T) {
	inParallel(t)
	c := startFakes(t)
	w := newWorldOn(t, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init", "--partitions", "1")
	w.must("emit", "--count", "50", "--rate", "0")
	merges := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: kafka.LoopTopic(w.group),
		Count: -1})
	p := w.start("process", "--until-end")
	w.eventually("the last publish", time.Minute, func() bool {
		return w.count("SELECT COUNT(*) FROM toll_batch WHERE published = 1") > 0 &&
			w.count("SELECT COUNT(*) FROM toll_batch WHERE published = 0") == 0
	})
	time.Sleep(time.Second) // for the job to look for the end of the merges
	outage := c.Fault(kfake.Fault{Count: -1})
	time.Sleep(75 * time.Second)
	if !p.running() {
		t.Fatalf("it ended in the outage:\n%s", p.log)
	}
	merges.Remove()
	outage.Remove()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not end after the outage:\n%s", p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d\n%s", code, p.log)
	}
	if v := w.verify("--deep"); v.Status != "exact" || v.Merged != 50 {
		t.Errorf("verify: %+v", v)
	}
	if testing.Verbose() {
		t.Logf("%s", p.log)
	}
}
