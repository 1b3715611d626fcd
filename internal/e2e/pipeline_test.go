package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/tollstream/tollstream/codecs/tollpb"
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

// TestReload changes settings and plazas of a process that runs from a configuration file.
func TestReload(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	file := filepath.Join(t.TempDir(), "tollstream.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("process: {latency: 100ms}\nplazas:\n- {id: 4856, lanes: 6}\n")
	p := w.start("process", "--config", file)
	lanes := func(want int64) {
		w.eventually(fmt.Sprintf("%d lanes", want), time.Minute, func() bool {
			return w.count("SELECT COALESCE(SUM(lanes), 0) FROM toll_plaza WHERE toll_plaza_id = 4856") ==
				want
		})
	}
	lanes(6)
	reload := func(text, logged string) {
		write(text)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		w.eventually(logged, time.Minute, func() bool { return strings.Contains(p.log.String(), logged) })
	}
	reload("log-level: warn\nprocess: {latency: 200ms}\nplazas:\n- {id: 4856, lanes: 8}\n",
		"setting changed in the configuration file; it takes effect at the next start setting=latency "+
			"value=200ms at="+file+":2:20")
	lanes(8)
	reload("log-level: info\nplazas:\n- {id: 4856, lanes: nine}\n",
		`lanes \"nine\" is not a whole number`)
	reload("log-level: info\nplazas:\n- {id: 4856, lanes: 9}\n", "setting=log-level value=info")
	lanes(9)
	w.must("emit", "--count", "50", "--rate", "0", "--plazas", "4856")
	w.eventually("50 events, counted", time.Minute, func() bool {
		r := w.verify()
		return r.Status == "exact" && r.Rows == 50
	})
	if _, code := p.interrupt(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.log)
	}
}

// sendRecords sends so many records of one event, of some and of many, in each form that needs no
// mapping. Of every 20th record of several, one event is none.
func (s *sender) sendRecords(n int) {
	var wg sync.WaitGroup
	for i := range n {
		events := 1
		switch i % 3 {
		case 1:
			events = 2 + s.rand.IntN(9)
		case 2:
			events = 2 + s.rand.IntN(300)
		}
		var lines, rows []string
		for range events {
			csv, row := s.disordered()
			lines, rows = append(lines, csv), append(rows, row)
		}
		bad := events > 1 && s.rand.IntN(20) == 0
		if bad {
			lines[s.rand.IntN(events)] = "no event"
		}
		value := strings.Join(lines, "\n")
		if !bad && i%2 == 0 {
			value = "[" + jsonOf(rows, ",") + "]"
		} else if !bad && i%5 == 0 {
			value = jsonOf(rows, "\n")
		}
		wg.Add(1)
		s.client.Produce(context.Background(), &kgo.Record{Value: []byte(value)},
			func(_ *kgo.Record, err error) {
				defer wg.Done()
				if err != nil {
					s.t.Errorf("produce: %v", err)
					return
				}
				if bad {
					s.truth.mu.Lock()
					defer s.truth.mu.Unlock()
					s.truth.rejects++
					return
				}
				for _, row := range rows {
					s.truth.sent(row)
				}
			})
	}
	wg.Wait()
}

// jsonOf writes rows as objects.
func jsonOf(rows []string, separator string) string {
	objects := make([]string, len(rows))
	for i, row := range rows {
		f := strings.Split(row, ",")
		objects[i] = fmt.Sprintf(
			`{"timestamp":%q,"vehicle_id":%s,"vehicle_type":%q,"toll_plaza_id":%s}`, f[0], f[1], f[2], f[3])
	}
	return strings.Join(objects, separator)
}

// TestSeveralEvents kills a process again and again while records of several events arrive. Each
// record is stored as a whole, once.
func TestSeveralEvents(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	for range 3 {
		p := w.start("process", "--batch-rows", "500")
		before := w.count(`SELECT COUNT(*) FROM livetolldata`)
		s.sendRecords(300)
		w.eventually("rows", time.Minute, func() bool {
			return w.count(`SELECT COUNT(*) FROM livetolldata`) > before
		})
		p.kill()
	}
	w.must("process", "--until-end")
	w.exact(truth)
	records := w.count(`SELECT CAST(SUM(events - extra_events) AS SIGNED) FROM toll_batch`)
	if events := int64(truth.total()); records+int64(truth.rejects) != 900 || events < 10*records {
		t.Errorf("%d events in %d records, and %d dead letters", events, records, truth.rejects)
	}
	if truth.rejects == 0 {
		t.Fatal("no record is bad")
	}
	if reason := w.must("dead-letters", "list", "--limit", "1"); !strings.Contains(reason,
		"of the record") {
		t.Errorf("no reason names an event:\n%s", reason)
	}
}

// TestMapping: events in other forms are rows by a mapping, of records and of a file.
func TestMapping(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	truth := newTruth()
	s := w.sender(truth)
	send := func(values ...string) {
		t.Helper()
		for _, v := range values {
			if err := s.client.ProduceSync(context.Background(),
				&kgo.Record{Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(rejects int, rows ...string) {
		t.Helper()
		for _, row := range rows {
			truth.sent(row)
		}
		truth.rejects += rejects
	}

	send("4856.0;x;car;10/02/2022 10:23;17",
		"4856.0;x;car;10/02/2022 10:23;18\n4857;;bus;11.02.2022 00:00:01;19",
		"4856.0;x;car;10/13/2022 10:23;20")
	w.must("process", "--until-end", "--mapping", "time=4 vehicle_id=5 vehicle_type=3 "+
		"toll_plaza_id=1 time_format=day_first delimiter=semicolon")
	want(1, "2022-02-10 10:23:00,17,car,4856", "2022-02-10 10:23:00,18,car,4856",
		"2022-02-11 00:00:01,19,bus,4857")

	send(`{"payload":{"before":null,"after":{"ts":1644488582500,"plaza":"4856","id":21,`+
		`"class":"car"},"op":"c"}}`, `{"payload":{"after":null,"op":"d"}}`)
	w.must("process", "--until-end", "--mapping", "time=payload.after.ts "+
		"vehicle_id=payload.after.id vehicle_type=payload.after.class toll_plaza_id=payload.after.plaza "+
		"time_format=epoch_ms")
	want(1, "2022-02-10 10:23:02,21,car,4856")

	send(`{"plaza":4856.0,"passages":[{"at":"2022-02-10T10:23:02Z","id":31,"class":"car"},` +
		`{"at":"2022-02-10T10:23:03Z","id":32,"class":"van"}]}`)
	w.must("process", "--until-end", "--mapping",
		"events=passages time=at vehicle_id=id vehicle_type=class toll_plaza_id=$.plaza")
	want(0, "2022-02-10 10:23:02,31,car,4856", "2022-02-10 10:23:03,32,van,4856")

	seconds, vehicle, typ, plaza := int64(1644488582), int64(51), "bus", int64(4858)
	message, err := proto.Marshal(&tollpb.TollEvent{UnixSeconds: &seconds, VehicleId: &vehicle,
		VehicleType: &typ, TollPlazaId: &plaza})
	if err != nil {
		t.Fatal(err)
	}
	set,
		err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto((&tollpb.TollEvent{}).ProtoReflect().Descriptor().ParentFile())}})
	if err != nil {
		t.Fatal(err)
	}
	descriptors := filepath.Join(t.TempDir(), "toll.binpb")
	if err := os.WriteFile(descriptors, set, 0o600); err != nil {
		t.Fatal(err)
	}
	send(string(message))
	w.must("process", "--until-end", "--mapping", "descriptors="+descriptors+
		" message=tollstream.v1.TollEvent time=unix_seconds time_format=epoch_s")
	want(0, "2022-02-10 10:23:02,51,bus,4858")

	file := filepath.Join(t.TempDir(), "tolldata.csv")
	if err := os.WriteFile(file, []byte("\xef\xbb\xbfBooth;Note;Class;When;Car\r\n"+
		"4856;\"a; \"\"b\"\"\nc\";car;10.02.2022 10:23:02;41\r\n4857;;truck;10.02.2022 10:23:03;42\r\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	w.must("emit", "--from", file, "--mapping", "time=When vehicle_id=Car vehicle_type=Class "+
		"toll_plaza_id=Booth time_format=day_first delimiter=semicolon")
	w.must("process", "--until-end")
	want(0, "2022-02-10 10:23:02,41,car,4856", "2022-02-10 10:23:03,42,truck,4857")
	w.exact(truth)
	letters := w.must("dead-letters", "list")
	for _, reason := range []string{"10/13/2022 10:23", "payload.after.ts"} {
		if !strings.Contains(letters, reason) {
			t.Errorf("no dead letter names %s:\n%s", reason, letters)
		}
	}
}
