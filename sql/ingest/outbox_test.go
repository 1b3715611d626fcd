package ingest_test

import (
	"context"
	"testing"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
)

// TestOutboxPages reads more batches than a page holds.
func TestOutboxPages(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		c, _, err := w.Load(ctx, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2*ingest.PageBatches + 5 {
			b := dbtest.Batch(w, c, "car")
			b.Next += int64(i % 3)
			if i == 7 || i == 200 {
				b.Deltas = make([]byte, ingest.PageBytes+1)
			}
			if err := w.Commit(ctx, b, nil); err != nil {
				t.Fatal(err)
			}
			c.Next, c.Token = b.Next, b.Token
		}
		for _, above := range []int64{0, 1, 2, 3, 4, 9, 200, c.Next - 1, c.Next, c.Next + 5} {
			want := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch WHERE next_offset > ?`, above)
			all, epoch, pages := dbtest.Outbox(t, w, 0, above, true)
			if int64(len(all)) != want || epoch != c.Epoch {
				t.Errorf("above %d: %d batches of epoch %d, want %d", above, len(all), epoch, want)
			}
			if above == 0 && pages != 4 {
				t.Errorf("%d pages, want 4: a large batch ends one", pages)
			}
			for i := range all {
				if i > 0 && all[i].First != all[i-1].Next || i == 0 && all[i].First > above {
					t.Fatalf("above %d: the batch %d begins at %d", above, i, all[i].First)
				}
			}
		}
	})
}
