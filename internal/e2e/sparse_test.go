package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestSparseRevisions has events come for windows that closed long ago, on 180 days far apart: a
// partition was idle while the other went on for 400 days. Its windows are counted again from the
// outbox, which must end: the step of that search once overflowed to 0.
func TestSparseRevisions(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic(w.topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	start := time.Date(2022, 1, 1, 10, 0, 0, 0, time.UTC)
	sent := int64(0)
	send := func(partition int32, plaza, day int) *kgo.Record {
		sent++
		at := start.AddDate(0, 0, day).Add(time.Duration(sent%3) * 20 * time.Minute)
		return &kgo.Record{Partition: partition,
			Value: fmt.Appendf(nil, "%s,%d,car,%d", at.Format(time.ANSIC), sent, 4000+plaza)}
	}
	stored := func(what string) {
		t.Helper()
		w.eventually(what, caughtUpWithin, func() bool {
			return w.count(`SELECT COUNT(*) FROM livetolldata`) == sent
		})
	}
	produce := func(records []*kgo.Record) {
		t.Helper()
		if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p := w.start("process", "--idle", "1s", "--keep-windows", "0")

	var records []*kgo.Record
	for plaza := range 6 {
		records = append(records, send(1, plaza, 0))
	}
	produce(records)
	stored("the first day")
	time.Sleep(4 * time.Second) // longer than --idle, in record time
	records = nil
	for day := range 400 {
		for plaza := range 6 {
			records = append(records, send(0, plaza, day), send(0, plaza, day), send(0, plaza, day))
		}
	}
	produce(records)
	stored("400 days")
	closed := func(what string) {
		t.Helper()
		w.eventually(what, 2*caughtUpWithin, func() bool {
			return w.count(
				`SELECT CAST(COALESCE(SUM(events + too_late), 0) AS SIGNED) FROM toll_window
					WHERE kind = '15m'`) >= sent-6*3
		})
	}
	closed("the windows of 400 days")
	records = nil
	for k := range 30 {
		for plaza := range 6 {
			records = append(records, send(1, plaza, 1+12*k+2*plaza))
		}
	}
	produce(records)
	stored("days far apart")
	closed("their windows")
	if n := w.count(`SELECT COUNT(*) FROM toll_window WHERE kind = '15m' AND revision > 1`); n < 100 {
		t.Errorf("only %d windows were revised", n)
	}
	if took, code := p.interrupt(); code != 0 || took > stopsWithin {
		t.Errorf("process ended with %d after %v", code, took)
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" {
		t.Errorf("verify --deep: %+v", v)
	}
	w.windowsEqualSQL()
}
