package e2e

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/devstack"
)

// TestPipeline sends everything that real producers send, before and after the first start.
func TestPipeline(t *testing.T) {
	inParallel(t)
	for _, partitions := range []int{1, 4, 16} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			inParallel(t)
			testPipeline(t, newWorld(t), partitions)
		})
	}
	t.Run("embedded", func(t *testing.T) {
		inParallel(t)
		broker, err := devstack.StartBroker(devstack.BrokerConfig{Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		testPipeline(t, newWorldOn(t, broker.Addr(), "embedded"), 4)
	})
}

func testPipeline(t *testing.T, w *world, partitions int) {
	w.must("init", "--partitions", fmt.Sprint(partitions))
	truth := newTruth()
	s := w.sender(truth)
	s.send(3000) // before the first start
	s.sendKeyed(2000)
	w.must("process", "--until-end")
	w.exact(truth)

	s.sendRaw(garbage()...)
	s.send(2000)
	s.sendRaw(garbage()...)
	s.sendAborted(w, 500)
	w.must("process", "--until-end", "--batch-rows", "700")
	w.exact(truth)

	w.must("process", "--until-end") // nothing new
	w.exact(truth)
	if v := w.verify(); v.Rejected != int64(2*len(garbage())) || v.Events != 7000 ||
		v.Merged != 7000 || v.Rows != 7000 {
		t.Fatalf("verify: %+v", v)
	}
}

// garbage returns payloads of which none is an event.
func garbage() [][]byte {
	return [][]byte{
		nil, // a tombstone
		{},
		[]byte("not an event"),
		{0, 1, 2, 0xff, 0xfe},
		bytes.Repeat([]byte("x"), 900_000),
		[]byte("Thu Feb 31 10:23:02 2022,3728373,car,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,3728373,car,99999"),
		[]byte("Thu Feb 10 10:23:02 2022,2147483648,car,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,-1,car,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,1,sixteen-letters!,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,1,,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,1,\xff\xfe,4856"),
		[]byte("Thu Feb 10 10:23:02 2022,1,car"),
		[]byte(`{"timestamp":"2022-02-10T10:23:02Z"}`),
		[]byte(`{`),
	}
}

// sendAborted sends events in transactions, one that is committed and one that is aborted, whose
// events must not become rows. The aborted one comes last, so that the partitions end in no record
// for us.
func (s *sender) sendAborted(w *world, n int) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic(w.topic),
		kgo.TransactionalID(w.topic+"-tx"), kgo.TransactionTimeout(30*time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			s.t.Fatal(err)
		}
		for range n {
			_, csv, _ := s.event()
			if end == kgo.TryCommit {
				break // an empty commit in between; what is committed is sent by the others
			}
			client.Produce(ctx, &kgo.Record{Value: []byte(csv)}, nil)
		}
		if err := client.Flush(ctx); err != nil {
			s.t.Fatal(err)
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestBaseline starts with a table that held rows before.
func TestBaseline(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	for _, statement := range []string{
		`create table livetolldata(timestamp datetime, vehicle_id int, vehicle_type char(15),
			toll_plaza_id smallint)`,
		`insert into livetolldata values ('2021-01-01 00:00:00', 1, 'car', 4001), ('2021-01-01 00:00:00', 1, 'car', 4001), (null, null, null, null)`,
	} {
		if _, err := w.sql.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	w.must("init")
	s := w.sender(newTruth())
	s.send(1000)
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Events != 1000 {
		t.Fatalf("verify: %+v", v)
	}
	if got := w.count(`select count(*) from livetolldata`); got != 1003 {
		t.Fatalf("%d rows, want 1003", got)
	}
}

// TestRefusals starts processes that must not run, each of which gets a hint.
func TestRefusals(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.refuses([]string{"process"}, "tollstream init")
	w.must("init")
	w.sender(newTruth()).send(10)

	running := w.start("process")
	w.eventually("first rows", caughtUpWithin, func() bool {
		return w.count(`select count(*) from livetolldata`) == 10
	})
	w.refuses([]string{"process"}, "state folder", "--instance")
	if took, code := running.interrupt(); took > stopsWithin || code != 0 {
		t.Fatalf("an interrupt took %v, exit status %d\n%s", took, code, running.log)
	}

	w.refuses([]string{"process", "--group", "another"}, "another", w.group)
	w.refuses([]string{"process", "--timezone", "Europe/Berlin"}, "Europe/Berlin", "UTC")
	w.refuses([]string{"process", "--topic", "no-such-topic"}, "no-such-topic")
	w.refuses([]string{"process", "--mysql", "toll:wrong@tcp(" + w.db.Addr() + ")/tolldata"},
		"password")
	w.refuses([]string{"process", "--mysql", "toll:toll@tcp(" + w.db.Addr() + ")/nothing"}, "nothing")

	if _, err := w.sql.Exec(`alter table livetolldata add column lane int`); err != nil {
		t.Fatal(err)
	}
	w.refuses([]string{"process"}, "livetolldata", "lane")
}

// TestReset replays the topic from the start, with the local state of the time before still there.
func TestReset(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	s.send(3000)
	w.must("process", "--until-end")
	w.exact(truth)
	for range 2 {
		w.must("reset", "--yes")
		if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 0 || v.Merged != 0 {
			t.Fatalf("after reset: %+v", v)
		}
		w.must("process", "--until-end")
		w.exact(truth)
	}
}

// TestDeadLetterRetry repairs a dead letter, twice: it becomes one row.
func TestDeadLetterRetry(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	truth := newTruth()
	s := w.sender(truth)
	s.send(10)
	s.sendRaw([]byte("Thu Feb 31 10:23:02 2022,7,car,4001"))
	w.must("process", "--until-end")
	w.exact(truth)
	repaired := []byte("Thu Feb 10 10:23:02 2022,7,car,4001")
	w.must("dead-letters", "retry", "0:10", "--payload", string(repaired))
	truth.sent("2022-02-10 10:23:02,7,car,4001")
	w.must("process", "--until-end")
	w.exact(truth)
	w.refuses([]string{"dead-letters", "retry", "0:10", "--payload", string(repaired)},
		"retried before")

	// The same message once more, as a producer's own retry would send it: a duplicate by its header.
	r := &kgo.Record{Value: repaired,
		Headers: []kgo.RecordHeader{{Key: "tollstream-retry-of", Value: []byte("0:10")}}}
	if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	truth.rejects++
	w.must("process", "--until-end")
	w.exact(truth)
}
