package reconcile

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
)

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
