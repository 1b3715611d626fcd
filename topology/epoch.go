package topology

import (
	"context"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/codecs/wire"
)

// epochMetadata is what the group's offsets of the topic of events carry besides: the epoch in
// which they were stored.
func epochMetadata(epoch uint64) string { return "epoch=" + strconv.FormatUint(epoch, 10) }

// parseEpochMetadata returns 0 for what is no epoch.
func parseEpochMetadata(s string) uint64 {
	text, _ := strings.CutPrefix(s, "epoch=")
	epoch, _ := strconv.ParseUint(text, 10, 64)
	return epoch
}

// groupOffset is the group's offset of a partition of the topic of events, with the epoch in which
// it was stored.
type groupOffset struct {
	offset int64  // -1 for none
	epoch  uint64 // 0 for not known
}

// groupOffsets returns a group's offsets of the topic of events. They follow what is stored, so one
// that is ahead of the database tells of a database that was restored, unless it is of an epoch
// before: a rebuild takes note of that.
func groupOffsets(ctx context.Context, kafka brokers, group, topic string,
	partitions []int32) (map[int32]groupOffset, error) {
	committed, err := kafka.Committed(ctx, group, topic, partitions...)
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]groupOffset, len(partitions))
	for _, p := range partitions {
		offsets[p] = groupOffset{offset: -1}
		if c, found := committed[p]; found {
			offsets[p] = groupOffset{c.Offset, parseEpochMetadata(c.Metadata)}
		}
	}
	return offsets, nil
}

// Epochs is what Kafka knows of a group's epochs.
type Epochs struct {
	Highest uint64 // of the plazas' states and of the group's offsets; 0 for none
	Plazas  int    // that have a state
}

// Epochs reads what the group table and the group's offsets know of epochs. They know none where
// the topics don't exist.
func (c Cluster) Epochs(ctx context.Context, group, topic string) (Epochs, error) {
	var e Epochs
	admin, err := c.connect(ctx)
	if err != nil {
		return e, err
	}
	defer admin.Close()
	table, _, err := describe(ctx, admin, TableTopic(group))
	if err != nil {
		return e, err
	}
	plazas := map[string]bool{}
	for p := range int32(table.Partitions) {
		err := readPartition(ctx, admin, table.Name, p, func(key, value []byte) error {
			if epoch, _, err := wire.DecodeProgress(value); err == nil {
				e.Highest = max(e.Highest, epoch)
				plazas[string(key)] = true
			}
			return nil
		})
		if err != nil {
			return e, explainKafka(err)
		}
	}
	e.Plazas = len(plazas)
	events, found, err := describe(ctx, admin, topic)
	if err != nil || !found {
		return e, err
	}
	offsets, err := groupOffsets(ctx, admin, group, topic, upTo(events.Partitions))
	for _, o := range offsets {
		e.Highest = max(e.Highest, o.epoch)
	}
	return e, explainKafka(err)
}

// upTo returns the partitions of a topic that has so many.
func upTo(partitions int) []int32 {
	all := make([]int32, partitions)
	for p := range all {
		all[p] = int32(p)
	}
	return all
}
