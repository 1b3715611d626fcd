package sql

import (
	"testing"

	"github.com/tollstream/tollstream/toll"
)

func testBatch(w *Writer, c toll.Cursor, types ...string) *toll.Batch {
	b := &toll.Batch{Partition: c.Partition, First: c.Next, Next: c.Next + int64(len(types)),
		Epoch: c.Epoch, Expect: c.Token,
		Token: NewToken(), Rows: w.NewRows(), Deltas: []byte("outbox"), Chain: []byte("chain")}
	for i, typ := range types {
		b.Rows.Append(&toll.Event{Time: 1644488582, Vehicle: int32(i), Type: typ, Plaza: 4000})
	}
	return b
}

// outbox returns all batches of a partition, page by page.
func outbox(t *testing.T, w *Writer, partition int32, above int64,
	unpublished bool) (all []toll.StoredBatch, epoch uint64, pages int) {
	t.Helper()
	for {
		page, err := w.Outbox(t.Context(), partition, above, unpublished)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Batches...)
		pages++
		if !page.More {
			return all, page.Epoch, pages
		}
		above = all[len(all)-1].Next
	}
}
