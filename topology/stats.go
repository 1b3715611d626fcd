package topology

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// Stats counts what a processor does, over all of its runs: it outlives goka's processors, which
// are built anew after a failure. Nothing is counted per event, but per batch, delta and call. All
// methods are safe for concurrent use.
type Stats struct {
	*health
	observer Observer
	tracer   Tracer

	read, skipped                    atomic.Int64
	events, rejected, batches        atomic.Int64
	late, tooLate, ahead             atomic.Int64
	applied, duplicates, stale, gaps atomic.Int64
	resent                           atomic.Int64 // deltas, by reconcile
	windows, transitions             atomic.Int64
	sessions, restarts               atomic.Int64
	lastStored                       atomic.Int64 // Unix nanoseconds
	commitNanos                      atomic.Int64 // of the last batch
	watermark                        atomic.Int64 // Unix seconds; 0 for not known
	rejects                          [len(toll.RejectKinds)]atomic.Int64
	retries                          [len(retryOperations)]atomic.Int64

	batchRows, commitTime, publishTime, mergeLatency, resultsTime *Histogram

	share rejectWatch

	mu    sync.Mutex
	parts map[int32]*partitionStats
	count int // of the topic
}

type partitionStats struct {
	next    int64            // the cursor
	end     int64            // of the topic, as it was asked for last
	fetched *fetch.Partition // nil before it is consumed
	// events of batches that are stored and whose deltas are not acknowledged
	unpublished int64
	unmerged    int64 // deltas of the loop's partition of the same number that are not merged
	transaction kafka.OpenTransaction
	ring        waitingRing
}

// waiting is a batch on its way to the group table.
type waiting struct {
	next   int64
	oldest time.Time
}

// maxWaiting bounds how many batches per partition are timed on their way to the group table.
const maxWaiting = 256

// waitingRing keeps the last batches that were published.
type waitingRing struct {
	list []waiting // grows up to maxWaiting, then the oldest is overwritten
	last int       // index of the newest
}

func (r *waitingRing) add(w waiting) {
	if len(r.list) < maxWaiting {
		r.list = append(r.list, w)
		r.last = len(r.list) - 1
		return
	}
	r.last = (r.last + 1) % maxWaiting
	r.list[r.last] = w
}

// find returns when the batch that ends at next began, zero for not known. What is merged was
// published just now, so the newest are looked at first.
func (r *waitingRing) find(next int64) time.Time {
	for i := range r.list {
		if w := &r.list[(r.last-i+len(r.list))%len(r.list)]; w.next == next {
			return w.oldest
		}
	}
	return time.Time{}
}

// retryOperations are the kinds of calls to MySQL that are made again until they work, and the
// building again of a batch of which MySQL refused rows.
var retryOperations = [...]string{"load", "outbox", "store", "settle", "mark", "watermark",
	"results", "rebuild"}

const (
	retryLoad = iota
	retryOutbox
	retryStore
	retrySettle
	retryMark
	retryWatermark
	retryResults
	retryRebuild
)

// NewStats returns counters for a [Config].
func NewStats() *Stats {
	return &Stats{
		health:    newHealth(),
		parts:     map[int32]*partitionStats{},
		share:     rejectWatch{now: time.Now},
		batchRows: newHistogram(1, 10, 100, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 1_000_000),
		// From an idle database on the same machine to one that is away for a while.
		commitTime: newHistogram(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
			300),
		publishTime: newHistogram(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
		// A replay is far behind.
		mergeLatency: newHistogram(.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
			21600, 86400),
		resultsTime: newHistogram(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
	}
}

// Snapshot is a reading of Stats.
type Snapshot struct {
	// records that were taken into batches, those of batches that were dropped too; offsets without a
	// record
	Read, Skipped             int64
	Events, Rejected, Batches int64                     // stored by this process
	Rejects                   map[toll.RejectKind]int64 // all kinds
	RejectShare               toll.RejectShare          // of the last five minutes
	// of the events: late for some windows or all, too late for any, ahead of their partition's clock
	Late, TooLate, Ahead             int64
	Applied, Duplicates, Stale, Gaps int64 // deltas, by outcome
	// deltas that the group table lacked, by reconcile
	Resent               int64
	Windows, Transitions int64            // results that were published
	Sessions, Restarts   int64            // of the group, of goka's processor
	Retries              map[string]int64 // by operation; all operations
	LastStored           time.Time        // zero for never
	CommitTime           time.Duration    // of the last batch
	Watermark            time.Time        // zero for not known
	Partitions           int              // of the topic
	Owned                int              // of them, by this process
	Lag                  int64            // records behind the ends of the owned partitions
	// events that are stored, and whose deltas Kafka has not acknowledged
	Unpublished int64
	ByPartition map[int32]PartitionSnapshot

	BatchRows, CommitTimes, PublishTimes, MergeLatency, ResultsTimes Distribution // rows, then seconds
}

// PartitionSnapshot is a reading of an owned partition.
type PartitionSnapshot struct {
	Lag      int64 // records of the topic of events between the cursor and the end
	Unmerged int64 // deltas of the loop that are not merged
	// Transaction of a producer that keeps records from being read; its Since is zero for none.
	Transaction kafka.OpenTransaction
}

// Read returns the counters now.
func (s *Stats) Read() Snapshot {
	snap := Snapshot{
		Read: s.read.Load(), Skipped: s.skipped.Load(),
		Events: s.events.Load(), Rejected: s.rejected.Load(), Batches: s.batches.Load(),
		Rejects: map[toll.RejectKind]int64{}, Retries: map[string]int64{},
		Late: s.late.Load(), TooLate: s.tooLate.Load(), Ahead: s.ahead.Load(),
		Applied: s.applied.Load(), Duplicates: s.duplicates.Load(), Stale: s.stale.Load(),
		Gaps: s.gaps.Load(), Resent: s.resent.Load(),
		Windows: s.windows.Load(), Transitions: s.transitions.Load(),
		Sessions: s.sessions.Load(), Restarts: s.restarts.Load(),
		CommitTime:  time.Duration(s.commitNanos.Load()),
		BatchRows:   s.batchRows.Read(),
		CommitTimes: s.commitTime.Read(), PublishTimes: s.publishTime.Read(),
		MergeLatency: s.mergeLatency.Read(), ResultsTimes: s.resultsTime.Read(),
		ByPartition: map[int32]PartitionSnapshot{},
	}
	snap.RejectShare = s.share.share()
	for i := range s.rejects {
		snap.Rejects[toll.RejectKinds[i]] = s.rejects[i].Load()
	}
	for i := range s.retries {
		snap.Retries[retryOperations[i]] = s.retries[i].Load()
	}
	if t := s.lastStored.Load(); t != 0 {
		snap.LastStored = time.Unix(0, t)
	}
	if t := s.watermark.Load(); t != 0 {
		snap.Watermark = time.Unix(t, 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.Partitions, snap.Owned = s.count, len(s.parts)
	for n, p := range s.parts {
		end := p.end
		if p.fetched != nil {
			end = max(end, p.fetched.HighWatermark())
		}
		lag := max(0, end-p.next)
		snap.Lag += lag
		snap.Unpublished += max(0, p.unpublished)
		snap.ByPartition[n] = PartitionSnapshot{Lag: lag, Unmerged: p.unmerged,
			Transaction: p.transaction}
	}
	return snap
}

func (s *Stats) partitions(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = n
}

// owned returns the partitions that this process has.
func (s *Stats) owned() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]int32, 0, len(s.parts))
	for n := range s.parts {
		list = append(list, n)
	}
	return list
}

// opened notes that a partition is owned, and how many events are in batches that are to be
// published again.
func (s *Stats) opened(partition int32, next, unpublished int64) {
	p := &partitionStats{next: next, unpublished: unpublished}
	s.watch(partition)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[partition] = p
}

func (s *Stats) closed(partition int32) {
	s.unwatch(partition)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, partition)
}

// claim notes where the records of a partition come from.
func (s *Stats) claim(partition int32, records *fetch.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.fetched = records
	}
}

// measured notes the end of a partition of the topic of events, and the deltas of the loop's
// partition of the same number that are not merged, and the transaction that keeps records of it
// from being read, if there is one.
func (s *Stats) measured(partition int32, end, unmerged int64, open kafka.OpenTransaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.end, p.unmerged, p.transaction = end, unmerged, open
	}
}

// behind reports whether a partition is not stored up to an offset.
func (s *Stats) behind(partition int32, end int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[partition]
	return p != nil && p.next < end
}

// assigned notes that a session of the group begins, and unassigned that it is over.
func (s *Stats) assigned() {
	s.sessions.Add(1)
	s.pass(CheckGroup)
}

func (s *Stats) unassigned(why string) { s.fail(CheckGroup, why) }

// restarting notes that goka's processor is built anew.
func (s *Stats) restarting() {
	s.restarts.Add(1)
	s.unassigned("processing stopped and starts again")
}

// reached notes whether the broker answered.
func (s *Stats) reached(err error) {
	if err == nil {
		s.pass(CheckKafka)
	} else {
		s.fail(CheckKafka, "the last call failed")
	}
}

func (s *Stats) marked(w toll.Watermark) {
	if w.Known {
		s.watermark.Store(w.Time)
	}
}

// taken notes that a batch was handed to the committer.
func (s *Stats) taken(b *builder) {
	s.read.Add(int64(b.len()))
	b.taken = time.Now()
}

func (s *Stats) stored(partition int32, b *toll.Batch, deltas []toll.PlazaDelta,
	took time.Duration) {
	for i := range deltas {
		d := &deltas[i]
		for _, p := range d.Panes {
			s.late.Add(p.Late)
		}
		for _, p := range d.LateQuarter {
			s.late.Add(p.Count())
		}
		for _, p := range d.TooLate {
			s.tooLate.Add(p.Count())
		}
		s.ahead.Add(d.Ahead)
	}
	for i := range b.Rejects {
		if kind := slices.Index(toll.RejectKinds[:], b.Rejects[i].Kind); kind >= 0 {
			s.rejects[kind].Add(1)
		}
	}
	events := int64(b.Events())
	s.events.Add(events)
	s.rejected.Add(int64(len(b.Rejects)))
	s.share.stored(b.Events()+len(b.Rejects), b.Rejects)
	s.skipped.Add(b.Skipped())
	s.batches.Add(1)
	s.batchRows.Observe(float64(events))
	s.commitTime.Observe(took.Seconds())
	s.commitNanos.Store(int64(took))
	s.lastStored.Store(time.Now().UnixNano())
	s.mu.Lock()
	if p := s.parts[partition]; p != nil {
		p.next = b.Next
		p.unpublished += events
	}
	s.mu.Unlock()
	if s.observer != nil {
		s.observer.Stored(partition, b.Events(), len(b.Rejects), took)
	}
}

// publishing notes that the deltas of a batch are about to be sent.
func (s *Stats) publishing(partition int32, b storedDeltas) {
	if b.oldest.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.ring.add(waiting{b.next, b.oldest})
	}
}

// published notes that the deltas of a batch were acknowledged, or not.
func (s *Stats) published(partition int32, b *storedDeltas, began time.Time, err error) {
	ended := time.Now()
	if err == nil {
		s.publishTime.Observe(ended.Sub(began).Seconds())
		s.mu.Lock()
		if p := s.parts[partition]; p != nil {
			// below 0 for a moment where it is published before its committer has counted it
			p.unpublished -= b.events()
		}
		s.mu.Unlock()
	}
	if s.tracer != nil {
		t := b.trace
		t.Partition, t.First, t.Next, t.Events, t.Plazas = partition, b.ref.First, b.next,
			int(b.events()), len(b.deltas)
		t.Resent = t.Stored.IsZero()
		t.Publishing, t.Ended, t.Err = began, ended, err
		s.tracer.Batch(t)
	}
}

// notStored notes that a batch was given up: another owner has the partition, or the session ended.
func (s *Stats) notStored(partition int32, b *builder, first int64, attempts int, err error) {
	if s.tracer == nil {
		return
	}
	s.tracer.Batch(BatchTrace{
		Partition: partition, First: first, Next: b.next, Events: len(b.records),
		Rejected: len(b.rejects), Attempts: attempts,
		Began: b.began, Taken: b.taken, Ended: time.Now(), Err: err,
	})
}

func (s *Stats) merged(d *toll.Delta, outcome toll.Outcome) {
	switch outcome {
	case toll.Applied:
		s.applied.Add(1)
	case toll.Duplicate:
		s.duplicates.Add(1)
	case toll.Stale:
		s.stale.Add(1)
	case toll.Gap:
		s.gaps.Add(1)
	}
	oldest := s.oldestOf(d)
	if outcome == toll.Applied && !oldest.IsZero() {
		s.mergeLatency.Observe(max(0, time.Since(oldest).Seconds()))
	}
	if s.observer != nil {
		s.observer.Merged(d, outcome, oldest)
	}
}

// oldestOf returns the record time of the first record of a delta's batch, zero where it is not
// known. Batches come in order, but plazas of one batch are merged in different partitions, so the
// last ones are kept for a while.
func (s *Stats) oldestOf(d *toll.Delta) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[d.Partition]; p != nil {
		return p.ring.find(d.Next)
	}
	return time.Time{}
}
