package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestOpenTransaction has a producer that keeps a transaction open on one of two partitions. The
// process says so, windows of the other partition close, and the end of the transaction makes all
// of it right.
func TestOpenTransaction(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	client := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic(w.topic),
			kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	plain := client()
	producer := client(kgo.TransactionalID(w.topic), kgo.TransactionTimeout(10*time.Minute))
	day := time.Date(2022, 2, 10, 10, 0, 0, 0, time.UTC)
	began := time.Now()
	// send sends an event a minute, at record times of their own.
	send := func(c *kgo.Client, partition int32, plaza, from, to int, at time.Duration) {
		t.Helper()
		var records []*kgo.Record
		for m := from; m < to; m++ {
			records = append(records, &kgo.Record{Partition: partition, Timestamp: began.Add(at),
				Value: fmt.Appendf(nil, "%s,%d,car,%d",
					day.Add(time.Duration(m)*time.Minute).Format(time.ANSIC), m, plaza)})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	transaction := func(what func() error) {
		t.Helper()
		if err := what(); err != nil {
			t.Fatal(err)
		}
	}
	send(plain, 0, 4000, 0, 5, 0)
	send(plain, 1, 4001, 0, 5, 0)
	transaction(producer.BeginTransaction)
	send(producer, 0, 4000, 5, 20, time.Second)
	send(plain, 0, 4000, 20, 30, time.Second) // another producer, whose records wait as well
	send(plain, 1, 4001, 5, 60, 30*time.Second)

	p := w.start("process", "--idle", "5s")
	closed := func(plaza, minute int) bool {
		return w.count(
			"SELECT COUNT(*) FROM toll_window WHERE toll_plaza_id = ? AND kind = '1m' AND window_start = "+
				"? AND revision > 0",
			plaza, day.Add(time.Duration(minute)*time.Minute)) == 1
	}
	w.eventually("windows of the other partition", time.Minute, func() bool {
		return closed(4001, 50) && closed(4000, 3)
	})
	w.eventually("the log", time.Minute, func() bool {
		return strings.Contains(p.log.String(), "a producer's transaction is open")
	})
	for _, text := range []string{"partition=0", "offset=5", "waiting=25"} {
		if !strings.Contains(p.log.String(), text) {
			t.Errorf("the log lacks %s:\n%s", text, p.log)
		}
	}
	if n := w.count("SELECT COUNT(*) FROM livetolldata"); n != 65 {
		t.Errorf("%d rows, want 65", n)
	}
	var board struct {
		Waiting int64
		Open    []struct{ Partition, Offset int64 } `json:"open_transactions"`
	}
	if err := json.Unmarshal([]byte(w.must("view", "--json")), &board); err != nil ||
		board.Waiting != 25 || len(board.Open) != 1 || board.Open[0].Partition != 0 ||
		board.Open[0].Offset != 5 {
		t.Errorf("view --json: %+v, %v", board, err)
	}
	if text := w.must("view"); !strings.Contains(text,
		"partition 0 waits at offset 5 for the end of a producer's transaction") {
		t.Errorf("view:\n%s", text)
	}

	transaction(func() error { return producer.EndTransaction(t.Context(), kgo.TryCommit) })
	w.eventually("the rows of the transaction", time.Minute, func() bool {
		return w.count("SELECT COUNT(*) FROM livetolldata") == 90
	})
	w.eventually("the end in the log", time.Minute, func() bool {
		return strings.Contains(p.log.String(), "transaction ended")
	})
	p.interrupt()

	// One that is aborted, before --until-end can know that it holds nothing.
	transaction(producer.BeginTransaction)
	send(producer, 0, 4000, 30, 40, time.Minute)
	p = w.start("process", "--until-end", "--idle", "5s")
	w.eventually("the log of --until-end", time.Minute, func() bool {
		return strings.Contains(p.log.String(), "a producer's transaction is open")
	})
	transaction(func() error { return producer.EndTransaction(t.Context(), kgo.TryAbort) })
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("--until-end: exit status %d\n%s", code, p.log)
	}
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 90 {
		t.Errorf("verify: %+v", v)
	}
	w.windowsEqualSQL()
}
