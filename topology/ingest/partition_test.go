package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
	"github.com/tollstream/tollstream/topology/monitor"
)

// memoryTable merges deltas as the aggregate does, and can fail to take a message.
type memoryTable struct {
	mu     sync.Mutex
	states map[int16]*toll.State
	steps  int
	fail   int
	late   bool // the failing delta is merged, and only its acknowledgement fails
}

func (t *memoryTable) publish(plaza int16, deltas [][]byte, done func(error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps++
	fails := t.steps == t.fail
	if !fails || t.late {
		s := t.states[plaza]
		if s == nil {
			s = new(toll.State)
			t.states[plaza] = s
		}
		for _, encoded := range deltas {
			d, err := wire.DecodeDelta(encoded)
			if err != nil {
				return err
			}
			s.Merge(d)
		}
	}
	if fails {
		go done(simtest.ErrLost)
	} else {
		go done(nil)
	}
	return nil
}

// fillFor lets batches fill for so long, and has nobody wait for others.
type fillFor time.Duration

func (f fillFor) Wait() time.Duration { return time.Duration(f) }
func (fillFor) Turn(context.Context)  {}
func (fillFor) Full()                 {}
func (fillFor) Urge()                 {}

func testConfig() *Config {
	token := uint64(100)
	var mu sync.Mutex
	return &Config{Topic: "toll", Format: codecs.Auto,
		Windowing: toll.Windowing{Zone: toll.NewZone(time.UTC), Lateness: toll.DefaultLateness},
		BatchRows: 7, BatchBytes: 8 << 20,
		Log: slog.New(slog.DiscardHandler),
		NewToken: func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			token++
			return token
		},
		Backoff: func() backoff.BackOff { // as the processor's
			b := backoff.NewExponentialBackOff()
			b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
			return b
		}}
}

// session runs one session of a partition over the records [cursor, end) and returns the error that
// ended it, nil if all was stored and published. Records below oldest are gone.
func session(t *testing.T, cfg *Config, store *simtest.Store, table *memoryTable, end int64,
	oldest ...int64) error {
	t.Helper()
	cursor, unpublished, err := store.Load(t.Context(), 0, 0)
	if err != nil {
		return err
	}
	from := max(cursor.Next, append(oldest, 0)[0])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 8)
	s, err := New(cfg, Dependencies{
		From:  from,
		Store: store, Publish: table.publish, Pace: fillFor(time.Millisecond),
		Mark: func(int64) {}, Stats: monitor.NewStats(),
		Fail: func(err error) {
			failed <- err
			cancel()
		},
	}, cursor)
	if err != nil {
		return err
	}
	s.Start(ctx, unpublished.First)
	defer s.Stop()
	for offset := from; offset < end; offset++ {
		r := testRecord(offset)
		r.addMore()
		if cfg.Schemas != nil {
			r.frame()
		}
		s.add(r)
	}
	for {
		select {
		case err := <-failed:
			return err
		case <-time.After(time.Millisecond):
		}
		c, unpublished, _ := store.Load(ctx, 0, 0)
		if c.Next == end && unpublished.Batches == 0 {
			return nil
		}
	}
}

// testRecord makes the record at an offset: every eleventh is no event, every thirteenth offset
// holds none at all.
func testRecord(offset int64) *record {
	value := fmt.Sprintf("Thu Feb 10 10:%02d:02 2022,%d,car,%d", offset/60%60, offset, 4000+offset%3)
	if offset%11 == 5 {
		value = "garbage"
	}
	return &record{offset: offset, time: time.Unix(1700000000, 0), value: []byte(value)}
}

// moreVehicles is by how much the vehicles of a record's events differ.
const moreVehicles = 1_000_000

// moreEvents returns how many events follow the first one of the record at an offset.
func moreEvents(offset int64) int64 {
	if offset%4 != 3 {
		return 0
	}
	return 1 + offset%9
}

// addMore adds the events that follow the record's first one, of which every 60th is none.
func (r *record) addMore() {
	for i := range moreEvents(r.offset) {
		r.value = fmt.Appendf(r.value, "\nThu Feb 10 10:%02d:%02d 2022,%d,bus,%d", r.offset/60%60, i,
			r.offset+(i+1)*moreVehicles, 4000+(r.offset+i)%4)
	}
	if r.offset%60 == 35 {
		r.value = append(r.value, "\ngarbage"...)
	}
}

// frame frames a record's events as JSON by one of some schemas, and garbage by one that there is
// not.
func (r *record) frame() {
	var e toll.Event
	more, err := codecs.NewDecoder(codecs.CSV, nil).DecodeAll(r.value, "", &e)
	if err != nil {
		r.value = []byte{0, 0, 0, 0, 99, 'x'}
		return
	}
	r.value = []byte{0, 0, 0, 0, byte(1 + r.offset/5%3)}
	for _, e := range append([]toll.Event{e}, more...) {
		r.value = append(codecs.AppendJSON(r.value, &e, toll.NewZone(time.UTC)), '\n')
	}
}

// flakySchemas is a registry that is unavailable every other time.
type flakySchemas struct {
	mu    sync.Mutex
	calls int
}

func (f *flakySchemas) Schema(_ context.Context, id uint32) (*codecs.Schema, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.calls%2 == 1 {
		return nil, errors.New("unavailable")
	}
	if id == 99 {
		return codecs.UnreadableSchema("is not in the schema registry"), nil
	}
	return codecs.JSONSchema, nil
}

// TestPartitionAwaitsSchemas: a record waits for its schema while the registry is unavailable, and
// is stored once; rows that the database rejects are decoded again by the same schema.
func TestPartitionAwaitsSchemas(t *testing.T) {
	const end = 60
	cfg := testConfig()
	cfg.Schemas = &flakySchemas{}
	cfg.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5},
		Refuse: map[int32]bool{12: true, 31: true}}
	table := &memoryTable{states: map[int16]*toll.State{}}
	if err := session(t, cfg, store, table, end); err != nil {
		t.Fatal(err)
	}
	checkExact(t, store, table, end)
	for _, r := range store.Rejects {
		if want := toll.RejectSchema; r.Offset%11 == 5 && r.Kind != want {
			t.Errorf("offset %d: %s, want %s", r.Offset, r.Kind, want)
		}
	}
}

// checkExact checks the invariants after all sessions.
func checkExact(t *testing.T, store *simtest.Store, table *memoryTable, end int64) {
	t.Helper()
	seen := map[int32]int{}
	perPlaza := map[int16]int64{}
	for _, e := range store.Rows {
		seen[e.Vehicle]++
		perPlaza[e.Plaza]++
	}
	rejected := map[int64]int{}
	for _, r := range store.Rejects {
		rejected[r.Offset]++
	}
	rows := 0
	for offset := range end {
		want := 1
		if offset%11 == 5 || offset%60 == 35 {
			want = 0
		}
		for i := range 1 + moreEvents(offset) {
			if store.Refuse[int32(offset+i*moreVehicles)] {
				want = 0 // a record is stored as a whole
			}
		}
		for i := range 1 + moreEvents(offset) {
			if n := seen[int32(offset+i*moreVehicles)]; n != want || rejected[offset] != 1-want {
				t.Fatalf("offset %d, event %d: %d rows and %d dead letters, want %d and %d", offset, i, n,
					rejected[offset], want, 1-want)
			}
		}
		rows += want * int(1+moreEvents(offset))
	}
	if rows != len(store.Rows) {
		t.Fatalf("%d rows, want %d", len(store.Rows), rows)
	}
	next := int64(0)
	for _, b := range store.Batches {
		if b.First != next {
			t.Fatalf("a batch begins at %d, want %d", b.First, next)
		}
		next = b.Next
	}
	for plaza, n := range perPlaza {
		s := table.states[plaza]
		if s == nil || s.Events != n || s.Gaps != 0 {
			t.Fatalf("plaza %d: state %+v, want %d events and no gap", plaza, s, n)
		}
	}
}

// TestPartitionFailsAtEveryStep makes the i-th call to the database fail, for i = 1, 2, 3 … until a
// run needs no more calls, with the answer lost before and after the commit; and after each failure
// the next session goes on.
func TestPartitionFailsAtEveryStep(t *testing.T) {
	for _, late := range []bool{false, true} {
		for step := 1; ; step++ {
			store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}, Fail: step, Late: late,
				Refuse: map[int32]bool{9: true, 23: true, 24: true,
					27: true, 31 + moreVehicles: true, 31 + 2*moreVehicles: true, 47 + moreVehicles: true}}
			table := &memoryTable{states: map[int16]*toll.State{}}
			cfg := testConfig()
			for {
				if err := session(t, cfg, store, table, 60); err == nil {
					break
				}
			}
			checkExact(t, store, table, 60)
			if store.Steps < step {
				t.Logf("late=%v: %d steps", late, step-1)
				break
			}
			if step > 500 {
				t.Fatal("a run never needs fewer calls than the failing one")
			}
		}
	}
}

// TestPartitionStoresThatRecordsAreGone stores it where none follows, so that the next session
// finds nothing to skip, and with the records that do.
func TestPartitionStoresThatRecordsAreGone(t *testing.T) {
	for _, end := range []int64{13, 60} {
		store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}}
		table := &memoryTable{states: map[int16]*toll.State{}}
		if err := session(t, testConfig(), store, table, end, 13); err != nil {
			t.Fatal(err)
		}
		if b := store.Batches[0]; b.First != 0 || b.Next < 13 || store.Current.Next != end {
			t.Errorf("the first batch is [%d, %d), the cursor at %d", b.First, b.Next, store.Current.Next)
		}
		records := int64(len(store.Rejects))
		for _, e := range store.Rows {
			if e.Vehicle < moreVehicles { // the first of its record
				records++
			}
		}
		if records != end-13 {
			t.Errorf("up to %d: %d records are rows or dead letters", end, records)
		}
	}
}

// TestPartitionFailsAtEveryDelta makes the i-th delta fail, before and after it is merged.
func TestPartitionFailsAtEveryDelta(t *testing.T) {
	for _, late := range []bool{false, true} {
		for step := 1; ; step++ {
			store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}}
			table := &memoryTable{states: map[int16]*toll.State{}, fail: step, late: late}
			cfg := testConfig()
			sessions := 0
			for sessions = 1; session(t, cfg, store, table, 60) != nil; sessions++ {
				if sessions > 3 {
					t.Fatal("sessions fail without end")
				}
			}
			checkExact(t, store, table, 60)
			if sessions == 1 {
				break
			}
		}
	}
}

// TestPartitionFenced ends the session of an owner that finds the cursor moved, without storing
// anything.
func TestPartitionFenced(t *testing.T) {
	store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}, Fail: 1, Moved: true}
	table := &memoryTable{states: map[int16]*toll.State{}}
	err := session(t, testConfig(), store, table, 20)
	if !errors.Is(err, errFenced) {
		t.Fatalf("session ended with %v, want %v", err, errFenced)
	}
	if len(store.Rows) != 1 || len(table.states) != 0 {
		t.Fatalf("a fenced owner stored %d rows and published for %d plazas", len(store.Rows)-1,
			len(table.states))
	}
}

// TestPartitionBoundsItsBatches holds the database and checks that the intake waits once a batch is
// full and the next is too.
func TestPartitionBoundsItsBatches(t *testing.T) {
	cfg := testConfig()
	store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}}
	table := &memoryTable{states: map[int16]*toll.State{}}
	store.Mu.Lock() // the database hangs
	s, err := New(cfg,
		Dependencies{Store: store, Publish: table.publish, Pace: fillFor(time.Millisecond),
			Mark: func(int64) {}, Stats: monitor.NewStats(), Fail: func(error) {}}, store.Current)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Start(ctx, 0)
	added := make(chan int64, 100)
	go func() {
		defer close(added)
		for offset := range int64(100) {
			s.add(testRecord(offset))
			if ctx.Err() != nil {
				return
			}
			added <- offset
		}
	}()
	time.Sleep(100 * time.Millisecond)
	if n := len(added); n > 2*cfg.BatchRows {
		t.Errorf("%d records are held with a batch size of %d", n, cfg.BatchRows)
	}
	cancel()
	store.Mu.Unlock()
	s.Stop()
	for range added {
	}
}

// TestBuilderRebuild builds a batch without the rows that the database rejected, as if they had
// never been events.
func TestBuilderRebuild(t *testing.T) {
	cfg := testConfig()
	whole, without := newBuilder(new(simtest.Rows), cfg), newBuilder(new(simtest.Rows), cfg)
	var rejected []toll.RejectedRow
	row := 0
	for offset := range int64(40) {
		r := testRecord(offset)
		whole.add(r)
		bad := offset%7 == 1
		if offset%11 != 5 {
			if bad {
				rejected = append(rejected, toll.RejectedRow{Row: row, Rejection: toll.Rejection{
					Kind: toll.RejectRefused, SQLState: "22007", Reason: "no"}})
			}
			row++
		}
		if !bad || offset%11 == 5 {
			without.add(r)
		}
	}
	whole.rebuild(rejected)
	a, b := wire.AppendPlazaDeltas(nil, whole.deltas()), wire.AppendPlazaDeltas(nil,
		without.deltas())
	if string(a) != string(b) {
		t.Errorf("deltas differ from those of a batch without the rejected rows")
	}
	if got, want := len(whole.rejects), len(without.rejects)+len(rejected); got != want {
		t.Errorf("%d rejects, want %d", got, want)
	}
	if !slices.IsSortedFunc(whole.rejects, func(a, b toll.Reject) int {
		return int(a.Offset - b.Offset)
	}) {
		t.Error("rejects are not in the order of offsets")
	}
}

// TestBuilderSeveral: of records of several events a batch counts rows and records, and a record of
// which the database rejects a row becomes a dead letter as a whole. A repaired one is admitted by
// its first row.
func TestBuilderSeveral(t *testing.T) {
	b := newBuilder(new(simtest.Rows), testConfig())
	add := func(offset int64, retryOf string, vehicles ...int) {
		r := &record{offset: offset, time: time.Unix(1700000000, 0), retryOf: retryOf}
		for _, v := range vehicles {
			r.value = fmt.Appendf(r.value, "2022-02-10 10:23:02,%d,car,%d\n", v, 4000+v%3)
		}
		b.add(r)
	}
	add(0, "", 1)
	add(1, "3:7", 2, 3)
	add(2, "", 4, 5, 6)
	add(3, "", 7, -8)
	add(4, "3:8", 9, 10)
	check := func(rows, records int, retries, rejects string) {
		t.Helper()
		var got []string
		for _, r := range b.rejects {
			got = append(got, fmt.Sprintf("%d %s", r.Offset, r.Reason))
		}
		if b.rows.Len() != rows || b.rows.Len()-b.extra() != records ||
			fmt.Sprint(b.retries) != retries ||
			strings.Join(got, "; ") != rejects {
			t.Errorf("%d rows, %d extra, retries %v, rejects %q", b.rows.Len(), b.extra(), b.retries, got)
		}
	}
	malformed := "3 vehicle_id: -8 is outside 0 to 2147483647, in event 2 of the record"
	check(8, 4, "[{1 1 {3 7}} {6 4 {3 8}}]", malformed)
	b.rebuild([]toll.RejectedRow{
		{Row: 4, Rejection: toll.Rejection{Kind: toll.RejectRefused, Reason: "no"}},
		{Row: 5, Rejection: toll.Rejection{Kind: toll.RejectRefused, Reason: "never"}},
		{Row: 6, Rejection: toll.Rejection{Kind: toll.RejectRetried, Reason: "again"}}})
	check(3, 2, "[{1 1 {3 7}}]", "2 no, in event 2 of the record; "+malformed+"; 4 again")
	b.reset()
	check(0, 0, "[]", "")
}

// TestBuilderAllocatesNothing checks that an event costs no allocation once a builder has grown.
func TestBuilderAllocatesNothing(t *testing.T) {
	b := newBuilder(&fixedRows{}, testConfig())
	records := make([]*record, 100)
	for i := range records {
		records[i] = testRecord(int64(i * 11))
		if records[i].offset%60 != 35 { // which is a reject
			records[i].addMore()
		}
	}
	fill := func() {
		for _, r := range records {
			b.add(r)
		}
		b.reset()
	}
	fill()
	if n := testing.AllocsPerRun(20, fill); n > 0 {
		t.Errorf("%v allocations for %d records", n, len(records))
	}
}

type fixedRows struct{ n int }

func (r *fixedRows) Append(*toll.Event) uint32 { r.n++; return 1 }
func (r *fixedRows) Len() int                  { return r.n }
func (r *fixedRows) Size() int                 { return 0 }
func (r *fixedRows) Reset()                    { r.n = 0 }

func BenchmarkBuilder(b *testing.B) {
	builder := newBuilder(&fixedRows{}, testConfig())
	records := make([]*record, 10_000)
	for i := range records {
		records[i] = testRecord(int64(i * 11))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range records {
			builder.add(r)
		}
		builder.reset()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(records)), "ns/event")
}

// add adds one record, as goka's callback adds those of a bundle.
func (p *Partition) add(r *record) {
	p.AddAll(fetch.RecordsOf(r.sent()))
}

// sent is the record as it comes from Kafka.
func (r *record) sent() *kgo.Record {
	m := &kgo.Record{Offset: r.offset, Timestamp: r.time, Key: r.key, Value: r.value}
	if r.contentType != "" {
		m.Headers = append(m.Headers,
			kgo.RecordHeader{Key: codecs.ContentTypeHeader, Value: []byte(r.contentType)})
	}
	if r.retryOf != "" {
		m.Headers = append(m.Headers, kgo.RecordHeader{Key: RetryHeader, Value: []byte(r.retryOf)})
	}
	return m
}

// A batch of more types than it tells apart counts the others as one, and each type keeps its
// count.
func TestBuilderCountsVeryManyTypes(t *testing.T) {
	b := newBuilder(new(simtest.Rows), testConfig())
	at := must(toll.WallTimeFromDate(2022, 2, 10, 10, 20, 0))
	add := func(offset int, typ string) {
		e := toll.Event{Time: at, Vehicle: int32(offset), Type: typ, Plaza: 4000}
		b.add(&record{offset: int64(offset), time: time.Unix(0, 0), value: codecs.AppendCSV(nil, &e)})
	}
	const many = maxTypes + 100
	for n := range many {
		add(n, fmt.Sprint(n))
	}
	add(many, "0")
	add(many+1, "0")
	var zero, others int64
	for c, n := range b.cells {
		switch b.types[c.typ/4] {
		case "0":
			zero += n
		case toll.OtherType:
			others += n
		}
	}
	if zero != 3 || others != 100 || len(b.cells) != maxTypes+1 {
		t.Errorf("%d of type 0, want 3; %d others, want 100; %d cells", zero, others, len(b.cells))
	}
	if d := b.deltas(); d[0].Events != many+2 {
		t.Errorf("%d events, want %d", d[0].Events, many+2)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// TestPublishedTo does not know up to where all is marked while a batch is being marked.
func TestPublishedTo(t *testing.T) {
	s := &Partition{progress: progress{stored: 2, sent: 2}}
	if got := s.PublishedTo(); got != 2 {
		t.Errorf("published to %d, want 2", got)
	}
	s.progress.unmarked = 1
	if got := s.PublishedTo(); got != -1 {
		t.Errorf("published to %d while one is being marked", got)
	}
}

// TestTogetherFrom: what batches of the most and longest types have of a plaza fits Kafka's default
// limit of a message, however it is put together, and small deltas of a plaza all share one.
func TestTogetherFrom(t *testing.T) {
	hostile := func(next int64) []byte {
		d := deltaOf(7, 0, next-1, next)
		for m := range toll.Minute(10_000 / toll.MaxTypes) {
			p := toll.Pane{Start: m}
			for i := range toll.MaxTypes {
				p.Types = append(p.Types,
					toll.TypeCount{Type: fmt.Sprintf("%s%05d", strings.Repeat("😀", 10), int(m)*toll.MaxTypes+i),
						Count: 1})
				d.Events++
			}
			d.Panes = append(d.Panes, p)
		}
		return wire.AppendDelta(nil, d)
	}
	large := [][]byte{hostile(1), hostile(2), hostile(3)}
	for first := range large {
		n := togetherFrom(large[first:])
		if size := len(wire.AppendDeltas(nil, large[first:first+n]...)); size > 1_000_000 {
			t.Errorf("%d deltas take %d bytes", n, size)
		}
	}
	var small [][]byte
	for next := range int64(3) {
		small = append(small, wire.AppendDelta(nil, deltaOf(7, 0, next, next+1)))
	}
	if n := togetherFrom(small); n != len(small) {
		t.Errorf("%d small deltas of a plaza go together, want %d", n, len(small))
	}
}
