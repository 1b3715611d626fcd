package topology

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"

	"tollstream/toll"
)

// groupConsumer wraps the sarama.ConsumerGroup that goka consumes with, so that the offsets of the topic of events come
// from the database and not from the group.
type groupConsumer struct {
	sarama.ConsumerGroup
	run *run
}

// Consume implements sarama.ConsumerGroup.
func (g *groupConsumer) Consume(ctx context.Context, topics []string, h sarama.ConsumerGroupHandler) error {
	return g.ConsumerGroup.Consume(ctx, topics, &sessionHandler{inner: h, run: g.run})
}

// sessionHandler wraps goka's handler for one session.
//
// A session goes: Setup reads each partition's cursor and unpublished batches in one snapshot, and sets where the topic
// of events is consumed from; then goka's own Setup recovers the group table; then records flow. Cleanup is goka's
// first, after which none of its callbacks runs any more, then the sources stop.
type sessionHandler struct {
	inner sarama.ConsumerGroupHandler
	run   *run
}

// Setup implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) Setup(session sarama.ConsumerGroupSession) error {
	if err := h.run.openSources(session); err != nil {
		h.run.fail(err)
		return err
	}
	if err := h.inner.Setup(&tollSession{session, h.run.cfg.Topic}); err != nil {
		return err
	}
	h.run.assigned(session.Claims()[h.run.cfg.Topic])
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if claim.Topic() == h.run.cfg.Topic {
		if claim.InitialOffset() < 0 {
			// Retention passed the offset that Setup chose, and sarama went on at the oldest record by itself. The next
			// session's Setup decides about the gap.
			return fmt.Errorf("partition %d of topic %s no longer holds the offset to go on at", claim.Partition(), claim.Topic())
		}
		h.run.stats.claim(claim)
	}
	return h.inner.ConsumeClaim(&tollSession{session, h.run.cfg.Topic}, claim)
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) Cleanup(session sarama.ConsumerGroupSession) error {
	err := h.inner.Cleanup(&tollSession{session, h.run.cfg.Topic})
	h.run.closeSources()
	return err
}

// tollSession is the session that goka sees. It swallows goka's marks for the topic of events: goka marks a record when
// its callback returns, long before its batch is stored.
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

// sources holds the sources of a run by partition. goka's callbacks read it for every record.
type sources struct {
	mu    sync.Mutex // of opening and closing
	slots []atomic.Pointer[source]
}

func (s *sources) get(partition int32) *source {
	if int(partition) >= len(s.slots) {
		return nil
	}
	return s.slots[partition].Load()
}

// openSources opens a source for each partition of the topic of events that the session claims.
func (r *run) openSources(session sarama.ConsumerGroupSession) error {
	r.sources.mu.Lock()
	defer r.sources.mu.Unlock()
	claims := session.Claims()[r.cfg.Topic]
	info, found, err := describe(r.admin, r.cfg.Topic)
	if err != nil {
		return err
	}
	if !found {
		return Topics{Topic: r.cfg.Topic}.Missing()
	}
	if err := r.cfg.checkTopicID(info); err != nil {
		return err
	}
	committed, err := r.committed(claims)
	if err != nil {
		return err
	}
	for _, partition := range claims {
		if int(partition) >= len(r.sources.slots) {
			return toll.Permanent("run: tollstream reset --yes, then process", "topic %s grew from %d partitions while running",
				r.cfg.Topic, len(r.sources.slots))
		}
		if err := r.openSource(session, partition, committed[partition]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) openSource(session sarama.ConsumerGroupSession, partition int32, committed int64) error {
	oldest, newest, err := r.bounds(partition)
	if err != nil {
		return err
	}
	cursor, unpublished, err := r.loadCursor(session.Context(), partition, oldest)
	if err != nil {
		return err
	}
	switch {
	case cursor.Next > newest:
		return toll.Permanent("the topic was made again, or its end was lost; run: tollstream reset --yes",
			"partition %d of topic %s ends at offset %d, and the database has stored up to %d", partition, r.cfg.Topic, newest, cursor.Next)
	case committed > max(cursor.Next, oldest):
		return toll.Permanent("restore a newer backup, or start over from the topic with: tollstream reset --yes",
			"the database is behind: partition %d was stored up to offset %d, and the database knows of %d only; it was restored from a backup, or is another one",
			partition, committed, cursor.Next)
	case cursor.Next < oldest && !r.cfg.SkipGone:
		return toll.Permanent("they were deleted by the topic's retention; go on without them with: --skip-gone",
			"offsets %d to %d of partition %d of topic %s are gone and were never stored", cursor.Next, oldest-1, partition, r.cfg.Topic)
	case cursor.Next < oldest:
		r.cfg.Log.Warn("records are gone that were never stored", "partition", partition, "first", cursor.Next, "next", oldest)
	}
	s := &source{
		partition: partition,
		cfg:       r.cfg,
		store:     r.store,
		publish:   r.publish,
		mark:      func(offset int64) { session.MarkOffset(r.cfg.Topic, partition, offset, "") },
		stats:     r.stats,
	}
	s.fail = func(err error) {
		if s.ctx.Err() == nil {
			r.fail(err)
		}
	}
	resend, err := s.init(cursor, unpublished)
	if err != nil {
		return err
	}
	from := max(cursor.Next, oldest)
	session.MarkOffset(r.cfg.Topic, partition, from, "")
	session.ResetOffset(r.cfg.Topic, partition, from, "")
	s.start(session.Context(), resend)
	r.stats.opened(partition, cursor.Next)
	r.sources.slots[partition].Store(s)
	return nil
}

// loadCursor reads a partition's cursor, waiting for the database as long as the session lasts.
func (r *run) loadCursor(ctx context.Context, partition int32, oldest int64) (toll.Cursor, []toll.StoredBatch, error) {
	type loaded struct {
		cursor  toll.Cursor
		batches []toll.StoredBatch
	}
	told := false
	got, err := backoff.Retry(ctx, func() (loaded, error) {
		cursor, batches, err := r.store.Load(ctx, partition, oldest)
		var permanent *toll.PermanentError
		if errors.As(err, &permanent) {
			return loaded{}, backoff.Permanent(err)
		}
		if err != nil && !told {
			told = true
			r.cfg.Log.Warn("MySQL failed; trying again until it answers", "partition", partition, "error", err)
		}
		return loaded{cursor, batches}, err
	}, backoff.WithBackOff(r.cfg.backOff()), backoff.WithMaxElapsedTime(0))
	return got.cursor, got.batches, err
}

// bounds returns the first offset of a partition of the topic of events, and the one behind its last.
func (r *run) bounds(partition int32) (oldest, newest int64, err error) {
	oldest, err = r.client.GetOffset(r.cfg.Topic, partition, sarama.OffsetOldest)
	if err == nil {
		newest, err = r.client.GetOffset(r.cfg.Topic, partition, sarama.OffsetNewest)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the offsets of partition %d of topic %s: %w", partition, r.cfg.Topic, err)
	}
	return oldest, newest, nil
}

// committed returns the group's offsets of the topic of events, -1 for none. They follow what is stored, so one that is
// ahead of the database tells of a database that was restored.
func (r *run) committed(partitions []int32) (map[int32]int64, error) {
	offsets := make(map[int32]int64, len(partitions))
	if len(partitions) == 0 {
		return offsets, nil
	}
	response, err := r.admin.ListConsumerGroupOffsets(r.cfg.Group, map[string][]int32{r.cfg.Topic: partitions})
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		response, err = &sarama.OffsetFetchResponse{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %s: %w", r.cfg.Group, err)
	}
	for _, p := range partitions {
		offsets[p] = -1
		if b := response.GetBlock(r.cfg.Topic, p); b != nil && b.Err == sarama.ErrNoError {
			offsets[p] = b.Offset
		}
	}
	return offsets, nil
}

func (r *run) closeSources() {
	r.sources.mu.Lock()
	defer r.sources.mu.Unlock()
	var wg sync.WaitGroup
	for i := range r.sources.slots {
		if s := r.sources.slots[i].Swap(nil); s != nil {
			r.stats.closed(s.partition)
			wg.Go(s.stop)
		}
	}
	wg.Wait()
}
