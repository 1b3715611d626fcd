package ingest_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
)

// Batch returns a batch on a cursor, with the given types of vehicle.
func TestCommit(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		ctx := t.Context()
		if _, _, err := w.Load(ctx, 3, -1); !errors.Is(err, toll.ErrNoCursor) {
			t.Errorf("a partition that was never processed: %v, want %v", err, toll.ErrNoCursor)
		}
		c, unpublished, err := w.Load(ctx, 3, 100)
		if err != nil || c.Next != 100 || unpublished != (toll.Unpublished{First: 100}) {
			t.Fatalf("a new partition: %+v, unpublished %+v, %v", c, unpublished, err)
		}
		first := dbtest.Batch(w, c, "car", "tr,uck", `v\an`, "Täxi🚕", "a\nb\r\x00")
		if err := w.Commit(ctx, first, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(ctx, first, nil); !errors.Is(err, toll.ErrCursorMoved) {
			t.Errorf("the same batch twice: %v, want %v", err, toll.ErrCursorMoved)
		}
		other := dbtest.Batch(w, c, "car")
		if err := w.Commit(ctx, other, nil); !errors.Is(err, toll.ErrCursorMoved) {
			t.Errorf("another owner's batch on the old cursor: %v, want %v", err, toll.ErrCursorMoved)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 5 {
			t.Errorf("%d rows, want 5", n)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata WHERE vehicle_type = ?`,
			"Täxi🚕"); n != 1 {
			t.Errorf("%d rows of a type beyond ASCII, want 1", n)
		}

		c, unpublished, err = w.Load(ctx, 3, 0)
		if err != nil || c.Next != 105 || c.Token != first.Token ||
			unpublished != (toll.Unpublished{First: 100, Batches: 1, Events: 5}) {
			t.Fatalf("after a batch: %+v, unpublished %+v, %v", c, unpublished, err)
		}
		refs := []toll.BatchRef{{First: 100, Token: first.Token}}
		if err := w.MarkPublished(ctx, 3, c.Epoch+1, refs); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_batch WHERE published = 1`); n != 0 {
			t.Error("marked published under another epoch")
		}
		second := dbtest.Batch(w, c, "car")
		if err := w.Commit(ctx, second, refs); err != nil {
			t.Fatal(err)
		}
		if _, unpublished, _ = w.Load(ctx, 3, 0); unpublished != (toll.Unpublished{First: 105, Batches: 1,
			Events: 1}) {
			t.Errorf("unpublished %+v after marking the first with the second's commit", unpublished)
		}
	})
}

// TestLoadTurns checks that a batch that is to be loaded waits for its turn without a transaction,
// that one without rows doesn't wait, and that waiting ends with the context.
func TestLoadTurns(t *testing.T) {
	dbtest.OnServers(t, testLoadTurns)
}

func testLoadTurns(t *testing.T, s *dbtest.Store) {
	dbtest.Initialize(t, s)
	w := s.Writer(dbtest.Identity.TopicID)
	w.SetLoadMode(ingest.LoadLocal)
	c, _, err := w.Load(t.Context(), 3, 100)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := w.TakeAllTurns(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() { waits <- w.Commit(ctx, dbtest.Batch(w, c, "car"), nil) }()
	empty, _, err := w.Load(t.Context(), 4, 0)
	if err != nil {
		t.Fatal(err)
	}
	batch := dbtest.Batch(w, empty)
	batch.Next++ // as of a record that is none of ours
	if err := w.Commit(t.Context(), batch, nil); err != nil {
		t.Errorf("a batch without rows: %v", err)
	}
	select {
	case err := <-waits:
		t.Fatalf("rows did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	tx, err := s.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var next int64
	if err := tx.QueryRow(
		`SELECT next_offset FROM toll_cursor WHERE partition_id = 3 FOR UPDATE NOWAIT`).Scan(
		&next); err != nil {
		t.Errorf("the batch that waits has its cursor locked: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Fatalf("a batch that waits, after its context ended: %v", err)
	}
	taken[0]()
	if err := w.Commit(t.Context(), dbtest.Batch(w, c, "car"), nil); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 1 ||
		w.TurnsTaken() != len(taken)-1 {
		t.Errorf("%d rows, want 1; %d turns are taken, want %d", n, w.TurnsTaken(), len(taken)-1)
	}
}

// TestCommitStrangeRecords stores dead letters whose record times and payloads no column holds as
// they are.
func TestCommitStrangeRecords(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		c, _, err := w.Load(t.Context(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := dbtest.Batch(w, c, "car")
		for i, at := range []time.Time{time.UnixMilli(math.MaxInt32 * 1_000_000_000),
			time.UnixMilli(-math.MaxInt32 * 1_000_000), {}} {
			b.Rejects = append(b.Rejects,
				toll.Reject{Offset: int64(1 + i), Time: at, Reason: "bad \xff reason",
					Payload: make([]byte, i*2<<20), Key: make([]byte, 5000)})
		}
		b.Rejects = append(b.Rejects, toll.Reject{Offset: 4, Reason: "tombstone"})
		b.Next = 5
		if err := w.Commit(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_dead_letter`); n != 4 {
			t.Errorf("%d dead letters, want 4", n)
		}
		if n := dbtest.Int(t, s,
			`SELECT payload_bytes FROM toll_dead_letter WHERE record_offset = 3`); n != 4<<20 {
			t.Errorf("payload_bytes %d, want %d", n, 4<<20)
		}
	})
}

// TestCommitRefused finds the rows that only the database refuses: of types that the column's
// charset lacks.
func TestCommitRefused(t *testing.T) {
	dbtest.OnServers(t, testCommitRefused)
}

func testCommitRefused(t *testing.T, s *dbtest.Store) {
	dbtest.Exec(t, s,
		`create table livetolldata(timestamp datetime, vehicle_id int, vehicle_type char(15),
			toll_plaza_id smallint) character set latin1`)
	dbtest.Initialize(t, s)
	for _, mode := range []ingest.LoadMode{ingest.LoadLocal, ingest.LoadInsert} {
		w := s.Writer(dbtest.Identity.TopicID)
		w.SetLoadMode(mode)
		c, _, err := w.Load(t.Context(), int32(mode), 0)
		if err != nil {
			t.Fatal(err)
		}
		var refused *toll.RefusedError
		err = w.Commit(t.Context(), dbtest.Batch(w, c, "car", "🚕", "Täxi", "van", "🚚"), nil)
		if !errors.As(err, &refused) || len(refused.Rows) != 2 || refused.Rows[0].Row != 1 ||
			refused.Rows[1].Row != 4 || refused.Rows[0].SQLState == "" {
			t.Errorf("mode %d: %v: %+v, want the rows 1 and 4 refused", mode, err, refused)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`) + dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_batch`); n != 0 {
			t.Errorf("mode %d: %d rows are left of a refused batch", mode, n)
		}
	}
}
