package kafka

import (
	"context"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/codecs/wire"
)

// EpochMetadata is what the group's offsets of the topic of events carry besides: the epoch in
// which they were stored.
func EpochMetadata(epoch uint64) string { return "epoch=" + strconv.FormatUint(epoch, 10) }

// ParseEpochMetadata reads an EpochMetadata. It returns 0 for what is no epoch.
func ParseEpochMetadata(s string) uint64 {
	text, _ := strings.CutPrefix(s, "epoch=")
	epoch, _ := strconv.ParseUint(text, 10, 64)
	return epoch
}

// Epoch returns the epoch in which an offset of the topic of events was committed, 0 for not known.
// These offsets follow what is stored, so one that is ahead of the database shows that the database
// was restored, unless it is of an earlier epoch: a rebuild takes note of that.
func (c Committed) Epoch() uint64 { return ParseEpochMetadata(c.Metadata) }

// Epochs is what Kafka knows of a group's epochs.
type Epochs struct {
	Highest uint64 // of the plazas' states and of the group's offsets; 0 for none
	Plazas  int    // that have a state
}

// Epochs reads what the group table and the group's offsets know of epochs. They know none where
// the topics don't exist.
func (c Cluster) Epochs(ctx context.Context, group, topic string) (Epochs, error) {
	var e Epochs
	admin, err := c.Connect(ctx)
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
		err := admin.ReadAll(ctx, table.Name, p, func(key, value []byte) error {
			if epoch, _, err := wire.DecodeProgress(value); err == nil {
				e.Highest = max(e.Highest, epoch)
				plazas[string(key)] = true
			}
			return nil
		})
		if err != nil {
			return e, Explain(err)
		}
	}
	e.Plazas = len(plazas)
	events, found, err := describe(ctx, admin, topic)
	if err != nil || !found {
		return e, err
	}
	offsets, err := admin.Committed(ctx, group, topic, UpTo(events.Partitions)...)
	for _, o := range offsets {
		e.Highest = max(e.Highest, o.Epoch())
	}
	return e, Explain(err)
}

// UpTo returns the partitions of a topic that has so many.
func UpTo(partitions int) []int32 {
	all := make([]int32, partitions)
	for p := range all {
		all[p] = int32(p)
	}
	return all
}
