package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Changelog reads what Kafka holds of those partitions of the loop and of the group table that a
// session owns.
type Changelog interface {
	// Consumed returns the partitions of the loop whose deltas, as they are now, the group has
	// consumed, waiting a moment for it: what became of these is in the changelog.
	Consumed(ctx context.Context) ([]int32, error)
	// Progress returns how far each plaza has come, by its newest state in the changelog.
	Progress(ctx context.Context) (map[int16]Progress, error)
	// PartitionOf returns the partition of a plaza.
	PartitionOf(plaza int16) int32
}

// Progress is how far a plaza's state has come.
type Progress struct {
	Epoch  uint64
	Merged []toll.Merged
}

// in returns what was merged of a partition in an epoch. A state of an older epoch counts as empty.
func (p Progress) in(partition int32, epoch uint64) int64 {
	if p.Epoch >= epoch {
		for _, m := range p.Merged {
			if m.Partition == partition {
				return m.Next
			}
		}
	}
	return 0
}

// Brokers is what Kafka is asked. It is a [kafka.Admin].
type Brokers interface {
	Offsets(ctx context.Context, topic string, at kafka.At, partitions ...int32) (map[int32]int64,
		error)
	AwaitConsumed(ctx context.Context, group, topic string, ends map[int32]int64) ([]int32, error)
	ReadAll(ctx context.Context, topic string, partition int32,
		each func(key, value []byte) error) error
}

// NewChangelog returns the changelog of those partitions, of so many, that a session owns.
func NewChangelog(kafka Brokers, group string, owned []int32, partitions int) Changelog {
	return &kafkaChangelog{kafka, group, owned, int32(partitions)}
}

// kafkaChangelog is the changelog in Kafka.
type kafkaChangelog struct {
	kafka      Brokers
	group      string
	owned      []int32
	partitions int32
}

// PartitionOf implements changelog.
func (k *kafkaChangelog) PartitionOf(plaza int16) int32 {
	return kafka.PartitionOf(strconv.Itoa(int(plaza)), k.partitions)
}

// Consumed implements changelog.
func (k *kafkaChangelog) Consumed(ctx context.Context) ([]int32, error) {
	loop := kafka.LoopTopic(k.group)
	ends, err := k.kafka.Offsets(ctx, loop, kafka.Newest, k.owned...)
	if err != nil {
		return nil, err
	}
	left, err := k.kafka.AwaitConsumed(ctx, k.group, loop, ends)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(k.owned), func(p int32) bool {
		return slices.Contains(left, p)
	}), nil
}

// Progress implements changelog.
func (k *kafkaChangelog) Progress(ctx context.Context) (map[int16]Progress, error) {
	table := kafka.TableTopic(k.group)
	states := map[int16]Progress{}
	for _, partition := range k.owned {
		err := k.kafka.ReadAll(ctx, table, partition, func(key, value []byte) error {
			plaza, err := strconv.ParseInt(string(key), 10, 16)
			if err != nil {
				return nil // not ours
			}
			if value == nil {
				delete(states, int16(plaza))
				return nil
			}
			epoch, merged, err := wire.DecodeProgress(value)
			if err != nil {
				return fmt.Errorf("read plaza %d of the group table: %w", plaza, err)
			}
			states[int16(plaza)] = Progress{epoch, merged}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}
