package ingest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
)

// tracedBatches is a monitor.Tracer that keeps what it is told.
type tracedBatches struct {
	mu      sync.Mutex
	batches []monitor.BatchTrace
}

func (b *tracedBatches) Batch(t monitor.BatchTrace) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches = append(b.batches, t)
}
func (b *tracedBatches) Results(monitor.ResultsTrace) {}

// TestStatsOfPartition has a partition store and publish records, some of which the database
// rejects, while its answers are lost now and then.
func TestStatsOfPartition(t *testing.T) {
	const end = 500
	store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}, Fail: 4, Late: true,
		Refuse: map[int32]bool{9: true, 23: true}}
	table := &memoryTable{states: map[int16]*toll.State{}}
	traced := new(tracedBatches)
	stats := monitor.NewStats()
	stats.Trace(traced, nil)
	cfg := testConfig()
	s, err := New(cfg, Dependencies{
		Store: &observedStore{store, stats}, Publish: table.publish,
		Mark: func(int64) {}, Stats: stats,
		Pace: fillFor(time.Millisecond), Fail: func(err error) { t.Error(err) },
	}, store.Current)
	if err != nil {
		t.Fatal(err)
	}
	stats.Opened(0, 0, 0)
	s.Start(t.Context(), 0)
	for offset := range int64(end) {
		s.add(testRecord(offset))
	}
	deadline := time.Now().Add(time.Minute)
	snap := stats.Read()
	for ; snap.Events+snap.Rejected < end || snap.Unpublished > 0; snap = stats.Read() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to its end: %+v", snap)
		}
		time.Sleep(time.Millisecond)
	}
	s.Stop()
	if snap.Read != end || snap.Events != int64(len(store.Rows)) ||
		snap.Rejected != int64(len(store.Rejects)) || snap.Skipped != 0 {
		t.Errorf("%+v; %d rows, %d rejects", snap, len(store.Rows), len(store.Rejects))
	}
	if snap.Rejects["refused"] != 2 || snap.Rejects["format"] != snap.Rejected-2 ||
		len(snap.Rejects) != len(toll.RejectKinds) {
		t.Errorf("%v of %d", snap.Rejects, snap.Rejected)
	}
	if snap.Retries["store"] != 1 || snap.Retries["rebuild"] != 2 || snap.Retries["load"] != 0 ||
		len(snap.Retries) != 8 {
		t.Errorf("%v", snap.Retries)
	}
	if snap.BatchRows.Count != uint64(snap.Batches) || snap.BatchRows.Sum != float64(snap.Events) ||
		snap.CommitTimes.Count != uint64(snap.Batches) ||
		snap.PublishTimes.Count != uint64(snap.Batches) {
		t.Errorf("%d batches: %+v", snap.Batches, snap)
	}
	var events, rejected, next int64
	for _, b := range traced.batches {
		if b.First != next || b.Err != nil || b.Resent || b.Attempts < 1 ||
			b.Ended.Before(b.Publishing) || b.Publishing.Before(b.Stored) ||
			b.Stored.Before(b.Taken) || b.Taken.Before(b.Began) || b.Began.IsZero() {
			t.Errorf("%+v", b)
		}
		next = b.Next
		events += int64(b.Events)
		rejected += int64(b.Rejected)
	}
	if events != snap.Events || rejected != snap.Rejected || next != end {
		t.Errorf("traced %d events and %d rejects up to %d", events, rejected, next)
	}
	if err := stats.Healthy(); err != nil {
		t.Error(err)
	}
}

// TestStatsOfFencedPartition traces a batch that another owner made impossible.
func TestStatsOfFencedPartition(t *testing.T) {
	store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}, Fail: 1, Moved: true}
	traced := new(tracedBatches)
	stats := monitor.NewStats()
	stats.Trace(traced, nil)
	failed := make(chan error, 1)
	s, err := New(testConfig(), Dependencies{
		Store: &observedStore{store,
			stats}, Publish: (&memoryTable{states: map[int16]*toll.State{}}).publish,
		Mark: func(int64) {}, Stats: stats, Pace: fillFor(time.Millisecond),
		Fail: func(err error) { failed <- err },
	}, store.Current)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context(), 0)
	s.add(testRecord(0))
	select {
	case err := <-failed:
		if !errors.Is(err, errFenced) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	s.Stop()
	if len(traced.batches) != 1 || !errors.Is(traced.batches[0].Err, errFenced) ||
		!traced.batches[0].Stored.IsZero() || traced.batches[0].Events != 1 {
		t.Errorf("%+v", traced.batches)
	}
}

// emptyStore is a Store that keeps nothing.
type emptyStore struct{ Store }

func (emptyStore) NewRows() toll.Rows {
	return new(fixedRows)
}
func (emptyStore) Commit(context.Context, *toll.Batch, []toll.BatchRef) error { return nil }
func (emptyStore) MarkPublished(context.Context, int32, uint64, []toll.BatchRef) error {
	return nil
}

// ingest sends records through a partition that is counted and traced, and returns how many objects
// that allocated.
func ingest(t testing.TB, records []*record, rounds int) (allocations uint64) {
	stats := monitor.NewStats()
	stats.Trace(new(droppedTraces), nil)
	cfg := testConfig()
	cfg.BatchRows = len(records)
	var batches atomic.Int64 // that were stored; to read the stats allocates
	s, err := New(cfg, Dependencies{
		Store:   &observedStore{emptyStore{}, stats},
		Mark:    func(int64) { batches.Add(1) },
		Stats:   stats,
		Publish: func(_ int16, _ [][]byte, done func(error)) error { done(nil); return nil },
		Pace:    fillFor(time.Minute),
		Fail:    func(err error) { t.Error(err) },
	}, toll.Cursor{Token: 1, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	stats.Opened(0, 0, 0)
	s.Start(context.Background(), 0)
	defer s.Stop()
	var all []*kgo.Record
	for _, r := range records {
		all = append(all, r.sent())
	}
	round := func(n int) {
		for i := range rounds {
			s.AddAll(fetch.RecordsOf(all...))
			for batches.Load() < int64(n+i+1) {
				runtime.Gosched()
			}
		}
	}
	round(0) // so that everything has grown
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	round(rounds)
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

type droppedTraces struct{}

func (*droppedTraces) Batch(monitor.BatchTrace)     {}
func (*droppedTraces) Results(monitor.ResultsTrace) {}

// goodRecords are records of events alone: a dead letter costs objects of its own.
func goodRecords(n int) []*record {
	records := make([]*record, n)
	for i := range records {
		records[i] = testRecord(int64(i * 11))
	}
	return records
}

// TestIngestAllocatesPerBatch holds counting and tracing to the batch: an event costs no object,
// whatever is counted.
func TestIngestAllocatesPerBatch(t *testing.T) {
	const rounds = 20
	small, large := ingest(t, goodRecords(1000), rounds)/rounds, ingest(t, goodRecords(10_000),
		rounds)/rounds
	t.Logf("%d objects for a batch of 1,000 events, %d for one of 10,000", small, large)
	if large > small+1000 {
		t.Errorf("%d objects for a batch of 1,000 events, %d for one of 10,000", small, large)
	}
}

// BenchmarkIngest is what an event costs from goka's callback to a batch that is stored and
// published, but for the database and Kafka.
func BenchmarkIngest(b *testing.B) {
	records := goodRecords(10_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n += int(ingest(b, records, 1))
	}
	b.ReportMetric(float64(n)/float64(b.N)/float64(len(records)), "objects/event")
}
