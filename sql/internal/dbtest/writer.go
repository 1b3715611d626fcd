package dbtest

import (
	"testing"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

func Batch(w *ingest.Writer, c toll.Cursor, types ...string) *toll.Batch {
	b := &toll.Batch{Partition: c.Partition, First: c.Next, Next: c.Next + int64(len(types)),
		Epoch: c.Epoch, Expect: c.Token,
		Token: tables.NewToken(), Rows: w.NewRows(), Deltas: []byte("outbox"), Chain: []byte("chain")}
	for i, typ := range types {
		b.Rows.Append(&toll.Event{Time: 1644488582, Vehicle: int32(i), Type: typ, Plaza: 4000})
	}
	return b
}

// Outbox returns all batches of a partition, page by page.
func Outbox(t *testing.T, w *ingest.Writer, partition int32, above int64,
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
