package monitor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// Stats counts what a processor does, over all of its runs: it outlives goka's processors, which
// are built again after a failure. Nothing is counted per event, but per batch, delta and call. All
// methods are safe for concurrent use.
type Stats struct {
	*health
	tracer Tracer

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
	retries                          [len(operations)]atomic.Int64

	batchRows, commitTime, publishTime, mergeLatency, resultsTime *Histogram

	share    rejectWatch
	arrivals *arrivals

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
	observed    int64 // the highest end of the topic so far; 0 for none
}

// known returns the end of the partition, as far as it is known.
func (p *partitionStats) known() int64 {
	if p.fetched != nil {
		return max(p.end, p.fetched.HighWatermark())
	}
	return p.end
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

// operations are the kinds of calls to MySQL that are retried, and the rebuilding of a batch of
// which MySQL rejected rows.
var operations = [...]string{"load", "outbox", "store", "settle", "mark", "watermark",
	"results", "rebuild"}

// Operation is a kind of call to MySQL that is retried.
type Operation int

// The operations.
const (
	Load Operation = iota
	Outbox
	StoreBatch
	Resolve
	Mark
	ReadWatermark
	StoreResults
	RebuildBatch
)

// NewStats returns counters that are all zero.
func NewStats() *Stats { return NewStatsAt(time.Now) }

// NewStatsAt is NewStats with a clock for the checks of health.
func NewStatsAt(now func() time.Time) *Stats {
	return &Stats{
		health:    newHealth(now),
		parts:     map[int32]*partitionStats{},
		share:     rejectWatch{now: time.Now},
		arrivals:  &arrivals{now: now},
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

// Trace has each step traced from now on, and high shares of rejects logged. Call it before the
// stats are used by several goroutines; either may be nil.
func (s *Stats) Trace(tracer Tracer, log *slog.Logger) { s.tracer, s.share.log = tracer, log }

// Rejected logs rows that MySQL rejected.
func (s *Stats) Rejected(partition int32, e *toll.RejectedError) { s.share.rejected(partition, e) }

// CheckRejects logs that the share of rejects has fallen, where no record comes any more.
func (s *Stats) CheckRejects() { s.share.share() }

// Reconciled counts deltas that were sent again since the group table lacked them.
func (s *Stats) Reconciled(deltas int) { s.resent.Add(int64(deltas)) }

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
		snap.Retries[operations[i]] = s.retries[i].Load()
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
		lag := max(0, p.known()-p.next)
		snap.Lag += lag
		snap.Unpublished += max(0, p.unpublished)
		snap.ByPartition[n] = PartitionSnapshot{Lag: lag, Unmerged: p.unmerged,
			Transaction: p.transaction}
	}
	return snap
}

// SetPartitions notes how many partitions the topic of events has.
func (s *Stats) SetPartitions(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = n
}

// Owned returns the partitions that this process has.
func (s *Stats) Owned() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]int32, 0, len(s.parts))
	for n := range s.parts {
		list = append(list, n)
	}
	return list
}

// Opened notes that a partition is owned, and how many events are in batches that are to be
// published again.
func (s *Stats) Opened(partition int32, next, unpublished int64) {
	p := &partitionStats{next: next, unpublished: unpublished}
	s.watch(partition)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[partition] = p
}

// Closed notes that a partition is not owned any more.
func (s *Stats) Closed(partition int32) {
	s.unwatch(partition)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, partition)
}

// Claim notes where the records of a partition come from.
func (s *Stats) Claim(partition int32, records *fetch.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.fetched = records
	}
}

// Measured notes the end of a partition of the topic of events, and the deltas of the loop's
// partition of the same number that are not merged, and the transaction that keeps records of it
// from being read, if there is one.
func (s *Stats) Measured(partition int32, end, unmerged int64, open kafka.OpenTransaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.end, p.unmerged, p.transaction = end, unmerged, open
		s.look(p)
	}
}

// Behind reports whether a partition is not stored up to an offset.
func (s *Stats) Behind(partition int32, end int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[partition]
	return p != nil && p.next < end
}

// Assigned notes that a session of the group begins.
func (s *Stats) Assigned() {
	s.sessions.Add(1)
	s.Pass(CheckGroup)
}

// Unassigned notes that no partitions are assigned, and why.
func (s *Stats) Unassigned(why string) { s.Fail(CheckGroup, why) }

// Restarting notes that goka's processor is built again.
func (s *Stats) Restarting() {
	s.restarts.Add(1)
	s.Unassigned("processing stopped and starts again")
}

// Reached notes whether the broker answered.
func (s *Stats) Reached(err error) {
	if err == nil {
		s.Pass(CheckKafka)
	} else {
		s.Fail(CheckKafka, "the last call failed")
	}
}

// Marked notes the watermark of the stream.
func (s *Stats) Marked(w toll.Watermark) {
	if w.Known {
		s.watermark.Store(w.Time)
	}
}

// Taken notes that the committer took a batch of so many records.
func (s *Stats) Taken(records int) { s.read.Add(int64(records)) }

// Stored notes that a batch was stored, in how much time.
func (s *Stats) Stored(partition int32, b *toll.Batch, deltas []toll.PlazaDelta,
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
	s.share.stored(b.Records()+len(b.Rejects), b.Rejects)
	s.skipped.Add(b.Skipped())
	s.batches.Add(1)
	s.batchRows.Observe(float64(events))
	s.commitTime.Observe(took.Seconds())
	s.commitNanos.Store(int64(took))
	s.lastStored.Store(time.Now().UnixNano())
	if b.Last.Known {
		s.arrivals.note(time.UnixMilli(b.Last.Timestamp))
	}
	s.mu.Lock()
	if p := s.parts[partition]; p != nil {
		p.next = b.Next
		p.unpublished += events
		s.look(p)
	}
	s.mu.Unlock()
}

// Publishing notes that the deltas of the batch that ends at next are about to be sent; oldest is
// the record time of its first record, zero where that is not known.
func (s *Stats) Publishing(partition int32, next int64, oldest time.Time) {
	if oldest.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil {
		p.ring.add(waiting{next, oldest})
	}
}

// Published notes that the deltas of a batch were acknowledged, or not.
func (s *Stats) Published(t BatchTrace) {
	if t.Err == nil {
		s.publishTime.Observe(t.Ended.Sub(t.Publishing).Seconds())
		s.mu.Lock()
		if p := s.parts[t.Partition]; p != nil {
			// below 0 for a moment where it is published before its committer has counted it
			p.unpublished -= int64(t.Events)
		}
		s.mu.Unlock()
	}
	s.NotStored(t)
}

// NotStored notes that a batch was given up: another owner has the partition, or the session ended.
func (s *Stats) NotStored(t BatchTrace) {
	if s.tracer != nil {
		s.tracer.Batch(t)
	}
}

// Merged notes what became of a delta.
func (s *Stats) Merged(d *toll.Delta, outcome toll.Outcome) {
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
	if oldest := s.oldestOf(d); outcome == toll.Applied && !oldest.IsZero() {
		s.mergeLatency.Observe(max(0, time.Since(oldest).Seconds()))
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

// Noted notes how a call to MySQL ended, and which operation it was of. What MySQL answered is
// passed on as it is.
func (s *Stats) Noted(operation Operation, err error) error {
	var rejected *toll.RejectedError
	switch {
	case err == nil, errors.Is(err, toll.ErrCursorMoved), errors.Is(err, toll.ErrNoCursor):
		s.Pass(CheckMySQL)
	case errors.As(err, &rejected):
		s.Pass(CheckMySQL)
		s.retries[RebuildBatch].Add(1)
	case errors.Is(err, context.Canceled): // nobody waits any more
	default:
		if !toll.IsPermanent(err) {
			s.retries[operation].Add(1)
		}
		s.Fail(CheckMySQL, "the last call failed")
	}
	return err
}

// Results notes how a transaction of results ended, and which results it marked as published.
func (s *Stats) Results(published []traffic.NoticeRef, t ResultsTrace) {
	if s.Noted(StoreResults, t.Err) == nil {
		s.resultsTime.Observe(t.Ended.Sub(t.Began).Seconds())
		for _, ref := range published {
			if ref.Revision > 0 {
				s.windows.Add(1)
			} else {
				s.transitions.Add(1)
			}
		}
	}
	if s.tracer != nil {
		s.tracer.Results(t)
	}
}

// Tracer receives the steps of what a processor did, once they are done, from several goroutines at
// once. It must not block.
type Tracer interface {
	// Batch reports a batch that was published, or that failed on its way.
	Batch(BatchTrace)
	// Results reports a transaction of results that was stored, or that failed.
	Results(ResultsTrace)
}

// BatchTrace is the way of one batch. Times are the wall clock's, and zero for what the batch did
// not come to.
type BatchTrace struct {
	Partition   int32
	First, Next int64 // offsets [First, Next) of the topic of events
	Events      int   // that became rows
	Rejected    int
	Attempts    int // to store it
	// it was stored before this session, and is only published: the next three times are zero
	Resent     bool
	Began      time.Time
	Taken      time.Time // filled, and handed to the committer
	Stored     time.Time
	Publishing time.Time // its first delta was sent
	Plazas     int       // that it has deltas of
	Ended      time.Time // all deltas were acknowledged, or it failed
	Err        error     // nil for all went well
}

// ResultsTrace is one transaction of results of windows.
type ResultsTrace struct {
	Began, Ended time.Time
	Plazas       int // whose windows were submitted
	Published    int // results that were marked as published
	Notices      int // results that are to be published now
	Err          error
}
