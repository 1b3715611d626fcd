package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
)

// fakeChunks are chunks that a test sends.
type fakeChunks chan fetch.Chunk

func (fakeChunks) Want() {}

func (c fakeChunks) Next(ctx context.Context) (fetch.Chunk, error) {
	select {
	case chunk, ok := <-c:
		if !ok {
			return chunk, io.EOF
		}
		return chunk, nil
	case <-ctx.Done():
		return fetch.Chunk{}, ctx.Err()
	}
}

// fakeLog answers whether the log is the one that was consumed, and counts the questions.
type fakeLog struct {
	asked   []toll.LastRecord
	finding fetch.Finding
	errs    int // that come first
}

func (l *fakeLog) Connects() int64 { return 0 }

func (l *fakeLog) CheckLog(_ context.Context, _ int32, _ int64,
	last toll.LastRecord) (fetch.Finding, error) {
	if l.errs > 0 {
		l.errs--
		return fetch.Finding{}, simtest.ErrLost
	}
	l.asked = append(l.asked, last)
	return l.finding, nil
}

// startBundling starts the bundling of chunks.
func startBundling(t *testing.T, s *Partition, log *fakeLog) (in chan<- fetch.Chunk,
	out <-chan *sarama.ConsumerMessage, end func()) {
	t.Helper()
	s.cfg, s.partition, s.Log = testConfig(), 3, log
	s.ctx, s.filled = t.Context(), make(chan struct{}, 1)
	s.openQueues()
	chunks, marks := make(fakeChunks), make(chan *sarama.ConsumerMessage, bundleQueue)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(marks)
		_ = s.bundle(ctx, chunks, marks)
	})
	end = func() { cancel(); wg.Wait() }
	t.Cleanup(end)
	return chunks, marks, end
}

// TestBundle sends records in chunks of all sizes, and takes them as goka does.
func TestBundle(t *testing.T) {
	for _, size := range []int{1, 7, 256, 3000} {
		t.Run(fmt.Sprint("chunks of ", size), func(t *testing.T) {
			const n = 3000
			s := new(Partition)
			in, out, _ := startBundling(t, s, new(fakeLog))
			go func() {
				defer close(in)
				var chunk []*kgo.Record
				for i := range int64(n) {
					size := 10
					if i%500 == 0 {
						size = bundleBytes
					}
					// offsets have gaps
					chunk = append(chunk, &kgo.Record{Offset: 2 * i, Value: make([]byte, size)})
					if len(chunk) == size || i == n-1 {
						in <- fetch.Chunk{Records: fetch.RecordsOf(chunk...)}
						chunk = nil
					}
				}
			}()
			next := int64(0)
			for mark := range out {
				b := <-s.bundles
				<-s.room
				if n := b.records.Len(); n == 0 || n > bundleRecords {
					t.Fatalf("a bundle of %d records", n)
				}
				size := 0
				for m := new(kgo.Record); ; {
					if ok, err := b.records.Next(m); err != nil {
						t.Fatal(err)
					} else if !ok {
						break
					}
					if m.Offset != next {
						t.Fatalf("offset %d instead of %d", m.Offset, next)
					}
					next += 2
					size += len(m.Value)
				}
				if size >= bundleBytes+bundleBytes {
					t.Fatalf("a bundle of %d bytes", size)
				}
				if mark.Topic != "toll" || mark.Partition != 3 || mark.Offset != next-2 || mark.Value == nil ||
					b.last != mark.Offset {
					t.Fatalf("the mark %+v does not stand for the bundle up to %d", mark, next-2)
				}
			}
			if next != 2*n {
				t.Fatalf("the records end at %d instead of %d", next, 2*n)
			}
		})
	}
}

// TestBundleEnds ends a session whose records nobody takes.
func TestBundleEnds(t *testing.T) {
	for _, sent := range []int{0, 1, 5000} {
		s := new(Partition)
		in, out, end := startBundling(t, s, new(fakeLog))
		if sent > 0 {
			var records []*kgo.Record
			for i := range sent {
				records = append(records, &kgo.Record{Offset: int64(i)})
			}
			in <- fetch.Chunk{Records: fetch.RecordsOf(records...)}
		}
		end()
		if n := len(s.bundles); n > bundleQueue {
			t.Errorf("%d bundles wait", n)
		}
		n := 0
		for range out { // it is closed
			n++
		}
		if n > len(s.bundles) {
			t.Errorf("%d marks of %d bundles", n, len(s.bundles))
		}
	}
}

// TestBundleOutOfOrder has goka pass on another mark than the next one.
func TestBundleOutOfOrder(t *testing.T) {
	s := &Partition{bundles: make(chan bundle, bundleQueue)} // that has no batch: adding would panic
	if err := s.Passed(7); !errors.Is(err, errBundle) {
		t.Errorf("without a bundle: %v", err)
	}
	s.bundles <- bundle{records: fetch.RecordsOf(&kgo.Record{Offset: 6}, &kgo.Record{Offset: 8}),
		last: 8}
	if err := s.Passed(7); !errors.Is(err, errBundle) {
		t.Errorf("with another one: %v", err)
	}
}

// TestBundleComparesLog checks when the log is compared with the last record: after a connection,
// and before the first record of another leader epoch, also in the middle of a chunk.
func TestBundleComparesLog(t *testing.T) {
	s, log := new(Partition), &fakeLog{errs: 2}
	s.read = toll.LastRecord{Known: true, Offset: 9, LeaderEpoch: 4}
	in, out, end := startBundling(t, s, log)
	records := func(from, epoch, n int) (list []*kgo.Record) {
		for i := range n {
			list = append(list, &kgo.Record{Offset: int64(from + i), LeaderEpoch: int32(epoch),
				Value: []byte{byte(from + i)}})
		}
		return list
	}
	taken := 0
	take := func(n int) {
		for want := taken + n; taken < want; {
			<-out
			b := <-s.bundles
			<-s.room
			taken += b.records.Len()
		}
	}
	in <- fetch.Chunk{Records: fetch.RecordsOf(records(10, 4, 5)...)}
	in <- fetch.Chunk{Records: fetch.RecordsOf(append(records(15, 4, 3), records(18, 5, 2)...)...)}
	take(10)
	in <- fetch.Chunk{Records: fetch.RecordsOf(records(20, 5, 1)...)}
	in <- fetch.Chunk{Records: fetch.RecordsOf(records(21, 5, 300)...), Unsure: true}
	take(301)
	end()
	if len(log.asked) != 2 || log.asked[0].Offset != 17 ||
		log.asked[0].CRC != toll.RecordCRC(nil, []byte{17}) || log.asked[1].Offset != 20 {
		t.Errorf("the log was compared with %+v", log.asked)
	}
}

// TestBundleLogReplaced checks that nothing of another log is taken in, and that the database
// remembers it.
func TestBundleLogReplaced(t *testing.T) {
	log := &fakeLog{finding: fetch.Finding{Replaced: "it is another one"}}
	store, table := &simtest.Store{}, &memoryTable{states: map[int16]*toll.State{}}
	store.Current = toll.Cursor{Next: 10, Token: 1,
		Last: toll.LastRecord{Known: true, Offset: 9, LeaderEpoch: 4}}
	failed := make(chan error, 1)
	s, err := New(testConfig(), Dependencies{Store: store, Publish: table.publish, Pace: fillFor(0),
		Mark: func(int64) {}, Stats: monitor.NewStats(), Log: log, Topic: func() error {
			return nil
		},
		Fail: func(err error) { failed <- err }}, store.Current)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context(), 10)
	defer s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, marks := make(fakeChunks, 1), make(chan *sarama.ConsumerMessage, 1)
	in <- fetch.Chunk{Records: fetch.RecordsOf(&kgo.Record{Offset: 10, LeaderEpoch: 4}), Unsure: true}
	go func() { _ = s.bundle(ctx, in, marks) }()
	if err := <-failed; !toll.IsPermanent(err) || !strings.Contains(err.Error(), "it is another one") {
		t.Errorf("the session ends with %v", err)
	}
	if c, _ := store.Cursor(ctx, 0); c.LogReplaced != "it is another one" || c.Next != 10 ||
		len(marks) > 0 || len(s.bundles) > 0 {
		t.Errorf("the cursor is %+v; %d marks, %d bundles", c, len(marks), len(s.bundles))
	}
}

// stuckStore stores nothing before it is released.
type stuckStore struct {
	*simtest.Store
	released chan struct{}
}

func (s *stuckStore) Commit(ctx context.Context, b *toll.Batch, published []toll.BatchRef) error {
	<-s.released
	return s.Store.Commit(ctx, b, published)
}

// TestBundleWaitsForRoom has a database that does not answer. goka's goroutine of the partition,
// which merges deltas and closes windows too, must not wait for it.
func TestBundleWaitsForRoom(t *testing.T) {
	const n = 20_000
	store, table := &stuckStore{&simtest.Store{}, make(chan struct{})},
		&memoryTable{states: map[int16]*toll.State{}}
	cfg := testConfig()
	cfg.BatchRows = 1000
	s, err := New(cfg, Dependencies{Store: store, Publish: table.publish, Pace: fillFor(0),
		Mark: func(int64) {}, Stats: monitor.NewStats(),
		Log: &fakeLog{}, Fail: func(err error) { t.Error(err) }}, store.Current)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context(), 0)
	defer s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, marks := make(fakeChunks, 1), make(chan *sarama.ConsumerMessage)
	var records []*kgo.Record
	for i := range n {
		r := testRecord(int64(i))
		r.addMore()
		records = append(records, &kgo.Record{Offset: r.offset, Timestamp: r.time, Value: r.value})
	}
	in <- fetch.Chunk{Records: fetch.RecordsOf(records...)}
	go func() { _ = s.bundle(ctx, in, marks) }()
	taken := 0
	pass := func() {
		t.Helper()
		select {
		case mark := <-marks:
			done := make(chan error, 1)
			go func() { done <- s.Passed(mark.Offset) }()
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("goka's goroutine waits for the database")
			}
			taken++
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing more comes after %d bundles, although there is room", taken)
		}
	}
	for len(s.room) < cap(s.room) || len(s.passed) == 0 { // until there is no room
		pass()
	}
	if most := 2*cfg.BatchRows/bundleRecords + 1 + bundleQueue; taken > most {
		t.Errorf("took %d bundles, want %d at most", taken, most)
	}
	close(store.released)
	for taken < (n+bundleRecords-1)/bundleRecords {
		pass()
	}
	for until := time.Now().Add(10 * time.Second); s.PublishedTo() < n; time.Sleep(
		time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("stored up to %d of %d, and published up to %d", s.Progress().Next, n, s.PublishedTo())
		}
	}
	s.Stop()
	checkExact(t, store.Store, table, n)
}
