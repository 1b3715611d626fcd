package topology

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"tollstream/toll"
)

// Stats counts what a processor does. All methods are safe for concurrent use.
type Stats struct {
	observer Observer

	events, rejected, batches        atomic.Int64
	applied, duplicates, stale, gaps atomic.Int64
	lastStored                       atomic.Int64 // Unix nanoseconds
	commitNanos                      atomic.Int64 // of the last batch

	mu    sync.Mutex
	parts map[int32]*partitionStats
	count int // of the topic
}

type partitionStats struct {
	next    int64 // the cursor
	claim   sarama.ConsumerGroupClaim
	waiting []waiting // batches under way to the group table, bounded
}

// waiting is a batch on its way to the group table.
type waiting struct {
	next   int64
	oldest time.Time
}

// maxWaiting bounds how many batches per partition are timed on their way to the group table.
const maxWaiting = 256

func newStats(o Observer) *Stats { return &Stats{observer: o, parts: map[int32]*partitionStats{}} }

// Snapshot is a reading of Stats.
type Snapshot struct {
	Events, Rejected, Batches        int64         // stored by this process
	Applied, Duplicates, Stale, Gaps int64         // deltas, by outcome
	LastStored                       time.Time     // zero for never
	CommitTime                       time.Duration // of the last batch
	Partitions                       int           // of the topic
	Owned                            int           // of them, by this process
	Lag                              int64         // records behind the high-water marks of the owned partitions
}

// Read returns the counters now.
func (s *Stats) Read() Snapshot {
	snap := Snapshot{
		Events: s.events.Load(), Rejected: s.rejected.Load(), Batches: s.batches.Load(),
		Applied: s.applied.Load(), Duplicates: s.duplicates.Load(), Stale: s.stale.Load(), Gaps: s.gaps.Load(),
		CommitTime: time.Duration(s.commitNanos.Load()),
	}
	if t := s.lastStored.Load(); t != 0 {
		snap.LastStored = time.Unix(0, t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.Partitions, snap.Owned = s.count, len(s.parts)
	for _, p := range s.parts {
		if p.claim != nil {
			snap.Lag += max(0, p.claim.HighWaterMarkOffset()-p.next)
		}
	}
	return snap
}

func (s *Stats) partitions(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = n
}

func (s *Stats) opened(partition int32, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[partition] = &partitionStats{next: next}
}

func (s *Stats) closed(partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, partition)
}

func (s *Stats) claim(c sarama.ConsumerGroupClaim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[c.Partition()]; p != nil {
		p.claim = c
	}
}

func (s *Stats) stored(partition int32, b *toll.Batch, took time.Duration) {
	s.events.Add(int64(b.Events()))
	s.rejected.Add(int64(len(b.Rejects)))
	s.batches.Add(1)
	s.commitNanos.Store(int64(took))
	s.lastStored.Store(time.Now().UnixNano())
	s.mu.Lock()
	if p := s.parts[partition]; p != nil {
		p.next = b.Next
	}
	s.mu.Unlock()
	if s.observer != nil {
		s.observer.Stored(partition, b.Events(), len(b.Rejects), took)
	}
}

func (s *Stats) publishing(partition int32, b storedDeltas) {
	if s.observer == nil || b.oldest.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[partition]; p != nil && len(p.waiting) < maxWaiting {
		p.waiting = append(p.waiting, waiting{b.next, b.oldest})
	}
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
	if s.observer != nil {
		s.observer.Merged(d, outcome, s.oldestOf(d))
	}
}

// oldestOf returns the record time of the first record of a delta's batch. Batches come in order, but plazas of one
// batch are merged in different partitions, so a few stay until they are surely over.
func (s *Stats) oldestOf(d *toll.Delta) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[d.Partition]
	if p == nil {
		return time.Time{}
	}
	for i, w := range p.waiting {
		if w.next == d.Next {
			if i > maxWaiting/2 {
				p.waiting = append(p.waiting[:0], p.waiting[maxWaiting/4:]...)
			}
			return w.oldest
		}
	}
	return time.Time{}
}
