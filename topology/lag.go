package topology

import (
	"context"
	"slices"
	"time"

	"github.com/tollstream/tollstream/topology/kafka"
)

// lagEvery is how often Kafka is asked how much there is to do. A consumer knows the end of a
// partition from its fetches, but fetches nothing while what it has can't be stored, which is when
// the lag matters.
const lagEvery = 5 * time.Second

// watchLag measures the lag of the partitions that this process has, until ctx ends.
func (r *run) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagEvery)
	defer ticker.Stop()
	logged := false
	open := kafka.NewOpenTransactions()
	long := kafka.NewTransactionLog(r.cfg.Log)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.stats.CheckRejects() // which notices that it has fallen
		err := r.measureLag(ctx, open, long)
		if err != nil && !logged && ctx.Err() == nil {
			r.cfg.Log.Debug("measure the lag", "error", err)
		}
		logged = err != nil
	}
}

func (r *run) measureLag(ctx context.Context, transactions *kafka.OpenTransactions,
	long *kafka.TransactionLog) error {
	owned := r.stats.Owned()
	if len(owned) == 0 {
		return nil
	}
	loop := kafka.LoopTopic(r.cfg.Group)
	// goka marks a delta once the changelog of its plaza is acknowledged.
	merged, err := r.brokers.Committed(ctx, r.cfg.Group, loop, owned...)
	if err != nil {
		return err
	}
	ends, err := r.brokers.Offsets(ctx, r.cfg.Topic, kafka.Newest, owned...)
	if err != nil {
		return err
	}
	oldest, err := r.brokers.Offsets(ctx, loop, kafka.Oldest, owned...)
	if err != nil {
		return err
	}
	loopEnds, err := r.brokers.Offsets(ctx, loop, kafka.Newest, owned...)
	if err != nil {
		return err
	}
	behind := slices.DeleteFunc(slices.Clone(owned), func(p int32) bool {
		return !r.stats.Behind(p, ends[p])
	})
	stable, err := r.brokers.Offsets(ctx, r.cfg.Topic, kafka.Stable, behind...)
	if err != nil {
		return err
	}
	for _, partition := range owned {
		end := ends[partition]
		readable, found := stable[partition]
		if !found {
			readable = end
		}
		open, _ := transactions.Look(partition, readable, end)
		long.Note(partition, open, end, transactions.Now())
		next := max(oldest[partition], merged[partition].Offset)
		r.stats.Measured(partition, end, max(0, loopEnds[partition]-next), open)
	}
	return nil
}
