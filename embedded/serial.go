package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	vitess "github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
)

// lockWait is how long a statement waits for another connection's transaction before it fails with
// MySQL's error 1205. Longer than any transaction of ours takes, shorter than a test's patience
// with one that waits for itself.
const lockWait = 15 * time.Second

// sessionMap builds sessions and finds them by connection.
type sessionMap struct {
	build  server.SessionBuilder
	mu     sync.Mutex
	byConn map[uint32]*memory.Session
}

func (b *sessionMap) open(ctx context.Context, c *vitess.Conn, addr string) (gmssql.Session,
	error) {
	s, err := b.build(ctx, c, addr)
	if err == nil {
		b.mu.Lock()
		b.byConn[c.ConnectionID] = s.(*memory.Session)
		b.mu.Unlock()
	}
	return s, err
}

func (b *sessionMap) of(c *vitess.Conn) *memory.Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byConn[c.ConnectionID]
}

func (b *sessionMap) close(c *vitess.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byConn, c.ConnectionID)
}

// serialHandler lets one transaction run at a time.
//
// The memory engine's transaction is a private copy of each table that it touched, reads included,
// and its commit puts the copies back whole. So whatever another connection committed between a
// transaction's first use of a table and its commit is gone, without an error:
//
//	A: BEGIN; SELECT count(*) FROM t    copies t (0 rows)
//	B: INSERT INTO t …                  commits t (1 row)
//	A: COMMIT                           puts back its copy (0 rows)
//
// Hence the lock: from the statement that begins a transaction, through to the one that ends it or
// the connection's end. The embedded interface leaves out the optional ExtendedHandler, so these
// methods see all statements.
type serialHandler struct {
	vitess.Handler
	sessions *sessionMap
	wait     time.Duration // lockWait, less in tests
	lock     chan struct{} // holds one token while a connection has the lock
	closed   chan struct{} // closed when the server stops

	mu    sync.Mutex
	owner uint32 // connection that keeps the lock between its statements, 0 for none
	conns map[uint32]*vitess.Conn
	live  sync.WaitGroup // one for each of conns
}

func newSerialHandler(h vitess.Handler, sessions *sessionMap) *serialHandler {
	return &serialHandler{
		Handler:  h,
		sessions: sessions,
		wait:     lockWait,
		lock:     make(chan struct{}, 1),
		closed:   make(chan struct{}),
		conns:    map[uint32]*vitess.Conn{},
	}
}

// run executes one statement of c under the lock and keeps the lock for c if a transaction is open
// afterwards.
func (h *serialHandler) run(c *vitess.Conn, statement func() error) error {
	if !h.owns(c) {
		timer := time.NewTimer(h.wait)
		defer timer.Stop()
		select {
		case h.lock <- struct{}{}:
			h.setOwner(c.ConnectionID)
		case <-timer.C:
			return vitess.NewSQLError(1205, "HY000",
				"Lock wait timeout exceeded; another connection has a transaction open, and the embedded "+
					"database runs one at a time")
		case <-h.closed:
			return vitess.NewSQLError(1053, "08S01", "Server shutdown in progress")
		}
	}
	err := statement()
	if !h.inTransaction(c) {
		h.release(c)
	}
	return err
}

// inTransaction reports whether c's session has a transaction open. One that a failed statement
// outside of a transaction left behind is dropped first: the engine would go on with its old
// copies.
func (h *serialHandler) inTransaction(c *vitess.Conn) bool {
	s := h.sessions.of(c)
	if s == nil || s.GetTransaction() == nil {
		return false
	}
	if !s.GetIgnoreAutoCommit() {
		autocommit, err := plan.IsSessionAutocommit(gmssql.NewContext(context.Background(),
			gmssql.WithSession(s)))
		if err != nil || autocommit {
			s.SetTransaction(nil)
			return false
		}
	}
	return true
}

func (h *serialHandler) owns(c *vitess.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owner == c.ConnectionID
}

func (h *serialHandler) setOwner(id uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owner = id
}

// release gives the lock up if c has it.
func (h *serialHandler) release(c *vitess.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner == c.ConnectionID {
		h.owner = 0
		<-h.lock
	}
}

func (h *serialHandler) NewConnection(c *vitess.Conn) {
	h.Handler.NewConnection(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed: // accepted just before the listener closed
		c.Close()
	default:
		h.conns[c.ConnectionID] = c
		h.live.Add(1)
	}
}

// ConnectionClosed drops what c left uncommitted, and the lock: a client that dies in a transaction
// stops nobody.
func (h *serialHandler) ConnectionClosed(c *vitess.Conn) {
	defer func() {
		h.sessions.close(c)
		h.release(c)
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.conns[c.ConnectionID]; ok {
			delete(h.conns, c.ConnectionID)
			h.live.Done()
		}
	}()
	h.Handler.ConnectionClosed(c)
}

// ComResetConnection gives c a new session, without the old one's transaction.
func (h *serialHandler) ComResetConnection(c *vitess.Conn) error {
	return h.run(c, func() error { return h.Handler.ComResetConnection(c) })
}

func (h *serialHandler) ComQuery(ctx context.Context, c *vitess.Conn, query string,
	callback vitess.ResultSpoolFn) error {
	return h.run(c, func() error { return h.Handler.ComQuery(ctx, c, query, callback) })
}

func (h *serialHandler) ComMultiQuery(ctx context.Context, c *vitess.Conn, query string,
	callback vitess.ResultSpoolFn) (rest string, err error) {
	err = h.run(c, func() error {
		rest, err = h.Handler.ComMultiQuery(ctx, c, query, callback)
		return err
	})
	return rest, err
}

func (h *serialHandler) ComPrepare(ctx context.Context, c *vitess.Conn, query string,
	prepare *vitess.PrepareData) (fields []*querypb.Field, err error) {
	err = h.run(c, func() error {
		fields, err = h.Handler.ComPrepare(ctx, c, query, prepare)
		return err
	})
	return fields, err
}

func (h *serialHandler) ComStmtExecute(ctx context.Context, c *vitess.Conn,
	prepare *vitess.PrepareData, callback func(*sqltypes.Result) error) error {
	return h.run(c, func() error { return h.Handler.ComStmtExecute(ctx, c, prepare, callback) })
}

// close ends all clients' connections and waits for what they run: the server's own Close ends its
// listener only.
func (h *serialHandler) close() {
	h.mu.Lock()
	close(h.closed)
	for _, c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.live.Wait()
}
