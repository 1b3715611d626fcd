package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
)

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
		return nil // nothing is stored yet, and the sources look at the group's offsets
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
