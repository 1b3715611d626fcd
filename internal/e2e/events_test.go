package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/tollstream/tollstream/codecs/tollpb"
)

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
