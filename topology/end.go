package topology

import (
	"cmp"
	"context"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// AwaitEnd waits until all that the topic held at an end is stored, published and merged into the
// group table, however often a server is unavailable meanwhile.
func (p *Processor) AwaitEnd(ctx context.Context, end kafka.End) error {
	consumed := map[int32]map[int16]int64{} // per partition, the chain at its end
	epoch := uint64(0)
	err := p.untilAnswered(ctx, func() error {
		admin, err := p.cfg.Cluster.Connect(ctx)
		if err != nil {
			return err
		}
		defer admin.Close()
		for partition, offset := range end.Offsets {
			chain, e, err := p.awaitPartition(ctx, admin, partition, offset)
			if err != nil {
				return err
			}
			consumed[partition], epoch = chain, max(epoch, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.untilAnswered(ctx, func() error { return p.awaitMerged(ctx, consumed, epoch) })
}

// untilAnswered calls again, with growing pauses, what failed and may work later. The log of an
// outage is the matter of the run, which finds it too.
func (p *Processor) untilAnswered(ctx context.Context, call func() error) error {
	err := wait.Retry(ctx, p.cfg.Backoff(), func() error {
		err := call()
		if err != nil && ctx.Err() == nil && !toll.IsPermanent(err) {
			p.cfg.Log.Debug("wait for the end", "error", err)
		}
		return err
	})
	return cmp.Or(ctx.Err(), err)
}

// endPoll is how often the progress towards an end is looked at.
const endPoll = 100 * time.Millisecond

// endStill is how long a cursor has not moved when what is left below the end is looked at, which
// reads it: it may be no record for us, but control records, aborted or compacted ones.
const endStill = time.Second

// goneWait bounds how long an end is awaited for no more than offsets that are gone.
const goneWait = time.Minute

// awaitPartition waits until a partition is stored up to an offset and published, and returns its
// chain then.
func (p *Processor) awaitPartition(ctx context.Context, admin brokers, partition int32,
	end int64) (map[int16]int64, uint64, error) {
	began := time.Now()
	position, since := int64(-1), began // where the cursor is, and since when, or since the last look
	nothingLeft := false                // below the end
	for {
		cursor, unpublished, err := p.store.Load(ctx, partition, -1)
		switch {
		case err != nil:
		case cursor.Next != position:
			position, since, nothingLeft = cursor.Next, time.Now(), false
		case cursor.Next < end && time.Since(since) > endStill:
			nothingLeft, err = admin.Empty(ctx, p.cfg.Topic, partition, cursor.Next, end)
			if nothingLeft && p.cfg.SkipGone && time.Since(began) < goneWait {
				// That records are gone is stored as well, once the partition has an owner.
				var oldest map[int32]int64
				oldest, err = admin.Offsets(ctx, p.cfg.Topic, kafka.Oldest, partition)
				nothingLeft = err == nil && oldest[partition] <= cursor.Next
			}
			since = time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return nil, 0, ctx.Err()
		case toll.IsPermanent(err):
			return nil, 0, err
		case err == nil && (cursor.Next >= end || nothingLeft) &&
			(unpublished.First >= end || unpublished.Batches == 0):
			chain, err := wire.DecodeChain(cursor.Chain)
			return chain, cursor.Epoch, err
		}
		if err := wait.For(ctx, endPoll); err != nil {
			return nil, 0, err
		}
	}
}

// awaitMerged waits until the group table has merged the chains.
func (p *Processor) awaitMerged(ctx context.Context, chains map[int32]map[int16]int64,
	epoch uint64) error {
	scan, err := table.NewScan(ctx, p.cfg.Cluster, p.cfg.Group)
	if err != nil {
		return err
	}
	defer scan.Close()
	scan.Progress = true
	progress := mergeProgress{moved: time.Now()}
	for {
		began := time.Now()
		err := scan.Advance(ctx)
		if err != nil && ctx.Err() == nil && !toll.IsPermanent(err) && p.kafka.Lasts() {
			progress.moved = time.Now() // the health check reports the outage and its end
			if err := wait.For(ctx, time.Second); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		states, err := scan.States()
		if err != nil {
			return err
		}
		if merged(states, chains, epoch) {
			return nil
		}
		if progress.stalls(time.Now(), totalEvents(states), p.kafka.Lasts() || p.stats.Ready() != nil) {
			return toll.Permanent("run: tollstream verify",
				"everything is stored and published, and for %v the group table has merged nothing more",
				mergeStall)
		}
		// Many plazas take a while to read.
		if err := wait.For(ctx, max(endPoll, 20*time.Since(began))); err != nil {
			return err
		}
	}
}

// mergeStall is how long the group table may merge nothing, short of the end, before that is an
// error. A rebalance, and a dead member's session timeout, take less. Outages don't count.
const mergeStall = time.Minute

// mergeProgress distinguishes a group table that waits for a server from one that merges nothing.
type mergeProgress struct {
	events int64
	moved  time.Time // when it merged something, or a server was unavailable
}

// stalls reports whether nothing was merged for mergeStall in which all servers answered.
func (m *mergeProgress) stalls(now time.Time, events int64, outage bool) bool {
	if events != m.events || outage {
		m.events, m.moved = events, now
	}
	return now.Sub(m.moved) > mergeStall
}

func totalEvents(states map[int16]*toll.State) int64 {
	var n int64
	for _, s := range states {
		n += s.Events
	}
	return n
}

func merged(states map[int16]*toll.State, chains map[int32]map[int16]int64, epoch uint64) bool {
	for partition, chain := range chains {
		for plaza, next := range chain {
			s := states[plaza]
			if s == nil || s.Epoch < epoch || s.MergedIn(partition) < next {
				return false
			}
		}
	}
	return true
}

// CloseAll closes every window that is open, as far as it has come, and returns once that is stored
// and published. It is for a run that ends with the stream. Each plaza closes all once: events that
// come meanwhile don't put the end off.
func (p *Processor) CloseAll(ctx context.Context) error {
	for {
		if w := p.windows.Load(); w != nil { // another one once the run began again
			w.End()
			if w.AllClosed() {
				return nil
			}
		}
		if err := wait.For(ctx, endPoll); err != nil {
			return err
		}
	}
}
