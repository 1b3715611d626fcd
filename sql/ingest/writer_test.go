package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
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
				toll.Reject{Offset: int64(1 + i), Time: at, Payload: make([]byte, i*2<<20),
					Key: make([]byte, 5000), Rejection: toll.Rejection{Reason: "bad \xff reason"}})
		}
		b.Rejects = append(b.Rejects,
			toll.Reject{Offset: 4, Rejection: toll.Rejection{Reason: "tombstone"}})
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
	dbtest.NotOnTiDB(t, "character set that lacks what UTF-8 has")
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
		var rejected *toll.RejectedError
		err = w.Commit(t.Context(), dbtest.Batch(w, c, "car", "🚕", "Täxi", "van", "🚚"), nil)
		if !errors.As(err, &rejected) || len(rejected.Rows) != 2 || rejected.Rows[0].Row != 1 ||
			rejected.Rows[1].Row != 4 || rejected.Rows[0].SQLState == "" {
			t.Errorf("mode %d: %v: %+v, want the rows 1 and 4 rejected", mode, err, rejected)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`) + dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_batch`); n != 0 {
			t.Errorf("mode %d: %d rows are left of a rejected batch", mode, n)
		}
	}
}

func TestMain(m *testing.M) { dbtest.Main(m) }

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

// openPacket returns a store on a server that takes packets of that many bytes.
func openPacket(t *testing.T, engine string, packet int) *dbtest.Store {
	t.Helper()
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	d, err := devstack.StartDatabase(context.Background(), devstack.DatabaseConfig{
		Engine: engine, Options: []string{fmt.Sprint("--max-allowed-packet=", packet)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return dbtest.Open(t, d.DSN())
}

// TestPacketLimits stores the largest dead letters, rows and outboxes that there are on servers
// that take small packets. What fits no packet at all is a permanent error, since it would be tried
// again without end.
func TestPacketLimits(t *testing.T) {
	for _, engine := range []string{"mariadb", "mysql"} {
		for _, packet := range []int{1 << 20, db.MinPacket} {
			t.Run(fmt.Sprint(engine, "/", packet), func(t *testing.T) {
				s := openPacket(t, engine, packet)
				dbtest.Initialize(t, s)
				w := s.Writer(dbtest.Identity.TopicID)
				w.SetLoadMode(ingest.LoadInsert)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				c, _, err := w.Load(ctx, 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				b := dbtest.Batch(w, c)
				letter := toll.Reject{
					Rejection: toll.Rejection{Kind: toll.RejectRefused, Reason: strings.Repeat("🚕", 600),
						SQLState: "45000", Number: 65535},
					Key: bytes.Repeat([]byte{0, '\''}, 600),
				}
				for i := range 500 {
					letter.Offset = int64(i)
					b.Rejects = append(b.Rejects, letter)
				}
				for i, payload := range []string{"\x00", "'", "x", "\xff"} {
					letter.Offset, letter.Payload = int64(500+i), bytes.Repeat([]byte(payload), 2<<20)
					b.Rejects = append(b.Rejects, letter)
				}
				for i := range 20_000 {
					b.Rows.Append(&toll.Event{Time: 1644488582, Vehicle: int32(i),
						Type: strings.Repeat("🚕", toll.MaxTypeRunes), Plaza: -4000})
				}
				b.Next = int64(len(b.Rejects) + b.Rows.Len())
				prepared := func() (n int64) {
					var name string
					if err := s.DB.QueryRow(`SHOW GLOBAL STATUS LIKE 'Com_stmt_prepare'`).Scan(&name,
						&n); err != nil {
						t.Fatal(err)
					}
					return n
				}
				before := prepared()
				if err := w.Commit(ctx, b, nil); err != nil {
					t.Fatal(err)
				}
				if n := prepared() - before; n != 0 {
					t.Errorf("%d statements were larger than estimated, and had to be prepared", n)
				}
				c, _, _ = w.Load(ctx, 0, 0)
				b = dbtest.Batch(w, c, "car")
				for _, fill := range []byte{'\'', 'x'} {
					b.Deltas, b.Chain = bytes.Repeat([]byte{fill}, packet-db.PacketReserve),
						bytes.Repeat([]byte{fill}, packet-db.PacketReserve)
					if err := w.Commit(ctx, b, nil); err != nil {
						t.Fatal(err)
					}
					c, _, err = w.Load(ctx, 0, 0)
					if err != nil || len(c.Chain) != len(b.Chain) {
						t.Fatalf("a chain of %d bytes, want %d, %v", len(c.Chain), len(b.Chain), err)
					}
					b = dbtest.Batch(w, c, "car")
				}
				if n := dbtest.Int(t, s,
					`SELECT COUNT(*) FROM toll_dead_letter WHERE CHAR_LENGTH(reason) = 500
						AND LENGTH(record_key) = 1024`); n != 504 {
					t.Errorf("%d dead letters, want 504", n)
				}
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 20_002 {
					t.Errorf("%d rows, want 20,002", n)
				}

				c, _, _ = w.Load(ctx, 0, 0)
				b = dbtest.Batch(w, c, "car")
				b.Deltas = make([]byte, packet)
				dbtest.WantPermanent(t, w.Commit(ctx, b, nil), "the outbox of a batch has", fmt.Sprint(packet),
					"raise max_allowed_packet")
				b.Deltas, b.Chain = nil, make([]byte, packet)
				dbtest.WantPermanent(t, w.Commit(ctx, b, nil), "the chain of a partition's plazas has",
					"raise max_allowed_packet")
			})
		}
	}
	t.Run("too small", func(t *testing.T) {
		s := openPacket(t, "mariadb", db.MinPacket/2)
		_, err := s.Init(t.Context(), dbtest.Identity)
		if err == nil {
			_, err = s.Check(t.Context(), dbtest.Identity)
		}
		dbtest.WantPermanent(t, err, "takes 32768 bytes in one packet", "set max_allowed_packet")
	})
}
