package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
)

// countedConn counts how often what is sent is followed by a wait for an answer.
type countedConn struct {
	net.Conn
	trips *atomic.Int64
	sent  bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.sent = true
	return c.Conn.Write(b)
}

func (c *countedConn) Read(b []byte) (int, error) {
	if c.sent {
		c.trips.Add(1)
		c.sent = false
	}
	return c.Conn.Read(b)
}

// openCounted returns the same database by connections whose round trips are counted.
// networks makes the names of networks unique in the driver's registry.
var networks atomic.Uint64

func openCounted(t *testing.T, s *dbtest.Store) (counted *dbtest.Store, trips *atomic.Int64) {
	t.Helper()
	trips = new(atomic.Int64)
	network := fmt.Sprintf("counted%d", networks.Add(1))
	mysql.RegisterDialContext(network, func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		return &countedConn{Conn: c, trips: trips}, err
	})
	t.Cleanup(func() { mysql.DeregisterDialContext(network) })
	return dbtest.Open(t, strings.Replace(s.DSN, "@tcp(", "@"+network+"(", 1)), trips
}

// localWriter returns a writer that loads by LOAD DATA LOCAL, and a cursor.
func localWriter(t *testing.T, s *dbtest.Store) (*ingest.Writer, toll.Cursor) {
	t.Helper()
	w := ingest.NewWriter(s.DB, dbtest.Identity.TopicID, ingest.LoadLocal,
		func(context.Context, db.Reader) error {
			return nil
		})
	c, _, err := w.Load(t.Context(), 3, 100)
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

func after(b *toll.Batch, c toll.Cursor) toll.Cursor {
	c.Next, c.Token = b.Next, b.Token
	return c
}

// TestCommitRoundTrips counts the round trips of a batch's transaction: the statements, the rows,
// the commit. It also marks batches published.
func TestCommitRoundTrips(t *testing.T) {
	dbtest.NotOnTiDB(t, "ROW_COUNT() of LOAD DATA")
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		s, trips := openCounted(t, s)
		w, c := localWriter(t, s)
		first := dbtest.Batch(w, c, "car", "tr,uck", `v\an`, "Täxi🚕", "a\nb\r\x00;?'\"")
		first.Deltas, first.Chain, first.Clock = []byte("'; DROP TABLE livetolldata; -- ?"),
			[]byte(`\';"`), []byte{0, '\'', '\\', 255}
		if err := w.Commit(t.Context(), first, nil); err != nil {
			t.Fatal(err)
		}
		c = after(first, c)
		second := dbtest.Batch(w, c, "car")
		before := trips.Load()
		if err := w.Commit(t.Context(), second,
			[]toll.BatchRef{{First: first.First, Token: first.Token}}); err != nil {
			t.Fatal(err)
		}
		if n := trips.Load() - before; n != 3 {
			t.Errorf("a batch took %d round trips, want 3", n)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 6 {
			t.Errorf("%d rows, want 6", n)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata WHERE vehicle_type = ?`,
			"a\nb\r\x00;?'\""); n != 1 {
			t.Errorf("%d rows of a type of special characters, want 1", n)
		}
		_, unpublished, err := w.Load(t.Context(), 3, 0)
		if err != nil || unpublished.First != second.First || unpublished.Batches != 1 {
			t.Errorf("unpublished %+v, %v; want the second batch", unpublished, err)
		}
		got, err := w.Outbox(t.Context(), 3, 0, false)
		if err != nil || len(got.Batches) != 2 || string(got.Batches[0].Deltas) != string(first.Deltas) {
			t.Errorf("the outbox is %+v, %v", got, err)
		}
	})
}

// TestCommitTogetherOnMovedCursor checks that nothing stays of a batch whose cursor was moved, and
// that the connection is in no transaction behind it.
func TestCommitTogetherOnMovedCursor(t *testing.T) {
	dbtest.NotOnTiDB(t, "ROW_COUNT() of LOAD DATA")
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		w, c := localWriter(t, s)
		s.DB.Multi.SetMaxOpenConns(1)
		first := dbtest.Batch(w, c, "car")
		if err := w.Commit(t.Context(), first, nil); err != nil {
			t.Fatal(err)
		}
		zombie := dbtest.Batch(w, c, "car", "van")
		for range 3 {
			if err := w.Commit(t.Context(), zombie, nil); !errors.Is(err, toll.ErrCursorMoved) {
				t.Fatalf("got %v, want %v", err, toll.ErrCursorMoved)
			}
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`) + dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_batch`); n != 2 {
			t.Errorf("%d rows and batches, want 2", n)
		}
		if err := w.Commit(t.Context(), dbtest.Batch(w, after(first, c), "car"), nil); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		if refused(w) || failed(w) {
			t.Error("a moved cursor is taken for a fault of the server")
		}
	})
}

func failed(w *ingest.Writer) bool  { failed, _ := w.Together(); return failed }
func refused(w *ingest.Writer) bool { _, refused := w.Together(); return refused }

// TestCommitApart checks that a batch is stored statement by statement where the server does not
// take several at once, from then on at once, and only the next time where there was no answer.
func TestCommitApart(t *testing.T) {
	dbtest.NotOnTiDB(t, "ROW_COUNT() of LOAD DATA")
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		w, c := localWriter(t, s)
		commit := func() error {
			b := dbtest.Batch(w, c, "car")
			err := w.Commit(t.Context(), b, nil)
			if err == nil {
				c = after(b, c)
			}
			return err
		}
		several := s.DB.Multi
		closed := dbtest.Open(t, s.DSN)
		if err := closed.DB.Close(); err != nil {
			t.Fatal(err)
		}
		s.DB.Multi = closed.DB.Multi
		if err := commit(); err == nil || !failed(w) {
			t.Fatalf("without a connection: %v", err)
		}
		if err := commit(); err != nil || failed(w) {
			t.Fatalf("the next attempt: %v", err)
		}
		s.DB.Multi = s.DB.DB // whose connections do not take several statements
		if err := commit(); err != nil || !refused(w) {
			t.Fatalf("on a server that does not take several statements: %v", err)
		}
		s.DB.Multi = several
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	})
}
