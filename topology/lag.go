package topology

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// lagEvery is how often Kafka is asked how much there is to do. A consumer knows the end of a partition from its fetches,
// but fetches nothing while what it has can't be stored, which is when the lag matters.
const lagEvery = 5 * time.Second

// watchLag measures the lag of the partitions that this process has, until ctx ends.
func (r *run) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagEvery)
	defer ticker.Stop()
	told := false
	open := newOpenTransactions()
	long := transactionLog{r.cfg.Log, map[int32]OpenTransaction{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.stats.share.share() // which notices that it has fallen
		err := r.measureLag(ctx, open, &long)
		if err != nil && !told && ctx.Err() == nil {
			r.cfg.Log.Debug("measure the lag", "error", err)
		}
		told = err != nil
	}
}

func (r *run) measureLag(ctx context.Context, transactions *openTransactions, long *transactionLog) error {
	owned := r.stats.owned()
	if len(owned) == 0 {
		return nil
	}
	loop := LoopTopic(r.cfg.Group)
	// goka marks a delta once the changelog of its plaza is acknowledged.
	merged, err := r.admin.ListConsumerGroupOffsets(r.cfg.Group, map[string][]int32{loop: owned})
	if err != nil {
		return fmt.Errorf("read the offsets of group %s: %w", r.cfg.Group, err)
	}
	for _, partition := range owned {
		if ctx.Err() != nil {
			return nil
		}
		_, end, err := r.bounds(partition)
		if err != nil {
			return err
		}
		oldest, err := r.client.GetOffset(loop, partition, sarama.OffsetOldest)
		if err != nil {
			return fmt.Errorf("read the start of partition %d of topic %s: %w", partition, loop, err)
		}
		loopEnd, err := r.client.GetOffset(loop, partition, sarama.OffsetNewest)
		if err != nil {
			return fmt.Errorf("read the end of partition %d of topic %s: %w", partition, loop, err)
		}
		next := oldest
		if b := merged.GetBlock(loop, partition); b != nil && b.Err == sarama.ErrNoError {
			next = max(next, b.Offset)
		}
		stable := end
		if r.stats.behind(partition, end) {
			if stable, err = stableEnd(r.client, r.cfg.Topic, partition); err != nil {
				return err
			}
		}
		open, _ := transactions.look(partition, stable, end)
		long.note(partition, open, end, transactions.now())
		r.stats.measured(partition, end, max(0, loopEnd-next), open)
	}
	return nil
}
