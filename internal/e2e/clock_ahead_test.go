package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/topology/kafka"
)

// TestClockAhead has a broker that refuses the time of our messages, as Kafka does of a clock that
// is more than an hour ahead of its own. process names the clock and blames nobody else, and goes
// on once the clock is right.
func TestClockAhead(t *testing.T) {
	inParallel(t)
	c := startFakes(t)
	w := newWorldOn(t, strings.Join(c.ListenAddrs(), ","), engine)
	w.must("init", "--partitions", "2")
	w.must("emit", "--count", "50", "--rate", "0")
	for i, topic := range []string{kafka.LoopTopic(w.group), kafka.TableTopic(w.group),
		kafka.CongestionTopic(w.topic)} {
		w.must("emit", "--count", "50", "--rate", "0")
		h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidTimestamp,
			Count: -1})
		args := []string{"process"}
		if topic == kafka.CongestionTopic(w.topic) {
			args = append(args, "--until-end") // which closes all windows
		}
		p := w.start(args...)
		for deadline := time.Now().Add(time.Minute); !strings.Contains(p.log.String(),
			"this machine's clock"); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log does not say which clock is wrong:\n%s", topic, p.log)
			}
		}
		time.Sleep(2 * time.Second)
		h.Remove()
		w.eventually("counts of "+topic, 2*time.Minute, func() bool {
			return w.verify().Status == "exact" && w.verify().Events == int64(100+50*i)
		})
		if log := p.log.String(); strings.Contains(log, "MySQL") ||
			strings.Contains(log, "context canceled") {
			t.Errorf("%s: the log blames others:\n%s", topic, log)
		}
		if testing.Verbose() {
			t.Logf("%s:\n%s", topic, p.log)
		}
		if len(args) == 1 {
			p.interrupt()
		} else if <-p.done; p.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("--until-end: exit status %d\n%s", p.cmd.ProcessState.ExitCode(), p.log)
		}
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 200 {
		t.Errorf("verify: %+v", v)
	}
}
