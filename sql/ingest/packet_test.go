package ingest_test

import (
	"bytes"
	"context"
	"fmt"
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
					Kind: toll.RejectRefused, Reason: strings.Repeat("🚕", 600), SQLState: "45000", Number: 65535,
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
