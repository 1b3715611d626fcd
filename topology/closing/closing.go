// Package closing decides which windows are due, by the stream's watermark, and stores and
// publishes their results.
//
// The states of the plazas belong to the caller: it gives them to [Windows.Step] after each merge,
// and when [Windows.Watch] has all plazas visited, and writes those that changed.
package closing

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Config says which windows close, and when.
type Config struct {
	Topic string // of the events
	toll.Windowing
	// Idle is how far the record time of a partition may be behind the others' before the watermark
	// goes on without it.
	Idle time.Duration

	Log *slog.Logger
	// Backoff returns the pauses between attempts to store results.
	Backoff func() backoff.BackOff
	Stats   *monitor.Stats // nil for none, unless it is watched
}

// Validate reports every value that can't work, with what it is.
func (c *Config) Validate() error {
	if c.Idle < time.Second || c.Idle > 24*time.Hour {
		return fmt.Errorf("--idle: %v is not from 1s to 24h", c.Idle)
	}
	return nil
}

// Results is where closed windows are stored. Its errors are as those of the processor's Store. One
// goroutine uses it at a time.
type Results interface {
	// Store marks what was published before, and then stores what is submitted in one transaction. It
	// returns the notices that are to be published now, in order; they are valid until the next call.
	//
	// Where some of these plazas' notices are left from before, or are too many for once, it returns
	// those or some, and stored is false: publish them, and call it again, so that no revision is
	// overwritten before it was published.
	Store(ctx context.Context, closings []toll.Closing,
		published []traffic.NoticeRef) (notices []traffic.Notice, stored bool, err error)
}

// Store is what the watermark is read from.
type Store interface {
	// Cursors returns the cursors of all partitions that have one, in one snapshot.
	Cursors(ctx context.Context) ([]toll.Cursor, error)
}

// Kafka reports how far the topic of events goes. It is a [kafka.Admin].
type Kafka interface {
	// Offsets returns the offsets of partitions at their newest record, or at the stable one.
	Offsets(ctx context.Context, topic string, at kafka.At, partitions ...int32) (map[int32]int64,
		error)
	// Empty reports whether a partition holds no record in [from, end).
	Empty(ctx context.Context, topic string, partition int32, from, end int64) (bool, error)
}

// Observe returns results whose calls are noted in the stats.
func Observe(results Results, stats *monitor.Stats) Results {
	return &observedResults{results, stats}
}

type observedResults struct {
	Results
	stats *monitor.Stats
}

func (o *observedResults) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	began := time.Now()
	called := o.stats.StoringWindows()
	notices, stored, err := o.Results.Store(ctx, closings, published)
	called(err == nil)
	o.stats.Results(published, monitor.ResultsTrace{
		Began: began, Ended: time.Now(), Plazas: len(closings), Published: len(published),
		Notices: len(notices), Err: err,
	})
	return notices, stored, err
}

// How often the watermark is read, and plazas are visited that wait for it.
const (
	horizonEvery = 250 * time.Millisecond
	horizonIdle  = time.Second // the same while nothing is stored
	visitEvery   = time.Second
	costlyVisit  = 200 * time.Millisecond
)

// Session is what closing windows needs of the session that it runs in.
type Session struct {
	Store      Store
	Kafka      Kafka
	Partitions int             // of the topic of events
	Database   *monitor.Outage // with the store; nil to report no outage
	// Progress returns what the session has stored so far, and Check whether that goes with what the
	// store was read to have afterwards: its epoch, and the next offset of each partition.
	Progress func() []toll.Cursor
	Check    func(progress []toll.Cursor, epoch uint64, next []int64) error
	// Visit calls [Windows.Step] for each plaza that the session owns and [Windows.Wants].
	Visit func(ctx context.Context) error
}

// Watch reads the watermark, and has all plazas visited where it moved on, until the session ends.
func (w *Windows) Watch(ctx context.Context, s Session) {
	defer s.Database.Leave(monitor.AllPartitions)
	watcher := &watcher{cfg: w.cfg, session: s, ends: NewEnds(w.cfg.Topic)}
	var readAt, visitedAt time.Time
	var took time.Duration // by the last visit
	var visited *Horizon
	logged, more := false, false
	var before *Horizon
	pause := horizonEvery
	for {
		// What is to be visited again at once is closed by the watermark that is known.
		if now := time.Now(); now.Sub(readAt) >= pause {
			readAt = now
			progress := s.Progress()
			ending := w.isEnding()
			h, err := watcher.read(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if toll.IsPermanent(err) {
					w.fail(err)
					return
				}
				if !logged { // an outage, which the watcher logs, or the watch over the topic
					logged = true
					w.cfg.Log.Debug("read the watermark", "error", err)
				}
			default:
				logged = false
				h.ending = ending
				w.horizons.add(h)
				if err := s.Check(progress, h.Epoch, h.Next); err != nil {
					w.fail(err)
					return
				}
				w.cfg.Stats.Marked(h.Mark)
				if before != nil && h.Epoch == before.Epoch && slices.Equal(h.Next, before.Next) && !ending {
					pause = min(2*pause, horizonIdle)
				} else {
					pause = horizonEvery
				}
				before = h
			}
		}
		newest := w.horizons.newest()
		moved := newest != nil &&
			(visited == nil || newest.until != visited.until || newest.Epoch != visited.Epoch)
		if more || (moved || w.wantsVisit()) && time.Since(visitedAt) >= max(visitEvery, 4*took) {
			began := time.Now()
			w.beginVisit()
			err := s.Visit(ctx)
			visitedAt = time.Now()
			took = visitedAt.Sub(began)
			w.endVisit(err == nil, took)
			if err != nil && ctx.Err() == nil {
				w.cfg.Log.Debug("visit the plazas", "error", err)
			} else {
				visited = newest
			}
		}
		more = false
		select {
		case <-time.After(pause):
		case <-w.more:
			more = true
		case <-ctx.Done():
			return
		}
	}
}

// maxStore and maxStoreWeight bound what is stored in one transaction: plazas, and about how
// many windows.
const (
	maxStore       = 200
	maxStoreWeight = 10_000
)

// maxWaitingWeight bounds what waits: about how many windows, of some 250 bytes each.
const maxWaitingWeight = 3 * maxStoreWeight

// submission is a closing with where it came from.
type submission struct {
	session int
	closing toll.Closing
	weight  int // about how many windows it is
}

// queue holds the submissions that are not being stored yet.
type queue struct {
	waiting []submission
	weight  int // of all that wait
}

// full reports whether no more is to be submitted, and roomy whether it is worth a visit to submit
// more.
func (q *queue) full() bool  { return q.weight >= maxWaitingWeight }
func (q *queue) roomy() bool { return q.weight < maxWaitingWeight/2 }

func (q *queue) add(s submission) {
	q.waiting = append(q.waiting, s)
	q.weight += s.weight
}

// take takes what is stored in one transaction.
func (q *queue) take() []submission {
	n, weight := 0, 0
	for n < min(len(q.waiting), maxStore) && (n == 0 || weight < maxStoreWeight) {
		weight += q.waiting[n].weight
		n++
	}
	taken := q.waiting[:n:n]
	q.waiting, q.weight = q.waiting[n:], q.weight-weight
	return taken
}
