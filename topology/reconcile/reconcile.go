// Package reconcile sends again what the group table's changelog lacks.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Reconciler repairs what goka can't prevent: that the changelog of the group table loses what was
// merged. A paused aggregate wakes up and writes an older state over a newer one; the
// loop's retention deletes deltas that were not consumed; a broker loses acknowledged writes; the
// table's topic is deleted. The chain of deltas makes any such state an honest prefix, so sending
// the rest again, in order, is always right, whatever else goes on at the same time.
//
// The owner of a partition of the group table does it for the plazas in there: their states are in
// one partition of the changelog, so several processes share the work, and each reads its own part.
// The outbox that it sends from is in the database, where it is at hand for all.
//
// Every round reads what the changelog holds of each plaza, from its beginning, and compares that
// with the chains that the database had a round before: what was stored then must have been
// published since and merged. A round does not follow the changelog from where the last one ended,
// as a broker that lost writes has other records at the same offsets.
type Reconciler struct {
	// Interval is the time between two looks at the changelog. Where a look takes long they are rarer.
	Interval time.Duration
	Logger   *slog.Logger
	Store    Store
	Log      Changelog
	// PublishedTo returns up to where a partition is published by this process, and marked so in the
	// database; -1 for not known.
	PublishedTo func(partition int32) int64
	// Publish sends deltas of one plaza, all or none. done is called once, when they are acknowledged
	// or failed.
	Publish func(deltas []*toll.Delta, done func(error)) error
	Stats   *monitor.Stats

	took time.Duration // to read the changelog, in the last round
	// as they were when the round before began, by partition; nil for the first
	before map[int32]toll.Cursor
	odd    map[plazaPart]int64 // plazas that had merged up to where no batch ends, in the round before
}

// plazaPart is a plaza's part of a source partition.
type plazaPart struct {
	plaza     int16
	partition int32
}

// Store is what reconciling needs of the database; see the processor's.
type Store interface {
	Load(ctx context.Context, partition int32, earliest int64) (toll.Cursor, toll.Unpublished, error)
	Outbox(ctx context.Context, partition int32, above int64, unpublished bool) (toll.OutboxPage,
		error)
	Cursors(ctx context.Context) ([]toll.Cursor, error)
}

// round compares the changelog with the database once, sends what is missing, and returns how much
// that was. A state that is ahead of the database is a [toll.PermanentError]: no delta will ever
// fit it.
func (r *Reconciler) round(ctx context.Context) ([]behind, error) {
	cursors, err := r.Store.Cursors(ctx)
	if err != nil {
		return nil, err
	}
	before := r.before
	r.before = byPartition(cursors)
	published, err := r.published(ctx, before)
	if err != nil {
		return nil, err
	}
	// The order matters. What is published by now is in the loop before its end is looked at; what was
	// consumed is in the changelog before that is read; and what was merged is in the database before
	// that is read again.
	consumed, err := r.Log.Consumed(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	states, err := r.Log.Progress(ctx)
	r.took = time.Since(began)
	if err != nil {
		return nil, err
	}
	if cursors, err = r.Store.Cursors(ctx); err != nil {
		return nil, err
	}
	epoch := epochOf(cursors)
	if err := checkAhead(states, cursors, epoch); err != nil {
		return nil, err
	}
	var sent []behind
	odd := map[plazaPart]int64{}
	defer func() { r.odd = odd }()
	for _, partition := range slices.Sorted(maps.Keys(published)) {
		if published[partition].epoch != epoch {
			continue // a rebuild has begun since, and sends everything
		}
		lacking := map[int16]*behind{}
		for plaza, next := range published[partition].chain {
			if !slices.Contains(consumed, r.Log.PartitionOf(plaza)) {
				continue
			}
			if merged := states[plaza].in(partition, epoch); merged < next {
				lacking[plaza] = &behind{plaza: plaza, partition: partition, merged: merged}
			}
		}
		if len(lacking) == 0 {
			continue
		}
		err := r.resend(ctx, epoch, partition, lacking, odd)
		for _, plaza := range slices.Sorted(maps.Keys(lacking)) {
			if lacking[plaza].sent > 0 {
				sent = append(sent, *lacking[plaza])
			}
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// publishedChain is a partition's chain at a moment by which all of it is published.
type publishedChain struct {
	epoch uint64
	chain map[int16]int64
}

// published returns the chains of those cursors whose batches are all published by now.
func (r *Reconciler) published(ctx context.Context,
	cursors map[int32]toll.Cursor) (map[int32]publishedChain, error) {
	chains := map[int32]publishedChain{}
	for _, partition := range slices.Sorted(maps.Keys(cursors)) {
		cursor := cursors[partition]
		done := r.PublishedTo(partition)
		now, unpublished, err := r.Store.Load(ctx, partition, -1)
		if err != nil {
			return nil, err
		}
		if now.Epoch != cursor.Epoch {
			continue
		}
		if unpublished.First < done {
			return nil, fmt.Errorf("partition %d: %w", partition, ingest.ErrMarksLost)
		}
		if unpublished.First < cursor.Next {
			continue
		}
		chain, err := wire.DecodeChain(cursor.Chain)
		if err != nil {
			return nil, fmt.Errorf("read the chain of partition %d: %w", partition, err)
		}
		chains[partition] = publishedChain{cursor.Epoch, chain}
	}
	return chains, nil
}

func byPartition(cursors []toll.Cursor) map[int32]toll.Cursor {
	m := make(map[int32]toll.Cursor, len(cursors))
	for _, c := range cursors {
		m[c.Partition] = c
	}
	return m
}

func epochOf(cursors []toll.Cursor) (epoch uint64) {
	for _, c := range cursors {
		epoch = max(epoch, c.Epoch)
	}
	return epoch
}

// Bounds of reconciling.
const (
	// DefaultInterval is the usual time between two looks at the group table's changelog. A plaza is
	// behind for twice as long until it is sent what it lacks.
	DefaultInterval = 15 * time.Second
	// reconcileShare keeps reading the changelog to a fiftieth of the time, however large it is.
	reconcileShare = 50
	// reconcileMost bounds how long a plaza may be behind all the same.
	reconcileMost  = 10 * time.Minute
	reconcileLines = 20 // plazas that a round logs one by one
)

// Run looks at the changelog again and again until the session ends.
func (r *Reconciler) Run(ctx context.Context, fail func(error)) {
	for {
		sent, err := r.round(ctx)
		r.report(sent)
		switch {
		case ctx.Err() != nil:
			return
		case toll.IsPermanent(err), errors.Is(err, ingest.ErrMarksLost):
			fail(err)
			return
		case err != nil: // an outage, which the partitions report
			r.Logger.Debug("compare the group table with the database", "error", err)
		}
		if wait.For(ctx, max(r.Interval, min(reconcileShare*r.took, reconcileMost))) != nil {
			return
		}
	}
}

// report logs and counts what was sent again.
func (r *Reconciler) report(sent []behind) {
	deltas := 0
	for i, b := range sent {
		deltas += b.sent
		if i < reconcileLines {
			r.Logger.Warn(fmt.Sprintf("reconcile: plaza %d: sent %s of partition %d again from offset %d",
				b.plaza, text.Count(b.sent, "delta"), b.partition, b.first))
		}
	}
	if n := len(sent) - reconcileLines; n > 0 {
		r.Logger.Warn(fmt.Sprintf("reconcile: sent deltas of %s more again", text.Count(n, "plaza")))
	}
	r.Stats.Reconciled(deltas)
}

// GapLog remembers which gaps were logged: every delta of a plaza that lacks one leaves a gap until
// that one was sent again.
type GapLog struct {
	mu     sync.Mutex
	logged map[plazaPart]int64 // up to where the plaza had merged then
}

// News reports whether a gap was not reported yet.
func (g *GapLog) News(plaza int16, partition int32, merged int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := plazaPart{plaza, partition}
	if before, ok := g.logged[at]; ok && before == merged {
		return false
	}
	if g.logged == nil {
		g.logged = map[plazaPart]int64{}
	}
	g.logged[at] = merged
	return true
}

// Why a database can be behind, and what to do.
const (
	BehindWhy = "it was restored from a backup, or a failover lost its last commits, or it is " +
		"another one"
	BehindHint = "restore a newer backup; or go on from what this database holds, and count the " +
		"plazas again from it: tollstream rebuild --yes"
)

// checkAhead returns an error where a state holds what the database lacks, which was read after it.
func checkAhead(states map[int16]Progress, cursors []toll.Cursor, epoch uint64) error {
	if len(cursors) == 0 {
		return nil // nothing is stored yet, and the session looks at the group's offsets
	}
	chains := map[int32]map[int16]int64{}
	for _, c := range cursors {
		chain, err := wire.DecodeChain(c.Chain)
		if err != nil {
			return fmt.Errorf("read the chain of partition %d: %w", c.Partition, err)
		}
		chains[c.Partition] = chain
	}
	for _, plaza := range slices.Sorted(maps.Keys(states)) {
		s := states[plaza]
		if s.Epoch > epoch {
			return toll.Permanent(BehindHint,
				"the group table is ahead of the database: plaza %d is of epoch %d, and the database is of "+
					"the older epoch %d; %s",
				plaza, s.Epoch, epoch, BehindWhy)
		}
		if s.Epoch < epoch {
			continue
		}
		for _, m := range s.Merged {
			if last := chains[m.Partition][plaza]; m.Next > last {
				return toll.Permanent(BehindHint,
					"the group table is ahead of the database: plaza %d has merged partition %d up to offset "+
						"%d, and its last batch there ends at %d; %s",
					plaza, m.Partition, m.Next, last, BehindWhy)
			}
		}
	}
	return nil
}

// behind is a plaza whose state lacks deltas of a source partition.
type behind struct {
	plaza     int16
	partition int32
	merged    int64 // up to where its state has come, or what was sent since
	first     int64 // where the first delta began that was sent
	sent      int
}

// resend sends the deltas of a partition that some plazas lack, in order.
//
// It ends once the outbox, read after all that was sent is acknowledged, holds nothing more for
// these plazas: a batch that is stored later is published later, behind what was sent here. A batch
// that was stored before is among what is sent here, though its owner may have published it too
// early, in which case it was refused.
func (r *Reconciler) resend(ctx context.Context, epoch uint64, partition int32,
	lacking map[int16]*behind, odd map[plazaPart]int64) error {
	above := int64(-1)
	for _, b := range lacking {
		if above < 0 || b.merged < above {
			above = b.merged
		}
	}
	for {
		page, err := r.Store.Outbox(ctx, partition, above, false)
		if err != nil {
			return err
		}
		if page.Epoch != epoch {
			return nil // a rebuild has begun, and sends everything
		}
		any := false
		for i := range page.Batches {
			batch := &page.Batches[i]
			stored, err := ingest.DecodeBatch(batch)
			if err != nil {
				return err
			}
			var deltas []*toll.Delta
			for i := range stored {
				b := lacking[stored[i].Plaza]
				if b == nil {
					continue
				}
				d := stored[i].Of(epoch, partition, batch.First, batch.Next)
				if d.Next <= b.merged {
					continue
				}
				if d.Prev != b.merged {
					// Batches may have been compacted since the state was read, up to where it has come by now. If
					// so, the next round finds it further on.
					at := plazaPart{b.plaza, partition}
					odd[at] = b.merged
					delete(lacking, b.plaza)
					if r.odd[at] != b.merged {
						continue
					}
					return toll.Permanent(BehindHint,
						"the group table and the database don't belong together: plaza %d has merged partition %d "+
							"up to offset %d, where none of its batches ends; %s, or the plaza's state fell back to "+
							"before what was compacted since",
						b.plaza, partition, b.merged, BehindWhy)
				}
				if b.sent == 0 {
					b.first = d.First
				}
				b.merged = d.Next
				b.sent++
				deltas = append(deltas, d)
			}
			if len(deltas) > 0 {
				any = true
				err := kafka.SendAll(ctx, len(deltas), func(i int, done func(error)) error {
					return r.Publish(deltas[i:i+1], done)
				})
				if err != nil {
					return fmt.Errorf("send deltas of partition %d again: %w", partition, err)
				}
			}
			above = batch.Next
		}
		if !any && !page.More {
			return nil
		}
	}
}
