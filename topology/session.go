package topology

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/reconcile"
)

// groupConsumer wraps the sarama.ConsumerGroup that goka consumes with, so that the offsets of the
// topic of events come from the database and not from the group.
type groupConsumer struct {
	sarama.ConsumerGroup
	run    *run
	errors <-chan error
}

// Errors implements sarama.ConsumerGroup.
func (g *groupConsumer) Errors() <-chan error { return g.errors }

// Consume implements sarama.ConsumerGroup. It returns when ctx ends, or with the error of a
// session.
//
// goka calls it for one session after the other and waits for five seconds in between, without a
// heartbeat. A member whose session timeout is shorter loses its place meanwhile: with two of
// them, each took all partitions from the other endlessly. So sessions follow each other in here,
// and a rebalance costs less.
func (g *groupConsumer) Consume(ctx context.Context, topics []string,
	h sarama.ConsumerGroupHandler) error {
	pauses := g.run.cfg.Backoff()
	for {
		started := time.Now()
		if err := g.ConsumerGroup.Consume(ctx, topics,
			&sessionHandler{inner: h, run: g.run, group: g.ConsumerGroup}); err != nil || ctx.Err() != nil {
			return err
		}
		if time.Since(started) > longSession {
			pauses.Reset()
		}
		if wait.For(ctx, min(pauses.NextBackOff(), g.run.cfg.SessionTimeout/4)) != nil {
			return nil
		}
	}
}

// longSession is how long a session has to last for its end not to count as a failure.
const longSession = 30 * time.Second

// sessionHandler wraps goka's handler for one session.
//
// A session goes: Setup reads each partition's cursor and unpublished batches in one snapshot, and
// sets where the topic of events is consumed from; then goka's own Setup recovers the group table;
// then records flow, the watermark is watched, and the group table is compared with the database.
// Cleanup first ends that, since goka must not stop during a visit; then runs goka's own, after
// which none of its callbacks runs any more; then the partitions stop.
type sessionHandler struct {
	inner sarama.ConsumerGroupHandler
	run   *run
	group sarama.ConsumerGroup

	unwatch context.CancelFunc // nil before Setup
	watched sync.WaitGroup
}

// Setup implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) Setup(session sarama.ConsumerGroupSession) error {
	if err := h.run.openPartitions(session); err != nil {
		h.run.fail(err)
		return err
	}
	if err := h.inner.Setup(&tollSession{session, h.run.cfg.Topic}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(session.Context())
	h.unwatch = cancel
	h.watched.Go(func() { h.run.closeWindows(ctx) })
	h.watched.Go(func() {
		h.run.reconcile(ctx, session.Claims()[kafka.LoopTopic(h.run.cfg.Group)])
	})
	h.run.assigned(session.Claims()[h.run.cfg.Topic])
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) ConsumeClaim(session sarama.ConsumerGroupSession,
	claim sarama.ConsumerGroupClaim) error {
	if claim.Topic() == h.run.cfg.Topic {
		if claim.InitialOffset() < 0 {
			// Retention passed the offset that Setup chose, and sarama went on at the oldest record by
			// itself. The next session's Setup decides about the gap.
			return fmt.Errorf("partition %d of topic %s no longer holds the offset to go on at",
				claim.Partition(), claim.Topic())
		}
		return h.consumeEvents(session, claim)
	}
	return h.inner.ConsumeClaim(&tollSession{session, h.run.cfg.Topic}, claim)
}

// consumeEvents hands goka the records of a partition of the topic of events in bundles.
//
// goka's consumer must not fetch them too. It can be paused only once it is there, so what it may
// have fetched by then is dropped.
func (h *sessionHandler) consumeEvents(session sarama.ConsumerGroupSession,
	claim sarama.ConsumerGroupClaim) error {
	h.group.Pause(map[string][]int32{claim.Topic(): {claim.Partition()}})
	p := h.run.partitions.get(claim.Partition())
	if p == nil {
		return nil // the session is ending
	}
	records := h.run.fetcher.Add(claim.Partition(), p.From, p.Connects)
	defer h.run.fetcher.Remove(records)
	h.run.stats.Claim(claim.Partition(), records)
	ctx, cancel := context.WithCancel(session.Context())
	bundled := ingest.NewClaim(claim)
	var gathered sync.WaitGroup
	defer gathered.Wait()
	defer cancel()
	gathered.Go(func() { p.Consume(ctx, records, bundled) })
	gathered.Go(func() { drop(ctx, claim.Messages()) })
	return h.inner.ConsumeClaim(&tollSession{session, h.run.cfg.Topic}, bundled)
}

// drop drops messages until there are no more, or ctx ends.
func drop(ctx context.Context, messages <-chan *sarama.ConsumerMessage) {
	for {
		select {
		case _, more := <-messages:
			if !more {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) Cleanup(session sarama.ConsumerGroupSession) error {
	if h.unwatch != nil {
		h.unwatch()
		h.watched.Wait()
	}
	err := h.inner.Cleanup(&tollSession{session, h.run.cfg.Topic})
	h.run.closePartitions()
	h.run.windows.Reset()
	return err
}

// tollSession is the session that goka sees. It swallows goka's marks for the topic of events: goka
// marks a record when its callback returns, long before its batch is stored.
type tollSession struct {
	sarama.ConsumerGroupSession
	topic string
}

// MarkOffset implements sarama.ConsumerGroupSession.
func (s *tollSession) MarkOffset(topic string, partition int32, offset int64, metadata string) {
	if topic != s.topic {
		s.ConsumerGroupSession.MarkOffset(topic, partition, offset, metadata)
	}
}

// MarkMessage implements sarama.ConsumerGroupSession.
func (s *tollSession) MarkMessage(msg *sarama.ConsumerMessage, metadata string) {
	if msg.Topic != s.topic {
		s.ConsumerGroupSession.MarkMessage(msg, metadata)
	}
}

// partitions holds the partitions of the topic of events that a run owns, by number. goka's
// callbacks read it for every message.
type partitions struct {
	mu    sync.Mutex // of opening and closing
	slots []atomic.Pointer[ingest.Partition]
}

// get returns a partition by its number, nil where the run does not own it.
func (ps *partitions) get(number int32) *ingest.Partition {
	if int(number) >= len(ps.slots) {
		return nil
	}
	return ps.slots[number].Load()
}

// progress returns what the run has stored so far, by partition: epoch and next offset, both 0 for
// those that others own.
func (ps *partitions) progress() []toll.Cursor {
	all := make([]toll.Cursor, len(ps.slots))
	for i := range ps.slots {
		if p := ps.slots[i].Load(); p != nil {
			all[i] = p.Progress()
		}
	}
	return all
}

// publishedTo returns up to where the run has published a partition, and marked so in the database;
// -1 for not known.
func (ps *partitions) publishedTo(number int32) int64 {
	if p := ps.get(number); p != nil {
		return p.PublishedTo()
	}
	return -1
}

// checkProgress returns an error where the database, as it was read later, is of another epoch than
// a partition's session, or lacks what that has stored. The next commit would fail by it, but a
// partition without new records has none.
func checkProgress(progress []toll.Cursor, epoch uint64, next []int64) error {
	for p, mine := range progress {
		switch {
		case mine.Epoch == 0:
		case mine.Epoch != epoch:
			return ingest.ErrOtherEpoch
		case next[p] < mine.Next:
			return fmt.Errorf(
				"the database has stored partition %d up to offset %d, and before it had up to %d: %s", p,
				next[p], mine.Next, reconcile.BehindWhy)
		}
	}
	return nil
}

// openPartitions opens and starts the partitions of the topic of events that the session claims.
func (r *run) openPartitions(session sarama.ConsumerGroupSession) error {
	r.partitions.mu.Lock()
	defer r.partitions.mu.Unlock()
	claims := session.Claims()[r.cfg.Topic]
	if err := r.checkTopic(session.Context()); err != nil {
		return err
	}
	committed, err := r.brokers.Committed(session.Context(), r.cfg.Group, r.cfg.Topic, claims...)
	if err != nil {
		return kafka.Explain(err)
	}
	oldest, err := r.brokers.Offsets(session.Context(), r.cfg.Topic, kafka.Oldest, claims...)
	if err != nil {
		return kafka.Explain(err)
	}
	for _, partition := range claims {
		if int(partition) >= len(r.partitions.slots) {
			return fmt.Errorf("topic %s has more partitions now than the %d that it had", r.cfg.Topic,
				len(r.partitions.slots))
		}
		err := r.openPartition(session, partition, oldest[partition], committed[partition])
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTopic returns an error unless the topic of events is the one that the database has stored.
func (r *run) checkTopic(ctx context.Context) error {
	info, found, err := r.brokers.Topic(ctx, r.cfg.Topic)
	err = kafka.Explain(err)
	if err != nil {
		return err
	}
	if !found {
		return kafka.Missing(r.cfg.Topic)
	}
	return r.cfg.checkTopicID(info)
}

func (r *run) openPartition(session sarama.ConsumerGroupSession, partition int32, oldest int64,
	committed kafka.Committed) error {
	cursor, unpublished, err := r.loadCursor(session.Context(), partition, oldest)
	if err != nil {
		return err
	}
	connects := r.log.Connects()
	if err := r.checkLog(session.Context(), &cursor); err != nil {
		return err
	}
	switch {
	case committed.Epoch() > cursor.Epoch:
		return toll.Permanent(reconcile.BehindHint,
			"the database is behind: partition %d was processed in epoch %d, and the database is of the "+
				"older epoch %d; %s",
			partition, committed.Epoch(), cursor.Epoch, reconcile.BehindWhy)
	case committed.Offset > max(cursor.Next, oldest) &&
		(committed.Epoch() == cursor.Epoch || committed.Epoch() == 0):
		return toll.Permanent(reconcile.BehindHint,
			"the database is behind: partition %d was stored up to offset %d, and the database knows of "+
				"%d only; %s",
			partition, committed.Offset, cursor.Next, reconcile.BehindWhy)
	case cursor.Next < oldest && !r.cfg.SkipGone:
		return toll.Permanent(
			"they were deleted by the topic's retention; go on without them with: --skip-gone",
			"offsets %d to %d of partition %d of topic %s are gone and were never stored", cursor.Next,
			oldest-1, partition, r.cfg.Topic)
	case cursor.Next < oldest:
		r.cfg.Log.Warn("records are gone that were never stored", "partition", partition, "first",
			cursor.Next, "next", oldest)
	}
	from := max(cursor.Next, oldest)
	p, err := ingest.New(&r.cfg.Config, ingest.Dependencies{
		Store: r.store, Publish: r.deltas.SendEncoded, Pace: r.deltas,
		Mark: func(offset int64) {
			session.MarkOffset(r.cfg.Topic, partition, offset, kafka.EpochMetadata(cursor.Epoch))
		},
		Stats: r.stats, Fail: r.fail, Database: r.database, Log: r.log,
		Topic: func() error { return r.checkTopic(session.Context()) },
		From:  from, Connects: connects,
	}, cursor)
	if err != nil {
		return err
	}
	session.MarkOffset(r.cfg.Topic, partition, from, kafka.EpochMetadata(cursor.Epoch))
	session.ResetOffset(r.cfg.Topic, partition, from, kafka.EpochMetadata(cursor.Epoch))
	r.stats.Opened(partition, cursor.Next, unpublished.Events)
	p.Start(session.Context(), unpublished.First)
	r.partitions.slots[partition].Store(p)
	return nil
}

// loadCursor reads a partition's cursor and what is not known to be published, waiting for the
// database as long as the session lasts.
func (r *run) loadCursor(ctx context.Context, partition int32, oldest int64) (toll.Cursor,
	toll.Unpublished, error) {
	var cursor toll.Cursor
	var unpublished toll.Unpublished
	defer r.database.Leave(partition)
	err := wait.Retry(ctx, r.cfg.Backoff(), func() (err error) {
		answered := r.database.Await(partition)
		cursor, unpublished, err = r.store.Load(ctx, partition, oldest)
		answered()
		if err == nil {
			r.database.Up(partition)
		} else if ctx.Err() == nil && !toll.IsPermanent(err) {
			r.database.Down(partition, err)
		}
		return err
	})
	return cursor, unpublished, err
}

func (r *run) closePartitions() {
	r.stats.Unassigned("no partitions are assigned")
	r.partitions.mu.Lock()
	defer r.partitions.mu.Unlock()
	var wg sync.WaitGroup
	for i := range r.partitions.slots {
		if p := r.partitions.slots[i].Swap(nil); p != nil {
			r.stats.Closed(p.Number())
			wg.Go(p.Stop)
		}
	}
	wg.Wait()
}

// reconcile compares the part of the group table that a session owns with the database, again and
// again, until ctx ends.
func (r *run) reconcile(ctx context.Context, owned []int32) {
	rec := &reconcile.Reconciler{Interval: r.cfg.Reconcile, Logger: r.cfg.Log, Store: r.store,
		PublishedTo: r.partitions.publishedTo, Publish: r.deltas.Send, Stats: r.stats,
		Log: reconcile.NewChangelog(r.brokers, r.cfg.Group, owned, len(r.partitions.slots))}
	rec.Run(ctx, r.fail)
}

// checkLog returns an error unless a partition's log is still the one that was consumed up to a
// cursor. What it finds is recorded in the database first.
func (r *run) checkLog(ctx context.Context, cursor *toll.Cursor) error {
	if cursor.LogReplaced != "" {
		return ingest.LogReplaced(cursor.LogReplaced)
	}
	f, err := r.log.CheckLog(ctx, cursor.Partition, cursor.Next, cursor.Last)
	if err != nil {
		return fmt.Errorf("compare the log with what was stored of it: %w", kafka.Explain(err))
	}
	if f.Replaced != "" {
		if err := r.checkTopic(ctx); err != nil {
			return err // a topic that was recreated has another log, which is nothing to record
		}
		return ingest.RefuseLog(ctx, &r.cfg.Config, r.store, r.database, cursor, f.Replaced)
	}
	if f.Unchecked != "" && (cursor.Last.Known || len(cursor.Chain) > 0) {
		r.cfg.Log.Warn(ingest.UncheckedLog, "partition", cursor.Partition, "why", f.Unchecked)
	}
	return nil
}
