package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/wait"
)

// End is the end of the topic of events at one moment, per partition.
type End struct {
	Offsets map[int32]int64
}

// FindEnd returns where the topic ends now.
func (c Cluster) FindEnd(ctx context.Context, topic string) (End, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return End{}, err
	}
	defer admin.Close()
	info, err := admin.Existing(ctx, topic)
	if err != nil {
		return End{}, err
	}
	offsets, err := admin.Offsets(ctx, topic, Newest, UpTo(info.Partitions)...)
	return End{offsets}, Explain(err)
}

// LoopConsumed reports whether the group has consumed all that was in the loop when it was called,
// waiting a moment for it. Its offsets follow the acknowledged changelog, so whatever was published
// before the call is then in the group table's topic.
func (c Cluster) LoopConsumed(ctx context.Context, group string) (bool, error) {
	admin, err := c.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer admin.Close()
	loop := LoopTopic(group)
	info, err := admin.Existing(ctx, loop)
	if err != nil {
		return false, err
	}
	ends, err := admin.Offsets(ctx, loop, Newest, UpTo(info.Partitions)...)
	if err != nil {
		return false, Explain(err)
	}
	left, err := admin.AwaitConsumed(ctx, group, loop, ends)
	return err == nil && len(left) == 0, Explain(err)
}

// loopPatience is how long the group may take to consume what was in the loop: its offsets are
// committed a few times a second.
const loopPatience = 2 * time.Second

// AwaitConsumed returns the partitions of a topic in which a group has not consumed all that is
// left below some ends, waiting a moment for it.
func (a *Admin) AwaitConsumed(ctx context.Context, group, topic string,
	ends map[int32]int64) ([]int32, error) {
	for deadline := time.Now().Add(loopPatience); ; {
		left, err := a.unconsumed(ctx, group, topic, ends)
		if err != nil || len(left) == 0 || time.Now().After(deadline) {
			return left, err
		}
		if err := wait.For(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// unconsumed returns the partitions of a topic in which a group has not consumed all that is left
// below some ends.
func (a *Admin) unconsumed(ctx context.Context, group, topic string,
	ends map[int32]int64) ([]int32, error) {
	committed, err := a.Committed(ctx, group, topic, slices.Collect(maps.Keys(ends))...)
	if err != nil {
		return nil, err
	}
	var left []int32
	for p, end := range ends {
		if end > 0 && committed[p].Offset < end {
			left = append(left, p)
		}
	}
	// What was deleted before it was consumed is not consumed any more.
	oldest, err := a.Offsets(ctx, topic, Oldest, left...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(left, func(p int32) bool { return oldest[p] >= ends[p] }), nil
}

// ReadAll calls each with all records that a partition holds now, in order.
func (a *Admin) ReadAll(ctx context.Context, topic string, partition int32,
	each func(key, value []byte) error) error {
	oldest, err := a.Offsets(ctx, topic, Oldest, partition)
	if err != nil {
		return err
	}
	end, err := a.Offsets(ctx, topic, Newest, partition)
	if err != nil {
		return err
	}
	for from := oldest[partition]; from < end[partition]; {
		records, next, err := a.Read(ctx, topic, partition, from)
		switch {
		case err != nil:
			return err
		case next == from:
			return fmt.Errorf(
				"read partition %d of %s: nothing came from offset %d on, which is not its end", partition,
				topic, from)
		}
		for _, r := range records {
			if err := each(r.Key, r.Value); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// Empty reports whether the offsets [from, end) of a partition hold no record that a
// read-committed consumer would deliver. It reads them.
func (a *Admin) Empty(ctx context.Context, topic string, partition int32, from,
	end int64) (bool, error) {
	oldest, err := a.Offsets(ctx, topic, Oldest, partition)
	if err != nil {
		return false, err
	}
	from = max(from, oldest[partition]) // what retention deleted is not delivered either
	for from < end {
		records, next, err := a.Read(ctx, topic, partition, from)
		var large *kgo.ErrDecompressTooLarge
		switch {
		case errors.As(err, &large):
			return large.Offset >= end, nil // it becomes a dead letter
		case err != nil:
			return false, err
		case len(records) > 0:
			return records[0].Offset >= end, nil
		case next == from:
			return false, nil // a transaction is open: what it holds is not known yet
		}
		from = next
	}
	return true, nil
}

// OpenTransaction is a partition of the topic of events in which a producer's transaction is open.
// The records from its first one on can't be read before it ends, those of other producers neither:
// they might be aborted.
type OpenTransaction struct {
	Partition int32
	Offset    int64     // of the first record that can't be read: the last stable offset
	Since     time.Time // when it was first seen; zero for no such transaction
}

// OpenTransactions remembers since when transactions are open.
type OpenTransactions struct {
	Now  func() time.Time
	open map[int32]OpenTransaction // by partition
}

// NewOpenTransactions returns one that knows of none.
func NewOpenTransactions() *OpenTransactions {
	return &OpenTransactions{Now: time.Now, open: map[int32]OpenTransaction{}}
}

// Look notes how far a partition can be read, given its end. It returns the open transaction, and
// false where there is none.
func (o *OpenTransactions) Look(partition int32, stable, end int64) (OpenTransaction, bool) {
	if stable >= end {
		delete(o.open, partition)
		return OpenTransaction{}, false
	}
	t, known := o.open[partition]
	if !known || t.Offset != stable {
		t = OpenTransaction{Partition: partition, Offset: stable, Since: o.Now()}
		o.open[partition] = t
	}
	return t, true
}

// transactionPatience is how long a transaction may be open before the log reports it. Kafka aborts
// one after transaction.timeout.ms, which is a minute by default and may be a quarter of an hour.
const transactionPatience = 30 * time.Second

// TransactionLog logs transactions that are open for long: once when they are, and once when the
// partition can be read again.
type TransactionLog struct {
	log      *slog.Logger
	reported map[int32]OpenTransaction
}

// NewTransactionLog returns a log that has reported nothing.
func NewTransactionLog(log *slog.Logger) *TransactionLog {
	return &TransactionLog{log, map[int32]OpenTransaction{}}
}

// Note takes what was seen of a partition. t has no Since where no transaction is open.
func (l *TransactionLog) Note(partition int32, t OpenTransaction, end int64, now time.Time) {
	before, reported := l.reported[partition]
	if reported && before != t {
		delete(l.reported, partition)
		reported = false
		l.log.Info("the producer's transaction ended, and its partition is read again",
			"partition", partition, "offset", before.Offset, "after",
			now.Sub(before.Since).Round(time.Second))
	}
	if !reported && !t.Since.IsZero() && now.Sub(t.Since) >= transactionPatience {
		l.reported[partition] = t
		l.log.Warn("a producer's transaction is open, and nothing behind its first record can be read; "+
			"kafka-transactions.sh find-hanging and abort help where its producer is gone",
			"partition", partition, "offset", t.Offset, "for", now.Sub(t.Since).Round(time.Second),
			"waiting", end-t.Offset)
	}
}
