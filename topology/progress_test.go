package topology

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
)

func TestCheckProgress(t *testing.T) {
	mine := []toll.Cursor{{}, {Epoch: 5, Next: 10}}
	for _, c := range []struct {
		epoch uint64
		next  int64
		want  string
	}{
		{5, 10, ""}, {5, 11, ""},
		{6, 10, "its epoch is not the one"}, {4, 10, "its epoch is not the one"},
		{5, 9, "restored from a backup"},
	} {
		err := checkProgress(mine, c.epoch, []int64{3, c.next})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("epoch %d, next %d: %v", c.epoch, c.next, err)
		}
	}
}

func TestEpochMetadata(t *testing.T) {
	for text, want := range map[string]uint64{kafka.EpochMetadata(0): 0,
		kafka.EpochMetadata(1_772_431_200_000): 1_772_431_200_000, "": 0, "x": 0, "epoch=x": 0} {
		if got := kafka.ParseEpochMetadata(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func newSlots(n int) []atomic.Pointer[ingest.Partition] {
	return make([]atomic.Pointer[ingest.Partition], n)
}
